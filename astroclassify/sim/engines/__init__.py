"""From gas to counts: the direct sum, pyXSIM's photons, SOXS."""
