"""Two-band cutouts of candidates: X-ray counts, exposure and an optical image on one grid, the source in the middle."""

import functools
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from astroclassify import batch, tables
from astroclassify._checks import check_quantity
from astroclassify.exceptions import ArgumentError, EmptyResultWarning, GeometryError, ImageWarning, SchemaError
from astroclassify.images import Cutout, Geometry
from astroclassify.images._checks import image_flags
from astroclassify.images._resample import target_wcs
from astroclassify.samples._writer import RowFormat, SampleWriter, digest_of, one_line
from astroclassify.schemes import Flag

from ._bands import Piece, optical_band, xray_band
from ._digits import round_cutout
from ._plates import NoImageError

__all__ = ["extract_cutouts"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "cutouts.json"
# Increased when the same field gives other cutouts.
RECIPE = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


def extract_cutouts(
    candidates, field, *, optical=None, size=7 * u.arcmin, shape=(356, 356), out=None, executor=None, progress=None
):
    """
    Cut candidates out of a field: X-ray counts and an optical image on one grid, north up, the source in the middle.

    Parameters
    ----------
    candidates : `~astropy.table.QTable` or `~astropy.coordinates.SkyCoord`
        Table with a column ``sky_position`` and, if they have names, ``source_id``; or positions alone.
    field : Field or `~astropy.nddata.CCDData`, or sequence of these
        X-ray counts as `read_field` or `~astroclassify.images.read_image` gives them. Of several fields each candidate
        is cut out of the one with the longest exposure at its position; none are added (`combine_fields` adds cameras).
    optical : callable, optional
        Takes a position and the side of a square, north up, and gives the optical image of it as
        `~astropy.nddata.CCDData`, any pixels, any orientation: `LocalOptical`, `HipsOptical`, `SkyViewOptical`.
    size : `~astropy.units.Quantity`, optional
        Side along x, an angle.
    shape : tuple of int, optional
        Pixels along y and x.
    out : str or path-like, optional
        Sample folder to write: ``sample.ecsv``, ``images/<source_id>.fits`` and ``cutouts.json`` (the settings). The
        same call goes on from where a run was ended, and asks again for optical images that could not be fetched.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one after the other. A worker is sent the part of the field that it needs.
    progress : bool, optional
        Whether to show a bar on standard error; by default only on a terminal.

    Returns
    -------
    list of Cutout, or `~astropy.table.QTable`
        Without ``out`` one entry for each candidate (3 MB; None, with a warning, where there is no cutout). With
        ``out`` a SAMPLE table with one row for each candidate in their order: its own columns, those of a SAMPLE
        table, and ``message``. A candidate without a cutout keeps its row, with the flag ``FAILED``, no path and the
        reason. A ``source_id`` that comes again has a number after it, one that cannot name a file is replaced; the
        original is in ``group_id``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.
    SchemaError
        If ``candidates`` lacks a column, or a column has another kind than a SAMPLE table's of this name.
    GeometryError
        If the field has no celestial coordinates or is not in counts.
    OutputError
        If the folder cannot be written, holds something else, or a sample with other settings or other candidates.

    Warns
    -----
    EmptyResultWarning
        If there are no candidates.
    ImageWarning
        If a cutout is missing in the list.

    Notes
    -----
    Bands: ``"xray"`` (counts, and the exposure map [s] in ``exposure``) and, where there is an image,
    ``"optical"`` (its values, unit adu). The counts of a pixel are shared among the pixels of the grid in proportion to
    the area that they have in common, exactly, so that what falls inside the grid is conserved to rounding; the
    exposure is averaged by area. Optical images are interpolated between pixels, or averaged by area where their pixels
    are finer than half of the grid's. Coordinates between the images are right to 0.01 pixel.

    Cutouts in a folder have as many digits as their data, so that two bands take 0.2 to 0.3 MB: counts are in steps of
    2^-10 count (of the brightest pixel, if it has less than one count), exposures of at most 2^-12 of the longest,
    optical values of at most a sixteenth of the median difference of neighbouring pixels. Sums of counts over pixels
    that follow each other in rows, and so the sum of all, stay as they are to one step. The files themselves are packed
    without loss (see `~astroclassify.images.Cutout.write`).

    A grid that reaches beyond the image is padded, so that the source stays in the middle. Pixels less than half of
    which come from valid ones are masked. ``flags``: ``off_edge``, part of the field lies off the X-ray or the optical
    image; ``masked``, pixels in it are masked or have no exposure; ``no_exposure``, the field has no exposure map;
    ``no_optical``, there is no optical image and ``message`` says why; ``low_counts``; and those of the candidate.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section 2 (7 arcmin, X-ray and DSS2); 356 pixels are those of their pictures.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import simulate_candidates
    >>> from astroclassify.survey import extract_cutouts
    >>> field = simulate_candidates(1, rng=1, progress=False)[0].bands["xray"]
    >>> position = field.wcs.pixel_to_world([100, 200], [100, 150])
    >>> cutouts = extract_cutouts(position, field, size=2 * u.arcmin, shape=(64, 64), progress=False)
    >>> [cutout.source_id for cutout in cutouts]
    ['source-000001', 'source-000002']
    """
    check_quantity("size", size, u.arcmin, positive=True, shape=())
    geometry = Geometry(size, shape)
    if optical is not None and not callable(optical):
        raise TypeError(f"optical must be a function of position and size, got {type(optical).__name__}")
    images = [Piece.of(each) for each in (field if isinstance(field, list | tuple) else [field])]
    if not images:
        raise ArgumentError("field must be a field or several, got an empty sequence")
    sample = _skeleton(candidates)
    job = _Job(geometry, optical, out, "" if out is None else _name_of(images))
    if not len(sample):
        warnings.warn("candidates has no rows: there are no cutouts", EmptyResultWarning, stacklevel=2)
    items = _items(sample, images, geometry)
    names = [item.name for item in items]
    how = {"keys": names, "executor": executor, "progress": progress, "description": "cutouts"}
    if out is not None:
        job.writer.prepare(wanted=names, others="other candidates")
        rows = list(job.writer.run(job.row, items, failed=_failed, **how))
        return job.writer.finish(_filled(sample, rows), cutouts=job.writer.settings)
    outcomes = list(batch.run(job.cutout, items, **how))
    missing = [f"{outcome.key}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    if missing:
        text = f"{len(missing)} of {len(outcomes)} candidates have no cutout ({missing[0]})"
        warnings.warn(text, ImageWarning, stacklevel=2)
    return [outcome.value for outcome in outcomes]


def _skeleton(candidates):
    """SAMPLE table of the candidates, still without paths and flags of cutouts; their own columns are kept."""
    if isinstance(candidates, SkyCoord):
        candidates = QTable({"sky_position": candidates.reshape(-1)})
    if not isinstance(candidates, Table):
        raise TypeError(f"candidates must be a table or SkyCoord, got {type(candidates).__name__}")
    candidates = tables.plain_table(candidates)
    if "sky_position" not in candidates.colnames or not isinstance(candidates["sky_position"], SkyCoord):
        raise SchemaError(f"candidates must have a column sky_position of SkyCoord, got {candidates.colnames}")
    n = len(candidates)
    given = [f"source-{number + 1:06d}" for number in range(n)]
    if "source_id" in candidates.colnames:
        given = candidates["source_id"].astype(str).tolist()
    fixed = {"source_id": _names(given), "path": np.zeros(n, "U1")}
    if "group_id" not in candidates.colnames:
        fixed["group_id"] = np.array(given, dtype="U") if n else np.zeros(0, "U1")
    blank = RowFormat(tables.SAMPLE.kinds()).table([{}] * n)
    columns = {name: candidates[name] if name in candidates.colnames else blank[name] for name in blank.colnames}
    columns = {**columns, **fixed, **{name: candidates[name] for name in candidates.colnames if name not in columns}}
    columns.setdefault("message", np.zeros(n, "U1"))
    return tables.validate(QTable(columns, meta=dict(candidates.meta)), tables.SAMPLE)


def _names(given):
    """A unique name for each row that can be a file name."""
    reserved, taken, number_of, names = set(given), set(), {}, []
    for number, name in enumerate(given):
        base = choice = name if _NAME.fullmatch(name) else f"row-{number + 1}"
        while choice in taken or (choice != name and choice in reserved):
            number_of[base] = number_of.get(base, 1) + 1
            choice = f"{base}-{number_of[base]}"
        taken.add(choice)
        names.append(choice)
    return np.array(names, dtype="U") if names else np.zeros(0, "U1")


class _Item:
    """One candidate and the field; pickled with only the part of the field that is needed."""

    def __init__(self, name, position, image, slices):
        self.name, self.position, self._image, self._slices = name, position, image, slices

    def piece(self):
        """The part of the field around the candidate."""
        if not np.all(np.isfinite(self.position)):
            raise GeometryError("the position is not finite")
        if self._image is None:
            raise GeometryError("the position and all that is around it lie off the image")
        return self._image if self._slices is None else self._image.window(self._slices)

    def __getstate__(self):
        image = None if self._image is None else self.piece()
        return {"name": self.name, "position": self.position, "_image": image, "_slices": None}


def _name_of(images):
    """Digest of the fields: of the pixels and coordinates of each."""
    names = [image.name for image in images]
    return names[0] if len(names) == 1 else digest_of(names)


def _items(sample, images, geometry):
    """Items for the workers, one per row, each with the image that is deepest there."""
    sky = tables.plain_sky(sample["sky_position"], "column 'sky_position' of candidates")
    ra, dec = sky.ra.deg, sky.dec.deg
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    found, deepest = [(None, None)] * len(sample), np.full(len(sample), -1.0)
    if good.size:
        positions = SkyCoord(ra[good], dec[good], unit="deg")
        radius = geometry.pixel_width() * np.hypot(*geometry.shape) / 2
        for image in images:
            rows = zip(good, image.windows(positions, radius), image.depth(positions), strict=True)
            for number, slices, depth in rows:
                if slices is not None and depth > deepest[number]:
                    found[number], deepest[number] = (image, slices), depth
    return [
        _Item(str(name), position, *place)
        for name, position, place in zip(
            sample["source_id"], zip(ra.tolist(), dec.tolist(), strict=True), found, strict=True
        )
    ]


@dataclass(frozen=True)
class _Job:
    """Settings of all cutouts; sent to the workers."""

    geometry: Geometry
    optical: Any
    out: Any
    field: str

    @functools.cached_property
    def writer(self):
        """Writer of the sample; its settings decide the content of a cutout at a given position."""
        optical = None
        if self.optical is not None:
            name = getattr(self.optical, "__qualname__", type(self.optical).__qualname__)
            optical = getattr(self.optical, "settings", {"kind": name})
        settings = {"geometry": self.geometry.to_dict(), "field": self.field, "optical": optical, "recipe": RECIPE}
        return SampleWriter(Path(self.out), settings, SETTINGS_FILE, band="xray")

    def cutout(self, item):
        """Make one cutout; its row is in the meta of the X-ray band."""
        _keep_memory()
        piece, (ra, dec) = item.piece(), item.position
        position, pixel = SkyCoord(ra, dec, unit="deg"), self.geometry.pixel_width()
        target = target_wcs(position, pixel, self.geometry.shape)
        bands = {"xray": xray_band(piece, target, self.geometry.shape)}
        meta = bands["xray"].meta
        flags = image_flags(meta)
        if self.optical is not None:
            try:
                plate = self.optical(position, pixel * max(self.geometry.shape))
                bands["optical"] = optical_band(plate, target, self.geometry.shape)
                flags |= image_flags(bands["optical"].meta)
            except Exception as error:  # the X-ray image is worth having without it
                log.warning("%s has no optical image: %s", item.name, error)
                flags |= Flag.NO_OPTICAL
                meta["FLAGS"] = (image_flags(meta) | Flag.NO_OPTICAL).value
                meta["MESSAGE"] = f"no optical image: {one_line(error) or type(error).__name__}"[:400]
                meta["AGAIN"] = not isinstance(error, NoImageError)
        meta["ROWFLAGS"] = flags.value
        return Cutout(item.name, bands)

    def row(self, item):
        """Make one cutout and write it, unless it is there; return its path, flags and message."""
        header = self.writer.keep_or_make(
            item.name,
            lambda: round_cutout(self.cutout(item)),
            digest=digest_of([self.writer.settings, item.name, item.position]),
            usable=lambda header: not header.get("AGAIN", False),
        )
        return self.writer.path(item.name), int(header["ROWFLAGS"]), str(header.get("MESSAGE", ""))


def _failed(item, reason):
    return "", Flag.FAILED.value, reason


@functools.lru_cache(maxsize=1)
def _keep_memory():
    """Free a large block once per process: until then the C library of Linux returns memory to the system each time
    (mallopt(3), M_MMAP_THRESHOLD), and a worker would spend half of its time on getting it again."""
    np.empty(2**24, np.uint8)


def _filled(sample, rows):
    """The table with path, flags and message of each row."""
    if rows:
        paths, flags, messages = zip(*rows, strict=True)
        texts = ["; ".join(filter(None, pair)) for pair in zip(map(str, sample["message"]), messages, strict=True)]
        sample["path"] = np.array(paths, dtype="U")
        sample["flags"] = np.asarray(sample["flags"], dtype=np.int64) | np.array(flags, dtype=np.int64)
        sample["message"] = np.array(texts, dtype="U")
    return sample
