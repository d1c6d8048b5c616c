"""Surface-brightness concentration within radii in kpc."""

import numpy as np
from astropy import units as u
from photutils.aperture import EllipticalAperture

from astroclassify._checks import check_number, check_quantity
from astroclassify.exceptions import GeometryError

from ._checks import as_image, celestial, valid_pixels
from ._geometry import DEFAULT_COSMOLOGY, Geometry

__all__ = ["concentration"]


def concentration(
    image,
    *,
    redshift=None,
    inner=40 * u.kpc,
    outer=400 * u.kpc,
    background=0.0,
    cosmology=DEFAULT_COSMOLOGY,
):
    """
    Surface-brightness concentration: counts within the inner radius over counts within the outer one.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, source in the middle, celestial WCS.
    redshift : float, optional
        Redshift of the source; by default ``image.meta["REDSHIFT"]``.
    inner, outer : `~astropy.units.Quantity`, optional
        The two radii, lengths.
    background : float, optional
        Counts per pixel to take off first.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns kpc into arcsec.

    Returns
    -------
    float
        C_SB: from 0 to 1, but for noise where a background was taken off. Masked pixels count neither as signal nor
        as background.

    Raises
    ------
    ValueError
        If the background is not a finite number or the inner radius not smaller than the outer one.
    GeometryError
        If the outer circle does not fit on the image or holds no counts above the background.

    References
    ----------
    Santos et al. 2008, A&A 483, 35, with integrated surface brightness and the radii of Su et al. 2020, section 3.
    """
    image = as_image(image)
    redshift = image.meta.get("REDSHIFT") if redshift is None else redshift
    outer_kpc = check_quantity("outer", outer, u.kpc, positive=True, shape=())
    inner_kpc = check_quantity("inner", inner, u.kpc, positive=True, shape=())
    if inner_kpc >= outer_kpc:
        raise ValueError(f"inner must be smaller than outer ({outer}), got {inner}")
    background = check_number("background", background)
    # Angle of a kiloparsec, from that of a pixel of one kiloparsec.
    kpc = Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=cosmology).to_value(u.deg)
    # A circle on the sky is an ellipse in pixels that are not square: half axes per degree, and the first one's angle.
    _, degrees, axes = np.linalg.svd(celestial(image).pixel_scale_matrix)
    a, b, theta = 1 / degrees[1], 1 / degrees[0], np.arctan2(axes[1, 1], axes[1, 0])
    # Half of the box around it, along x and y.
    reach = outer_kpc * kpc * np.hypot(a * axes[1], b * axes[0])
    if np.any(reach > np.array(image.shape[::-1]) / 2):
        raise GeometryError(f"outer radius {outer} does not fit on the image ({reach.max():.0f} px)")
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    data = np.where(valid_pixels(image), image.data - background, 0.0)
    # Exact area weights from the aperture's mask: the one way that every photutils since 1.13 has without deprecation.
    apertures = (EllipticalAperture(middle, r * a, r * b, theta=theta) for r in (outer_kpc * kpc, inner_kpc * kpc))
    total, part = (float(np.sum(data * each.to_mask(method="exact").to_image(data.shape))) for each in apertures)
    if total <= 0:
        raise GeometryError("image has no counts above the background within the outer radius")
    return part / total
