"""Every number that simulated candidates depend on, with its source.

"memory" marks a value known from the literature that could not be looked up again, "choice" one that is ours; what has
neither is a published formula or was measured, and the tests hold it against the formula or the data.
"DIFFICULTY" marks the choices on which it depends most how well the classes can be told apart.
"""

import dataclasses

from astroclassify.fields._instruments import EPIC_BACKGROUND, EPN_FRAME_TIME, EPN_OOTFRAC

__all__ = ["POPULATION", "Population", "power_law"]


@dataclasses.dataclass(frozen=True)
class Population:
    """Distributions of the simulated sky and settings of the two simulated instruments."""

    # --- EPIC pn, 0.5-2 keV -------------------------------------------------------------------------------------------
    # s; X-CLASS clips its observations to these (Koulouridis et al. 2021, A&A 652, A12)
    exposures: tuple = (10e3, 20e3)
    # ct per erg cm-2; from a pn response, index 1.4 to 1.9, N_H 3e20 (tests: within 10 %)
    counts_per_flux: float = 6.0e11
    effective_energy: float = 1.0  # keV, at which the PSF is taken; choice
    psf_limit: float = 300.0  # arcsec, where the King profile is cut off; choice
    sky_rate: float = EPIC_BACKGROUND["EPN"][0]  # ct s-1 arcmin-2 on axis: Galaxy and what is fainter than `faintest`
    particle_rate: float = EPIC_BACKGROUND["EPN"][1]  # ct s-1 arcmin-2, not vignetted
    background_scatter: float = 0.25  # natural log, of each of the two from pointing to pointing; choice
    out_of_time: float = EPN_OOTFRAC  # share of photons smeared along the column, full frame
    max_off_axis: float = 13.0  # arcmin; X-CLASS detects within this (Clerc et al. 2012, MNRAS 423, 3561; memory)
    centring: float = 3.0  # arcsec, scatter of the detected position about the source, each axis; choice
    frame_time: float = EPN_FRAME_TIME  # s; photons of one frame in neighbouring pixels are lost as one
    all_events: float = 1.6  # events of all energies for each in 0.5-2 keV, for pile-up; choice
    dead_columns: float = 12.0  # bad columns of a pointing, on average; as many as on the mask of OBSID 0827340901

    # --- active galactic nuclei (Moretti et al. 2003, ApJ 588, 696 for the counts) ------------------------------------
    faintest: float = 1e-16  # erg s-1 cm-2, 0.5-2 keV; sources below count as sky; choice
    brightest: float = 2e-12  # of field sources; brighter ones are rare and would be targets; choice
    # Targets: active nuclei and stars in the middle of a field, as many per pointing, fluxes log-uniform; choice.
    # 6 ct s-1 at the upper end: streaks and pile-up
    bright_rate: float = 0.35
    bright_fluxes: tuple = (3e-13, 1e-11)
    bright_place: float = 40.0  # arcsec from the optical axis, each axis; choice
    # X-ray stars: N(>S) = 8 (S/1e-14)^-0.9 deg-2, 6 % of all sources at 1e-14, a fifth at 1e-13; memory, +-50 %
    star_density_xray: float = 8.0
    star_slope: float = 0.9
    star_fluxes: tuple = (5e-16, 2e-12)
    star_x_to_optical: tuple = (-2.5, 0.7)  # mean and scatter of log(f_x/f_R) (Maccacaro et al. 1988); memory
    # dex about log(f_x/f_R) = 0 (Maccacaro et al. 1988; Hornschemeier et al. 2001); memory
    x_to_optical_scatter: float = 0.5

    # --- clusters ----------------------------------------------------------------------------------------------------
    # low-z and high-z; the bound is Kosiba et al. (2020), the ends a choice
    redshifts: tuple = ((0.01, 0.3), (0.3, 1.3))
    luminosity_slope: float = 1.8  # Schechter, 0.5-2 keV (Rosati et al. 1998, ApJ 492, L21); memory
    luminosity_break: float = 2.5e44  # erg s-1, same, for H0 = 68; memory
    # Mpc-3 (1e44 erg s-1)^-1: dN/dL44 = A L44^-slope exp(-L/break), no evolution (Rosati et al. 1998). At 1e44 between
    # Ebeling et al. (1997; memory) and De Grandi et al. (1999, ApJ 513, L17: A = 5.07e-7, 1.52, 3.8e44 for H0 = 50).
    # N(>1e-14) = 14, N(>3e-14) = 5 deg-2 (5 to 20 and 5 to 7 published, ROSAT and XMM surveys)
    luminosity_density: float = 6.5e-7
    luminosities: tuple = (1.5e42, 3e45)  # erg s-1, range drawn; choice
    # L500(0.1-2.4 keV) E^-7/3 = 10^0.274 1e44 (M500/3e14)^1.64 (Piffaretti et al. 2011, A&A 534, A109, eq. 2)
    mass_normalisation: float = 10**0.274 * 1e44
    mass_slope: float = 1.64
    soft_fraction: float = 0.62  # L(0.5-2) / L(0.1-2.4) of hot gas; memory
    mass_scatter: float = 0.12  # dex, of mass at given luminosity; choice near Pratt et al. (2009)
    # E M500 = 3.84e14 (T/5 keV)^1.71 (Arnaud, Pointecouteau & Pratt 2005, A&A 441, 893), for H0 = 70
    temperature_mass: float = 3.84e14
    temperature_slope: float = 1.71
    core_fraction: float = 0.15  # core radius / R500 (0.15: Pacaud et al. 2016, A&A 592, A2); memory
    core_scatter: float = 0.30  # natural log; choice
    extent_limit: float = 2.5  # R500, where the beta model ends; choice
    axis_ratios: tuple = (0.65, 1.0)  # uniform; choice
    cool_core_share: float = 0.35  # of clusters with a second, small core; choice near Hudson et al. (2010)
    cool_core_flux: tuple = (0.15, 0.4)  # its share of the flux
    cool_core_radius: float = 0.25  # its core radius / that of the cluster
    merger_share: float = 0.15  # of clusters with a second clump; choice
    cluster_nucleus_share: float = 0.10  # of clusters whose central galaxy is an X-ray source; choice
    cluster_significance: tuple = (6.0, 1.5)  # where half are found, and width: DIFFICULTY, many lie near the limit
    cluster_extent: tuple = (5.0, 1.5)  # arcsec, same for the core radius (C1, C2: EXT > 5"): DIFFICULTY

    # --- galaxies of clusters ----------------------------------------------------------------------------------------
    # N(M < M* + 3, R < R500) = 36 (M500/1e14)^0.87 (Lin, Mohr & Stanford 2004, ApJ 610, 745); memory
    richness: float = 36.0
    richness_slope: float = 0.87
    # M*_R, H0 = 68: r* = -21.7 to -22.2 (Popesso et al. 2005; De Propris et al. 2003 with b_J - R = 1.5); memory
    # with k correction and evolution within 0.2 mag of redMaPPer's m* to z = 0.5 (tests)
    characteristic_magnitude: float = -22.0
    faint_slope: float = -1.05  # Schechter alpha; memory
    concentration: float = 3.5  # of the galaxies, c500 of an NFW profile (Lin et al. 2004: c200 about 3 to 4); memory
    # M_R at 1e14: M_K = -26.0 with R - K = 2.6; grows as M500^0.26 (Lin & Mohr 2004, ApJ 617, 879); memory
    bcg_magnitude: float = -23.4
    bcg_mass_slope: float = 0.26
    bcg_scatter: float = 0.35  # mag
    bcg_offset: float = 0.03  # R500, scale of its distance from the X-ray centre; choice
    red_fraction: float = 0.8
    # k correction of an early type in R (Coleman, Wu & Weedman 1980; Fukugita et al. 1995); memory, +-0.1 mag
    k_redshifts: tuple = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
    k_corrections: tuple = (0.0, 0.10, 0.22, 0.38, 0.58, 0.85, 1.10, 1.60, 2.00, 2.50)
    evolution: float = 0.9  # mag brighter per unit redshift (passive); memory

    # --- other classes -----------------------------------------------------------------------------------------------
    point_significance: tuple = (6.0, 1.5)  # of point candidates: DIFFICULTY
    point_brightness_power: float = 0.5  # brighter ones are more often taken for extended: weight counts^power; choice
    star_share: float = 0.25  # of point candidates that are stars (coronae); choice
    double_share: float = 0.5  # of point candidates with a faint neighbour within 25", why they look extended; choice
    host_share: float = 0.3  # of nuclei in a galaxy that the plate resolves; choice
    galaxy_counts: tuple = (60.0, 2000.0)  # expected X-ray counts at 15 ks on axis, dN/dlnC ~ C^-0.7: DIFFICULTY
    # Fields: N(<R) = 30 10^(0.6 (R - 16.5)) deg-2 (SDSS: 92 with r < 17.77; memory) and log(f_x/f_R), which together
    # give 1.5 with S > 1e-14 and 4 with S > 5e-15 (46 in 11 deg2: Georgakakis et al. 2006, MNRAS 367, 1017)
    galaxy_density: float = 30.0
    galaxy_x_to_optical: tuple = (-3.2, 0.5)
    galaxy_field_magnitudes: tuple = (9.5, 16.5)
    galaxy_magnitudes: tuple = (9.5, 16.5)  # R, dN/dm ~ 10^(0.2 m): large in the sky, hence "nearby"; choice
    early_share: float = 0.55  # of nearby galaxies that are early types with hot gas; choice
    other_kinds: tuple = ("edge", "blend", "streak", "wing", "hot", "arc", "empty")
    other_shares: tuple = (0.30, 0.30, 0.08, 0.10, 0.05, 0.05, 0.12)  # choice
    hot_rate: float = 0.5  # hot columns per pointing; choice
    arc_rate: float = 0.05  # arcs of stray light per pointing; choice

    # --- plate: POSS-II red (IIIaF + RG610) as digitised ("DSS2 red") -------------------------------------------------
    sky_brightness: float = 20.9  # R mag arcsec-2; memory
    sky_density: float = 5600.0  # adu; typical of DSS2 red frames
    sky_density_scatter: float = 0.12  # natural log
    top_density: float = 23000.0  # adu, saturation; 22,100 and 22,900 on a real plate
    contrast: float = 2.1  # slope of the characteristic curve; with `grain` it gives the plate limit R = 20.8
    grain: float = 345.0  # adu, rms of a pixel of `grain_pixel` at the sky; 6.5 % of the sky at 1.01" on a real plate
    grain_pixel: float = 1.18  # arcsec
    # arcsec, sigma of the scanner's smoothing: neighbours at 1" correlate 0.6 as on a real plate
    grain_scale: float = 0.70
    seeing: tuple = (2.0, 2.3, 2.6, 2.9, 3.2)  # arcsec FWHM; choice
    # log10 N(<R) per deg2 = a + b (R - 20) + c (R - 20)^2: stars near the pole (Bahcall & Soneira 1980), memory, +-30 %
    star_counts: tuple = (3.35, 0.17, -0.009)
    star_density: tuple = (0.7, 4.0)  # factor for latitudes 90 to 20 deg, log-uniform; choice
    star_magnitudes: tuple = (8.5, 22.0)
    # Field galaxies: 30, 105, 1500 deg-2 to R = 16.5, 17.5, 20 (Metcalfe et al. 1991; Yasuda et al. 2001); memory
    galaxy_number_counts: tuple = (3.18, 0.39, -0.025)
    field_magnitudes: tuple = (13.0, 22.3)
    # Groups on the plate whose gas is not drawn: the luminosity function goes on down to where galaxies cluster on the
    # sky as they are seen to (tests), about 2e12 Msun; erg s-1
    faint_group_luminosity: float = 1e41
    group_redshifts: tuple = (0.01, 0.6)
    grouped_share: float = 0.24  # of the galaxies, in these groups and in the clusters; the tests add all up


POPULATION = Population()


def power_law(low, high, power, rng):
    """Draw from dN/dlnC ~ C^power between two bounds."""
    return (low**power + (high**power - low**power) * rng.random()) ** (1 / power)
