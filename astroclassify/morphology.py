"""What an X-ray image says of a cluster: its core (density, cuspiness, C_SB) and its shape, with errors."""

from .images.morphology._cores import (
    CORE_COLUMNS,
    DensityProfile,
    core_measures,
    deproject,
    surface_brightness_profile,
)
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
    "CORE_COLUMNS",
    "DensityProfile",
    "centroid_shift",
    "core_measures",
    "deproject",
    "image_measures",
    "photon_asymmetry",
    "power_ratios",
    "scaled_concentration",
    "surface_brightness_profile",
]
