"""Point spread functions of XMM-Newton, Chandra, ROSAT, eROSITA, Swift and Einstein Probe."""

import numpy as np
from astropy import units as u
from scipy.special import exprel

from astroclassify._checks import check_quantity

from ._instruments import CHANDRA_R90_GROWTH, EPIC_AREAS, R90_PER_SIGMA
from ._psf import FWHM, GaussianPsf, MixedPsf, Psf

__all__ = ["INSTRUMENTS", "KingPsf", "default_psf", "half_energy_width"]

# Core radius [arcsec] and slope: each a constant, and factors of E [keV], theta [arcmin] and E theta (XRT*_XPSF).
KING = {
    "EPN": ((6.636, -0.305, -0.175, -0.0067), (1.525, -0.015, -0.012, -0.0010)),
    "EMOS1": ((5.074, -0.236, 0.002, -0.0180), (1.472, -0.010, -0.001, -0.0016)),
    "EMOS2": ((4.759, -0.203, 0.014, -0.0229), (1.411, -0.005, -0.001, -0.0002)),
}
# King profiles that are the same everywhere: half-energy radius [arcsec] and slope (see `default_psf`).
SAME_KING = {"EROSITA": (13.0, 1.75), "XRT": (9.2, 1.55), "FXT": (12.0, 1.75)}
INSTRUMENTS = (*KING, "EPIC", "ACIS", "PSPC", *SAME_KING)
"""Instruments whose point spread function `default_psf` knows."""

KING_LIMIT = 300.0  # arcsec
KING_OFF_AXIS = 17.0  # arcmin, the edge of EPIC's field: the King formulas are not used beyond it


class KingPsf(Psf):
    """
    King profile of an XMM-Newton EPIC camera, [1 + (r/r_c)^2]^-alpha, cut off at 300 arcsec.

    Parameters
    ----------
    camera : str, optional
        ``"EPN"``, ``"EMOS1"`` or ``"EMOS2"``.
    energy : `~astropy.units.Quantity`, optional
        Photon energy, from 0.1 to 10 keV.

    Attributes
    ----------
    limit : float
        Radius [arcsec] beyond which the profile is zero; within it its integral is one.

    Raises
    ------
    TypeError, ValueError
        If the camera or the energy is not allowed.

    Notes
    -----
    Core radius and slope are linear in energy, off-axis angle and their product. The formulas are not used beyond
    17 arcmin, and the core radius is at least one arcsec (it comes near only above 5 keV at the edge of the field).

    References
    ----------
    Calibration files XRT3_XPSF (pn), XRT1_XPSF and XRT2_XPSF (MOS), "extended" accuracy, as quoted by the XMM-Newton
    Users' Handbook; the values of the two MOS cameras from memory.

    Examples
    --------
    >>> from astroclassify.survey import KingPsf
    >>> psf = KingPsf("EPN")
    >>> float(psf.encircled(psf.radius(0.5, 10.0), 10.0).round(6))
    0.5
    """

    limit = KING_LIMIT

    def __init__(self, camera="EPN", energy=1 * u.keV):
        if camera not in KING:
            raise ValueError(f"camera must be one of {tuple(KING)}, got {camera!r}")
        value = check_quantity("energy", energy, u.keV, positive=True, shape=())
        if not 0.1 <= value <= 10:
            raise ValueError(f"energy must lie between 0.1 and 10 keV, got {energy}")
        self.camera, self.energy = camera, energy
        self._core, self._slope = (
            (constant + by_energy * value, by_angle + by_both * value)
            for constant, by_energy, by_angle, by_both in KING[camera]
        )

    def __repr__(self):
        return f"{type(self).__name__}({self.camera!r}, energy={self.energy})"

    def parameters(self, off_axis=0.0):
        """
        Core radius and slope.

        Parameters
        ----------
        off_axis : float or `~numpy.ndarray`, optional
            Off-axis angle [arcmin].

        Returns
        -------
        tuple
            Core radius [arcsec] and alpha, in the shape of ``off_axis``.
        """
        angle = np.clip(off_axis, 0, KING_OFF_AXIS)
        return np.maximum(self._core[0] + self._core[1] * angle, 1.0), self._slope[0] + self._slope[1] * angle

    def _density(self, radius, off_axis):
        core, slope = self.parameters(off_axis)
        whole = np.pi * core**2 * _king_integral(self.limit / core, slope)
        return np.exp(-slope * np.log1p((radius / core) ** 2)) / whole

    def _share(self, radius, off_axis):
        core, slope = self.parameters(off_axis)
        return _king_integral(radius / core, slope) / _king_integral(self.limit / core, slope)

    def _inverse(self, share, off_axis):
        core, slope = self.parameters(off_axis)
        power = np.where(np.abs(1.0 - slope) < 1e-9, 1e-9, 1.0 - slope)
        logarithm = np.log1p(share * power * _king_integral(self.limit / core, slope)) / power
        return core * np.sqrt(np.expm1(logarithm))


def _king_integral(ratio, slope):
    """Integral of (1 + x^2)^-slope 2 x dx from 0 to ``ratio``; finite for slope = 1 too."""
    logarithm = np.log1p(ratio**2)
    return logarithm * exprel((1.0 - slope) * logarithm)


class _SameKingPsf(KingPsf):
    """King profile for all angles and energies; the cut at 300" takes 0.1" or less off its half-energy radius."""

    def __init__(self, instrument):
        half, self._slope = SAME_KING[instrument]
        self._core = half / np.sqrt(2 ** (1 / (self._slope - 1)) - 1)
        self.camera, self.energy = instrument, None

    def __repr__(self):
        return f"default_psf({self.camera!r})"

    def parameters(self, off_axis=0.0):
        one = np.ones(np.shape(off_axis))[()]
        return one * self._core, one * self._slope


class _PspcPsf(GaussianPsf):
    """Gaussian core of the ROSAT PSPC: detector and mirror added in quadrature (see `default_psf`)."""

    def __init__(self, energy):
        value = np.clip(check_quantity("energy", energy, u.keV, positive=True, shape=()), 0.1, 2.4)
        self._fwhm = float(np.sqrt(409.65 / value + 69.28 * value**2.88 + 66.29))
        self.energy = energy

    def __repr__(self):
        return f"default_psf('PSPC', {self.energy})"

    def sigma(self, off_axis=0.0):
        return np.hypot(self._fwhm, 0.29 * np.abs(off_axis) ** 1.74) / FWHM


class _ChandraPsf(GaussianPsf):
    """Gaussian with the 90 % radius of Chandra's mirror at each angle (see `default_psf`)."""

    def __init__(self):
        pass

    def __repr__(self):
        return "default_psf('ACIS')"

    def sigma(self, off_axis=0.0):
        return (1.0 + CHANDRA_R90_GROWTH * np.square(np.true_divide(off_axis, 10.0))) / R90_PER_SIGMA


def default_psf(instrument, energy=1 * u.keV):
    """
    Approximate point spread function of an instrument.

    Parameters
    ----------
    instrument : str
        ``"EPN"``, ``"EMOS1"``, ``"EMOS2"``, ``"EPIC"`` (XMM-Newton, the last: all three added), ``"ACIS"`` (Chandra),
        ``"PSPC"`` (ROSAT), ``"EROSITA"``, ``"XRT"`` (Swift) or ``"FXT"`` (Einstein Probe, both modules); cameras of
        EPIC that are added are joined by "+".
    energy : `~astropy.units.Quantity`, optional
        Photon energy.

    Returns
    -------
    KingPsf, GaussianPsf or MixedPsf
        Or an object with the same methods.

    Raises
    ------
    TypeError, ValueError
        If the instrument is not known or the energy not allowed.

    Notes
    -----
    XMM-Newton: `KingPsf`; of several cameras the mean, pn with 2.5 times the weight of a MOS.

    ROSAT PSPC: a Gaussian, the full widths at half maximum of detector, sqrt(409.65/E + 69.28 E^2.88 + 66.29) arcsec,
    and mirror, 0.29 theta^1.74 arcsec, added in quadrature (E in keV, theta in arcmin; ROSAT Guest Observer Facility,
    "What does the PSF look like?", 1994): 23" on axis at 1 keV, 28" at 10', 58" at 20'. Its wings are left out (on axis
    10 % lie beyond 27", 5 % beyond 93", same source), and so is what the attitude solution leaves of the wobble.

    Chandra: a Gaussian that encircles 90 % within 1" + 10" (theta/10')^2 (a rule of thumb for 1.5 keV, from memory).
    The true one is not round off axis; the energy is not used.

    eROSITA: the average over the field of view, as in the survey: half-energy width 26" (Predehl et al. 2021, A&A 647,
    A1; from memory) with King wings of slope 1.75 (a choice), cut off at 300". Neither angle nor energy is used; for
    pointed observations, which are sharper in the middle, give your own.

    Swift XRT: a King profile of core radius 5.8" and slope 1.55 (Moretti et al. 2005, SPIE 5898, 360, from memory; on
    axis, 1.5 keV; half-energy width 18"), cut off at 300". The detector is placed so that it changes little over the
    field.

    Einstein Probe FXT: half-energy width 24" (both modules; from memory) with the wings of eROSITA, whose design it
    shares. Neither angle nor energy is used.

    Examples
    --------
    >>> from astroclassify.survey import default_psf
    >>> float((2 * default_psf("PSPC").radius(0.5, 0.0)).round(1))
    23.3
    """
    if instrument in KING:
        return KingPsf(instrument, energy)
    if instrument == "ACIS":
        return _ChandraPsf()
    if instrument == "PSPC":
        return _PspcPsf(energy)
    if instrument in SAME_KING:
        return _SameKingPsf(instrument)
    cameras = list(EPIC_AREAS) if instrument == "EPIC" else instrument.split("+")
    if set(cameras) <= set(EPIC_AREAS):
        return MixedPsf([KingPsf(name, energy) for name in cameras], [EPIC_AREAS[name] for name in cameras])
    raise ValueError(f"instrument must be one of {INSTRUMENTS}, got {instrument!r}")


def half_energy_width(instrument, off_axis=0.0):
    """
    Diameter [arcsec] that encircles half the light at 1 keV, at an angle [arcmin]; None for an instrument not known.

    Names as in `Header`: both arrays of ACIS are one here.
    """
    names = [name.removesuffix("-I").removesuffix("-S") for name in (instrument or "").split("+")]
    if not set(names) <= set(INSTRUMENTS):
        return None
    return 2.0 * float(default_psf("+".join(names)).radius(0.5, off_axis))
