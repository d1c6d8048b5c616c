"""Point spread functions of any telescope: round profiles that depend on the off-axis angle, normalised to one."""

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from scipy.interpolate import PchipInterpolator

from astroclassify._checks import check_quantity
from astroclassify.images import pixel_scale

__all__ = ["FWHM", "GaussianPsf", "ImagePsf", "MixedPsf", "Psf"]

FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, in units of its sigma
GAUSSIAN_LIMIT = 6.0  # sigma; beyond it lie 1.5e-8 of a Gaussian


class Psf:
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


class GaussianPsf(Psf):
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


class ImagePsf(Psf):
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


class MixedPsf(Psf):
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
