"""What a classifier adds to a survey: clusters per area at a given purity, from candidates in fields of known area."""

import numpy as np
from astropy import units as u
from astropy.stats import binom_conf_interval, poisson_conf_interval
from astropy.table import QTable

from astroclassify import batch
from astroclassify._checks import check_choice, check_integer, check_number, check_quantity
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.tables import plain_column, provenance, readable
from astroclassify.tables._plain import column_values, group_names

__all__ = ["clusters_per_area", "purity_curve"]

_CLUSTERS = ("cluster", "low_z", "high_z")
# Parts of the fields; the cut for each is chosen on the others.
_N_FOLDS = 5
_LEVEL = 0.95


class _Found:
    """Candidates as plain arrays: which are new clusters, for any ranking, and the number of their field."""

    def __init__(self, candidates, area, groups):
        for name in ("label", groups):
            if name not in getattr(candidates, "colnames", ()):
                raise SchemaError(f"candidates must be a table with columns ('label', {groups!r}), lacks {name!r}")
        self.area = float(check_quantity("area", area, u.deg**2, positive=True, shape=()))
        labels = np.array([str(label) for label in column_values(candidates, "label", "")])
        if "" in labels:
            raise SchemaError(f"candidates must have a label in every row, {np.sum(labels == '')} have none")
        self.is_cluster = np.isin(labels, _CLUSTERS)
        fields = group_names(candidates[groups])
        self.fields, self.field = np.unique(fields, return_inverse=True)
        ids = [str(name) for name in column_values(candidates, "true_id", "")]
        # Pieces of one cluster have one name in their field; all else, and what has no name, is one of its own.
        names = [f"row {row}" for row in range(len(ids))]
        for row in np.flatnonzero(self.is_cluster & (np.array(ids) != "")):
            names[row] = f"{fields[row]} {ids[row]}"
        self.cluster = np.unique(np.array(names, dtype=str), return_inverse=True)[1]

    def __len__(self):
        return len(self.is_cluster)

    @property
    def n_clusters(self):
        """Different clusters among the candidates."""
        return len(np.unique(self.cluster[self.is_cluster]))

    def ranked(self, name, values):
        """Rows that may be selected, best first; which of them are new clusters; their rank; whether it may be cut."""
        values = np.asarray(plain_column(values) if hasattr(values, "info") else values)
        if values.shape != (len(self),) or values.dtype.kind not in "bfiu":
            due = f"one number or bool for each of {len(self)} candidates"
            raise ArgumentError(f"selections[{name!r}] must be {due}, got {values.dtype} of shape {values.shape}")
        is_fixed = values.dtype.kind == "b"
        rank = np.where(values, 0.0, np.nan) if is_fixed else values.astype(float)
        rows = np.flatnonzero(~np.isnan(rank))
        rows = rows[np.argsort(-rank[rows], kind="stable")]
        is_new = np.zeros(len(rows), bool)
        is_new[np.unique(self.cluster[rows], return_index=True)[1]] = True
        return rows, is_new & self.is_cluster[rows], rank[rows], is_fixed


def _selections(selections):
    if not isinstance(selections, dict) or not selections:
        raise ArgumentError("selections must be a dict with at least one name -> ranking or rows")
    return {str(name): values for name, values in selections.items()}


def purity_curve(candidates, selections, *, area, groups="group_id"):
    """
    Clusters per area against purity, for every cut on a ranking.

    Parameters
    ----------
    candidates, selections, area, groups
        As for `clusters_per_area`.

    Returns
    -------
    `~astropy.table.QTable`
        For each selection one row per cut, from the hardest: ``selection``, ``threshold`` (candidates with at least
        this are selected), ``n`` (candidates selected), ``n_clusters``, ``density`` (clusters per square degree),
        ``purity`` = ``n_clusters / n``. Rows of bool have one row, with threshold NaN.

    Raises
    ------
    SchemaError, ValueError
        As in `clusters_per_area`.

    Notes
    -----
    A cut that is chosen on such a curve looks better on it than it is: `clusters_per_area` judges it on other fields.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import purity_curve
    >>> found = QTable({"group_id": ["a", "a", "b", "b"], "label": ["low_z", "point", "high_z", "other"]})
    >>> curve = purity_curve(found, {"network": [0.9, 0.6, 0.8, 0.1]}, area=2 * u.deg**2)
    >>> curve["n_clusters"].tolist(), curve["purity"].round(2).tolist()
    ([1, 2, 2, 2], [1.0, 1.0, 0.67, 0.5])
    """
    found = _Found(candidates, area, groups)
    parts = []
    for name, values in _selections(selections).items():
        _, is_new, rank, is_fixed = found.ranked(name, values)
        last = np.flatnonzero(np.diff(rank, append=np.nan) != 0)  # candidates of one rank come together
        n, n_clusters = last + 1, np.cumsum(is_new)[last]
        threshold = np.full(len(last), np.nan) if is_fixed else rank[last]
        parts += [(name, *row) for row in zip(threshold, n, n_clusters, strict=True)]
    names, kinds = ("selection", "threshold", "n", "n_clusters"), ("U32", float, int, int)
    table = QTable(rows=parts or None, names=names, dtype=kinds)
    table["density"] = table["n_clusters"] / found.area / u.deg**2
    table["purity"] = table["n_clusters"] / table["n"]
    table.meta = provenance(area=found.area * u.deg**2, n_fields=len(found.fields), n_clusters=found.n_clusters)
    return readable(table)


def clusters_per_area(
    candidates, selections, *, area, purity=0.95, reference=None, groups="group_id", n_bootstrap=1000, rng=None
):
    """
    Clusters per square degree that each way of selecting candidates finds, cut at one purity.

    Parameters
    ----------
    candidates : `~astropy.table.Table`
        All candidates that were found in some fields, with their true ``label`` (``low_z``, ``high_z`` or ``cluster``,
        or anything else), the field of each in ``group_id``, and, where known, ``true_id``, the name of a source in its
        field. Their mixture must be the sky's: not what was made for training.
    selections : dict
        Name -> one value for each candidate. A number is a ranking, such as a probability or an extension likelihood,
        that is cut where the purity is reached; candidates with NaN are never selected. A bool says which candidates
        are selected, without a cut: ``candidates["x_class"] == "C1"``.
    area : `~astropy.units.Quantity`
        Solid angle of all fields together, those without a candidate too.
    purity : float, optional
        Wanted share of clusters among what is selected.
    reference : str, optional
        The selection that the others are compared with; by default the first.
    groups : str, optional
        Column with the fields.
    n_bootstrap : int, optional
        Number of resamplings of fields.
    rng : int or `~numpy.random.Generator`, optional
        Seed of the parts and of the resampling; by default a fresh one. It is recorded in ``meta["seed"]``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per selection:

        - ``selection``, ``threshold`` (median of the cuts; NaN for bool, infinite where none is pure enough), ``n``
          candidates selected, ``n_clusters`` different clusters among them;
        - ``density`` (clusters per square degree) with ``density_lo``, ``density_hi``;
        - ``purity`` = ``n_clusters / n`` with ``purity_lo``, ``purity_hi``: what the cuts gave, which need not be what
          was asked for;
        - ``completeness``: share of the clusters among all candidates; what the detection missed is in none of them;
        - ``difference`` of the density from that of the reference, with ``difference_lo``, ``difference_hi``.

    Raises
    ------
    SchemaError
        If a column is missing or a candidate has no label.
    ValueError
        If an argument is not allowed, or there are fewer than two fields.

    Notes
    -----
    **Cuts are never judged on the fields that they were chosen on.** Fields are dealt into five parts (fewer if there
    are not five fields); for each part the cut is the lowest one above which the candidates of the other parts are pure
    enough, and the candidates of the part are selected by it. What is selected in all parts is counted. With few
    candidates this is a little pessimistic: of 300 with a purity of 0.85 asked for, 0.83 was measured on average.

    A cluster counts once: its further pieces are candidates that are no new cluster, as they would be in a catalogue.

    Intervals are of 95%: percentiles over samples of fields drawn with replacement, with cuts chosen anew in each
    (so that the same fields serve all selections, and differences are paired); and those of density and purity are
    never narrower than Poisson's (Gehrels 1986) and Wilson's (1927), as few fields with nothing wrong in them would
    have no width.

    References
    ----------
    Gehrels 1986, ApJ 303, 336; Wilson 1927, JASA 22, 209; Pacaud et al. 2006, MNRAS 372, 578 (C1 and C2 as classes of
    known purity).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import clusters_per_area
    >>> fields = np.repeat(np.arange(10), 4).astype(str)
    >>> found = QTable({"group_id": fields, "label": ["low_z", "high_z", "point", "point"] * 10})
    >>> found["x_class"] = ["C1", "C2", "C2", "C2"] * 10
    >>> ways = {"C1": found["x_class"] == "C1", "network": np.tile([0.9, 0.8, 0.2, 0.1], 10)}
    >>> table = clusters_per_area(found, ways, area=2 * u.deg**2, rng=1)
    >>> table["density"].value.tolist(), table["difference"].value.tolist()
    ([5.0, 10.0], [0.0, 5.0])
    """
    found, selections = _Found(candidates, area, groups), _selections(selections)
    check_number("purity", purity, 0, 1, open_low=True)
    check_integer("n_bootstrap", n_bootstrap, 0)
    reference = next(iter(selections)) if reference is None else check_choice("reference", reference, selections)
    n_fields = len(found.fields)
    if n_fields < 2:
        raise ArgumentError(f"candidates must lie in at least two fields, got {n_fields}")
    seed = batch.master_seed(rng)
    n_folds = min(_N_FOLDS, n_fields)
    fold = batch.derive_rng(seed, "folds").permutation(n_fields) % n_folds
    draws = batch.derive_rng(seed, "fields").multinomial(n_fields, np.full(n_fields, 1 / n_fields), size=n_bootstrap)
    weights = np.concatenate([np.ones((1, n_fields)), draws])
    counts, rows = {}, []
    for name, values in selections.items():
        counts[name] = n, n_clusters, thresholds = _select(found, name, values, weights, fold, purity)
        rows.append((name, float(np.median(thresholds)), int(n[0]), int(n_clusters[0])))
    table = QTable(rows=rows, names=("selection", "threshold", "n", "n_clusters"))
    per_area = 1 / found.area / u.deg**2
    for column in _columns(found, counts, reference):
        table[column[0]] = np.array(column[1]) * (per_area if column[0].startswith(("density", "difference")) else 1)
    numbers = {"area": found.area * u.deg**2, "n_fields": n_fields, "n_clusters": found.n_clusters}
    asked = {"purity": float(purity), "reference": reference, "n_bootstrap": int(n_bootstrap), "seed": seed}
    table.meta = provenance(**numbers, **asked)
    return readable(table)


def _select(found, name, values, weights, fold, purity):
    """Numbers selected and of clusters among them, for each weighting of the fields, and the cut of each part."""
    rows, is_new, rank, is_fixed = found.ranked(name, values)
    field = found.field[rows]
    weight = weights[:, field]
    if is_fixed:
        return weight.sum(axis=1), weight @ is_new, [np.nan]
    n, n_clusters, thresholds = np.zeros(len(weights)), np.zeros(len(weights)), []
    last = np.flatnonzero(np.diff(rank, append=np.nan) != 0)  # where a cut can be
    for number in np.unique(fold):
        here = fold[field] == number
        others = np.cumsum(weight * ~here, axis=1)[:, last]
        of_clusters = np.cumsum(weight * (~here & is_new), axis=1)[:, last]
        pure = (of_clusters >= purity * others - 1e-9) & (others > 0)
        # Number of the lowest cut that is pure enough, from 1; none is 0.
        chosen = np.max(np.where(pure, np.arange(1, len(last) + 1), 0), axis=1, initial=0)
        ends = np.concatenate([[0], last + 1])[chosen]
        for sums, each in ((n, here), (n_clusters, here & is_new)):
            total = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weight * each, axis=1)], axis=1)
            sums += np.take_along_axis(total, ends[:, None], axis=1)[:, 0]
        thresholds.append(rank[ends[0] - 1] if ends[0] else np.inf)
    return n, n_clusters, thresholds


def _columns(found, counts, reference):
    """Names of columns and their values for all selections; densities are numbers of clusters."""
    columns = {}
    base = counts[reference][1]
    for n, n_clusters, _ in counts.values():
        first = int(n[0]), int(n_clusters[0])
        low, high = _interval(n_clusters[1:])
        poisson = poisson_conf_interval(first[1], "frequentist-confidence", sigma=1.959964)
        row = {"density": n_clusters[0], "density_lo": np.fmin(low, poisson[0])}
        row["density_hi"] = np.fmax(high, poisson[1])
        with np.errstate(invalid="ignore"):
            shares = n_clusters / n
        low, high = _interval(shares[1:])
        wilson = binom_conf_interval(first[1], first[0], _LEVEL, "wilson") if first[0] else (np.nan, np.nan)
        row |= {"purity": shares[0], "purity_lo": np.fmin(low, wilson[0]), "purity_hi": np.fmax(high, wilson[1])}
        row["completeness"] = n_clusters[0] / found.n_clusters if found.n_clusters else np.nan
        difference = n_clusters - base
        row["difference"] = difference[0]
        row["difference_lo"], row["difference_hi"] = _interval(difference[1:])
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    return columns.items()


def _interval(values):
    """2.5 and 97.5 percentiles of what is not NaN; NaN of nothing."""
    values = values[~np.isnan(values)]
    return np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
