"""Where a network looks: activation maps of images, their means by class, and radial profiles of these."""

import warnings

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table
from scipy.special import softmax

from astroclassify._checks import check_number, check_quantity
from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning, GeometryError, ModelError, SchemaError
from astroclassify.schemes import get_scheme
from astroclassify.tables import provenance, readable

from ..inputs._pixels import attempt
from ..inputs._profile import PROFILE, painted
from ._cells import cells_of, load_one, map_image, map_meta
from ._gradients import torch_maps

__all__ = ["MapSource", "activation_map", "load_counts", "mean_activation_maps", "radial_profiles"]

_CHUNK = 32
# Pixels along a side of the cells on which the parts of rings are painted.
_CELL = 4
# Points along each side of a cell at which its distance from the middle is taken.
_POINTS = 16


class MapSource:
    """Class maps of a fitted classifier: ``method`` "exact" (from ONNX Runtime) or "gradient" (from torch)."""

    def __init__(self, classifier):
        self.predictor = classifier._fitted()
        self.classifier = classifier
        self.method = "exact" if self.predictor.network.has_class_maps else "gradient"
        # Only gradients need torch; it is asked for here, before any image is read.
        self._torch = None if self.method == "exact" else classifier.build_network().eval()

    def probabilities(self, logits):
        """Probabilities (n, n_classes) as the classifier gives them, calibrated if it is."""
        return softmax(np.asarray(logits, dtype=float) / getattr(self.predictor, "temperature", 1.0), axis=1)

    def __call__(self, counts, choose):
        """
        Logits (n, n_classes) of counts (n, n_bands, ny, nx), and a dict of image number to its map (my, mx).

        ``choose`` takes the logits and gives the class of each image, -1 where no map is wanted.
        """
        network, pixels = self.predictor.network, self.predictor.preprocessing(counts)
        if self.method == "exact":
            logits, maps = network.run(pixels, ("logits", "class_maps"))
            wanted = np.asarray(choose(logits))
            chosen = {int(row): maps[row, wanted[row]] for row in np.flatnonzero(wanted >= 0)}
            if self.predictor.preprocessing.stretch == PROFILE:
                pixel = self.predictor.preprocessing.pixel
                chosen = {row: painted(values[0], counts[row], pixel, _CELL) for row, values in chosen.items()}
            return logits.astype(float), chosen
        logits = network.logits(pixels)
        wanted = np.asarray(choose(logits))
        rows = np.flatnonzero(wanted >= 0)
        maps = torch_maps(self._torch, pixels[rows], wanted[rows])[1] if len(rows) else np.zeros((0, 1, 1))
        if not np.all(np.isfinite(maps)):
            raise ModelError("the network gives gradient maps that are not finite")
        return logits.astype(float), dict(zip(rows.tolist(), maps, strict=True))

    def checked(self, counts, truth, p_min):
        """For each image: is the true class predicted, its map if p > ``p_min``, an error text for infinite outputs."""

        def choose(logits):
            p = self.probabilities(logits)
            sure = (p.argmax(axis=1) == truth) & (p[np.arange(len(p)), truth] > p_min)
            return np.where(sure, truth, -1)

        try:
            logits, maps = self(counts, choose)
        except ModelError as error:
            if len(counts) == 1:
                return [(False, None, f"ModelError: {error}")]
            return [row for i in range(len(counts)) for row in self.checked(counts[i : i + 1], truth[i : i + 1], p_min)]
        right = logits.argmax(axis=1) == truth
        return [(bool(right[row]), maps.get(row), "") for row in range(len(counts))]


def activation_map(classifier, image, class_name, **how):
    """See `CutoutClassifier.activation_map`."""
    index = get_scheme(classifier.scheme).index(class_name)
    source = MapSource(classifier)
    counts, wcs, meta = load_one(source.predictor, image, **how)
    logits, maps = source(counts[None], lambda logits: [index])
    geometry = source.predictor.geometry
    cells = cells_of(classifier.architecture, maps[0].shape, geometry.shape)
    meta |= map_meta(classifier, cells, geometry, redshift=meta.get("REDSHIFT"))
    meta |= {"CLASS": class_name, "METHOD": source.method, "LOGIT": float(logits[0, index])}
    meta["PROB"] = float(source.probabilities(logits)[0, index])
    if source.method == "exact":
        meta["BIAS"] = meta["LOGIT"] - float(np.mean(maps[0], dtype=float))
    return map_image(maps[0], None if wcs is None else cells.wcs(wcs), meta)


def load_counts(predictor, items):
    """Indices of the items that can be loaded, their counts (n, n_bands, ny, nx), and an error text for the others."""
    kept, counts, failed = [], [np.zeros((0, *predictor.shape), np.float32)], []
    for index, item in enumerate(items):
        loaded, message = attempt(predictor.load, item)
        if message:
            failed.append(f"{item.source_id}: {message}")
        else:
            kept.append(index)
            counts.append(loaded[0][None])
    return kept, np.concatenate(counts), failed


class _GroupedMean:
    """Mean over images, and its error where images of one group are not independent; groups come one after another."""

    def __init__(self, shape):
        self.sum, self._square, self._cross = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.n, self.n_groups, self._n_square = 0, 0, 0
        self._group, self._part, self._n_part = None, np.zeros(shape), 0

    def add(self, value, group):
        if group != self._group:
            self._close()
            self._group = group
        self._part += value
        self._n_part += 1

    def _close(self):
        if self._n_part:
            self.sum += self._part
            self._square += self._part**2
            self._cross += self._n_part * self._part
            self._n_square += self._n_part**2
            self.n += self._n_part
            self.n_groups += 1
        self._part, self._n_part = np.zeros_like(self._part), 0

    def result(self):
        """Mean and its standard error, NaN where there is none."""
        self._close()
        if not self.n:
            return np.full(self.sum.shape, np.nan), np.full(self.sum.shape, np.nan)
        mean = self.sum / self.n
        if self.n_groups < 2:
            return mean, np.full(self.sum.shape, np.nan)
        # sum over groups of (sum in the group - number in the group times mean)^2
        squares = np.maximum(self._square - 2 * mean * self._cross + mean**2 * self._n_square, 0.0)
        return mean, np.sqrt(self.n_groups / (self.n_groups - 1) * squares) / self.n


def _labelled_items(sample, predictor, scheme):
    """Items with a label, images of a group one after another, and how many rows have no label."""
    if not isinstance(sample, Table) or "label" not in sample.colnames:
        raise SchemaError(f"sample must be a SAMPLE table with a column label, got {type(sample).__name__}")
    items, _ = predictor.items(sample)
    labelled = [item for item in items if item.label]
    for label in {item.label for item in labelled}:
        scheme.index(label)
    labelled.sort(key=lambda item: item.group_id)
    return labelled, len(items) - len(labelled)


def mean_activation_maps(classifier, sample, *, p_min=0.9):
    """
    Mean activation map of each class over the images that are classified rightly and with confidence.

    Parameters
    ----------
    classifier : CutoutClassifier
        A fitted or loaded classifier.
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels, of images that were not trained on. Rows without a label are left out.
    p_min : float, optional
        Least probability of the true class (exclusive), 0.9 in Su et al. (2020).

    Returns
    -------
    dict
        Class -> `~astropy.nddata.CCDData`: the mean map of that class, on offsets from the middle of the field (WCS in
        kpc, or arcmin where the model's grid is in angles). The uncertainty is the standard error of the mean, from the
        scatter between groups (NaN below two). ``meta`` is as for `CutoutClassifier.activation_map`, with ``NLABEL``
        images of the class, of which ``NIMAGES`` (in ``NGROUPS`` groups) were averaged, ``NWRONG`` had another class
        predicted, ``NUNSURE`` a probability up to ``PMIN``, and ``NFAILED`` could not be used. A class without images
        has a map of NaN and a warning.

    Raises
    ------
    SchemaError
        If the table has no labels, or one that is not in the scheme.
    ValueError
        If ``p_min`` is not from 0 to below 1.
    MissingDependencyError
        If the network has no exact maps and the extra ``train`` is not installed.

    Notes
    -----
    32 images are in memory at a time. Images that cannot be read are counted, and named in one warning.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620 (class-averaged maps over images predicted correctly with p > 0.9).
    """
    p_min = check_number("p_min", p_min, 0, 1, open_high=True)
    source, scheme = MapSource(classifier), get_scheme(classifier.scheme)
    predictor = source.predictor
    items, n_unlabelled = _labelled_items(sample, predictor, scheme)
    blank = np.zeros((1, *predictor.shape), np.float32)
    shape = source(blank, lambda logits: [0])[1][0].shape
    means = [_GroupedMean(shape) for _ in scheme.classes]
    n_wrong, n_unsure, failed = np.zeros(scheme.n_classes, int), np.zeros(scheme.n_classes, int), []
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        kept, counts, errors = load_counts(predictor, chunk)
        failed += errors
        if not kept:
            continue
        truth = np.array([scheme.index(chunk[index].label) for index in kept])
        for index, true, (right, values, error) in zip(kept, truth, source.checked(counts, truth, p_min), strict=True):
            item = chunk[index]
            if error:
                failed.append(f"{item.source_id}: {error}")
            elif values is not None:
                means[true].add(values, item.group_id or f"\0{item.source_id}")
            else:
                (n_unsure if right else n_wrong)[true] += 1
    _warn_failed(failed, len(items))
    cells = cells_of(classifier.architecture, shape, predictor.geometry.shape)
    common = map_meta(classifier, cells, predictor.geometry)
    common |= {"METHOD": source.method, "PMIN": p_min, "NNOLABEL": n_unlabelled}
    result, n_label = {}, [sum(item.label == name for item in items) for name in scheme.classes]
    for index, name in enumerate(scheme.classes):
        mean, error = means[index].result()
        found = {"CLASS": name, "NLABEL": n_label[index], "NIMAGES": means[index].n, "NGROUPS": means[index].n_groups}
        found |= {"NWRONG": int(n_wrong[index]), "NUNSURE": int(n_unsure[index])}
        found["NFAILED"] = n_label[index] - found["NIMAGES"] - found["NWRONG"] - found["NUNSURE"]
        result[name] = map_image(mean, cells.offset_wcs(predictor.geometry), {**common, **found})
        result[name].uncertainty = StdDevUncertainty(error)
    empty = [name for name, image in result.items() if not image.meta["NIMAGES"]]
    if empty:
        text = f"no image of {', '.join(empty)} is predicted rightly with p > {p_min}: the mean map is NaN"
        warnings.warn(text, EmptyResultWarning, stacklevel=2)
    return result


def _warn_failed(failed, n_items):
    if failed:
        text = f"{len(failed)} of {n_items} images could not be used, the first is {failed[0]}"
        warnings.warn(text, AstroclassifyWarning, stacklevel=3)


def radial_profiles(maps, *, r_500=None):
    """
    Radial profiles of activation maps, in rings as wide as a cell.

    Parameters
    ----------
    maps : dict or `~astropy.nddata.CCDData`
        What `mean_activation_maps` gives, or one map.
    r_500 : `~astropy.units.Quantity`, optional
        A length: radii are also given in units of it. For mean maps, the mean R500 of the sample.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``class``, ``radius`` (middle of the ring), ``radius_lo``, ``radius_hi`` in kpc (arcmin where no length
        is known), ``radius_r500`` if asked for, ``mean``, ``error`` and ``n_cells`` (area of the ring in cells).
        ``meta`` holds ``cell_size``, ``cell_pixels``, ``method``, ``model``, ``n_images`` by class, ``r_500``.

    Raises
    ------
    GeometryError
        If something is not a map, or ``r_500`` is given for maps that are in angles.
    TypeError, ValueError
        If ``r_500`` is not a positive length.

    Notes
    -----
    Cells are blocks of one value and weighted by their area inside each ring, out to half the shorter side of the
    field. ``error`` is the mean over the ring of the standard errors of the cells: exact if all cells of a ring vary
    together, as is nearly so for brighter and fainter clusters, else an upper limit. It is NaN where a map has none.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620: profiles of the class-averaged maps fall off at about 300 kpc for CC and 500 kpc
    for NCC.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn import load_classifier, radial_profiles
    >>> counts = np.random.default_rng(0).poisson(2.0, (256, 256))
    >>> found = load_classifier("coolcore").activation_map(counts, "CC")
    >>> radial_profiles(found)["radius_lo", "radius_hi"][:2]
    <QTable length=2>
    radius_lo radius_hi
       kpc       kpc
     float64   float64
    --------- ---------
            0     15.62
        15.62     31.25
    """
    maps = {str(maps.meta.get("CLASS", "")): maps} if isinstance(maps, CCDData) else maps
    if not isinstance(maps, dict) or not maps:
        raise GeometryError(f"maps must be a map or a dict of class -> map, got {type(maps).__name__}")
    rows = [row for name, image in maps.items() for row in _profile(name, image)]
    first = next(iter(maps.values())).meta
    unit = u.Unit(first["CELLUNIT"])
    names = ("class", "radius_lo", "radius_hi", "mean", "error", "n_cells")
    columns = dict(zip(names, (list(values) for values in zip(*rows, strict=True)), strict=True))
    low, high = np.array(columns["radius_lo"]) * unit, np.array(columns["radius_hi"]) * unit
    table = QTable({"class": columns["class"], "radius": (low + high) / 2, "radius_lo": low, "radius_hi": high})
    if r_500 is not None:
        check_quantity("r_500", r_500, u.kpc, positive=True, shape=())
        if unit != u.kpc:
            raise GeometryError("r_500 needs maps in kpc; these are in angles, of sources without a common redshift")
        table["radius_r500"] = (table["radius"] / r_500).to_value(u.dimensionless_unscaled)
    for name in names[3:]:
        table[name] = np.array(columns[name], dtype=float)
    table.meta = provenance(
        cell_size=first["CELLSIZE"] * unit, cell_pixels=first["CELLPIX"], method=first["METHOD"], model=first["MODEL"],
        n_images={name: int(image.meta.get("NIMAGES", 1)) for name, image in maps.items()},
        **({} if r_500 is None else {"r_500": r_500}),
    )  # fmt: skip
    return readable(table)


def _profile(name, image):
    """Rows of one map: class, radii, mean, error, cells."""
    meta = getattr(image, "meta", {})
    missing = {"CELLSIZE", "CELLUNIT", "CELLPIX", "CELLPIXY", "FIELD", "XMIDDLE", "YMIDDLE", "METHOD"} - set(meta)
    if missing:
        raise GeometryError(f"maps must come from activation_map or mean_activation_maps, lack {sorted(missing)}")
    size = float(meta["CELLSIZE"])
    points = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
    axes = (meta["YMIDDLE"], size * meta["CELLPIXY"] / meta["CELLPIX"]), (meta["XMIDDLE"], size)
    y, x = (
        (np.arange(n)[:, None] + points - middle).ravel() * step
        for n, (middle, step) in zip(image.shape, axes, strict=True)
    )
    radius = np.hypot(y[:, None], x).reshape(image.shape[0], _POINTS, image.shape[1], _POINTS)
    half = float(meta["FIELD"]) / 2
    edges = np.minimum(size * np.arange(np.ceil(half / size - 1e-6) + 1), half)
    error = np.full(image.shape, np.nan) if image.uncertainty is None else image.uncertainty.array
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        share = np.mean((radius >= low) & (radius < high), axis=(1, 3))
        inside = share > 0
        area = share[inside]
        mean, deviation = (float(np.average(values[inside], weights=area)) for values in (image.data, error))
        yield name, low, high, mean, deviation, float(area.sum())
