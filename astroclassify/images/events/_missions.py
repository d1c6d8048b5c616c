"""What missions write into their event lists, and which pixels suit their images."""

import re
from dataclasses import dataclass

from astropy import units as u

from ..headers._channels import PI_CHANNELS

SKY_LIMIT = 1024
"""Pixels a side up to which an image keeps the pixels of its list and all of its sky."""
WIDEST = 2048  # pixels a side at most, by default, where the instrument is not known


@dataclass(frozen=True)
class Mission:
    """Side of a pixel [arcsec] of the image by default; which selection of events is usual, and by which columns."""

    pixel: float
    rule: str = ""
    columns: tuple = ()


# EPIC: XMM-Newton ABC Guide (pn: singles and doubles; MOS: all of the X-ray patterns); images of the pipeline have 4".
_PN = Mission(4.0, "FLAG == 0 and PATTERN <= 4", ("FLAG", "PATTERN"))
_MOS = Mission(4.0, "FLAG == 0 and PATTERN <= 12", ("FLAG", "PATTERN"))
MISSIONS = {
    **dict.fromkeys(("ACIS", "ACIS-I", "ACIS-S"), Mission(1.968)),  # 4 pixels of 0.492"
    **dict.fromkeys(("HRC", "HRC-I", "HRC-S"), Mission(2.108)),  # 16 of 0.1318"
    "EPN": _PN,
    "EMOS1": _MOS,
    "EMOS2": _MOS,
    "EROSITA": Mission(4.0),  # 80 of 0.05", as the images of eSASS
    "PSPC": Mission(15.0),  # 30 of 0.5"
    "HRI": Mission(4.0),  # 8 of 0.5"
    "XRT": Mission(2.357),  # its own
    "FXT": Mission(9.67),  # its own: 75 micrometres at 1.6 m
    **dict.fromkeys(("FPMA", "FPMB"), Mission(2.458)),  # their own
    "LAT": Mission(360.0),
}
"""By instrument, as `read_header` names it."""

# Modes in which one direction is time, not sky: Chandra; Swift XRT; XMM-Newton EPIC.
_NOT_IMAGING = {"READMODE": ("CONTINUOUS",), "DATAMODE": ("WINDOWED", "LOWRATE", "TIMING", "BURST")}
_MOVING = ("SURVEY", "SCAN", "SLEW")


def not_imaging(meta):
    """Keyword and value that say that the list has no images in two directions, as text; empty where it has."""
    for key, modes in _NOT_IMAGING.items():
        value = str(meta.get(key, "")).strip().upper()
        if value in modes:
            return f"{key} = {value}"
    return ""


def is_moving(meta, instrument):
    """Whether the telescope moved over the sky, so that no one exposure time holds for all of it."""
    return str(meta.get("OBS_MODE", "")).strip().upper() in _MOVING or instrument == "LAT"


def is_own(meta):
    """Whether `sim.write_events` wrote the list: it has the pixels of the image that is wanted."""
    return str(meta.get("CREATOR", "")).startswith("astroclassify")


def default_factor(meta, instrument, native, n_native):
    """How many pixels of the list make one of the image: ``native`` [arcsec], ``n_native`` along the longer side."""
    if is_own(meta) or n_native <= SKY_LIMIT:
        return 1
    if instrument in MISSIONS:
        return max(1, round(MISSIONS[instrument].pixel / native))
    factor = 1
    while n_native > WIDEST * factor:
        factor *= 2
    return factor


def energy_scale(column, instrument):
    """Factor and constant that make keV of a column ENERGY or PI; None where nothing says what its numbers are."""
    if column.unit is not None and column.unit.is_equivalent(u.keV):
        return column.unit.to(u.keV), 0.0
    if column.name.upper() == "PI" and instrument in PI_CHANNELS:
        width, start = PI_CHANNELS[instrument]
        return width, start + width / 2  # of the middle of the channel
    return None


def selections(meta):
    """Filters on columns that the header states (data subspace: DSTYPn, DSVALn, 2DSVALn ...), but for those on time."""
    found = {}
    for key in meta:
        if re.fullmatch(r"DSTYP\d+", key) and (name := str(meta[key]).strip().upper()) != "TIME":
            values = [str(meta[each]).strip() for each in meta if re.fullmatch(rf"\d*DSVAL{key[5:]}", each)]
            found[name] = " or ".join(dict.fromkeys(values))
    return found


def missing_selection(meta, instrument, names):
    """Columns on which a selection is usual, that the list has, and of which the header states none."""
    mission = MISSIONS.get(instrument)
    stated = selections(meta)
    expression = str(meta.get("SLCTEXPR", "")).upper()
    columns = () if mission is None else mission.columns
    return [name for name in columns if name in names and name not in stated and name not in expression]
