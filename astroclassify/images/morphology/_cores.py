"""Cores of clusters measured on images: brightness profile, deprojected density, C_SB, cuspiness, with errors."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify._checks import check_number, check_quantity
from astroclassify.exceptions import GeometryError

from .._geometry import DEFAULT_COSMOLOGY
from ._annuli import COVERAGE, MARKS, find_annuli
from ._deprojection import fit_emission
from ._morphology import Measures

__all__ = ["CORE_COLUMNS", "DensityProfile", "core_measures", "deproject", "surface_brightness_profile"]

ELECTRONS_PER_HYDROGEN = 1.2
"""n_e / n_H of ionised gas with solar helium (Anders & Grevesse 1989), as in ACCEPT (Cavagnolo et al. 2009)."""

CENTRE = 0.012
"""Radius of the centre [R500]: Su et al. 2020, section 2."""

CUSP = 0.04
"""Radius of the cuspiness [R500]: Vikhlinin et al. 2007, arXiv:astro-ph/0611438."""

MIN_SIGNAL = 3.0
"""Net counts over their Poisson error below which nothing is deprojected."""

RATE = u.ct / u.s / u.arcsec**2

CORE_COLUMNS = {
    "c_sb": u.dimensionless_unscaled,
    "c_sb_corrected": u.dimensionless_unscaled,
    "central_brightness": RATE,
    "n_e_image": u.cm**-3,
    "cuspiness_image": u.dimensionless_unscaled,
}
"""Measures of `core_measures` and their units."""

_EMISSION_UNIT = u.ct * u.cm**3 / u.s
_CM3_PER_KPC3 = (u.kpc**3).to(u.cm**3)
_GAUSSIAN_REACH = 6.0  # sigma


def surface_brightness_profile(
    image, *, redshift=None, edges=None, background=None, centre=None, outer=1 * u.Mpc, cosmology=DEFAULT_COSMOLOGY
):
    """
    Surface brightness in annuli about a source, background taken off and exposure divided out.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, not smoothed and with the background in, with a celestial WCS and square pixels. Its exposure map, or
        the exposure time of its header, is used if there.
    redshift : float, optional
        By default ``image.meta["REDSHIFT"]``.
    edges : `~astropy.units.Quantity`, optional
        Edges of the annuli, rising lengths, shape (n + 1,). By default each radius is 1.12 times the one before, and at
        least one pixel (and 1 kpc) larger, with edges at 40 and 400 kpc.
    background : float or `~numpy.ndarray`, optional
        Counts expected in each pixel from everything but the source: a number, or a map (vignetting in). By default
        ``image.background``, and where there is none, zero.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of the annuli. By default the X-ray peak: the brightest point under a Gaussian of sigma 20 kpc within 40
        kpc of the brightest one under 40 kpc (Nurgaliev et al. 2013, section 3), that within 400 kpc of the middle.
    outer : `~astropy.units.Quantity`, optional
        Radius up to which the default annuli go, if the image does.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns arcsec into kpc.

    Returns
    -------
    `~astropy.table.QTable`
        A row per annulus: ``radius_lo``, ``radius_hi`` [kpc]; ``angle_lo``, ``angle_hi`` [arcsec]; ``counts`` and
        ``background`` [ct]; ``exposure_area`` [s arcsec2], exposure summed over the annulus' pixels; ``coverage``, the
        exposed part of its area; ``brightness`` and its Poisson error ``brightness_err`` [ct / (s arcsec2)], NaN where
        nothing is exposed. Without any exposure the time is left out of the units. Annuli end where less than a
        quarter of one is exposed. ``meta`` has ``centre`` and ``kpc_per_arcsec``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    GeometryError
        If the image has no celestial WCS, square pixels, redshift or counts, or fewer than 5 annuli are exposed.

    Notes
    -----
    Pixels belong to an annulus by their middle. Pixels with less than a tenth of the greatest exposure are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.morphology import surface_brightness_profile
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> counts = np.random.default_rng(1).poisson(50 * (1 + (x**2 + y**2) / 5**2) ** -1.5)
    >>> image = CCDData(counts, unit="ct", wcs=wcs, meta={"REDSHIFT": 0.1, "EXPOSURE": 1e4})
    >>> profile = surface_brightness_profile(image)
    >>> print(profile["brightness"][:2].round(7), profile["brightness_err"][:2].round(7))
    [9.55e-05 8.32e-05] ct / (s arcsec2) [6.8e-06 4.2e-06] ct / (s arcsec2)
    """
    return _table(find_annuli(image, redshift, edges, background, centre, outer, cosmology))


def _table(annuli):
    """The annuli as a table."""
    time = u.s if annuli.in_seconds else u.one
    exposed = annuli.exposed.sum(axis=1) / annuli.arcsec**2
    with np.errstate(divide="ignore", invalid="ignore"):
        brightness = np.where(exposed > 0, annuli.net / exposed, np.nan)
        error = np.where(exposed > 0, np.sqrt(np.maximum(annuli.counts, 1)) / exposed, np.nan)
    angles = annuli.edges / annuli.arcsec * u.arcsec
    table = QTable(
        {
            "radius_lo": annuli.edges[:-1] * u.kpc,
            "radius_hi": annuli.edges[1:] * u.kpc,
            "angle_lo": angles[:-1],
            "angle_hi": angles[1:],
            "counts": annuli.counts * u.ct,
            "background": annuli.background * u.ct,
            "exposure_area": exposed * (time * u.arcsec**2),
            "coverage": annuli.coverage,
            "brightness": brightness * (u.ct / time / u.arcsec**2),
            "brightness_err": error * (u.ct / time / u.arcsec**2),
        },
        meta={"centre": annuli.centre, "kpc_per_arcsec": annuli.arcsec},
    )
    for name in table.colnames:
        table[name].info.format = ".4g"
    return table


@dataclass(frozen=True, eq=False)
class DensityProfile:
    """
    Density of a round source, deprojected from an image by `deproject`.

    Every method gives a value and its standard deviation: Poisson noise, the level of the background and what the prior
    leaves open.

    Attributes
    ----------
    profile : `~astropy.table.QTable`
        The annuli, as from `surface_brightness_profile`, and ``model`` [ct], the counts that the fit expects in each.
    absolute : bool
        Whether densities are in cm-3. If not (no ``counts_per_emission``), they are the root of the emissivity, in
        ct^0.5 s^-0.5 kpc^-1.5 (without seconds where the exposure is not known): right in shape.
    background_level : float
        Fitted level of the background over that given; 1 unless ``background_error`` was given.
    """

    profile: QTable
    absolute: bool
    background_level: float
    _emission: object
    _unit: u.Quantity

    def density(self, radius):
        """
        Electron density at distances from the centre, in three dimensions.

        Parameters
        ----------
        radius : `~astropy.units.Quantity`
            Lengths, any shape.

        Returns
        -------
        tuple of `~astropy.units.Quantity`
            Density and error, in the shape of ``radius``. Inside the first annulus and beyond the last they are an
            extrapolation.
        """
        return self._densities(self._emission.logarithm(check_quantity("radius", radius, u.kpc, positive=True)))

    def mean_density(self, radius):
        """
        Mean electron density within a sphere, weighted with the gas mass as `~astroclassify.sim.measure_core` does.

        Parameters
        ----------
        radius : `~astropy.units.Quantity`
            Length, a scalar.

        Returns
        -------
        tuple of `~astropy.units.Quantity`
            Density and error.
        """
        value, error = self._emission.mean_density(self._scalar(radius))
        return self._densities((2 * value, 2 * error))

    def _densities(self, logarithm):
        """Densities from logarithms of emissivities and their errors."""
        value = np.exp(0.5 * logarithm[0])
        return value * self._unit, 0.5 * logarithm[1] * value * self._unit

    def slope(self, radius):
        """
        Cuspiness: logarithmic slope of the density with its sign changed, -d ln n_e / d ln r.

        Parameters
        ----------
        radius : `~astropy.units.Quantity`
            Lengths, any shape.

        Returns
        -------
        tuple of `~numpy.ndarray`
            Slope and error, in the shape of ``radius``.
        """
        value, error = self._emission.slope(check_quantity("radius", radius, u.kpc, positive=True))
        return -0.5 * value, 0.5 * error

    def brightness(self, radius):
        """
        Mean surface brightness within a circle, without the point spread function.

        Parameters
        ----------
        radius : `~astropy.units.Quantity`
            Length, a scalar.

        Returns
        -------
        tuple of `~astropy.units.Quantity`
            Brightness and error, in the unit of the profile.
        """
        radius = self._scalar(radius)
        value, error = self._emission.light(radius)
        value = np.exp(value) / (np.pi * (radius / self.profile.meta["kpc_per_arcsec"]) ** 2)
        return value * self.profile["brightness"].unit, error * value * self.profile["brightness"].unit

    def concentration(self, inner=MARKS[0] * u.kpc, outer=MARKS[1] * u.kpc):
        """
        Light within one radius over that within another, without the point spread function.

        Parameters
        ----------
        inner, outer : `~astropy.units.Quantity`, optional
            The radii, lengths.

        Returns
        -------
        tuple of float
            Ratio and error.
        """
        value, error = self._emission.concentration(self._scalar(inner, "inner"), self._scalar(outer, "outer"))
        return float(value), float(error)

    def emission_measure(self, inner, outer):
        """
        Emission measure between two spheres, the integral of n_e n_H over the volume.

        Parameters
        ----------
        inner, outer : `~astropy.units.Quantity`
            The radii, lengths.

        Returns
        -------
        tuple of `~astropy.units.Quantity`
            Emission measure [cm-3] and error; NaN where densities are not in cm-3.
        """
        inner, outer = self._scalar(inner, "inner"), self._scalar(outer, "outer")
        if inner >= outer:
            raise ValueError(f"inner must be smaller than outer ({outer} kpc), got {inner} kpc")
        value, error = self._emission.between(inner, outer)
        factor = self._unit.value**2 / ELECTRONS_PER_HYDROGEN * _CM3_PER_KPC3 if self.absolute else np.nan
        return np.exp(value) * factor * u.cm**-3, error * np.exp(value) * factor * u.cm**-3

    @staticmethod
    def _scalar(radius, name="radius"):
        return check_quantity(name, radius, u.kpc, positive=True, shape=())


def deproject(
    image,
    *,
    redshift=None,
    psf=None,
    counts_per_emission=None,
    edges=None,
    background=None,
    background_error=0.0,
    centre=None,
    outer=1 * u.Mpc,
    cosmology=DEFAULT_COSMOLOGY,
):
    r"""
    Electron density of a cluster as a function of radius, from an image.

    Parameters
    ----------
    image, redshift, edges, background, centre, outer, cosmology
        See `surface_brightness_profile`.
    psf : `~astropy.units.Quantity` or point spread function, optional
        Full width at half maximum of a Gaussian (an angle; 0 for none), or an object with ``encircled(radius)`` and
        ``limit`` in arcsec, such as `~astroclassify.fields.KingPsf` (taken on axis). By default the Gaussian of the
        keyword ``PSFFWHM`` [arcsec], which mock images have, and none without it.
    counts_per_emission : `~astropy.units.Quantity`, optional
        Count rate that an emission measure, the integral of n_e n_H over the volume, of one makes at this redshift,
        through this absorption, in the band of the image, with the exposure of its map: a Quantity like
        ct cm3 / s. Above 2 keV it depends on the temperature by a few per cent only; the density goes with its root.
    background_error : float, optional
        Relative standard deviation of the background's level, which is then fitted too.

    Returns
    -------
    DensityProfile
        Density, slope, brightness at any radius, with errors.

    Raises
    ------
    TypeError, ValueError, GeometryError
        As `surface_brightness_profile`; GeometryError also if the source is less than three times its error above the
        background, or if there is a ``counts_per_emission`` but no exposure.

    Notes
    -----
    Forward fit: ln(emissivity) is a cubic spline of ln(radius) with knots every 0.4; shells are projected exactly
    (Kriss, Cioffi & Canizares 1983, ApJ 272, 439), rings are spread over rings by the point spread function, and each
    annulus sees of them what its own pixels are exposed to, gaps and masks included. The likelihood is Poisson. The
    prior is a random walk of the slope (standard deviation 1 per root of an e-fold) about that of clusters outside the
    core and a flat one inside; where counts are many it says nothing, and below the resolution it is what lets the
    error grow. Multi-scale fits (Eckert et al. 2016, A&A 592, A12; 2020, pyproffit) have sums of beta models instead.
    Errors are from the Fisher matrix at the best fit. The emission is round and has no clumps; n_e is the root of its
    mean square; n_e / n_H = 1.2.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.morphology import deproject
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> counts = np.random.default_rng(1).poisson(50 * (1 + (x**2 + y**2) / 5**2) ** -1.5)
    >>> image = CCDData(counts, unit="ct", wcs=wcs, meta={"REDSHIFT": 0.1, "EXPOSURE": 1e4})
    >>> found = deproject(image, psf=1 * u.arcsec, counts_per_emission=8e-67 * u.ct * u.cm**3 / u.s)
    >>> density, error = found.density(50 * u.kpc)
    >>> print(f"{density:.5f} +- {error:.5f}")
    0.00232 1 / cm3 +- 0.00005 1 / cm3
    """
    conversion = _conversion(counts_per_emission)
    background_error = check_number("background_error", background_error, 0.0, 1.0)
    annuli = find_annuli(image, redshift, edges, background, centre, outer, cosmology)
    return _deprojected(annuli, _psf_of(psf, image, annuli), conversion, background_error)


def _conversion(counts_per_emission):
    if counts_per_emission is None:
        return None
    return check_quantity("counts_per_emission", counts_per_emission, _EMISSION_UNIT, positive=True, shape=())


def _psf_of(psf, image, annuli):
    """Share of light within a radius [kpc] (a function), and the radius of all of it; None for no spread."""
    if psf is None:
        psf = (image.meta.get("PSFFWHM") or 0.0) * u.arcsec
    if hasattr(psf, "encircled") and hasattr(psf, "limit"):
        return lambda radius: psf.encircled(radius / annuli.arcsec), psf.limit * annuli.arcsec
    fwhm = check_quantity("psf", psf, u.arcsec, shape=()) * annuli.arcsec
    if fwhm < 0:
        raise ValueError(f"psf must not be negative, got {psf}")
    sigma = fwhm / np.sqrt(8 * np.log(2))
    return (lambda radius: -np.expm1(-0.5 * (radius / sigma) ** 2), _GAUSSIAN_REACH * sigma) if fwhm else None


def _deprojected(annuli, psf, conversion, background_error):
    if conversion is not None and not annuli.in_seconds:
        raise GeometryError(
            "image must have an exposure map, or an exposure time in its header, where counts_per_emission is given"
        )
    if not annuli.net.sum() > MIN_SIGNAL * np.sqrt(annuli.counts.sum()):
        raise GeometryError(
            f"no source above the background: {annuli.net.sum():.0f} net of {annuli.counts.sum():.0f} counts"
        )
    emission = fit_emission(annuli.counts, annuli.background, annuli.exposed, annuli.fine, psf, background_error)
    if conversion is None:
        unit = u.ct**0.5 / (u.s if annuli.in_seconds else u.one) ** 0.5 / u.kpc**1.5
    else:
        unit = np.sqrt(ELECTRONS_PER_HYDROGEN / conversion / _CM3_PER_KPC3) / u.cm**3
    table = _table(annuli)
    table["model"] = emission.model * u.ct
    table["model"].info.format = ".4g"
    return DensityProfile(table, conversion is not None, float(emission.level), emission, 1.0 * unit)


def core_measures(
    image,
    *,
    r_500=None,
    redshift=None,
    psf=None,
    counts_per_emission=None,
    background=None,
    background_error=0.0,
    centre=None,
    cosmology=DEFAULT_COSMOLOGY,
):
    """
    Measures of the core of a cluster that tell cool cores from others, with errors.

    Parameters
    ----------
    image, redshift, psf, counts_per_emission, background, background_error, centre, cosmology
        See `deproject`.
    r_500 : `~astropy.units.Quantity`, optional
        R500, a length or an angle. Without it, what is measured in units of R500 is NaN.

    Returns
    -------
    dict
        Name -> (value, error), in the order of `CORE_COLUMNS`:

        - ``c_sb``: counts within 40 over counts within 400 kpc, background taken off, exposure divided out (Santos et
          al. 2008, with the sums of Su et al. 2020);
        - ``c_sb_corrected``: the same ratio of the deprojected and projected source, without the point spread function;
        - ``central_brightness`` [ct / (s arcsec2)]: mean surface brightness within 0.012 R500, so corrected;
        - ``n_e_image`` [cm-3]: mean electron density within a sphere of 0.012 R500, weighted with the gas mass;
        - ``cuspiness_image``: -d ln n_e / d ln r at 0.04 R500 (Vikhlinin et al. 2007).

        Floats or Quantities; what cannot be measured is NaN. The dict has the attribute ``reasons``, a dict of name ->
        why. They are named apart from the columns ``n_e`` and ``cuspiness`` of simulated samples, which are true ones.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    GeometryError
        If the image has no celestial WCS, square pixels, redshift or counts. A source that is too faint, or a core that
        is masked, is no error here: its measures are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.morphology import core_measures
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> counts = np.random.default_rng(1).poisson(50 * (1 + (x**2 + y**2) / 5**2) ** -1.5)
    >>> image = CCDData(counts, unit="ct", wcs=wcs, meta={"REDSHIFT": 0.1, "EXPOSURE": 1e4})
    >>> measures = core_measures(image, r_500=1 * u.Mpc, counts_per_emission=8e-67 * u.ct * u.cm**3 / u.s)
    >>> for name, (value, error) in measures.items():
    ...     print(f"{name} {value:.2g} +- {error:.1g}")
    c_sb 0.16 +- 0.004
    c_sb_corrected 0.16 +- 0.004
    central_brightness 9.9e-05 ct / (s arcsec2) +- 8e-06 ct / (s arcsec2)
    n_e_image 0.0039 1 / cm3 +- 0.0006 1 / cm3
    cuspiness_image 0.45 +- 0.1
    """
    conversion = _conversion(counts_per_emission)
    background_error = check_number("background_error", background_error, 0.0, 1.0)
    annuli = find_annuli(image, redshift, None, background, centre, 1 * u.Mpc, cosmology)
    psf = _psf_of(psf, image, annuli)
    r_500 = _length(r_500, annuli.arcsec)
    found, reasons = {}, _reasons(annuli, r_500, conversion)
    try:
        profile = _deprojected(annuli, psf, conversion, background_error)
    except GeometryError as error:
        reasons = {**dict.fromkeys(CORE_COLUMNS, str(error)), **reasons}
    measured = {
        "c_sb": lambda: _raw_concentration(annuli, background_error),
        "c_sb_corrected": lambda: profile.concentration(),
        "central_brightness": lambda: profile.brightness(CENTRE * r_500 * u.kpc),
        "n_e_image": lambda: profile.mean_density(CENTRE * r_500 * u.kpc),
        "cuspiness_image": lambda: tuple(float(each) for each in profile.slope(CUSP * r_500 * u.kpc)),
    }
    for name, unit in CORE_COLUMNS.items():
        nothing = np.nan if unit == u.dimensionless_unscaled else np.nan * unit
        found[name] = (nothing, nothing) if name in reasons else measured[name]()
    return Measures(found, reasons=reasons)


def _length(r_500, arcsec):
    """R500 in kpc, or None."""
    if r_500 is None:
        return None
    is_angle = getattr(r_500, "unit", u.kpc).is_equivalent(u.arcsec)
    value = check_quantity("r_500", r_500, u.arcsec if is_angle else u.kpc, positive=True, shape=())
    return value * arcsec if is_angle else value


def _reasons(annuli, r_500, conversion):
    """Why some measures cannot be had of annuli: name -> text."""
    low, high, thin = annuli.edges[:-1], annuli.edges[1:], annuli.coverage < COVERAGE

    def hidden(start, end):
        return np.any(thin[(low < end) & (high > start)]) or high[-1] < end - 1e-9

    reasons = {}
    if hidden(0.0, MARKS[0]) or hidden(MARKS[0], MARKS[1]):
        text = f"an annulus within {MARKS[1]:g} kpc is masked, not exposed or off the image"
        reasons |= dict.fromkeys(("c_sb", "c_sb_corrected"), text)
    in_r_500 = ("central_brightness", "n_e_image", "cuspiness_image")
    if r_500 is None:
        reasons |= dict.fromkeys(in_r_500, "it is measured in units of r_500, which is not given")
    else:
        if hidden(0.0, CENTRE * r_500):
            reasons |= dict.fromkeys(in_r_500[:2], f"the core, within {CENTRE} R500, is masked or not exposed")
        if hidden(0.5 * CUSP * r_500, 2 * CUSP * r_500):
            reasons["cuspiness_image"] = f"the annuli about {CUSP} R500 are masked, not exposed or off the image"
    if not annuli.in_seconds:
        reasons.setdefault("central_brightness", "the exposure is not known")
    if conversion is None:
        reasons.setdefault("n_e_image", "counts_per_emission is not given")
    return reasons


def _raw_concentration(annuli, background_error):
    """C_SB of the counts, corrected for background and exposure, and its error."""
    per_count = np.pi * np.diff(annuli.edges**2) / annuli.exposed.sum(axis=1)
    inside, all_of_it = annuli.edges[1:] <= MARKS[0] + 1e-9, annuli.edges[1:] <= MARKS[1] + 1e-9

    def sums(values, power=1):
        weighted = values * per_count**power
        return weighted[inside].sum(), weighted[all_of_it & ~inside].sum()

    part, rest = sums(annuli.net)
    noise, level = sums(annuli.counts, 2), sums(annuli.background)
    whole = part + rest
    if not whole > 0:
        return np.nan, np.nan
    variance = rest**2 * noise[0] + part**2 * noise[1] + (background_error * (rest * level[0] - part * level[1])) ** 2
    return float(part / whole), float(np.sqrt(variance) / whole**2)
