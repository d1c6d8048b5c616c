"""What the header of an image says of its observation: one reader for all rooms."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from astropy import units as u
from astropy.coordinates import FK4, FK5, FK4NoETerms, SkyCoord

from ._channels import PI_CHANNELS
from ._units import parse_unit

__all__ = ["EXPOSURE_KEYS", "Header", "has_exposure", "is_event_image", "read_header"]

EXPOSURE_KEYS = ("EXPOSURE", "LIVETIME", "ONTIME", "EXPTIME")

# Telescopes under the names that headers use, in one spelling.
_TELESCOPES = {
    **{"AXAF": "CHANDRA", "XMM-NEWTON": "XMM", "SRG": "EROSITA", "SRG/EROSITA": "EROSITA"},
    **dict.fromkeys(("EINSTEIN PROBE", "EINSTEINPROBE", "EINSTEIN-PROBE"), "EP"),
}
# Instruments: pattern of INSTRUME, name, telescope. SOXS names instruments as in chandra_acisi_cy22.
_INSTRUMENTS = (
    (re.compile(r"(?:EPIC[- ]?|E)PN$"), "EPN", "XMM"),
    (re.compile(r"(?:EPIC[- ]?|E)MOS1$"), "EMOS1", "XMM"),
    (re.compile(r"(?:EPIC[- ]?|E)MOS2$"), "EMOS2", "XMM"),
    (re.compile(r"EPIC$"), "EPIC", "XMM"),  # all three cameras in one image
    (re.compile(r"(?:CHANDRA_)?ACIS[- ]?I(?:_|$)"), "ACIS-I", "CHANDRA"),
    (re.compile(r"(?:CHANDRA_)?ACIS[- ]?S(?:_|$)"), "ACIS-S", "CHANDRA"),
    (re.compile(r"ACIS(?:-\d+)?$"), "ACIS", "CHANDRA"),
    (re.compile(r"HRC-?I$"), "HRC-I", "CHANDRA"),
    (re.compile(r"HRC-?S$"), "HRC-S", "CHANDRA"),
    (re.compile(r"HRC$"), "HRC", "CHANDRA"),
    (re.compile(r"PSPC-?[BC]?$"), "PSPC", "ROSAT"),
    (re.compile(r"EROSITA$|TM\d$"), "EROSITA", "EROSITA"),
    (re.compile(r"FXT-?[AB]?$"), "FXT", "EP"),
)
# SIM_Z [mm] that parts the aim points of Chandra: nominally -233.6 (ACIS-I), -190.1 (ACIS-S), 127.0 (HRC-I), 250.5
# (HRC-S).
_SIM_Z = {"ACIS": (-212.0, "ACIS-I", "ACIS-S"), "HRC": (188.0, "HRC-I", "HRC-S")}
# Pairs of keywords with the band of an image, the most specific first: ours and eSASS, CIAO and SOXS, OGIP.
BAND_KEYS = (("E_MIN", "E_MAX"), ("EMIN", "EMAX"), ("ENERGYLO", "ENERGYHI"), ("ENERG_LO", "ENERG_HI"))
_WHOLE_RANGE = 10.0  # keV; a filter from zero to more than this selects nothing
_SAME_BAND = 0.05  # relative difference up to which two ends of a band are the same
_RANGE = re.compile(r"[\[\](]?\s*([-+.\dEe]*)\s*:\s*([-+.\dEe]*)\s*[\[\])]?$")
_FRAMES = {"ICRS": "icrs", "FK5": FK5, "FK4": FK4, "FK4-NO-E": FK4NoETerms}
# Telescopes whose images of whole numbers are events.
_XRAY_TELESCOPES = frozenset(
    "CHANDRA XMM ROSAT EROSITA SWIFT SUZAKU ASCA NUSTAR EINSTEIN EXOSAT XRISM EP IXPE HITOMI MAXI BEPPOSAX".split()
)


@dataclass(frozen=True)
class Header:
    """
    What a header says of an observation; None where it does not say, or contradicts itself.

    Made by `read_header`.

    Parameters
    ----------
    telescope : str or None
        ``"CHANDRA"``, ``"XMM"``, ``"ROSAT"``, ``"EROSITA"``, ``"SWIFT"``, or the name in the header in upper case.
    instrument : str or None
        ``"ACIS-I"``, ``"ACIS-S"``, ``"HRC-I"``, ``"HRC-S"`` (``"ACIS"``, ``"HRC"`` where the array is not known),
        ``"EPN"``, ``"EMOS1"``, ``"EMOS2"``, ``"EPIC"`` (all three), ``"PSPC"``, ``"EROSITA"``, ``"FXT"``, or the name
        in the header in upper case; several of one telescope are joined by "+".
    detector : str or None
        Part of the instrument: chips (``"ACIS-0123"``), telescope modules (``"TM1+TM2"``), ``"PSPCB"``.
    energy_range : tuple of float, or None
        Lower and upper end of the band [keV].
    exposure : float or None
        Exposure time [s].
    unit : `~astropy.units.Unit` or None
        Unit of the pixels.
    pointing : tuple of float, or None
        Right ascension and declination of the telescope's axis [deg], in ``frame``.
    pointing_keyword : str or None
        Keyword of that right ascension: RA_PNT, or RA_NOM.
    frame : str or None
        ``"ICRS"``, ``"FK5"``, ``"FK4"`` or ``"FK4-NO-E"``; None for one that is not known.
    equinox : float or None
        Equinox of ``frame`` [yr].
    roll : float or None
        Roll angle of Chandra (ROLL_PNT, ROLL_NOM) [deg].
    position_angle : float or None
        Position angle of XMM-Newton (PA_PNT) [deg].
    mode : str or None
        Mode of the instrument (SUBMODE).
    date : str or None
        Start of the observation, ISO 8601.
    conflicts : tuple of str
        Contradictions within the header, one sentence each.
    """

    telescope: str | None = None
    instrument: str | None = None
    detector: str | None = None
    energy_range: tuple | None = None
    exposure: float | None = None
    unit: u.UnitBase | None = None
    pointing: tuple | None = None
    pointing_keyword: str | None = None
    frame: str | None = None
    equinox: float | None = None
    roll: float | None = None
    position_angle: float | None = None
    mode: str | None = None
    date: str | None = None
    conflicts: tuple = ()

    def axis(self):
        """
        Return where the telescope points.

        Returns
        -------
        `~astropy.coordinates.SkyCoord` or None
            The position (ICRS); None where the header does not say.
        """
        if self.pointing is None or self.frame is None:
            return None
        frame = _FRAMES[self.frame]
        if frame != "icrs" and self.equinox is not None:
            frame = frame(equinox=f"{'J' if frame is FK5 else 'B'}{self.equinox}")
        return SkyCoord(*self.pointing, unit=u.deg, frame=frame).icrs


def read_header(meta, wcs=None):
    """
    Read what a header says of an observation.

    Knows the keywords of CIAO (with DETNAM, SIM_Z), SAS, eSASS, HEASARC (ROSAT, Swift), SOXS and this package.

    Parameters
    ----------
    meta : mapping
        A `~astropy.io.fits.Header`, or the ``meta`` of an image.
    wcs : `~astropy.wcs.WCS`, optional
        Coordinates of the image: they name the frame of the pointing. `read_image` leaves RADESYS and EQUINOX out of
        ``meta``.

    Returns
    -------
    Header
        What is known.

    Notes
    -----
    Bands: E_MIN and E_MAX (this package, eSASS), else EMIN and EMAX, ENERGYLO and ENERGYHI (CIAO, SOXS), ENERG_LO and
    ENERG_HI, else the filters on energy or PI of the data subspace (DSTYPn, DSVALn), all of which apply together.
    Numbers are keV; eV where the lower one is 100 or the upper one more than 200. One energy is no band, nor is a
    filter that starts at zero and ends above 10 keV. Keywords of CIAO that do not lie within the filters contradict
    them. File names do not count.

    Exposure: the first of EXPOSURE, LIVETIME, ONTIME and EXPTIME that is larger than zero. EXPTIME of Chandra is the
    time of one frame and does not count.

    The array of ACIS is that of the aim point (SIM_Z), else that of the chips in DETNAM: ACIS-I if all are of it or it
    is complete, else ACIS-S.

    Examples
    --------
    >>> from astroclassify.images import read_header
    >>> header = read_header({"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "DETNAM": "ACIS-01236", "ENERGYLO": 0.5,
    ...                       "ENERGYHI": 7.0, "EXPOSURE": 1e5})
    >>> header.instrument, header.energy_range
    ('ACIS-I', (0.5, 7.0))
    """
    conflicts = []
    telescope, instrument, detector = _find_instrument(meta, conflicts)
    pointing, keyword = _find_pointing(meta)
    angle = _number(meta, "PA_PNT")
    frame, equinox = _find_frame(meta, wcs)
    return Header(
        telescope=telescope,
        instrument=instrument,
        detector=detector,
        energy_range=_find_band(meta, instrument, conflicts),
        exposure=_find_exposure(meta, telescope),
        unit=parse_unit(_text(meta, "BUNIT")),
        pointing=pointing,
        pointing_keyword=keyword,
        frame=frame,
        equinox=equinox,
        roll=_first_number(meta, "ROLL_PNT", "ROLL_NOM"),
        position_angle=angle if angle is not None and 0 <= angle <= 360 else None,
        mode=_text(meta, "SUBMODE") or None,
        date=_find_date(meta),
        conflicts=tuple(conflicts),
    )


def is_event_image(data, meta):
    """Whether an image without a unit is one of events: whole numbers from an X-ray telescope, said to be events or
    integers of more than 8 bits (masks have 8, maps of exposure and background are floats)."""
    if _find_instrument(meta, [])[0] not in _XRAY_TELESCOPES:
        return False
    kind, content = _text(meta, "HDUCLAS1").upper(), _text(meta, "CONTENT").upper()
    events = kind == "EVENTS" or kind == "IMAGE" and _text(meta, "HDUCLAS2").upper() in ("TOTAL", "GROSS")
    events |= bool(re.search("EVT|EVENT", content))
    # Without a statement, a map of zeros and ones may be a mask.
    if not events and not (data.dtype.kind in "iu" and data.dtype.itemsize > 1 and data.max() > 1):
        return False
    values = data if data.dtype.kind in "iu" else data[np.isfinite(data)]
    return bool(np.all(values >= 0) and np.all(values == np.floor(values)))


def _value(meta, key):
    value = meta.get(key)
    return value[0] if isinstance(value, tuple) and value else value  # a value with its comment


def _text(meta, key):
    value = _value(meta, key)
    return value.strip() if isinstance(value, str) else ""


def _number(meta, key):
    """Finite float, or None."""
    try:
        value = float(_value(meta, key))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _first_number(meta, *keys):
    return next((value for key in keys if (value := _number(meta, key)) is not None), None)


def _find_instrument(meta, conflicts):
    """Telescope, instrument and detector."""
    telescope = (_text(meta, "TELESCOP") or _text(meta, "MISSION")).upper()
    telescope = _TELESCOPES.get(telescope, telescope)
    name = _text(meta, "INSTRUME").upper()
    detector = _text(meta, "DETNAM").upper()
    if telescope == "EROSITA" and not name.startswith("ART"):
        return telescope, "EROSITA", _erosita_modules(meta, name)
    parts = [_known_instrument(part) for part in re.split(r"[+,;/&\s]+", name)]
    if len(parts) == 1 or None in parts or len({owner for _, owner in parts}) > 1:
        parts = [_known_instrument(name) or (name, telescope)]
    instrument, owner = "+".join(dict.fromkeys(part for part, _ in parts)), parts[0][1]
    if owner == "EROSITA":  # SIXTE has the telescope module for the telescope
        return owner, instrument, telescope or None
    if telescope not in ("", owner):
        conflicts.append(f"INSTRUME {name} is not an instrument of TELESCOP {telescope}")
    if instrument in _SIM_Z:
        instrument = _chandra_array(meta, instrument, detector or name, conflicts)
    if detector in ("", "NONE"):
        detector = name if name not in ("ACIS", "HRC", instrument) else ""
    return telescope or owner or None, instrument or None, detector or None


def _known_instrument(name):
    """Instrument and telescope, or None."""
    return next(((known, owner) for pattern, known, owner in _INSTRUMENTS if pattern.match(name)), None)


def _erosita_modules(meta, name):
    names = {name, *(_text(meta, f"INSTRUM{n}").upper() for n in range(1, 8))}
    return "+".join(sorted(module for module in names if re.fullmatch(r"TM\d", module))) or None


def _chandra_array(meta, instrument, detector, conflicts):
    """ACIS-I or ACIS-S, HRC-I or HRC-S; the bare name where nothing, or two different things, are said."""
    limit, first, second = _SIM_Z[instrument]
    aim = _number(meta, "SIM_Z")
    by_aim = None if aim is None or (aim < 0) != (limit < 0) else first if aim < limit else second
    chips = set(re.sub(r"\D", "", detector)) if instrument == "ACIS" else set()
    by_chips = detector if detector in (first, second) else None
    if chips:
        # Chips 0 to 3 are ACIS-I; the other array often has one or two on beside them (ACIS-01236, ACIS-235678).
        by_chips = first if chips <= set("0123") or chips >= set("0123") else second
        if by_aim == second and chips <= set("0123") or by_aim == first and not chips & set("0123"):
            conflicts.append(f"SIM_Z {aim:g} is {by_aim}, DETNAM {detector} is not")
            return instrument
    return by_aim or by_chips or instrument


def _find_band(meta, instrument, conflicts):
    """Lower and upper end [keV], or None."""
    for keys in BAND_KEYS:
        low, high = (_number(meta, key) for key in keys)
        if low is None or high is None or not 0 <= low < high:
            continue
        divisor = 1e3 if low >= 100 or high > 200 else 1.0  # eV
        band = (low / divisor, high / divisor)
        if keys[0] != "ENERGYLO":
            return band
        filters = _filtered_band(meta, instrument)
        if filters and (band[0] < filters[0] * (1 - _SAME_BAND) or band[1] > filters[1] * (1 + _SAME_BAND)):
            conflicts.append(
                f"the band {band[0]:g} to {band[1]:g} keV ({', '.join(keys)}) is not within the filters of the data, "
                f"{filters[0]:g} to {filters[1]:g} keV (DSVALn)"
            )
            return None
        return band
    return _filtered_band(meta, instrument)


def _filtered_band(meta, instrument):
    """What all filters of the data subspace on energy or PI leave [keV], or None."""
    bounds = []
    for key in meta:
        if not re.fullmatch(r"DSTYP\d+", key) or _text(meta, key).upper() not in ("PI", "ENERGY"):
            continue
        number = key[5:]
        found = _RANGE.match(_text(meta, f"DSVAL{number}"))
        unit = parse_unit(_text(meta, f"DSUNIT{number}") or _text(meta, f"DSUNI{number}"))
        is_energy = _text(meta, key).upper() == "ENERGY"
        if unit is not None and unit.is_equivalent(u.keV):
            scale, start = unit.to(u.keV), 0.0
        else:
            scale, start = (1e-3, 0.0) if is_energy else PI_CHANNELS.get(instrument, (None, None))
        if not found or scale is None:
            return None
        try:
            low, high = (float(end or missing) for end, missing in zip(found.groups(), (-np.inf, np.inf), strict=True))
        except ValueError:
            return None
        low, high = start + low * scale, start + high * scale
        if not is_energy and scale == PI_CHANNELS["ACIS"][0]:
            high += scale  # ends of a filter on ACIS are whole channels
        if low > max(start, 0) or high <= _WHOLE_RANGE:
            bounds.append((low, high))
    if not bounds:
        return None
    low, high = max(low for low, _ in bounds), min(high for _, high in bounds)
    return (round(float(low), 9), round(float(high), 9)) if 0 <= low < high < np.inf else None


def _find_exposure(meta, telescope):
    for key in EXPOSURE_KEYS:
        value = _number(meta, key)
        if value is not None and value > 0 and not (key == "EXPTIME" and telescope == "CHANDRA"):
            return value
    return None


def _find_pointing(meta):
    """Right ascension and declination [deg], and the keyword of the first; NuSTAR writes -100 for unknown ones."""
    for ra_key, dec_key in (("RA_PNT", "DEC_PNT"), ("RA_NOM", "DEC_NOM")):
        ra, dec = _number(meta, ra_key), _number(meta, dec_key)
        if ra is not None and dec is not None and -360 <= ra <= 360 and -90 <= dec <= 90:
            return (ra, dec), ra_key
    return None, None


def _find_frame(meta, wcs):
    """Frame and equinox; without a name, the frame follows from the equinox (FITS paper II: 2002, A&A 395, 1077)."""
    frame = (_text(meta, "RADESYS") or _text(meta, "RADECSYS")).upper()
    equinox = _first_number(meta, "EQUINOX", "EPOCH")
    if wcs is not None:
        frame = wcs.wcs.radesys.strip().upper() or frame
        equinox = float(wcs.wcs.equinox) if np.isfinite(wcs.wcs.equinox) else equinox
    if not frame:
        frame = "ICRS" if equinox is None else "FK4" if equinox < 1984 else "FK5"
    return (frame if frame in _FRAMES else None), equinox


def _find_date(meta):
    """Start of the observation in ISO 8601, from DATE-OBS (also in the form DD/MM/YY, of 19YY) or MJD-OBS."""
    date = _text(meta, "DATE-OBS") or _text(meta, "DATE_OBS")
    if old := re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)", date):
        day, month, year = old.groups()
        date = f"19{year}-{month}-{day}"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", date) and re.match(r"\d\d:\d\d", time := _text(meta, "TIME-OBS")):
        date = f"{date}T{time}"
    if re.match(r"\d{4}-\d\d-\d\d", date):
        return date
    mjd = _first_number(meta, "MJD-OBS", "MJD_OBS")
    if mjd is None or not 0 <= mjd < 2e5:
        return None
    return (datetime(1858, 11, 17) + timedelta(days=mjd)).isoformat(timespec="seconds")


def has_exposure(image):
    """Whether an image came with an exposure map or with an exposure time in its header."""
    return image.exposure is not None or _find_exposure(image.meta, _find_instrument(image.meta, [])[0]) is not None
