"""Morphology of a cluster in an X-ray image: concentration, centroid shift, power ratios, photon asymmetry."""

import numpy as np
from astropy import units as u

from astroclassify import batch
from astroclassify._checks import check_integer
from astroclassify.exceptions import GeometryError

from .._geometry import DEFAULT_COSMOLOGY
from . import _moments as core
from ._scene import NotMeasurable, find_scene

__all__ = [
    "COLUMNS",
    "Measures",
    "centroid_shift",
    "image_measures",
    "photon_asymmetry",
    "power_ratios",
    "scaled_concentration",
]

COLUMNS = {
    "c_sb_500": u.dimensionless_unscaled,
    "centroid_shift": u.dimensionless_unscaled,
    "power_ratio_2": u.dimensionless_unscaled,
    "power_ratio_3": u.dimensionless_unscaled,
    "power_ratio_4": u.dimensionless_unscaled,
    "photon_asymmetry": u.dimensionless_unscaled,
}
"""Measures of `image_measures` and their units."""

DRAW_PIXELS = 40
"""For the bootstrap, pixels are joined so long as R500 is at least this many of them."""

_POWER_RATIOS = ("power_ratio_2", "power_ratio_3", "power_ratio_4")


def _value(name, value, scene):
    """A plain float, or an error that says why there is none."""
    value = float(value[0])
    if np.isnan(value):
        raise GeometryError(_reason(name, scene))
    return value


def _reason(name, scene):
    if name in _POWER_RATIOS and scene.r_500_kpc is None:
        return "the radius in kpc, on which P0 depends, is not known: give redshift"
    if name in _POWER_RATIOS:
        middle = core.centroids(scene.pixels, scene.outer, scene.pixels.centre, 50)
        fraction = core.covered(scene.pixels, middle, scene.outer)[0]
        if fraction < core.MIN_COVERAGE:
            return f"only {fraction:.0%} of the circle about the centroid is on the image and exposed"
    if name == "photon_asymmetry":
        net = core.asymmetry(scene.pixels, scene.outer)[1][0]
        edges = core.annulus_edges(scene.outer)
        dark = [f"{a:g}-{b:.3g}" for a, b, c in zip(edges[:-1], edges[1:], net, strict=True) if not c > 0]
        return f"no counts above the background in the annulus of {', '.join(dark)} R500"
    return f"no counts above the background within {scene.outer:.3g} R500, or within a smaller aperture"


def scaled_concentration(
    image, *, r_500, redshift=None, background=0.0, centre=None, outer=1.0, cosmology=DEFAULT_COSMOLOGY
):
    r"""
    Surface-brightness concentration in units of R500.

    .. math:: c = \frac{S(<0.15\,R_{500})}{S(<R_{500})}

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, not smoothed and with the background in, with a celestial WCS. Its exposure map is used if there.
    r_500 : `~astropy.units.Quantity`
        R500, a length or an angle.
    redshift : float, optional
        Needed where ``r_500`` is a length; by default ``image.meta["REDSHIFT"]``.
    background : float or `~numpy.ndarray`, optional
        Counts expected in each pixel from everything but the cluster: a number, or a map (with the vignetting in).
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of the cluster. By default it is searched for, see Notes.
    outer : float or "fit", optional
        Take this fraction of R500 (0.3 to 1) instead of all of it, where the image is too small; ``"fit"`` takes the
        largest circle that lies on the image. Values with different ``outer`` must not be compared.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns kpc into arcsec.

    Returns
    -------
    float
        From 0 to 1, but for noise where a background was taken off.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    GeometryError
        If less than 90% of the circle is on the image, unmasked and exposed, if R500 is less than 20 pixels, or if
        there are no counts above the background.

    Notes
    -----
    The centre is the X-ray peak: the brightest point, within 0.4 R500 of the middle of the image, of the counts less
    background over exposure, smoothed with a Gaussian of sigma 0.04 R500. (Nurgaliev et al. 2013 take 40 kpc, within
    400 kpc.) Counts are divided by the exposure. Pixels that are masked, off the image or exposed for less than a tenth
    of the maximum get the mean of the others at their distance from the centre.

    References
    ----------
    The concentration of Santos et al. 2008, A&A 483, 35, in units of R500. The radii are those of Campitiello et al.
    2022, A&A 665, A117 [from memory]; Cassano et al. 2010, ApJ 721, L82, have 100 and 500 kpc, Lovisari et al. 2017,
    ApJ 846, 51, 0.1 R500 and R500 [both from memory].

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.morphology import scaled_concentration
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> image = CCDData(1e4 * (1 + (x**2 + y**2) / 5**2) ** -1.5, unit=u.ct, wcs=wcs)
    >>> round(scaled_concentration(image, r_500=4.8 * u.arcmin), 3)
    0.41
    """
    scene = find_scene(image, r_500, redshift, background, centre, outer, cosmology)
    return _value("c_sb_500", core.concentration_and_shift(scene.pixels, scene.outer)[0], scene)


def centroid_shift(image, *, r_500, redshift=None, background=0.0, centre=None, outer=1.0, cosmology=DEFAULT_COSMOLOGY):
    r"""
    Scatter of the distance between X-ray peak and centroid over apertures of many sizes.

    .. math:: w = \frac{1}{R_{500}} \left[ \frac{1}{N-1} \sum_i (\Delta_i - \bar\Delta)^2 \right]^{1/2}

    with :math:`\Delta_i` the distance between the peak and the centroid of the brightness within the i-th of N = 10
    circles about the peak, of 0.1, 0.2 ... 1 R500.

    Parameters
    ----------
    image, r_500, redshift, background, centre, cosmology
        See `scaled_concentration`.
    outer : float or "fit", optional
        Only the circles up to this radius [R500], and one with it, see `scaled_concentration`.

    Returns
    -------
    float
        In units of R500. It is never negative and not corrected for photon noise: for a round cluster (beta model, core
        of 0.1 R500) it is 0.0004 with 1e5 counts, 0.001 with 1e4 and 0.004 with 1e3.

    Raises
    ------
    TypeError, ValueError, GeometryError
        As `scaled_concentration`.

    References
    ----------
    Mohr, Fabricant & Geller 1993, ApJ 413, 492; in this form Boehringer et al. 2010, A&A 514, A32, section 3.
    """
    scene = find_scene(image, r_500, redshift, background, centre, outer, cosmology)
    return _value("centroid_shift", core.concentration_and_shift(scene.pixels, scene.outer)[1], scene)


def power_ratios(image, *, r_500, redshift=None, background=0.0, centre=None, outer=1.0, cosmology=DEFAULT_COSMOLOGY):
    r"""
    Power ratios P2/P0, P3/P0 and P4/P0 within R500, corrected for photon noise.

    .. math::

        P_0 = [a_0 \ln(R/{\rm kpc})]^2, \quad P_m = \frac{a_m^2 + b_m^2 - \sigma_m^2}{2 m^2 R^{2m}}, \quad
        a_m + i b_m = \sum_{r \le R} S\, r^m e^{i m \phi}

    with S the brightness of a pixel at (r, phi) from the centroid of the circle, where P1 vanishes.

    Parameters
    ----------
    image, r_500, redshift, background, centre, cosmology
        See `scaled_concentration`; the centre is where the search for the centroid begins.
    outer : float or "fit", optional
        Radius R [R500], see `scaled_concentration`.

    Returns
    -------
    `~numpy.ndarray`, shape (3,)
        P2/P0 (ellipticity), P3/P0 (unequal halves, a second peak) and P4/P0. They can be negative: then nothing is
        seen above the noise.

    Raises
    ------
    TypeError, ValueError, GeometryError
        As `scaled_concentration`, and if R500 is an angle and there is no redshift.

    Notes
    -----
    ``sigma_m^2`` is the sum of n r^(2m) / e^2 over all pixels, with n counts, background included, and relative
    exposure e: what Poisson noise adds to a_m^2 + b_m^2 on average. It is the limit for many trials of both the
    azimuthal randomisation of Boehringer et al. (2010, section 3) and the repeated Poisson draws of Weissmann et al.
    (2013, section 3), and makes P_m unbiased. It is wrong for images without noise.

    P0 depends on the unit of R through the logarithm; the papers do not all say which. Kiloparsecs are our choice.

    References
    ----------
    Buote & Tsai 1995, ApJ 452, 522, section 2; Boehringer et al. 2010, A&A 514, A32; Weissmann et al. 2013, A&A 549,
    A19.
    """
    scene = find_scene(image, r_500, redshift, background, centre, outer, cosmology)
    ratios, _ = core.power_ratios(scene.pixels, scene.outer, scene.log_radius, None, 50)
    return np.array([_value(name, ratio, scene) for name, ratio in zip(_POWER_RATIOS, ratios, strict=True)])


def photon_asymmetry(
    image, *, r_500, redshift=None, background=0.0, centre=None, outer=1.0, cosmology=DEFAULT_COSMOLOGY
):
    r"""
    Photon asymmetry A_phot: how far the angles of the photons in annuli are from uniform.

    .. math::

        A_{phot} = 100\, \frac{\sum_k C_k \hat d_k}{\sum_k C_k}, \quad
        \hat d_k = \frac{N_k}{C_k^2} \left( U^2_k - \frac{1}{12} \right)

    over four annuli between 0.05, 0.12, 0.2, 0.3 and 1 R500, with N counts of which C come from the cluster, and
    Watson's statistic U^2 of the angles against the exposure.

    Parameters
    ----------
    image, r_500, redshift, background, centre, cosmology
        See `scaled_concentration`.
    outer : float or "fit", optional
        Outer edge of the last annulus [R500]; annuli beyond it are left out. See `scaled_concentration`.

    Returns
    -------
    float
        About 0 for a round cluster (it can be negative); Nurgaliev et al. (2013, section 4) call clusters above 0.15
        somewhat and above 0.6 strongly asymmetric.

    Raises
    ------
    TypeError, ValueError, GeometryError
        As `scaled_concentration`, and if an annulus has no counts above the background.

    Notes
    -----
    With u the fraction of the annulus' exposure up to a photon's angle, :math:`N U^2 = \sum_{ij} h(u_i - u_j)`,
    where :math:`h(x) = \frac{1}{2}(x^2 - |x| + \frac{1}{6}) = \frac{1}{2 \pi^2} \sum_m \cos(2 \pi m x) / m^2`. As h(0)
    is 1/12, subtracting 1/12 takes away what each photon makes with itself, so that d is an unbiased estimate, for any
    distribution, of the mean of h over pairs of the cluster's photons: half the power of each harmonic m over
    (pi m)^2. A brightness that goes like 1 + a cos(phi) has d = a^2 / (8 pi^2).

    Here counts are in pixels; a pixel belongs to the annulus and to one of 120 angles by its middle, and so does its
    exposure. The part of each photon with itself is computed for these bins. A background map is taken off angle by
    angle; for a background that follows the exposure that is the formula above.

    References
    ----------
    Nurgaliev et al. 2013, ApJ 779, 112, section 3; annuli and centre as in the authors' program (ascl:1312.011).
    Watson 1961, Biometrika 48, 109.
    """
    scene = find_scene(image, r_500, redshift, background, centre, outer, cosmology)
    return _value("photon_asymmetry", core.asymmetry(scene.pixels, scene.outer)[0], scene)


class Measures(dict):
    """Name -> (value, error), with the reasons for what is NaN; further attributes say how they were measured."""

    def __init__(self, values, *, reasons, **how):
        super().__init__(values)
        self.reasons = reasons
        vars(self).update(how)


def image_measures(
    image,
    *,
    r_500,
    rng=None,
    redshift=None,
    background=0.0,
    centre=None,
    outer=1.0,
    n_draws=100,
    cosmology=DEFAULT_COSMOLOGY,
):
    """
    All measures of the morphology of a cluster, with errors.

    Parameters
    ----------
    image, r_500, redshift, background, centre, outer, cosmology
        See `scaled_concentration`.
    rng : int or `~numpy.random.Generator`, optional
        Seed of the bootstrap; by default a fresh one.
    n_draws : int, optional
        Number of bootstrap images.

    Returns
    -------
    dict
        Name -> (value, error), both floats, in the order of `COLUMNS`: ``c_sb_500`` (`scaled_concentration`),
        ``centroid_shift`` [R500], ``power_ratio_2``, ``power_ratio_3``, ``power_ratio_4``, ``photon_asymmetry``. What
        cannot be measured is NaN. The dict has the attributes ``reasons``, a dict of name -> why, ``outer``, the outer
        radius [R500] (NaN if there is none), and ``seed``, None where ``rng`` is a generator.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    GeometryError
        If the image has no celestial WCS, no redshift where it is needed, no valid pixel, or is not in counts. An image
        on which R500 does not fit or that has no counts is no error here: its measures are NaN.

    Notes
    -----
    Errors are the standard deviation over bootstrap images: each pixel is drawn anew from a Poisson distribution whose
    mean is its counts, and everything is measured again, about a peak that is searched for again within 0.2 R500 of
    that of the image (unless ``centre`` is given). For this pixels are joined, as long as R500 is at least 40 of them.
    The background has no error. A bootstrap image has the noise twice, so that errors of what is quadratic in the
    brightness (power ratios, asymmetry) are about 1.7 (asymmetry at 1e5 counts: 2.5) times too large where the true
    value is zero; else they are right to 30 per cent from 1e3 counts up.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.morphology import image_measures
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.002, "CDELT2": 0.002})
    >>> y, x = np.indices((100, 100)) - 49.5
    >>> counts = np.random.default_rng(1).poisson(50 * (1 + (x**2 + y**2) / 5**2) ** -1.5)
    >>> measures = image_measures(CCDData(counts, unit=u.ct, wcs=wcs), r_500=4.8 * u.arcmin, redshift=0.1, rng=2)
    >>> value, error = measures["c_sb_500"]
    >>> print(f"{value:.2f} +- {error:.2f}")
    0.41 +- 0.01
    >>> measures.reasons
    {}
    """
    seed = None if isinstance(rng, np.random.Generator) else batch.master_seed(rng)
    rng = np.random.default_rng(rng if seed is None else seed)
    n_draws = check_integer("n_draws", n_draws, low=2)
    try:
        scene = find_scene(image, r_500, redshift, background, centre, outer, cosmology)
    except NotMeasurable as error:
        nothing = dict.fromkeys(COLUMNS, (np.nan, np.nan))
        return Measures(nothing, reasons=dict.fromkeys(COLUMNS, str(error)), outer=np.nan, seed=seed)
    ratios, middle = core.power_ratios(scene.pixels, scene.outer, scene.log_radius, None, 50)
    values = _all(scene.pixels, scene, ratios)
    patch = scene.patch.binned(int(1 / (DRAW_PIXELS * scene.patch.step)))
    pixels = core.Pixels.of(patch, scene.pixels.centre[0], scene.outer + core.MARGIN)
    pixels = pixels.drawn(rng, n_draws, patch, scene.moves)
    ratios, _ = core.power_ratios(pixels, scene.outer, scene.log_radius, np.repeat(middle, n_draws, axis=0), 2)
    draws = _all(pixels, scene, ratios)
    found, reasons = {}, {}
    for name, value, sample in zip(COLUMNS, values, draws, strict=True):
        sample = sample[np.isfinite(sample)]
        # Too few draws that have a value tell nothing about its error.
        error = float(np.std(sample, ddof=1)) if len(sample) >= max(2, n_draws / 2) else np.nan
        found[name] = (float(value[0]), error if np.isfinite(value[0]) else np.nan)
        if np.isnan(value[0]):
            reasons[name] = _reason(name, scene)
    return Measures(found, reasons=reasons, outer=scene.outer, seed=seed)


def _all(pixels, scene, ratios):
    """Every measure of every image, in the order of `COLUMNS`."""
    ratio, shift = core.concentration_and_shift(pixels, scene.outer)
    return (ratio, shift, *ratios, core.asymmetry(pixels, scene.outer)[0])
