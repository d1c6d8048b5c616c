"""Point spread functions: round profiles that depend on the off-axis angle, each normalised to one."""

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from scipy.interpolate import PchipInterpolator
from scipy.special import exprel

from astroclassify._checks import check_quantity
from astroclassify.images import pixel_scale

from ._instruments import CHANDRA_R90_GROWTH, R90_PER_SIGMA

__all__ = ["INSTRUMENTS", "GaussianPsf", "ImagePsf", "KingPsf", "MixedPsf", "default_psf"]

# Core radius [arcsec] and slope: each a constant, and factors of E [keV], theta [arcmin] and E theta (XRT*_XPSF).
KING = {
    "EPN": ((6.636, -0.305, -0.175, -0.0067), (1.525, -0.015, -0.012, -0.0010)),
    "EMOS1": ((5.074, -0.236, 0.002, -0.0180), (1.472, -0.010, -0.001, -0.0016)),
    "EMOS2": ((4.759, -0.203, 0.014, -0.0229), (1.411, -0.005, -0.001, -0.0002)),
}
INSTRUMENTS = (*KING, "ACIS", "PSPC", "EROSITA")
"""Instruments whose point spread function `default_psf` knows."""

KING_LIMIT = 300.0  # arcsec
KING_OFF_AXIS = 17.0  # arcmin, the edge of EPIC's field: the King formulas are not used beyond it
FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, in units of its sigma
GAUSSIAN_LIMIT = 6.0  # sigma; beyond it lie 1.5e-8 of a Gaussian
EROSITA_HALF, EROSITA_SLOPE = 13.0, 1.75  # arcsec, half-energy radius; slope of the wings


class _Psf:
    """Base class; a subclass has ``limit``, ``_density`` and ``_share`` (of plain arrays)."""

    def profile(self, radius, off_axis=0.0):
        """
        Share of the photons per square arcsec.

        Parameters
        ----------
        radius : float or `~numpy.ndarray`
            Distance from the middle [arcsec].
        off_axis : float or `~numpy.ndarray`, optional
            Off-axis angle [arcmin].

        Returns
        -------
        float or `~numpy.ndarray`
            Share per arcsec2; zero beyond ``limit``, within which its integral is one.
        """
        radius, off_axis = np.asarray(radius, float), np.asarray(off_axis, float)
        density = self._density(np.minimum(radius, self.limit), off_axis)
        return np.where(radius <= self.limit, density, 0.0)[()]

    def encircled(self, radius, off_axis=0.0):
        """
        Share of the photons within a radius.

        Parameters
        ----------
        radius : float or `~numpy.ndarray`
            Distance from the middle [arcsec].
        off_axis : float or `~numpy.ndarray`, optional
            Off-axis angle [arcmin].

        Returns
        -------
        float or `~numpy.ndarray`
            From 0 to 1.
        """
        radius, off_axis = np.asarray(radius, float), np.asarray(off_axis, float)
        return self._share(np.minimum(radius, self.limit), off_axis)[()]

    def radius(self, share, off_axis=0.0):
        """
        Radius that encircles a share of the photons.

        Parameters
        ----------
        share : float or `~numpy.ndarray`
            From 0 to 1.
        off_axis : float or `~numpy.ndarray`, optional
            Off-axis angle [arcmin].

        Returns
        -------
        float or `~numpy.ndarray`
            Radius [arcsec].
        """
        share, off_axis = np.broadcast_arrays(np.asarray(share, float), np.asarray(off_axis, float))
        with np.errstate(divide="ignore"):  # the radius of the whole is the limit, however it is rounded
            return np.minimum(self._inverse(share, off_axis), self.limit)[()]

    def _inverse(self, share, off_axis):
        """Radius of a share by bisection."""
        low, high = np.zeros(share.shape), np.full(share.shape, float(self.limit))
        for _ in range(52):
            middle = (low + high) / 2
            below = self._share(middle, off_axis) < share
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


class KingPsf(_Psf):
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


class _ErositaPsf(KingPsf):
    """Average of eROSITA over its field (see `default_psf`); the cut at 300" takes 0.1" off its half-energy radius."""

    def __init__(self):
        self.camera, self.energy = "EROSITA", None

    def __repr__(self):
        return "default_psf('EROSITA')"

    def parameters(self, off_axis=0.0):
        one = np.ones(np.shape(off_axis))[()]
        return one * EROSITA_HALF / np.sqrt(2 ** (1 / (EROSITA_SLOPE - 1)) - 1), one * EROSITA_SLOPE


class GaussianPsf(_Psf):
    """
    Gaussian point spread function whose width may grow with the off-axis angle.

    Parameters
    ----------
    fwhm : `~astropy.units.Quantity`
        Full width at half maximum on axis, an angle.
    growth : `~astropy.units.Quantity`, optional
        How much the off-axis angle theta widens it, an angle per squared angle: fwhm^2 + (growth theta^2)^2 is the
        squared full width at half maximum at theta (the blur of a Wolter telescope in its focal plane grows with
        theta^2).

    Attributes
    ----------
    limit : float
        Radius [arcsec] beyond which the profile counts as zero: six sigma, 15 arcmin off axis.

    Raises
    ------
    TypeError, ValueError
        If the width or the growth is not allowed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.survey import GaussianPsf
    >>> psf = GaussianPsf(6 * u.arcsec)
    >>> float(psf.encircled(3.0).round(3))
    0.5
    """

    def __init__(self, fwhm, growth=0 * u.arcsec / u.arcmin**2):
        self._fwhm = check_quantity("fwhm", fwhm, u.arcsec, positive=True, shape=())
        self._growth = check_quantity("growth", growth, u.arcsec / u.arcmin**2, shape=())
        if self._growth < 0:
            raise ValueError(f"growth must not be negative, got {growth}")
        self.fwhm, self.growth = fwhm, growth

    def __repr__(self):
        return f"GaussianPsf({self.fwhm}, {self.growth})"

    @property
    def limit(self):
        """Radius [arcsec] beyond which the profile counts as zero."""
        return float(GAUSSIAN_LIMIT * self.sigma(15.0))

    def sigma(self, off_axis=0.0):
        """
        Standard deviation along one axis.

        Parameters
        ----------
        off_axis : float or `~numpy.ndarray`, optional
            Off-axis angle [arcmin].

        Returns
        -------
        float or `~numpy.ndarray`
            In arcsec.
        """
        return np.hypot(self._fwhm, self._growth * np.square(off_axis)) / FWHM

    def _density(self, radius, off_axis):
        double = 2 * np.square(self.sigma(off_axis))
        return np.exp(-(radius**2) / double) / (-np.pi * double * np.expm1(-(self.limit**2) / double))

    def _share(self, radius, off_axis):
        double = 2 * np.square(self.sigma(off_axis))
        return np.expm1(-(radius**2) / double) / np.expm1(-(self.limit**2) / double)

    def _inverse(self, share, off_axis):
        double = 2 * np.square(self.sigma(off_axis))
        return np.sqrt(-double * np.log1p(share * np.expm1(-(self.limit**2) / double)))


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


class ImagePsf(_Psf):
    """
    Point spread function from an image of it, the same all over the field.

    Only its mean over position angles is used: spokes, elongation and everything else that is not round is lost.

    Parameters
    ----------
    image : `~numpy.ndarray` or `~astropy.nddata.CCDData`
        The point spread function, not negative, its middle in the middle of the array.
    pixel : `~astropy.units.Quantity`, optional
        Side of a pixel, an angle; not needed where the image has a WCS.

    Attributes
    ----------
    limit : float
        Radius [arcsec] of the largest circle on the image; the profile is zero beyond.

    Raises
    ------
    TypeError, ValueError
        If the image is not a two-dimensional array of at least 5 by 5 numbers from zero up, or has no pixel size.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astroclassify.survey import ImagePsf
    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> psf = ImagePsf(np.exp(-(x**2 + y**2) / 32), 1 * u.arcsec)
    >>> float(psf.encircled(4 * 1.1774).round(2))
    0.5
    """

    def __init__(self, image, pixel=None):
        if pixel is None:
            if not isinstance(image, CCDData):
                raise TypeError("pixel must be given (a Quantity, an angle) where the image is a plain array")
            pixel = pixel_scale(image)
        side = check_quantity("pixel", pixel, u.arcsec, positive=True, shape=())
        data = np.array(getattr(image, "data", image), dtype=float)
        if data.ndim != 2 or min(data.shape) < 5:
            raise ValueError(f"image must be two-dimensional, at least 5 by 5 pixels, got shape {data.shape}")
        if not np.all(np.isfinite(data)) or data.min() < 0 or data.sum() <= 0:
            raise ValueError("image must hold finite numbers from zero up, and not only zeros")
        self.limit = side * min(data.shape) / 2
        self._by_area = self._tabulate(data, side)
        self._slope = self._by_area.derivative()

    def __repr__(self):
        return f"ImagePsf(limit={self.limit:g} arcsec)"

    def _tabulate(self, data, side):
        """Encircled share as a function of the circle's area [arcsec2]: smooth, and it never falls."""
        split = 8  # parts of a pixel along a side, so that a circle through it takes its share
        y, x = ((np.arange(n * split) + 0.5) / split - n / 2 for n in data.shape)
        distance = np.hypot(y[:, np.newaxis], x).ravel() * side
        parts = np.repeat(np.repeat(data, split, axis=0), split, axis=1).ravel() / split**2
        edges = np.linspace(0, self.limit, min(data.shape) // 2 + 1)
        inside = np.concatenate([[0.0], np.cumsum(np.histogram(distance, edges, weights=parts)[0])])
        return PchipInterpolator(np.pi * edges**2, inside / inside[-1])

    def _density(self, radius, off_axis):
        return self._slope(np.pi * np.broadcast_arrays(radius, off_axis)[0] ** 2)

    def _share(self, radius, off_axis):
        return self._by_area(np.pi * np.broadcast_arrays(radius, off_axis)[0] ** 2)


class MixedPsf(_Psf):
    """
    Weighted mean of point spread functions: of cameras whose images were added.

    Parameters
    ----------
    psfs : sequence
        Point spread functions.
    weights : sequence of float
        One number above zero for each, for example the exposures; only their ratios count.

    Attributes
    ----------
    limit : float
        The largest of theirs [arcsec].

    Raises
    ------
    ValueError
        If there is none, or not one weight for each.

    Examples
    --------
    >>> from astroclassify.survey import KingPsf, MixedPsf
    >>> psf = MixedPsf([KingPsf("EPN"), KingPsf("EMOS1")], [2.0, 1.0])
    >>> float(psf.encircled(psf.limit))
    1.0
    """

    def __init__(self, psfs, weights):
        weights = np.asarray(weights, float)
        if len(psfs) == 0 or weights.shape != (len(psfs),):
            raise ValueError(f"weights must be one per PSF ({len(psfs)}), got shape {weights.shape}")
        if not np.all(np.isfinite(weights)) or not np.all(weights > 0):
            raise ValueError(f"weights must be finite and larger than zero, got {weights}")
        self.psfs, self.weights = tuple(psfs), weights / weights.sum()
        self.limit = max(psf.limit for psf in self.psfs)

    def __repr__(self):
        return f"MixedPsf({list(self.psfs)}, {[float(weight) for weight in self.weights]})"

    def _density(self, radius, off_axis):
        return sum(w * psf.profile(radius, off_axis) for psf, w in zip(self.psfs, self.weights, strict=True))

    def _share(self, radius, off_axis):
        return sum(w * psf.encircled(radius, off_axis) for psf, w in zip(self.psfs, self.weights, strict=True))


def default_psf(instrument, energy=1 * u.keV):
    """
    Approximate point spread function of an instrument.

    Parameters
    ----------
    instrument : str
        ``"EPN"``, ``"EMOS1"``, ``"EMOS2"`` (XMM-Newton), ``"ACIS"`` (Chandra), ``"PSPC"`` (ROSAT) or ``"EROSITA"``.
    energy : `~astropy.units.Quantity`, optional
        Photon energy.

    Returns
    -------
    KingPsf or GaussianPsf
        Or an object with the same methods.

    Raises
    ------
    TypeError, ValueError
        If the instrument is not known or the energy not allowed.

    Notes
    -----
    XMM-Newton: `KingPsf`.

    ROSAT PSPC: a Gaussian, the full widths at half maximum of detector, sqrt(409.65/E + 69.28 E^2.88 + 66.29) arcsec,
    and mirror, 0.29 theta^1.74 arcsec, added in quadrature (E in keV, theta in arcmin; ROSAT Guest Observer Facility,
    "What does the PSF look like?", 1994): 23" on axis at 1 keV, 28" at 10', 58" at 20'. Its wings are left out (on axis
    10 % lie beyond 27", 5 % beyond 93", same source), and so is what the attitude solution leaves of the wobble.

    Chandra: a Gaussian that encircles 90 % within 1" + 10" (theta/10')^2 (a rule of thumb for 1.5 keV, from memory).
    The true one is not round off axis; the energy is not used.

    eROSITA: the average over the field of view, as in the survey: half-energy width 26" (Predehl et al. 2021, A&A 647,
    A1; from memory) with King wings of slope 1.75 (a choice), cut off at 300". Neither angle nor energy is used; for
    pointed observations, which are sharper in the middle, give your own.

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
    if instrument == "EROSITA":
        return _ErositaPsf()
    raise ValueError(f"instrument must be one of {INSTRUMENTS}, got {instrument!r}")
