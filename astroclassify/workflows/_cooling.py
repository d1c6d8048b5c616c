"""Cooling time of a cluster's centre from an image alone: density from the image, temperature from its emission."""

import numpy as np
from astropy import units as u

from astroclassify import sim
from astroclassify._checks import check_number, check_quantity
from astroclassify.exceptions import GeometryError
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.morphology import deproject
from astroclassify.sim.sky._population import POPULATION

__all__ = ["image_cooling_time"]

CENTRE = 0.012
"""Radius of the centre [R500]: Su et al. 2020, section 2."""

EMISSION_SHELL = (100.0, 400.0)
"""Where the emission measure that gives the temperature is taken [kpc]: around the core."""

EMISSION_TEMPERATURE = (4.30, 10**66.5, 0.225, 0.12)
"""
kT = 4.30 keV (EM / 10^66.5 cm-3)^0.225, scatter 0.12 dex: a fit to 93 clusters of ACCEPT (Cavagnolo et al. 2009; none
of the public test), of 1.7 to 19 keV, whose shells reach 400 kpc.
"""


def image_cooling_time(
    image,
    *,
    counts_per_emission,
    temperature=None,
    r_500=None,
    redshift=None,
    metallicity=0.3,
    psf=None,
    background=None,
    background_error=0.0,
    centre=None,
    cosmology=DEFAULT_COSMOLOGY,
):
    """
    Central cooling time of a cluster from its image, by the density that the image gives.

    The density within 0.012 R500 comes from `~astroclassify.morphology.deproject`. The temperature, on which the
    cooling time depends less (about as its root), may be given; else it follows from the emission measure between 100
    and 400 kpc, which a cool core does not change: kT = 4.30 keV (EM / 10^66.5 cm-3)^0.225, fitted to two thirds of
    ACCEPT, with a scatter of 0.12 dex. R500 follows from the temperature if it is not given: E(z) M500 = 3.84e14 Msun
    (kT / 5 keV)^1.71 (Arnaud, Pointecouteau & Pratt 2005, A&A 441, 893).

    Parameters
    ----------
    image, redshift, psf, background, background_error, centre, cosmology
        See `~astroclassify.morphology.surface_brightness_profile` and `~astroclassify.morphology.deproject`.
    counts_per_emission : `~astropy.units.Quantity`
        Count rate per emission measure, see `~astroclassify.morphology.deproject`.
    temperature : `~astropy.units.Quantity`, optional
        Mean temperature of the cluster, kT [keV] or [K], taken as exact.
    r_500 : `~astropy.units.Quantity`, optional
        R500, a length.
    metallicity : float, optional
        In solar units of Anders & Grevesse (1989).

    Returns
    -------
    dict
        Name -> (value, error), Quantities: ``t_cool_image`` [Gyr], ``n_e_image`` [cm-3], ``temperature`` [keV] and
        ``r_500`` [kpc]. The error of the cooling time is that of the density and of the temperature together, or of the
        density alone where the temperature is given.

    Raises
    ------
    TypeError, ValueError, GeometryError
        As `~astroclassify.morphology.deproject`.

    Notes
    -----
    The gas of the centre is taken to have the mean temperature of the cluster, while that of a cool core is cooler, so
    that times come out somewhat long: on images of ACCEPT's profiles by 0.06 dex in the median (public test 0.13), with
    a root mean square of 0.19 (0.22); with the temperature given by 0.03 (0.04), with 0.12 (0.11). See
    :doc:`/science/measures`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.workflows import image_cooling_time
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> counts = np.random.default_rng(1).poisson(50 * (1 + (x**2 + y**2) / 5**2) ** -1.5)
    >>> image = CCDData(counts, unit="ct", wcs=wcs, meta={"REDSHIFT": 0.1, "EXPOSURE": 1e4})
    >>> found = image_cooling_time(image, counts_per_emission=6e-68 * u.ct * u.cm**3 / u.s)
    >>> for name, (value, error) in found.items():
    ...     print(f"{name} {value:.2g} +- {error:.1g}")
    t_cool_image 3 Gyr +- 0.7 Gyr
    n_e_image 0.014 1 / cm3 +- 0.002 1 / cm3
    temperature 5 keV +- 1 keV
    r_500 1.1e+03 kpc +- 2e+02 kpc
    """
    metallicity = check_number("metallicity", metallicity, 0.0)
    if counts_per_emission is None:
        raise TypeError("counts_per_emission must be a Quantity: without it there is no density")
    profile = deproject(
        image, redshift=redshift, psf=psf, counts_per_emission=counts_per_emission, background=background,
        background_error=background_error, centre=centre, cosmology=cosmology,
    )  # fmt: skip
    redshift = image.meta.get("REDSHIFT") if redshift is None else redshift
    if temperature is None:
        kT, spread = _temperature(profile)
    else:
        kT, spread = _kev(temperature), 0.0
    radius = None if r_500 is None else check_quantity("r_500", r_500, u.kpc, positive=True, shape=())

    def at(kT):
        """Cooling time, density and its error, and R500 for a temperature."""
        reach = _radius(kT, redshift, cosmology) if radius is None else radius
        density, error = profile.mean_density(CENTRE * reach * u.kpc)
        return sim.cooling_time(density, kT * u.keV, metallicity), density, error, reach

    time, density, error, reach = at(kT)
    ends = [at(kT * np.exp(sign * spread)) for sign in (-1, 1)]
    half = [0.5 * abs(np.log(ends[1][part] / ends[0][part])) for part in (0, 1, 3)]
    by_time, by_density, by_reach = (float(each) for each in half)
    of_density = float(error / density)
    return {
        "t_cool_image": (time, time * np.hypot(of_density, by_time)),
        "n_e_image": (density, density * np.hypot(of_density, by_density)),
        "temperature": (kT * u.keV, kT * spread * u.keV),
        "r_500": (reach * u.kpc, reach * by_reach * u.kpc),
    }


def _kev(temperature):
    """A temperature [K] or kT as plain keV."""
    if isinstance(temperature, u.Quantity) and temperature.unit.is_equivalent(u.K):
        temperature = temperature.to(u.keV, u.temperature_energy())
    return check_quantity("temperature", temperature, u.keV, positive=True, shape=())


def _temperature(profile):
    """kT [keV] of the emission measure around the core, and the standard deviation of its logarithm."""
    inner, outer = EMISSION_SHELL
    if profile.profile["radius_hi"][-1].to_value(u.kpc) < 0.5 * (inner + outer):
        raise GeometryError(
            f"temperature must be given: the image ends at {profile.profile['radius_hi'][-1]:.0f}, within the shell of "
            f"{inner:g} to {outer:g} kpc whose emission would give it"
        )
    measure, error = profile.emission_measure(inner * u.kpc, outer * u.kpc)
    kT, norm, slope, scatter = EMISSION_TEMPERATURE
    spread = np.hypot(scatter * np.log(10), slope * float(error / measure))
    return kT * float(measure.to_value(u.cm**-3) / norm) ** slope, spread


def _radius(kT, redshift, cosmology):
    """R500 [kpc] of a temperature [keV]."""
    mass = POPULATION.temperature_mass * (kT / 5) ** POPULATION.temperature_slope / cosmology.efunc(redshift)
    density = 500 * cosmology.critical_density(redshift).to_value(u.Msun / u.kpc**3)
    return float(np.cbrt(3 * mass / (4 * np.pi * density)))
