"""Cards of FITS headers: which belong to the array and its coordinates, and headers made of any mapping."""

import functools
import re
import warnings

import numpy as np
from astropy.io import fits

from astroclassify.exceptions import ImageWarning

__all__ = ["DISTORTION_KEY", "EXPOSURE_MAP", "is_of_wcs", "is_structure", "make_header", "plain_meta", "read_meta"]

EXPOSURE_MAP = "exposure_map"
"""Entry in the ``meta`` of a plain CCDData that holds an exposure map; a `SkyImage` has it as ``exposure``."""

# Keywords of the array, and those of the coordinate system, which are written anew with them.
_ARRAY_KEYS = frozenset(
    "SIMPLE XTENSION BITPIX EXTEND PCOUNT GCOUNT GROUPS BSCALE BZERO BLANK EXTNAME EXTVER EXTLEVEL CHECKSUM DATASUM "
    "BUNIT".split()
) | {""}
_STRUCTURE_KEYS = _ARRAY_KEYS | frozenset(
    "NAXIS WCSAXES RADECSYS RADESYS EQUINOX EPOCH LONPOLE LATPOLE WCSNAME SPECSYS SSYSOBS SSYSSRC VELOSYS VELREF "
    "ZSOURCE VELANGL RESTFRQ RESTFREQ RESTWAV".split()
)
_LINEAR_KEY = re.compile(
    r"(NAXIS|CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CNAME|CRDER|CSYER)\d+[A-Z]?$|(CD|PC)\d+_\d+[A-Z]?$"
)
DISTORTION_KEY = re.compile(
    r"(PV|PS)\d+_\d+[A-Z]?$|(A|B|AP|BP)_(\d_\d|ORDER|DMAX)$|(AMD|PPO|AMDR)[XYE]?\d+$|"
    r"(PLT(RA|DEC|SCALE|SIZE)|CNPIX|XPIXELSZ|YPIXELSZ)|(DQ|DP|CQDIS|CPDIS|DVERR|CQERR)\d|D2IM"
)
# Keywords of times, which a coordinate system may have and an image keeps.
_TIME_KEY = re.compile(r"DATE|MJD|TIME")


@functools.lru_cache(maxsize=4096)
def is_structure(key):
    """Whether a keyword describes the array or its coordinate system."""
    key = key.upper()
    return key in _STRUCTURE_KEYS or bool(_LINEAR_KEY.match(key) or DISTORTION_KEY.match(key))


@functools.lru_cache(maxsize=4096)
def is_of_wcs(key):
    """Whether a keyword may say something of the coordinate system."""
    return key not in _ARRAY_KEYS and (is_structure(key) or bool(_TIME_KEY.match(key)))


def make_header(meta):
    """Header of its own from any mapping, without what describes the array, its coordinates, or the exposure map."""
    if isinstance(meta, fits.Header):
        return fits.Header([_copied(card) for card in meta.cards if not is_structure(card.keyword)])
    cards, comments = [], []
    for key, value in (meta or {}).items():
        key = str(key)
        if key.upper() in ("HISTORY", "COMMENT"):
            comments += [(key, line) for line in str(value).splitlines()]
        elif key != EXPOSURE_MAP and not is_structure(key):
            cards += _card(key, value)
    header = fits.Header(cards)
    for key, line in comments:
        header[key] = _card_value(line)  # in several cards where it is long
    return header


def read_meta(header, path):
    """Header of an image from that of a file: cards that have a value, as `make_header` keeps them."""
    # A card is parsed when its value is asked for, which takes most of the time of reading a small image.
    cards = []
    for card in header.cards:
        if is_structure(card.keyword):
            continue
        try:
            known = not isinstance(card.value, fits.card.Undefined | None)
        except fits.VerifyError:
            warnings.warn(f"{path}: the card {card.image.strip()!r} is not FITS and is left out", ImageWarning, 5)
            continue
        if known:
            cards.append(_copied(card))
    return fits.Header(cards)


def plain_meta(header):
    """Entries of a header as a dict, HISTORY and COMMENT as one text each."""
    plain = dict(header)
    return plain | {key: str(plain[key]) for key in ("HISTORY", "COMMENT") if key in plain}


def _copied(card):
    """Copy of a card, in a fifth of the time that `copy.copy` takes."""
    copied = fits.Card.__new__(type(card))
    copied.__dict__.update(card.__dict__)
    return copied


def _card(key, value):
    """Card of an entry, in a list; an empty one, and a warning, where FITS cannot hold it."""
    comment = None
    if isinstance(value, tuple) and len(value) == 2:
        value, comment = value
    plain = len(key) <= 8 and re.fullmatch(r"[A-Z0-9_-]+", key.upper())
    try:
        card = fits.Card(key if plain else f"HIERARCH {key}", _card_value(value), comment)
        if not plain:
            str(card)  # which tells whether it is too long
    except ValueError:
        warnings.warn(f"meta[{key!r}] does not fit in a FITS header and is left out", ImageWarning, stacklevel=5)
        return []
    return [card]


def _card_value(value):
    """Turn an entry of ``meta`` into what a FITS card can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None  # FITS cannot hold NaN: a card without a value
    if isinstance(value, (bool, int, float, complex)):
        return value
    text = " ".join(str(value).split("\n")).encode("ascii", "backslashreplace").decode()
    return text if text.isprintable() else re.sub(r"[^ -~]", lambda character: f"\\x{ord(character[0]):02x}", text)
