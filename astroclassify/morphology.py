"""Shape of an image: concentration, centroid shift, power ratios, asymmetry, centres, with errors."""

from .images.morphology._morphology import (
    COLUMNS,
    centroid_shift,
    image_measures,
    photon_asymmetry,
    power_ratios,
    scaled_concentration,
)

__all__ = [
    "COLUMNS",
    "centroid_shift",
    "image_measures",
    "photon_asymmetry",
    "power_ratios",
    "scaled_concentration",
]
