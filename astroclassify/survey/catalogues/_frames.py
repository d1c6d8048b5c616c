"""The frame of the positions in a catalogue: what its header, its columns' names, descriptions and UCDs say."""

import re

from astropy.coordinates import FK4, FK5, BarycentricMeanEcliptic, FK4NoETerms, Galactic, Supergalactic
from astropy.time import Time

from astroclassify._checks import shorten
from astroclassify.exceptions import SchemaError

__all__ = ["columns_by_ucd", "frame_of", "parse_frame"]

# FITS standard 4.0, table 25, and VOTable 1.5, section 3.1 (systems of COOSYS, also those of the IVOA's refframe).
_SYSTEMS = {
    "ICRS": "icrs", "EQ_FK4": "fk4", "FK4": "fk4", "FK4-NO-E": "fk4-no-e", "EQ_FK5": "fk5", "FK5": "fk5",
    "GALACTIC": "galactic", "SUPERGALACTIC": "supergalactic", "SUPER_GALACTIC": "supergalactic",
    "ECLIPTIC": "ecliptic", "ECL_FK5": "ecliptic", "": "", "UNKNOWN": "",
}  # fmt: skip
_WITH_EQUINOX = {"fk4": FK4, "fk4-no-e": FK4NoETerms, "fk5": FK5, "ecliptic": BarycentricMeanEcliptic}
_WITHOUT = {"galactic": Galactic, "supergalactic": Supergalactic}
_EQUINOX = re.compile(r"\s*([BJ]?)\s*(\d{4}(?:\.\d*)?)\s*", re.IGNORECASE)
_EPOCH = re.compile(r"\b(?:mean )?epoch\b\s*(?:of|=|:)?\s*[BJ]?\d{4}(?:\.\d+)?", re.IGNORECASE)
_SAID = re.compile(
    r"\b(ICRS|FK4|FK5)\b|\b([BJ](?:18|19|20)\d\d(?:\.\d+)?)\b|\bequinox\s*[=:]?\s*([BJ]?\d{4}(?:\.\d+)?)", re.I
)
# UCD1+ of the IVOA's list and UCD1 of older tables: longitude, latitude and frame.
_UCDS = (
    ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main", ""),
    ("pos_eq_ra_main", "pos_eq_dec_main", ""),
    ("pos.eq.ra", "pos.eq.dec", ""),
    ("pos.galactic.lon;meta.main", "pos.galactic.lat;meta.main", "GALACTIC"),
    ("pos.galactic.lon", "pos.galactic.lat", "GALACTIC"),
    ("pos_gal_lon", "pos_gal_lat", "GALACTIC"),
    ("pos.ecliptic.lon;meta.main", "pos.ecliptic.lat;meta.main", "ECLIPTIC"),
    ("pos.ecliptic.lon", "pos.ecliptic.lat", "ECLIPTIC"),
)


def parse_frame(system, equinox=None):
    """
    Frame of astropy of a named system (text) and equinox (text or number), "icrs", or None where neither is given.

    FK5 of J2000 counts as ICRS (they differ by 0.02 arcsec). Without a name, the frame follows from the equinox: before
    1984 FK4, later FK5 (FITS paper II: 2002, A&A 395, 1077, section 3.1). SchemaError for anything else.
    """
    name = str(system or "").strip().upper()
    if name not in _SYSTEMS:
        raise SchemaError(
            f"positions are in the system {shorten(name)}, of which none is known here: convert them to ICRS"
        )
    kind, year = _SYSTEMS[name], None
    if equinox is not None and str(equinox).strip() not in ("", "--"):
        match = _EQUINOX.fullmatch(str(equinox))
        if match is None or not 1800 <= float(match[2]) <= 2200:
            raise SchemaError(f"positions have an equinox that cannot be read, {shorten(str(equinox))}")
        year, letter = float(match[2]), match[1].upper()
        kind = kind or ("fk4" if letter == "B" or (year < 1984 and letter != "J") else "fk5")
    if not kind:
        return None
    if kind in _WITHOUT:
        return _WITHOUT[kind]()
    besselian = kind.startswith("fk4")
    year = (1950.0 if besselian else 2000.0) if year is None else year
    if kind == "icrs" and year != 2000:
        raise SchemaError(f"positions are said to be ICRS and of equinox {year:g}, which exclude each other")
    if kind == "icrs" or (kind == "fk5" and year == 2000):
        return "icrs"
    return _WITH_EQUINOX[kind](equinox=Time(year, format="byear" if besselian else "jyear"))


def frame_of(table, columns, named):
    """
    Frame of the positions in some columns of a table; ``named`` is what their names say, such as "FK4", or empty.

    What the columns say (name, description, reference to a COOSYS) comes before what the table says. ICRS where nothing
    is said; SchemaError where they contradict each other or say what is not known here.
    """
    said = {name: each for name in columns for each in _of_column(table[name])}
    frames = [parse_frame(named)] if named else []
    frames += [parse_frame(*each) for each in said.values()]
    frames = [frame for frame in frames if frame is not None]
    if not frames:
        frames = [frame for each in _of_table(table.meta) if (frame := parse_frame(*each)) is not None]
    if any(not _same(frame, frames[0]) for frame in frames):
        texts = ", ".join(sorted({str(frame) for frame in frames}))
        raise SchemaError(f"columns {columns} are said to be in different frames ({texts}): keep the one that is right")
    return frames[0] if frames else "icrs"


def _same(one, other):
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str)
    return one.is_equivalent_frame(other)


def _of_column(column):
    """(system, equinox) of each statement about a column."""
    found = [column.info.meta["coosys"]] if "coosys" in (column.info.meta or {}) else []
    systems, equinoxes = set(), set()
    for system, letter_year, equinox in _SAID.findall(_EPOCH.sub("", column.info.description or "")):
        systems.update([system.upper()] if system else [])
        equinoxes.update([(letter_year or equinox).upper()] if letter_year or equinox else [])
    if len(systems) > 1 or len({_EQUINOX.fullmatch(each)[2].rstrip("0").rstrip(".") for each in equinoxes}) > 1:
        # "J2000, from B1950": which one holds cannot be told.
        return found if found else [("two of them: " + ", ".join(sorted(systems | equinoxes)), None)]
    if systems or equinoxes:
        found.append((next(iter(systems), ""), next(iter(equinoxes), None)))
    return found


def _of_table(meta):
    """(system, equinox) of each statement about a whole table: cards of FITS, COOSYS of VOTable and VizieR's text."""
    cards = {str(key).upper(): value for key, value in meta.items() if not isinstance(value, (list, tuple, dict))}
    found = [tuple(each) for each in meta.get("coosys", ())]
    system = cards.get("RADESYS") or cards.get("RADECSYS")
    equinox = cards.get("EQUINOX")
    if equinox is None and system is None and "EPOCH" in cards:
        equinox = cards["EPOCH"]  # in old files the equinox; in others the time to which proper motions were applied
        match = _EQUINOX.fullmatch(str(equinox))
        if match is None or float(match[2]) not in (1900.0, 1950.0, 2000.0):
            raise SchemaError(
                f"positions have EPOCH = {shorten(equinox)} and no EQUINOX, which may mean either: set one"
            )
    if system or equinox is not None:
        found.append((system, equinox))
    return found


def columns_by_ucd(table):
    """Columns of the main position by their UCDs, and its frame as text; none where they are not one of each."""
    ucds = {}
    for name in table.colnames:
        ucd = str((table[name].info.meta or {}).get("ucd", "")).strip().lower()
        ucds.setdefault(ucd, []).append(name)
    for longitude, latitude, frame in _UCDS:
        if len(ucds.get(longitude, ())) == len(ucds.get(latitude, ())) == 1:
            return [*ucds[longitude], *ucds[latitude]], frame
    return [], ""
