"""Energies of pulse-invariant channels: one place for headers and event lists."""

PI_CHANNELS = {
    **dict.fromkeys(("EPN", "EMOS1", "EMOS2", "EROSITA"), (0.001, 0.0)),
    **dict.fromkeys(("ACIS", "ACIS-I", "ACIS-S"), (0.0146, -0.0146)),
    "XRT": (0.01, 0.0),
    "PSPC": (0.01, 0.0),
    **dict.fromkeys(("FPMA", "FPMB"), (0.04, 1.6)),
}
"""Width of a PI channel and lower end of channel 0 [keV], by instrument (`Header.instrument`).

EPIC: 1 eV (XMM-Newton Data Files Handbook). eROSITA: PI in eV (eSASS, event file format). ACIS: 14.6 eV, channels from
1, PI = floor(E / 14.6 eV) + 1 (columns pi and energy of ACIS lists). Swift XRT: 10 eV (XRT Software Guide). ROSAT PSPC:
10 eV, nominal (ROSAT Data Products Guide). NuSTAR: E = 1.6 keV + 40 eV PI (NuSTARDAS Software Guide).
"""
