"""Celestial coordinates of the images in FITS files: one reader for images, plates, maps and masks."""

from astropy.wcs import WCS, Wcsprm

from astroclassify.exceptions import GeometryError

from ._cards import DISTORTION_KEY, is_of_wcs

__all__ = ["is_celestial", "plane", "read_wcs"]

MOST_AXES = 15  # that a WCS of astropy can have


def is_celestial(wcs):
    """Whether a WCS is one of the sky. Places on the Earth (TLON), which astropy counts among these, are not."""
    return bool(getattr(wcs, "has_celestial", False)) and wcs.wcs.lngtyp != "TLON"


def plane(wcs):
    """Celestial axes of a WCS; itself where it has no others, as `WCS.celestial` copies all of it."""
    return wcs if wcs.naxis == 2 else wcs.celestial


def read_wcs(header, shape, hdus=None):
    """
    Celestial WCS of the two axes that are longer than one, or None where there is none.

    ``shape`` is that of the array, (..., ny, nx). A header may describe more axes than the array has (FITS 4.0, section
    8.2); ``hdus`` are those of the file, which may hold lookup tables of distortions.
    """
    wcs = _parse_wcs(header, hdus)
    if not is_celestial(wcs):
        return None
    sky_axes = {len(shape) - 1 - axis for axis in (wcs.wcs.lng, wcs.wcs.lat)}
    if any(length > 1 and axis not in sky_axes for axis, length in enumerate(shape)):
        return None
    return plane(wcs)


def _parse_wcs(header, hdus):
    """WCS of a header. `WCS` parses the whole header three times; without distortions its linear terms say it all."""
    cards = [card for card in header.cards if is_of_wcs(card.keyword)]
    for key in {key for key in header if key.startswith("WCSAXES")}:
        if header[key] not in range(MOST_AXES + 1):  # for more, wcslib writes beyond its memory
            raise GeometryError(f"{key} must be a whole number of axes up to {MOST_AXES}, got {header[key]!r}")
    kinds = [str(card.value) for card in cards if card.keyword.startswith("CTYPE")]
    if any(DISTORTION_KEY.match(card.keyword) for card in cards) or any(kind[8:] for kind in kinds):
        return WCS(header, fobj=hdus)
    text = "".join(card.image for card in cards)
    linear = Wcsprm(header=text.encode("ascii"), key=" ", relax=True, keysel=-1)
    wcs = WCS(naxis=linear.naxis)
    wcs.wcs = linear
    wcs.fix()
    wcs.wcs.set()
    wcs.pixel_shape = [header.get(f"NAXIS{axis + 1}", 1) for axis in range(wcs.naxis)]
    return wcs
