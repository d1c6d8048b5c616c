"""Facts about instruments, each once and with its source; real data and the simulators take them from here."""

import numpy as np

# --- XMM-Newton EPIC pn -----------------------------------------------------------------------------------------------
# Chips: two rows of six, each 64 x 200 pixels of 4.1", of which the edges and the 12 rows at the readout are not used.
# Measured on the mask of a real observation (OBSID 0827340901, a test compares them). The frame of the chips: x across
# the columns, y along them, from the middle of the camera.
EPN_PIXEL = 4.1  # arcsec
EPN_CHIP_GAP, EPN_ROW_GAP = 11.0, 9.3  # arcsec, unusable edges included
EPN_CHIP_WIDTH, EPN_CHIP_LENGTH = 269.7 - EPN_CHIP_GAP, 772.0  # arcsec
EPN_READOUT_LENGTH = 200 * EPN_PIXEL  # arcsec, over which events out of time are spread
EPN_FIELD_RADIUS = 898.0  # arcsec, of the round field about the middle of the chips
EPN_AXIS = (-57.8, 128.2)  # arcsec, optical axis in the frame of the chips
EPN_FRAME_TIME = 0.0734  # s, full-frame mode
# Share of the events that are out of time, by SUBMODE: documentation of SAS's epchain ("Out-of-time events").
EPN_OUT_OF_TIME = {"PRIMEFULLWINDOW": 0.063, "PRIMEFULLWINDOWEXTENDED": 0.023}
EPN_OOTFRAC = 0.0636  # the same in full-frame mode, to one more digit: OOTFRAC of OBSID 0827340901

# --- Chandra ----------------------------------------------------------------------------------------------------------
# Geometry of ACIS, as in SOXS 5.3 (instrument_registry.py: chandra_acisi_cy0, chandra_aciss_cy0): side of a pixel
# [arcsec]; edges of the chips along either axis, and the optical axis, in pixels from the middle of the chips. Of
# ACIS-S the chips S1 to S4; S3, which the optical axis meets, is the third.
ACIS_PIXEL = 0.492
ACIS_CHIPS = {
    "ACIS-I": (((-1035.0, -11.0), (11.0, 1035.0)),) * 2,
    "ACIS-S": (((-2075.0, -1051.0), (-1033.0, -9.0), (9.0, 1033.0), (1051.0, 2075.0)), ((-512.0, 512.0),)),
}
ACIS_AIM_POINT = {"ACIS-I": (86.0, 57.0), "ACIS-S": (206.0, 0.0)}
# Amplitude of the Lissajous figure along either axis [arcsec]: 16" from end to end for ACIS (Chandra Proposers'
# Observatory Guide, section 5.8.2 [from memory]; the default of SOXS as well).
ACIS_DITHER = 8.0
# Growth of the radius with 90% of the light [arcsec] at 10' off axis, as the square of the angle: Hickox & Markevitch
# (2006, ApJ 645, 95), at 1.5 keV.
CHANDRA_R90_GROWTH = 10.0
#: r90 over sigma of a Gaussian in two dimensions.
R90_PER_SIGMA = np.sqrt(2.0 * np.log(10.0))

# --- Fields of view ---------------------------------------------------------------------------------------------------
# Angle from the optical axis [arcmin] up to which surveys look for clusters, and radius of the whole field. EPIC: 13'
# as Pacaud et al. (2006, MNRAS 372, 578), 17' (KING_OFF_AXIS). ACIS: beyond 10' the PSF is wider than 10"; chips of
# ACIS-S reach 25'. PSPC: 20', the inner ring of the window's support; 60'. eROSITA: the field itself (Predehl et al.
# 2021, A&A 647, A1: 1.03 deg across). XRT: 23.6' a side (Burrows et al. 2005, Space Sci. Rev. 120, 165): 12' to an
# edge, 17' to a corner. FXT: 1 deg a side, 30' to an edge, 42' to a corner [from memory].
_FIELDS = {
    **dict.fromkeys(("EPN", "EMOS1", "EMOS2", "EPIC"), (13.0, 17.0)),
    "ACIS": (10.0, 25.0),
    "PSPC": (20.0, 60.0),
    "EROSITA": (30.0, 31.0),
    "XRT": (10.0, 17.0),
    "FXT": (25.0, 42.0),
}


def max_off_axis(instrument):
    """Angle from the optical axis [arcmin] up to which surveys use an instrument, of several (EPN+EMOS1) the smallest;
    None where one is not known. (`Field.max_off_axis` knows mosaics, which have no one axis.)"""
    known = [_FIELDS.get(name, (None,))[0] for name in instrument.split("+")]
    return None if None in known else min(known)


def field_radius(instrument):
    """Angle from the optical axis [arcmin] within which all pixels of one pointing lie; None where not known."""
    known = [_FIELDS.get(name, (None, None))[1] for name in instrument.split("+")]
    return None if None in known else max(known)


# --- XMM-Newton EPIC --------------------------------------------------------------------------------------------------
# MOS: chips of 600 x 600 pixels of 1.1", as they lie in the sky once rotated by 90 deg - PA_PNT, from the optical axis
# [arcsec]: lower and upper end along x, along y. Measured on masks of OBSID 0827340901 (2018; a test compares them), on
# which MOS1 has neither CCD 3 nor CCD 6 (lost in 2012 and 2005) and part of a third. Round field: middle and radius.
EMOS_PIXEL = 1.1  # arcsec
EMOS_FRAME_TIME = 2.6  # s, full-frame mode (Users' Handbook, table of modes)
EMOS_CHIPS = {
    "EMOS1": (
        (-383, 260, -396, 254), (-920, -396, -564, -84), (-920, -396, -78, 582), (291, 801, -722, -82),
        (281, 801, -74, 584),
    ),
    "EMOS2": (
        (-384, 265, -402, 245), (-920, -394, -403, 251), (283, 798, -401, 254), (-718, -63, 263, 790),
        (-53, 597, 263, 790), (-718, -62, -924, -414), (-54, 592, -924, -411),
    ),
}  # fmt: skip
EMOS_FIELD = (-60.0, -66.0, 857.0)
# Background in 0.5 to 2 keV [ct s-1 arcmin-2]: sky on axis (the Galaxy and faint sources), particles (not vignetted).
# pn from memory, +-30 %. MOS: the sky by the ratio of the packaged areas; together 0.44 of the rate of pn, as in
# background spectra of the three cameras from one pointing (36 ks, +-8 %: renecotyfanboy/jaxspec@e91b60f).
EPIC_BACKGROUND = {"EPN": (1.6e-3, 1.0e-3), "EMOS1": (3.1e-4, 8.3e-4), "EMOS2": (3.1e-4, 8.3e-4)}
# Counts of a source in 0.5 to 2 keV relative to pn, on axis: from the packaged areas (thin filter), power laws of index
# 1.4 to 1.9 and hot gas of 1 to 4 keV with N_H = 3e20 cm-2; 0.27 to 0.30 (a test integrates them).
EPIC_SOFT_COUNTS = {"EPN": 1.0, "EMOS1": 0.28, "EMOS2": 0.28}
# Effective area of the cameras relative to a MOS, 1 keV on axis, thin and medium filter (Users' Handbook [from
# memory]): weights of their point spread functions where their counts are added.
EPIC_AREAS = {"EPN": 2.5, "EMOS1": 1.0, "EMOS2": 1.0}

# --- Vignetting -------------------------------------------------------------------------------------------------------
# Off-axis angle [arcmin] at which half the effective area is left, V = 1 / (1 + (theta/angle)^2), soft band. EPIC: 0.74
# at 7', 0.45 at 13' (Users' Handbook, from memory). ROSAT PSPC: measured on an exposure map. Swift XRT: 0.78 at 8',
# FXT: 0.7 at 15' as one module of eROSITA, both [from memory]. All to about 10 %.
_HALF_AREA = {**dict.fromkeys(("EPN", "EMOS1", "EMOS2", "EPIC"), 11.8), "PSPC": 52.0, "XRT": 15.0, "FXT": 23.0}
# Chandra at 1.5 keV, mean over azimuth: 1 - a theta - b theta^2, theta in arcmin, through 0.95 at 5' and 0.85 at 10',
# from memory of the figure in chapter 4 of the Proposers' Observatory Guide, unverified. Photons of 5 keV lose about
# twice as much [from memory]. The chips of ACIS-I end at 12.8', 13' with the dither. Beyond 14', at those of ACIS-S,
# the parabola would be too steep: there it is the form above, with half the area left at 25'.
_CHANDRA_VIGNETTING = (0.005, 0.001)
_CHANDRA_INNER, _CHANDRA_HALF_AREA = 14.0, 25.0


def vignetting(instrument, off_axis):
    """
    Effective area over that on axis, 0 to 1, at off-axis angles [arcmin]; one for an instrument not known. Of several
    cameras (EPN+EMOS1), which are of one telescope, that of the first.
    """
    off_axis, instrument = np.asarray(off_axis), instrument.split("+")[0]
    if instrument == "ACIS":
        edge = _chandra_parabola(_CHANDRA_INNER)
        curvature = (edge - 0.5) / (0.5 * _CHANDRA_HALF_AREA**2 - edge * _CHANDRA_INNER**2)
        outer = edge * (1 + curvature * _CHANDRA_INNER**2) / (1 + curvature * off_axis**2)
        return np.where(off_axis <= _CHANDRA_INNER, _chandra_parabola(off_axis), outer)[()]
    if instrument not in _HALF_AREA:
        return np.ones(off_axis.shape)
    return 1 / (1 + (off_axis / _HALF_AREA[instrument]) ** 2)


def _chandra_parabola(off_axis):
    linear, square = _CHANDRA_VIGNETTING
    return 1.0 - linear * off_axis - square * off_axis**2


# --- Chips ------------------------------------------------------------------------------------------------------------


def epn_on_chips(x, y, dead=()):
    """
    Whether places in the frame of the chips of EPIC pn [arcsec] lie on live pixels inside the round field.

    ``dead``: columns, each by its start and width [arcsec], the distance from the gap between the rows of chips at
    which it begins, and whether it is one of the upper row.
    """
    pitch = EPN_CHIP_WIDTH + EPN_CHIP_GAP
    across = x - pitch * np.floor(x / pitch)  # three chips on either side of x = 0, gaps on the multiples of the pitch
    along = np.abs(y) - EPN_ROW_GAP / 2
    live = (across > EPN_CHIP_GAP / 2) & (across < pitch - EPN_CHIP_GAP / 2) & (np.abs(x) < 3 * pitch)
    live &= (along > 0) & (along < EPN_CHIP_LENGTH)
    live &= x**2 + y**2 < EPN_FIELD_RADIUS**2
    for start, width, low, upper in dead:
        column = (x >= start) & (x < start + width)
        if np.any(column):
            live &= ~(column & (along >= low) & ((y > 0) == upper))
    return live


def epic_on_chips(camera, x, y):
    """
    Whether places [arcsec from the optical axis, in the frame of the chips] lie on a chip of an EPIC camera.

    The frame is that of the sky (right, up) turned counter-clockwise by 90 deg - PA_PNT.
    """
    if camera == "EPN":
        return epn_on_chips(x + EPN_AXIS[0], y + EPN_AXIS[1])
    live = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)), bool)
    for left, right, low, high in EMOS_CHIPS[camera]:
        live |= (x > left) & (x < right) & (y > low) & (y < high)
    return live & ((x - EMOS_FIELD[0]) ** 2 + (y - EMOS_FIELD[1]) ** 2 < EMOS_FIELD[2] ** 2)
