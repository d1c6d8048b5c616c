"""Simulated candidates of all classes: an XMM image and a photographic plate of each, with the truth."""

import dataclasses
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import batch
from astroclassify._checks import check_integer, check_quantity
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.images import Geometry
from astroclassify.samples._folders import seed_of
from astroclassify.samples._writer import SampleWriter, digest_of
from astroclassify.schemes import CANDIDATE, Flag

from ._candidate import ROWS, make_candidate
from ._population import POPULATION

__all__ = ["simulate_candidates"]

SETTINGS_FILE = "candidates.json"
# Raised when the same seed gives other images although no number of the population has changed.
RECIPE = 3
_FINEST = 0.8  # arcsec, least size of a pixel


def simulate_candidates(
    n,
    *,
    rng=None,
    out=None,
    classes=None,
    fractions=None,
    size=7 * u.arcmin,
    shape=(356, 356),
    executor=None,
    progress=None,
):
    """
    Simulate X-ray selected cluster candidates: XMM EPIC pn images with the red photographic plate of the same field.

    Parameters
    ----------
    n : int
        How many.
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn. By default the seed of the sample that ``out`` holds, so that
        the same call resumes it, or else a fresh one. It is in ``meta["SEED"]`` of each image and in
        ``candidates.json``. Candidate i of a seed is the same for any ``n``, executor and order of work.
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
        Whether to show a bar on standard error; by default on a terminal only.

    Returns
    -------
    list of Cutout, or `~astropy.table.QTable`
        Without ``out``, the cutouts (3 MB each): bands ``"xray"`` (whole counts in 0.5 to 2 keV, with the exposure map
        in ``exposure`` and the truth in entries of ``meta``: ``LABEL``, ``KIND``, ``REDSHIFT`` ...)
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
    All numbers and their sources are in ``sim/sky/_population.py``. X-rays are drawn photon by photon: beta models
    (beta = 2/3) for clusters and hot gas, active nuclei after Moretti et al. (2003), Galactic and particle background,
    vignetting, the King PSF of EPIC pn at each off-axis angle, gaps, dead columns, out-of-time photons. Clusters come
    from a luminosity function in comoving volume with the scaling relations of Piffaretti et al. (2011) and Arnaud et
    al. (2005); which of them become candidates depends on the counts they leave. Their galaxies follow a Schechter
    function and fade with redshift by distance, k correction and evolution, so that above z = 0.3 the plate (limit R
    about 20.8) shows little.

    These choices decide how hard the classes are to tell apart: the significance and core radius at which half of the
    clusters are found (``cluster_significance``, ``cluster_extent``; most lie near them), the brightness of point
    sources and nearby galaxies (``point_significance``, ``galaxy_counts``), the share of clusters with a cool core or
    an active nucleus, and the shares of ``other_kinds``. They are set by hand. A score on simulated candidates is
    therefore no statement about the sky. Clusters and groups that have nothing to do with a candidate come from the
    same luminosity function; with them galaxies cluster on the plate as on the sky.

    Not simulated: MOS cameras, azimuthal structure of the PSF, flares, clustering of nuclei, plate flaws.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141 (the classes, 7 arcmin in 356 pixels); Koulouridis et al. 2021, A&A 652, A12
    (X-CLASS: exposures of 10 and 20 ks).

    Examples
    --------
    >>> from astroclassify.sim import simulate_candidates
    >>> cutouts = simulate_candidates(5, rng=1, shape=(128, 128), progress=False)
    >>> [cutout.bands["xray"].meta["LABEL"] for cutout in cutouts]
    ['low_z', 'high_z', 'galaxy', 'point', 'other']
    """
    n = check_integer("n", n, 0, 1_000_000)
    classes, shares = _check_fractions(classes, fractions)
    seed = seed_of(rng, out, SETTINGS_FILE)
    job = _Job(seed, _check_geometry(size, shape), tuple(classes), tuple(shares.tolist()), out)
    items = [(f"candidate-{number:06d}", label) for number, label in enumerate(_assign(n, classes, shares))]
    names = [name for name, _ in items]
    if not items:
        warnings.warn("n is zero: there are no candidates", EmptyResultWarning, stacklevel=2)
    how = {"keys": names, "executor": executor, "progress": progress, "description": "candidates"}
    if out is None:
        return [_value(outcome) for outcome in batch.run(job.cutout, items, **how)]
    job.writer.prepare(wanted=names, others="more candidates than n")
    rows = list(job.writer.run(job.row, items, failed=_failed, **how))
    return job.writer.finish(ROWS.table(rows), candidates=job.writer.settings, scheme=CANDIDATE.to_dict())


def _value(outcome):
    if outcome.error is not None:
        raise RuntimeError(f"{outcome.key} cannot be simulated: {outcome.error}")
    return outcome.value


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
    """Settings that all candidates share; sent to the workers."""

    seed: int
    geometry: Geometry
    classes: tuple
    shares: tuple
    out: object

    @functools.cached_property
    def content(self):
        """Settings on which a candidate of a given class depends, as plain types."""
        return {
            "seed": self.seed,
            "geometry": self.geometry.to_dict(),
            "recipe": RECIPE,
            "population": dataclasses.asdict(POPULATION),
        }

    @functools.cached_property
    def digest(self):
        """Digest of `content`."""
        return digest_of(self.content)

    @functools.cached_property
    def writer(self):
        """Writer of the sample."""
        settings = {**self.content, "classes": list(self.classes), "fractions": list(self.shares)}
        return SampleWriter(Path(self.out), settings, SETTINGS_FILE, digest=self.digest, band="xray")

    def cutout(self, item):
        """Make one candidate, a pair of name and class."""
        return make_candidate(*item, seed=self.seed, geometry=self.geometry, digest=self.digest)

    def row(self, item):
        """Make one candidate and write it, unless it is there; return its row."""
        name, label = item
        header = self.writer.keep_or_make(
            name, lambda: self.cutout(item), usable=lambda header: header.get("LABEL") == label
        )
        return {"source_id": name, "group_id": name, "path": self.writer.path(name), **ROWS.from_header(header)}


def _failed(item, reason):
    name, label = item
    return {"source_id": name, "group_id": name, "label": label, "flags": Flag.FAILED.value, "message": reason}
