"""DS9 region files that people have edited, as candidates and as masks."""

import logging
import re
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable
from regions import (
    CircleSkyRegion,
    EllipseSkyRegion,
    PixelRegion,
    PointPixelRegion,
    PointSkyRegion,
    RectangleSkyRegion,
    Regions,
    SkyRegion,
)

from astroclassify._checks import first_line, shorten
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import ArgumentError, AstroclassifyWarning, SchemaError
from astroclassify.fields import Field
from astroclassify.tables import provenance

from ._read import unique_names

__all__ = ["read_regions", "region_mask"]

log = logging.getLogger(__name__)

_SKY = ("icrs", "fk5", "j2000", "fk4", "b1950", "galactic", "ecliptic")
_PIXELS = ("image", "physical")
_SYSTEMS = (*_SKY, *_PIXELS)
_OTHER_SYSTEMS = re.compile(r"wcs[0a-z]?|linear|amplifier|detector|tile")
# Numbers of parameters; a polygon has three corners or more.
_SHAPES = {"point": 2, "circle": 3, "ellipse": 5, "annulus": 4, "box": 5, "polygon": None}
# DS9 writes these behind a #; every other line that begins so is a comment.
_IN_COMMENTS = ("text", "vector", "ruler", "compass", "projection", "segment", "composite", "panda", "epanda", "bpanda")
_STATEMENT = re.compile(r"(#?)\s*([+-]?)\s*([A-Za-z][A-Za-z0-9]*)\s*(.*)", re.DOTALL)
# Nobody means a region wider than this, but a size without its quotes, which DS9 takes as degrees, may be.
_WIDEST = 5.0


def read_regions(path, *, image=None):
    """
    Read the regions of a DS9 file, made by `write_regions` or by hand, as candidates.

    Parameters
    ----------
    path : str or path-like
        The file. Points, circles, ellipses and boxes; ``icrs``, ``fk5``, ``fk4``, ``galactic``, ``ecliptic``,
        ``image`` or ``physical`` coordinates, in degrees or sexagesimal.
    image : Field, SkyImage or `~astropy.nddata.NDData`, optional
        The image that ``image`` and ``physical`` coordinates are pixels of.

    Returns
    -------
    `~astropy.table.QTable`
        One row per region, in their order: ``source_id`` (the text of the region; a number where it has none),
        ``sky_position`` (the centre, ICRS), ``ext`` [arcsec] (the radius; of an ellipse or a box that of the circle of
        the same area; NaN for a point) and ``message``. Colours and other properties are not used.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If a line is none of these, which the message names; nothing is left out.
    ValueError
        If ``image`` is needed and not given, or has no celestial coordinates.

    Warns
    -----
    AstroclassifyWarning
        If regions are excluded (``-circle(...)``): they are no candidates.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from astroclassify.survey import read_regions
    >>> text = 'fk5\\ncircle(10:00:24, -2:30:00, 30") # color=red text={A 1}\\npoint(150.2, -2.4) # point=x\\n'
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ds9.reg"
    ...     _ = path.write_text(text)
    ...     candidates = read_regions(path)
    >>> candidates["source_id", "ext"].pprint()
    source_id  ext
             arcsec
    --------- ------
          A 1   30.0
            2    nan
    """
    wcs, header, _ = _grid(image)
    found, excluded = [], 0
    for place, region in _regions(path, header):
        if not region.meta.get("include", 1):
            excluded += 1
            continue
        if isinstance(region, PixelRegion):
            if wcs is None:
                raise ArgumentError(f"image must be given: {place} is in pixels")
            region = region.to_sky(wcs)
        if not isinstance(region, PointSkyRegion | CircleSkyRegion | EllipseSkyRegion | RectangleSkyRegion):
            raise SchemaError(f"{place} is no candidate: point, circle, ellipse or box wanted")
        found.append((region.center.icrs, _radius(region), str(region.meta.get("text", "")).strip()))
    if excluded:
        text = f"{excluded} regions of {Path(path).name} are excluded (-) and no candidates"
        warnings.warn(text, AstroclassifyWarning, stacklevel=2)
    texts = [text or str(number) for number, (_, _, text) in enumerate(found, 1)]
    names, messages = unique_names(texts, [""] * len(texts))
    table = QTable({"source_id": names})
    ra, dec = ([getattr(sky, name).deg for sky, _, _ in found] for name in ("ra", "dec"))
    table["sky_position"] = SkyCoord(ra * u.deg, dec * u.deg)
    table["ext"] = np.array([size for _, size, _ in found], dtype=float) * u.arcsec
    table["message"] = messages
    table.meta = provenance(regions=Path(path).name)
    return table


def region_mask(path, image):
    """
    Pixels that the regions of a DS9 file select.

    Parameters
    ----------
    path : str or path-like
        The file. Circles, ellipses, annuli, boxes and polygons, in the coordinates of `read_regions`.
    image : Field, SkyImage or `~astropy.nddata.NDData`
        The image, with celestial coordinates.

    Returns
    -------
    `~numpy.ndarray` of bool, shape (ny, nx)
        True where the centre of a pixel lies in a region and in none that is excluded (``-circle(...)``, wherever it
        stands in the file). Where all regions are excluded ones, true outside of them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If a line is none of these, which the message names, or the file has no region.
    ValueError
        If ``image`` is no image with celestial coordinates.

    Notes
    -----
    Regions that cover the centre of no pixel, such as those beside the image, are counted in a warning of the log. To
    leave out of a field what the regions of a file mark: ``read_field(image, mask=region_mask(path, image))``; to keep
    nothing else: ``mask=~region_mask(path, image)``.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from astropy.nddata import NDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.survey import region_mask
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 5.5, "CRPIX2": 5.5, "CDELT1": -0.01,
    ...            "CDELT2": 0.01, "CRVAL1": 10.0, "CRVAL2": -5.0})
    >>> image = NDData(np.zeros((10, 10)), wcs=wcs)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ds9.reg"
    ...     _ = path.write_text("image\\nbox(5.5, 5.5, 6, 6, 0)\\n-circle(5.5, 5.5, 2)\\n")
    ...     int(region_mask(path, image).sum())
    24
    """
    wcs, header, shape = _grid(image)
    if wcs is None:
        raise ArgumentError("image must be given")
    masks, empty = {True: np.zeros(shape, bool), False: np.zeros(shape, bool)}, 0
    there = {True: False, False: False}
    for place, region in _regions(path, header):
        included = bool(region.meta.get("include", 1))
        if isinstance(region, PointSkyRegion | PointPixelRegion):
            raise SchemaError(f"{place} has no area")
        inside = _inside(place, region, wcs, shape)
        there[included] = True
        if inside is None or not inside.any():
            empty += 1
        else:
            masks[included] |= inside.astype(bool)
    if not any(there.values()):
        raise SchemaError(f"path: {str(path)!r} has no region")
    if empty:
        log.warning("%d regions of %s cover the centre of no pixel", empty, Path(path).name)
    return (masks[True] if there[True] else ~masks[True]) & ~masks[False]


def _grid(image):
    """Coordinates, header and shape of an image; None of each where there is none."""
    if image is None:
        return None, None, None
    if isinstance(image, Field):
        return image.wcs, image.meta, image.shape
    if not isinstance(image, NDData) or image.data.ndim != 2:
        raise ArgumentError(f"image must be a Field or a 2-D image such as SkyImage or CCDData, got {shorten(image)}")
    if image.wcs is None or not image.wcs.has_celestial:
        raise ArgumentError("image must have celestial coordinates")
    return image.wcs, image.meta, image.data.shape


def _regions(path, header):
    """(place in the file, region) of every region of a file; SchemaError where a line is none."""
    system, shared = None, []
    for place, text in _statements(path):
        hidden, sign, word, rest = _parts(place, text)
        if hidden and word not in _IN_COMMENTS:
            continue
        if word == "global":
            shared.append(text)
        elif word in _SYSTEMS and not rest.partition("#")[0]:
            system = word
        elif word in _SHAPES and not hidden:
            if system is None:
                raise SchemaError(f"{place} stands before any coordinate system: write fk5, image, ... on a line above")
            yield place, _parsed(place, system, shared, sign, word, rest, header)
        elif _OTHER_SYSTEMS.fullmatch(word) and not rest:
            raise SchemaError(f"{place} is a coordinate system that is not read here; these are: {', '.join(_SYSTEMS)}")
        else:
            raise SchemaError(f"{place} is no region that is read here; these are: {', '.join(_SHAPES)}")


def _statements(path):
    """(place, text) of everything between line ends and semicolons but comments."""
    path = Path(path)
    check_regular(path, error=SchemaError)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"path: {str(path)!r} cannot be read as a region file: {first_line(error)}") from error
    for number, line in enumerate(lines, 1):
        for text in re.split(r";(?![^{]*\})", line):  # not within {}
            if text.strip():
                yield f"line {number} of {path.name} ({shorten(text.strip(), 60)})", text.strip()


def _parts(place, text):
    """Whether a statement stands behind #, its sign, first word and the rest."""
    match = _STATEMENT.fullmatch(text)
    if match is None:
        if text.startswith("#"):
            return True, "", "", ""
        raise SchemaError(f"{place} is neither a region nor a coordinate system")
    hidden, sign, word, rest = match.groups()
    # "# text ..." is a comment, "# text(1,2)" is a text; "#Name circle(..." is a comment.
    return bool(hidden), sign, word.lower() if not hidden or rest.startswith("(") else "", rest.strip()


def _parsed(place, system, shared, sign, shape, rest, header):
    """The region of one statement; one of physical coordinates in pixels of the image."""
    values, _, properties = rest.partition("#")
    if "||" in values or "&&" in values:
        raise SchemaError(f"{place} is joined to others: write each region on its own")
    values = [value for value in re.split(r"[\s,()]+", values) if value]
    wanted = _SHAPES[shape]
    if len(values) != wanted and (wanted or len(values) < 6 or len(values) % 2):
        wanted = wanted or "6 or more, two for each corner"
        raise SchemaError(f"{place} has {len(values)} values; {shape} wants {wanted}")
    _check_sizes(place, system, shape, values)
    if system == "physical":
        system, values = "image", _to_image(place, shape, values, header)
    text = f"{sign}{shape}({','.join(values)})" + (f" # {properties}" if properties else "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the parser warns of what it leaves out
            (region,) = Regions.parse("\n".join([*shared, system, text]), format="ds9")
    except (ValueError, TypeError, KeyError, IndexError, UserWarning) as error:
        raise SchemaError(f"{place} cannot be read: {first_line(error)}") from error
    return region


def _check_sizes(place, system, shape, values):
    """Refuse sizes on the sky without a unit that can only be meant in another one than degrees."""
    sizes = values[2 : None if shape in ("circle", "annulus") else -1] if shape not in ("point", "polygon") else []
    for size in sizes:
        if system in _SKY and re.fullmatch(r"[\d.]+", size) and float(size) > _WIDEST:
            raise SchemaError(f"{place} is {size} degrees wide, as it has no unit: write {size}\" or {size}'")


def _to_image(place, shape, values, header):
    """Values of a region of physical coordinates in pixels of an image, by its LTM and LTV."""
    if header is None:
        raise ArgumentError(f"image must be given: {place} is in physical coordinates")
    header = {str(key).upper(): value for key, value in header.items()}
    scales = [float(header.get(f"LTM{axis}_{axis}", 1.0)) for axis in (1, 2)]
    shifts = [float(header.get(f"LTV{axis}", 0.0)) for axis in (1, 2)]
    if scales[0] != scales[1] or scales[0] <= 0 or header.get("LTM1_2") or header.get("LTM2_1"):
        raise SchemaError(f"{place}: physical pixels of this image are not its own, larger or smaller (LTM)")
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        raise SchemaError(f"{place}: physical coordinates and sizes must be numbers of pixels") from None
    n_coordinates = len(numbers) if shape == "polygon" else 2
    n_sizes = len(numbers) - (shape in ("ellipse", "box"))  # the last one is an angle
    numbers[:n_sizes] = [value * scales[0] for value in numbers[:n_sizes]]
    numbers[:n_coordinates] = [value + shifts[number % 2] for number, value in enumerate(numbers[:n_coordinates])]
    return [repr(number) for number in numbers]


def _inside(place, region, wcs, shape):
    """Pixels whose centres lie in a region; None where it is beside the image."""
    corners = getattr(region, "vertices", None)
    corners = region.center if corners is None else corners
    # Before the region is converted: regions 0.13 and later raise where it cannot be.
    is_sky = isinstance(region, SkyRegion)
    x, y = wcs.world_to_pixel(corners) if is_sky else (corners.x, corners.y)
    on_plane = np.isfinite(x) & np.isfinite(y)
    if not np.any(on_plane):  # on the other side of the sky
        return None
    if not np.all(on_plane):
        raise SchemaError(f"{place} has corners that the projection of the image does not hold")
    return (region.to_pixel(wcs) if is_sky else region).to_mask(mode="center").to_image(shape)


def _radius(region):
    """Radius in arcsec of the circle that has the area of a region."""
    if isinstance(region, CircleSkyRegion):
        return region.radius.to_value(u.arcsec)
    if isinstance(region, PointSkyRegion):
        return np.nan
    area = (region.width * region.height).to_value(u.arcsec**2)
    return float(np.sqrt(area / 4 if isinstance(region, EllipseSkyRegion) else area / np.pi))
