"""Simulated candidates of all classes: an XMM image and a photographic plate of each, with the truth."""

import dataclasses
import functools
import hashlib
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable

from .. import _sample_folders as folders
from .. import batch, tables
from .._checks import check_quantity
from ..exceptions import EmptyResultWarning, SchemaError
from ..images import EXPOSURE_MAP, LOW_COUNTS, Cutout, Geometry, target_wcs
from ..schemes import CANDIDATE, CLUSTER, ClassScheme, Flag
from ._simulate_plate import expose_plate
from ._simulate_population import POPULATION
from ._simulate_scene import draw_scene
from ._simulate_xmm import Grid, leaves_field, observe, vignetting

__all__ = ["simulate_candidates", "to_binary"]

SETTINGS_FILE = "candidates.json"
# Raised when the same seed gives other images although no number of the population has changed.
RECIPE = 2
# The sky is drawn on pixels no coarser than this and binned.
_FINEST, _COARSEST = 0.8, 1.25  # arcsec
_CLUSTERS = ("low_z", "high_z")
# Column -> keyword in the header of the X-ray image.
_KEYWORDS = {
    "label": "LABEL",
    "kind": "KIND",
    "redshift": "REDSHIFT",
    "m_500": "M500",
    "r_500": "R500",
    "flux": "FLUX",
    "core_radius": "CORE_RAD",
    "r_mag": "R_MAG",
    "source_counts": "SRC_CTS",
    "counts": "COUNTS",
    "exposure": "EXPOSURE",
    "off_axis": "OFF_AXIS",
    "flags": "ROWFLAGS",
}
_KINDS = {
    **tables.SAMPLE.kinds(),
    "kind": "str",
    "flux": u.erg / u.s / u.cm**2,
    "core_radius": u.arcsec,
    "r_mag": u.mag,
    "source_counts": u.ct,
    "counts": u.ct,
    "exposure": u.s,
    "off_axis": u.arcmin,
    "message": "str",
}


def simulate_candidates(
    n,
    *,
    rng,
    out=None,
    classes=None,
    fractions=None,
    size=7 * u.arcmin,
    shape=(356, 356),
    executor=None,
    progress=True,
):
    """
    Simulate X-ray selected cluster candidates: XMM EPIC pn images with the red photographic plate of the same field.

    Parameters
    ----------
    n : int
        How many.
    rng : int or `~numpy.random.Generator`
        A seed, or a generator from which one is drawn. Candidate i of a seed is the same for any ``n``, executor and
        order of work.
    out : str or path-like, optional
        Sample folder to write: ``sample.ecsv``, ``images/<source_id>.fits`` and ``candidates.json`` (the settings). The
        same call goes on from where a run was ended; a larger ``n`` adds to it.
    classes : sequence of str, optional
        Classes of the scheme `~astroclassify.schemes.CANDIDATE`; by default all five.
    fractions : sequence of float, optional
        How frequent each class is; by default all are equally frequent. The numbers are met as closely as ``n`` allows.
    size : `~astropy.units.Quantity`, optional
        Side along x, an angle.
    shape : tuple of int, optional
        Pixels along y and x.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one after the other.
    progress : bool, optional
        Whether to show a bar on standard error.

    Returns
    -------
    list of Cutout, or `~astropy.table.QTable`
        Without ``out``, the cutouts (3 MB each): bands ``"xray"`` (whole counts in 0.5 to 2 keV, with the exposure map
        in ``meta["exposure_map"]`` and the truth in further entries of ``meta``: ``LABEL``, ``KIND``, ``REDSHIFT`` ...)
        and ``"optical"`` (densities, adu). With ``out``, a SAMPLE table with further columns: ``kind`` (what makes up
        the class: ``agn``, ``star``, ``early``, ``late``, ``edge``, ``blend``, ``streak``, ``wing``, ``hot``, ``arc``,
        ``empty``), ``flux`` (0.5 to 2 keV, of the source in the middle), ``core_radius``, ``r_mag`` (R of the
        counterpart; of a cluster, of its central galaxy), ``source_counts`` (expected of the source, were there no
        gaps), ``counts`` (on the image, everything), ``exposure``, ``off_axis`` and ``message``. A candidate that fails
        keeps its row, with the flag ``FAILED`` and the reason.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.
    OutputError
        If the folder cannot be written, holds something else, a sample with other settings, or more than ``n``
        candidates.

    Warns
    -----
    EmptyResultWarning
        If ``n`` is zero.

    Notes
    -----
    All numbers and their sources stand in ``_simulate_population.py``. X-rays are drawn photon by photon: beta models
    (beta = 2/3) for clusters and hot gas, active nuclei after Moretti et al. (2003), Galactic and particle background,
    vignetting, the King PSF of EPIC pn at each off-axis angle, gaps, dead columns, out-of-time photons. Clusters come
    from a luminosity function in comoving volume with the scaling relations of Piffaretti et al. (2011) and Arnaud et
    al. (2005); which of them become candidates depends on the counts they leave. Their galaxies follow a Schechter
    function and fade with redshift by distance, k correction and evolution, so that above z = 0.3 the plate (limit R
    about 20.8) shows little.

    These choices decide how hard the classes are to tell apart: the significance and core radius at which half of the
    clusters are found (``cluster_significance``, ``cluster_extent``; most lie near them), the brightness of point
    sources and nearby galaxies (``point_significance``, ``galaxy_counts``), the share of candidates with an unrelated
    group of galaxies in the field (``chance_group_share``), of clusters with a cool core or an active nucleus, and the
    shares of ``other_kinds``. They are set by hand. A score reached on simulated candidates is therefore no statement
    about the sky.

    Not simulated: MOS cameras, azimuthal structure of the PSF, flares, clustering of nuclei, plate flaws.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141 (the classes, 7 arcmin in 356 pixels); Koulouridis et al. 2021, A&A 652, A12
    (X-CLASS: exposures of 10 and 20 ks).

    Examples
    --------
    >>> from astroclassify.survey import simulate_candidates
    >>> cutouts = simulate_candidates(5, rng=1, shape=(128, 128), progress=False)
    >>> [cutout.bands["xray"].meta["LABEL"] for cutout in cutouts]
    ['low_z', 'high_z', 'galaxy', 'point', 'other']
    """
    n = _check_number(n)
    classes, shares = _check_fractions(classes, fractions)
    labels = _assign(n, classes, shares)
    job = _Job(batch.master_seed(rng), _check_geometry(size, shape), None if out is None else Path(out))
    items = [(f"candidate-{number:06d}", label) for number, label in enumerate(labels)]
    if not items:
        warnings.warn("n is zero: there are no candidates", EmptyResultWarning, stacklevel=2)
    if job.folder is None:
        return [_value(outcome) for outcome in _run(job.cutout, items, executor, progress)]
    settings = {**job.settings(), "classes": list(classes), "fractions": [float(share) for share in shares]}
    wanted = {name for name, _ in items}
    folders.prepare(job.folder, settings, SETTINGS_FILE, wanted=wanted, others="more candidates than n")
    rows = [
        outcome.value if outcome.error is None else _failed(item, outcome.error)
        for item, outcome in zip(items, _run(job.row, items, executor, progress), strict=True)
    ]
    return folders.write_table(_table(rows, settings), job.folder)


def _run(function, items, executor, progress):
    return batch.run(
        function,
        items,
        keys=[name for name, _ in items],
        executor=executor,
        progress=progress,
        description="candidates",
    )


def _value(outcome):
    if outcome.error is not None:
        raise RuntimeError(f"{outcome.key} cannot be simulated: {outcome.error}")
    return outcome.value


def _check_number(n):
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n must be a whole number, got {n!r}")
    if not 0 <= n <= 1_000_000:
        raise ValueError(f"n must lie between 0 and 1000000, got {n}")
    return int(n)


def _check_fractions(classes, fractions):
    classes = CANDIDATE.classes if classes is None else (classes,) if isinstance(classes, str) else tuple(classes)
    for label in classes:
        CANDIDATE.index(label)
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be different labels out of {CANDIDATE.classes}, at least one, got {classes!r}")
    try:
        shares = np.ones(len(classes)) if fractions is None else np.array(fractions, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"fractions must be one number per class, got {fractions!r}") from None
    if shares.shape != (len(classes),) or not np.all(np.isfinite(shares)) or np.any(shares < 0) or not shares.sum() > 0:
        raise ValueError(f"fractions must be one number from zero per class {classes}, not all zero, got {fractions!r}")
    return classes, shares / shares.sum()


def _assign(n, classes, shares):
    """Label of each candidate: the class that lags most behind its share, so that the first ones never change."""
    given = np.zeros(len(classes))
    labels = []
    for number in range(n):
        chosen = int(np.argmax(np.round((number + 1) * shares - given, 9)))
        given[chosen] += 1
        labels.append(classes[chosen])
    return labels


def _check_geometry(size, shape):
    check_quantity("size", size, u.arcmin, positive=True, shape=())
    geometry = Geometry(size, shape)
    pixel = geometry.pixel_width().to_value(u.arcsec)
    if pixel < _FINEST or max(geometry.shape) * pixel > 1800:
        raise ValueError(
            f"size and shape must give pixels of at least {_FINEST} arcsec and no more than 30 arcmin, "
            f"got {pixel:.3g} arcsec and {max(geometry.shape) * pixel / 60:.3g} arcmin"
        )
    return geometry


@dataclass(frozen=True)
class _Job:
    """What is the same for every candidate; sent to the workers."""

    seed: int
    geometry: Geometry
    folder: Path | None

    def settings(self):
        """What decides the content of a candidate of a given class, as plain types."""
        return {
            "seed": self.seed,
            "geometry": self.geometry.to_dict(),
            "recipe": RECIPE,
            "population": dataclasses.asdict(POPULATION),
        }

    @functools.cached_property
    def digest(self):
        """Short name of the settings."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def cutout(self, item):
        """Make one candidate."""
        return _simulate(*item, self)

    def row(self, item):
        """Make one candidate and write it, unless it is there; return its row."""
        name, label = item
        path = self.folder / tables.IMAGE_FOLDER / f"{name}.fits"
        header = folders.finished_header(path, self.digest, extension="XRAY")
        if header is None or header.get("LABEL") != label:
            cutout = _simulate(name, label, self)
            folders.write_cutout(cutout, path)
            header = cutout.bands["xray"].meta
        return {"source_id": name, "path": f"{tables.IMAGE_FOLDER}/{path.name}", **_from_header(header)}


def _simulate(name, label, job):
    """One candidate as a cutout, with its truth in the meta of the X-ray image."""
    rng = batch.derive_rng(job.seed, "candidate", name, label)
    pixel = float(job.geometry.pixel_width().to_value(u.arcsec))
    bins = math.ceil(pixel / _COARSEST)
    grid = Grid(tuple(side * bins for side in job.geometry.shape), pixel / bins)
    position = (360 * rng.random(), math.degrees(math.asin(2 * rng.random() - 1)))
    scene = draw_scene(label, grid.half, rng)
    counts, exposure = observe(
        scene.extended, scene.points, scene.pointing, grid, rng, detector_light=scene.detector_light
    )
    plate = expose_plate(scene.stars, scene.galaxies, grid, rng, painted=scene.painted)
    counts, exposure = _binned(counts, bins), _binned(exposure, bins) / bins**2
    plate = np.round(_binned(plate, bins) / bins**2)
    wcs = _wcs(position, job.geometry.shape, pixel)
    common = {"OBJECT": name, "ORIGIN": "simulated", "CREATOR": _creator()}
    xray = {
        **common,
        "TELESCOP": "XMM",
        "INSTRUME": "EPN",
        "E_MIN": 0.5,
        "E_MAX": 2.0,
        "SEED": job.seed,
        folders.DIGEST_KEY: job.digest,
        **_to_header(_truth(scene, counts, exposure, grid)),
        EXPOSURE_MAP: exposure.astype(np.float32),
    }
    optical = {**common, "SURVEY": "POSS-II red, simulated", "BANDPASS": "R"}
    return Cutout(
        name,
        {
            "xray": CCDData(counts, unit=u.ct, wcs=wcs, meta=xray),
            "optical": CCDData(plate, unit=u.adu, wcs=wcs, meta=optical),
        },
    )


@functools.lru_cache(maxsize=1)
def _creator():
    return f"astroclassify {tables.provenance()['astroclassify']}"


def _truth(scene, counts, exposure, grid):
    """Row of a candidate as far as it depends on what is in it."""
    pointing, flags = scene.pointing, Flag(0)
    if leaves_field(pointing, grid):
        flags |= Flag.OFF_EDGE
    if np.any(exposure == 0):
        flags |= Flag.MASKED
    if counts.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    expected = scene.truth["flux"] * POPULATION.counts_per_flux * pointing.exposure * vignetting(pointing.off_axis)
    return {
        "label": scene.label,
        "kind": scene.kind,
        **scene.truth,
        "source_counts": expected,
        "counts": float(counts.sum()),
        "exposure": pointing.exposure,
        "off_axis": pointing.off_axis,
        "flags": flags.value,
    }


def _binned(image, bins):
    ny, nx = (side // bins for side in image.shape)
    return image.reshape(ny, bins, nx, bins).sum(axis=(1, 3), dtype=float)


def _wcs(position, shape, pixel):
    return target_wcs([round(value, 6) for value in position], pixel * u.arcsec, shape)


def _to_header(row):
    """Entries of a header: 12 digits, which survive it, and nothing for what is not a number."""
    entries = {_KEYWORDS[name]: value for name, value in row.items()}
    return {
        key: float(f"{value:.12g}") if isinstance(value, float) else value
        for key, value in entries.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def _from_header(header):
    missing = {"str": "", "int": 0}
    return {name: header.get(key, missing.get(_KINDS[name], math.nan)) for name, key in _KEYWORDS.items()}


def _failed(item, reason):
    name, label = item
    return {"source_id": name, "label": label, "flags": Flag.FAILED.value, "message": reason}


def _table(rows, settings):
    """SAMPLE table of rows; what a row lacks is empty, zero or NaN."""
    columns = {}
    for name, kind in _KINDS.items():
        empty = {"str": "", "int": 0}.get(kind, math.nan)
        values = [row.get("source_id" if name == "group_id" else name, empty) for row in rows]
        if kind == "str":
            columns[name] = np.array(values, dtype="U") if values else np.zeros(0, "U1")
        elif kind == "int":
            columns[name] = np.array(values, dtype=np.int64)
        else:
            columns[name] = np.array(values, dtype=float) * (1 if kind == "float" else kind)
    meta = tables.provenance(candidates=settings, scheme=CANDIDATE.to_dict())
    del meta["date"]
    return QTable(columns, meta=meta)


def to_binary(sample):
    """
    Use a sample of candidates for the two classes cluster and other.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels of the scheme `~astroclassify.schemes.CANDIDATE`, or none.

    Returns
    -------
    `~astropy.table.QTable`
        A copy with labels of the scheme `~astroclassify.schemes.CLUSTER`: ``low_z`` and ``high_z`` are ``cluster``,
        every other class is ``other``, no label stays none. The labels that came are in ``label_candidate``.

    Raises
    ------
    SchemaError
        If it is no SAMPLE table of this scheme.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, binary classification.

    Examples
    --------
    >>> from astroclassify import tables
    >>> from astroclassify.survey import to_binary
    >>> len(to_binary(tables.empty(tables.SAMPLE, scheme="candidate")))
    0
    """
    sample = tables.validate(sample, tables.SAMPLE)
    scheme = sample.meta.get("scheme")
    if scheme is not None and ClassScheme.from_dict(dict(scheme)) != CANDIDATE:
        raise SchemaError(f"sample must have the scheme {CANDIDATE.name!r}, got {dict(scheme).get('name')!r}")
    labels = [str(label) for label in sample["label"]]
    for label in set(labels) - {""}:
        CANDIDATE.index(label)
    result = sample.copy()
    result["label_candidate"] = np.array(labels, dtype="U16")
    result["label"] = np.array([_binary(label) for label in labels], dtype="U16")
    result.meta["scheme"] = CLUSTER.to_dict()
    return result


def _binary(label):
    return label and ("cluster" if label in _CLUSTERS else "other")
