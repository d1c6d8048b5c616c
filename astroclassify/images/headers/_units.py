"""Units in the words of headers and catalogues."""

import functools
import re
import warnings

from astropy import units as u

__all__ = ["parse_unit", "spelled"]

# Words for units, in lower case, and what astropy calls them; "S" is no siemens there, "H" no henry, "asec" no
# attosecond.
_UNIT_WORDS = {
    word: unit
    for unit, words in {
        "ct": "count counts cts ct cnt cnts",
        "photon": "photon photons phot ph",
        "electron": "electron electrons elec",
        "adu": "adu adus",
        "pix": "pixel pixels pix",
        "s": "second seconds sec secs s",
        "ks": "kilosecond kiloseconds ksec ksecs ks",
        "min": "minute minutes mins min",
        "h": "hour hours hrs hr h",
        "cm": "cm",
        "keV": "kev",
        "eV": "ev",
        "erg": "erg ergs",
        "arcsec": "arcsec arcsecs arcsecond arcseconds asec",
        "arcmin": "arcmin arcmins arcminute arcminutes amin",
        "deg": "deg degs degree degrees",
        "ct s-1": "cps",
        "/": "per",
    }.items()
    for word in words.split()
}


def spelled(text):
    """A unit with its words as astropy spells them."""
    return re.sub(r"[A-Za-z]+", lambda word: _UNIT_WORDS.get(word[0].lower(), word[0]), text)


@functools.lru_cache(maxsize=256)
def parse_unit(text):
    """Unit that a text of a header means; None where it is empty or not understood."""
    text = spelled(re.sub(r"\be-(?!\d)", "electron", text.replace("_", " ")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)  # of style: "counts/s/deg2" is understood
            return u.Unit(text) if text.strip() else None
    except (ValueError, TypeError):
        return None
