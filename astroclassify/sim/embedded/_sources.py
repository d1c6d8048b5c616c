"""Point sources that belong to a cluster: the nucleus of its central galaxy, and active galaxies among its members."""

import numpy as np

# Chance of a central source, mean and scatter of log10 L [erg/s, 0.5-2 keV, rest frame]. In cool cores: the nuclei of
# brightest cluster galaxies, seen in about half of the clusters with cavities, 10^40 to 10^44 erg/s (Russell et al.
# 2013, MNRAS 432, 530) [from memory]. Elsewhere: faint nuclei and coronae of kT below 1 keV, too small to be resolved
# (Sun et al. 2007, ApJ 657, 197) [from memory].
_CENTRAL = {True: (0.5, 41.6, 0.8), False: (0.25, 40.8, 0.5)}
# Members: so many above the lowest luminosity in a cluster of 3e14 Msun, growing with the mass to this power; dN/dlogL
# ~ L^-0.5 between the limits. About 3% of the bright members have L > 1e41 (Martini et al. 2006, ApJ 644, 116)
# [from memory].
_MEMBERS, _MEMBER_SLOPE, _LIMITS, _LUMINOSITY_SLOPE = 3.0, 0.8, (1e41, 1e44), -0.5


def draw_sources(rng, m_500, r_500, cool):
    """Positions [kpc] and luminosity [erg/s, rest-frame 0.5-2 keV] of the sources of one cluster, shape (n, 4)."""
    chance, mean, scatter = _CENTRAL[bool(cool)]
    central = np.zeros((int(rng.random() < chance), 4))
    central[:, 3] = 10 ** (mean + scatter * np.clip(rng.standard_normal(), -2.5, 2.5))
    number = rng.poisson(_MEMBERS * (m_500 / 3e14) ** _MEMBER_SLOPE)
    members = np.zeros((number, 4))
    direction = rng.standard_normal((number, 3))
    direction /= np.sqrt(np.sum(direction**2, axis=1))[:, None]
    # n ~ r^-2 out to 1.5 R500
    members[:, :3] = direction * (1.5 * r_500 * rng.random(number))[:, None]
    low, high = (limit**_LUMINOSITY_SLOPE for limit in _LIMITS)
    members[:, 3] = (low + rng.random(number) * (high - low)) ** (1.0 / _LUMINOSITY_SLOPE)
    return np.concatenate([central, members])
