"""What people see of an image and a cutout: a line in a terminal, a picture in a notebook."""

import base64
import html
from importlib.util import find_spec

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from .headers._headers import read_header
from .headers._wcs import is_celestial

__all__ = ["in_words", "picture_html"]


def in_words(image):
    """An image in one line: pixels, sum, instrument, band, exposure, and what comes with it."""
    from ._pictures import valid_values  # pictures are drawn of images, which describe themselves

    size = " x ".join(map(str, image.shape)) + " pixels"
    if image.ndim == 2 and is_celestial(image.wcs):
        size += f" of {3600 * np.mean(proj_plane_pixel_scales(image.wcs.celestial)):.3g} arcsec"
    values, _ = valid_values(image)
    parts = [size, f"{values.sum():.6g} {'(no unit)' if image.unit is None else image.unit}".strip()]
    header = read_header(image.meta, image.wcs)
    parts += [" ".join(name for name in (header.telescope, header.instrument) if name)]
    parts += [f"{header.energy_range[0]:g} to {header.energy_range[1]:g} keV"] if header.energy_range else []
    parts += [f"{header.exposure:.4g} s"] if header.exposure else []
    parts += [f"{name} map" for name in ("exposure", "background") if getattr(image, name, None) is not None]
    parts += ["mask"] if image.mask is not None and np.any(image.mask) else []
    return ", ".join(part for part in parts if part)


def picture_html(words, bands):
    """
    A line and, where Pillow is there, the pictures of images by band, which are those of the page for people.

    Images without a dimension, such as activation maps, have signs that these pictures do not show: they have the line.
    """
    from ._pictures import draw, encode

    line = f"<pre>{html.escape(words)}</pre>"
    if find_spec("PIL") is None or any(
        image.ndim != 2 or image.unit == u.dimensionless_unscaled for image in bands.values()
    ):
        return line
    pictures = [
        f'<img width="320" alt="{name}" src="data:image/png;base64,'
        f'{base64.b64encode(encode(draw({kind: image}, kind))).decode()}">'
        for name, image in bands.items()
        for kind in ["xray" if name == "xray" and image.unit != u.adu else "optical"]
    ]
    return line + " ".join(pictures)
