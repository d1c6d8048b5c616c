"""The beta model with beta = 2/3, S(r) ~ [1 + (r/r_c)^2]^-3/2 (Cavaliere & Fusco-Femiano 1976), r in core radii r_c."""

import numpy as np

__all__ = ["beta_radius", "beta_share"]


def beta_share(radius):
    """Share of the light within a projected radius: 1 - (1 + r^2)^-1/2."""
    return 1 - (1 + np.square(radius)) ** -0.5


def beta_radius(share):
    """Radius that holds a share of the light, the inverse of `beta_share`."""
    return np.sqrt((1 - np.asarray(share)) ** -2.0 - 1)
