"""Images that do not fit into the memory: detection by overlapping tiles that are read from disk."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import vstack
from scipy.spatial import cKDTree
from tqdm import tqdm

from astroclassify._checks import check_integer
from astroclassify.exceptions import EmptyResultWarning, GeometryError
from astroclassify.fields._background import estimate_background
from astroclassify.fields._read_field import read_field
from astroclassify.images._open import open_fits
from astroclassify.images._wavelet import windows
from astroclassify.images.headers._units import parse_unit
from astroclassify.schemes import Flag

from ._detect import describe_field, detect
from ._search import LEAST_EXPOSURE

__all__ = ["detect_tiles"]

LARGEST = 1024  # pixels, side of the binned image of which the background is estimated
STRIP = 512  # rows that are read at once


def detect_tiles(
    image,
    *,
    exposure,
    background=None,
    psf=None,
    energy_range=None,
    size=2048,
    overlap=256,
    detector=detect,
    executor=None,
    progress=None,
):
    """
    Find and classify the sources of an image that is too large for the memory, such as a mosaic of a survey.

    Parameters
    ----------
    image : str or path-like
        FITS file whose first two-dimensional image holds raw counts. Only parts of it are read at a time.
    exposure : str or path-like
        Exposure map in seconds on the same pixels.
    background : str or path-like, optional
        Expected counts per pixel on the same pixels; by default estimated, once for the whole image.
    psf, energy_range : optional
        See `read_field`.
    size : int, optional
        Largest side of a tile [pixels], without the overlap; the tiles of an image are about equal.
    overlap : int, optional
        Pixels by which a tile reaches beyond that on each side: at least the radius of the largest source.
    detector : callable, optional
        Takes a field and returns a CANDIDATES table; by default `detect`. For other options of `detect` give a
        ``functools.partial`` of it.
    executor : `~concurrent.futures.Executor`, optional
        Where to search the tiles; by default here, one after the other.
    progress : bool, optional
        Whether to show a bar on standard error; by default only on a terminal.

    Returns
    -------
    `~astropy.table.QTable`
        A CANDIDATES table as from ``detector``, tile by tile; ``x`` and ``y`` are those of the whole image.
        ``source_id`` is the number of the tile and that of the source there, for instance ``"3-17"``.

    Raises
    ------
    TypeError, ValueError
        If an argument has a type or a value that is not allowed.
    FileNotFoundError
        If there is no such file.
    GeometryError
        If the images differ in shape or are not what `read_field` takes, or if the exposure is not in seconds.

    Notes
    -----
    Each tile is searched with its overlap, and sources are kept that lie in the tile proper: those near its border are
    seen whole. What two tiles place on either side of their border, nearer to each other than the half-energy radius,
    is one source. Off-axis angles are from the one axis of the image; pixels with less than 2% of its largest exposure
    are left out, as in `find_sources`. The wavelet scales are those of a tile with its overlap: the largest is that of
    an eighth of its shorter side, at most 128 pixels.

    The background is estimated (`estimate_background`) in pixels binned so that a side has at most 1024 of them, and
    its ratio to the exposure is that of the binned pixel. A particle background that does not follow the exposure
    within a binned pixel needs a map.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from astropy.io import fits
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import detect_tiles
    >>> field = simulate_field(rng=1, shape=(160, 160)).field
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     counts, exposure = (Path(folder, name) for name in ("counts.fits", "exposure.fits"))
    ...     header = field.wcs.to_header()
    ...     fits.writeto(counts, field.counts, fits.Header([*header.cards, ("INSTRUME", "EPN")]))
    ...     fits.writeto(exposure, field.exposure, header)
    ...     candidates = detect_tiles(counts, exposure=exposure, size=80, overlap=40)
    >>> sorted({name.split("-")[0] for name in candidates["source_id"]})
    ['1', '2', '3', '4']
    """
    size, overlap = check_integer("size", size, 16), check_integer("overlap", overlap, 0)
    if not callable(detector):
        raise TypeError(f"detector must be callable, got {type(detector).__name__}")
    shape = _shape("image", image)
    maps = {"exposure": exposure} | ({} if background is None else {"background": background})
    for name, path in maps.items():
        if (found := _shape(name, path)) != shape:
            raise GeometryError(f"{name} must have the image's shape {shape}, got {found}")
    _check_seconds(exposure)
    largest = max(strip.max() for strip in _strips(exposure, STRIP))
    if not largest > 0:
        raise GeometryError("exposure leaves no pixel to search: it is zero everywhere")
    middle = _section(image, tuple(slice((n - 1) // 2, n // 2 + 1) for n in shape))
    middle.data = np.zeros_like(middle.data)
    background_of_none = np.zeros(middle.data.shape)
    some = read_field(middle, exposure=1 * u.s, background=background_of_none, psf=psf, energy_range=energy_range)
    ratio = None  # and side of its pixels
    if background is None:
        ratio = _background_ratio(image, exposure, shape, LEAST_EXPOSURE * largest, some.pixel)
    tiles = _Tiles(
        image, exposure, background, ratio, psf, energy_range, some.axis, LEAST_EXPOSURE * largest, overlap, detector
    )
    items = list(enumerate(windows(shape, size), 1))
    found = map(tiles.search, items) if executor is None else executor.map(tiles.search, items)
    hidden = None if progress is None else not progress
    tables = [each for each in tqdm(found, total=len(items), desc="tiles", disable=hidden) if each is not None]
    reach = float(some.psf.radius(0.5, 0.0)) / some.pixel
    # Astropy 6 cannot stack positions of none.
    tables = [each for each in tables if len(each)] or tables[:1]
    candidates = _once(vstack(tables, metadata_conflicts="silent"), dict(items), reach)
    candidates.meta["fields"] = [{**describe_field(some), "image": Path(image).name, "exposure": float(largest)}]
    return candidates


@dataclass(frozen=True)
class _Tiles:
    """What the workers need: files, and what is the same in all tiles."""

    image: Any
    exposure: Any
    background: Any
    ratio: Any
    psf: Any
    energy_range: Any
    axis: SkyCoord
    least: float
    overlap: int
    detector: Any

    def search(self, item):
        """Candidates of one tile and its overlap, in pixels of the whole image; None where nothing is exposed."""
        number, core = item
        shape = _shape("image", self.image)
        window = tuple(
            slice(max(side.start - self.overlap, 0), min(side.stop + self.overlap, n))
            for side, n in zip(core, shape, strict=True)
        )
        seconds = np.nan_to_num(np.asarray(_section(self.exposure, window).data, float))
        seconds[seconds <= self.least] = 0.0
        if not seconds.any():
            return None
        if self.ratio is None:
            background = _section(self.background, window)
        else:
            rows, columns = (np.arange(side.start, side.stop) // self.ratio[0] for side in window)
            background = seconds * self.ratio[1][np.ix_(rows, columns)]
        counts = _section(self.image, window)
        counts.data = np.where(seconds > 0, counts.data, 0)
        field = read_field(
            counts,
            exposure=seconds * u.s,
            background=background,
            psf=self.psf,
            energy_range=self.energy_range,
        )
        flags = field.flags | Flag.NO_BACKGROUND if self.background is None else field.flags
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyResultWarning)
            table = self.detector(replace(field, axis=self.axis, flags=flags))
        table["x"] += window[1].start * u.pix
        table["y"] += window[0].start * u.pix
        for column in ("source_id", "parent_id"):
            if column in table.colnames:
                table[column] = np.array([f"{number}-{name}" if name else "" for name in table[column]], dtype="U32")
        return table


def _hdu(hdus):
    """First HDU with a two-dimensional image, judged by its header."""
    return next((hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS") == 2), None)


def _shape(name, path):
    with open_fits(path) as hdus:
        hdu = _hdu(hdus)
        if hdu is None:
            raise GeometryError(f"{name}: {str(path)!r} has no HDU with a two-dimensional image")
        return hdu.shape


def _check_seconds(path):
    with open_fits(path) as hdus:
        text = str(_hdu(hdus).header.get("BUNIT", "")).strip()
    unit = parse_unit(text) if text else u.s
    if unit != u.s:
        raise GeometryError(f"exposure must be a map in seconds (BUNIT 's' or none), got BUNIT {text!r}")


def _section(path, window):
    """Part of an image as an HDU, with the WCS of the part."""
    with open_fits(path) as hdus:
        hdu = _hdu(hdus)
        header, data = hdu.header.copy(), hdu.section[window]
    for axis, side in zip((2, 1), window, strict=True):
        if f"CRPIX{axis}" in header:
            header[f"CRPIX{axis}"] -= side.start
    for keyword in ("BSCALE", "BZERO", "BLANK"):  # applied
        header.remove(keyword, ignore_missing=True)
    return fits.ImageHDU(data, header)


def _strips(path, rows):
    """Strips of an image of so many rows, from the first on; zero where there is no value."""
    with open_fits(path) as hdus:
        hdu = _hdu(hdus)
        for start in range(0, hdu.shape[0], rows):
            yield np.nan_to_num(np.asarray(hdu.section[start : start + rows, :], float))


def _background_ratio(image, exposure, shape, least, pixel):
    """Side of binned pixels, and the ratio there of the background to the exposure [counts per second]."""
    block = -(-max(shape) // LARGEST)
    counts, seconds, used = [], [], []
    for strip, time in zip(*(_strips(path, block * max(STRIP // block, 1)) for path in (image, exposure)), strict=True):
        exposed = time > least
        for sums, values in ((counts, strip * exposed), (seconds, time * exposed), (used, exposed.astype(float))):
            padded = np.pad(values, [(0, -n % block) for n in values.shape])
            ny, nx = (n // block for n in padded.shape)
            sums.append(padded.reshape(ny, block, nx, block).sum(axis=(1, 3)))
    counts, seconds, used = (np.concatenate(sums) for sums in (counts, seconds, used))
    background = estimate_background(counts, seconds / block**2, used == 0, pixel * block)
    return block, np.divide(background, seconds, out=np.zeros_like(seconds), where=seconds > 0)


def _once(table, cores, reach):
    """Each source once: that of the tile in which it lies; one that two tiles see beyond each other's border, too."""
    tile = np.array([int(name.split("-")[0]) for name in table["source_id"]], dtype=int)
    x, y = table["x"].to_value(u.pix), table["y"].to_value(u.pix)
    beyond = np.zeros(len(table))  # how far outside of its own tile
    for number, core in cores.items():
        for place, side in zip((y, x), core, strict=True):
            far = np.maximum(side.start - 0.5 - place, place - (side.stop - 0.5))
            beyond = np.where(tile == number, np.maximum(beyond, far), beyond)
    kept = beyond <= reach
    twin = {}  # of what is left out, what stands for it
    if len(table):
        near = cKDTree(np.column_stack([x, y])).query_ball_point(np.column_stack([x, y]), reach)
        for row in np.argsort(beyond, kind="stable"):
            if kept[row]:
                others = [other for other in near[row] if tile[other] != tile[row]]
                kept[others] = False
                twin |= dict.fromkeys(table["source_id"][others], table["source_id"][row])
    table = table[kept]
    if "parent_id" in table.colnames:
        # A structure that only a neighbouring tile has, on the other side of the border, is named as it is there.
        table["parent_id"] = [twin.get(name, name) for name in table["parent_id"]]
    return table
