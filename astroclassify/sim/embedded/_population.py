"""A population of synthetic clusters that are made, in memory, when they are asked for."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW
from astropy.table import QTable

from astroclassify import batch, tables
from astroclassify._checks import check_choice, check_integer, check_number, check_quantity
from astroclassify.exceptions import EmptyResultWarning

from ..halos._tng_gas import TngGroup, cosmology_of
from . import _physics as physics
from ._accept import PARTS
from ._cells import draw_cells
from ._cluster import TRUTH_UNITS, Recipe, draw_cluster
from ._layout import BOX_SIZE, UNITS, common_header, to_code_units

__all__ = ["EmbeddedPopulation"]

SNAPSHOT = 99
_BOX = float(UNITS.kpc(BOX_SIZE))  # kpc
_LOG_MASS_RANGE = (13.0, 15.5)
#: The smallest cluster of Su et al. (2020), log10 M500.
_TNG300_LOWEST = 13.75


def _check_fractions(fractions):
    if fractions is None:
        return None
    try:
        values = tuple(float(value) for value in fractions)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(np.isfinite(value) and value >= 0 for value in values) or not sum(values) > 0:
        raise ValueError(f"class_fractions must be three numbers from 0, not all 0, or None, got {fractions!r}")
    return tuple(value / sum(values) for value in values)


def _check_log_mass(log_mass):
    low, high = _LOG_MASS_RANGE
    try:
        first, last = (check_number("log_mass", value, low, high) for value in log_mass)
    except (TypeError, ValueError):
        first, last = 1.0, 0.0
    if first >= last:
        raise ValueError(f"log_mass must be two rising values of log10 M500 from {low} to {high}, got {log_mass!r}")
    return first, last


@dataclass(frozen=True, eq=False)
class EmbeddedPopulation:
    """
    Synthetic clusters that stand in for a snapshot, made in memory one by one.

    It takes the place of a `Snapshot` in `make_mocks`: a table of halos, and each `Halo` when it is asked for. A halo
    depends on the seed, the part and its number alone, not on the order, the process, or how many there are. Nothing
    is on disk; `write_embedded_snapshot` writes the same halos in the layout of TNG.

    Each cluster has M500 flat in its logarithm (`weights` gives those of a mass function). Its gas is either that of
    *whole real profiles*: n_e and kT of a cluster of ACCEPT, rescaled by R500 and mass, mixed with one of similar
    shape and scattered smoothly; or *parametric*: in hydrostatic equilibrium in a halo of Navarro, Frenk & White, with
    the entropy profile fitted to a cluster of ACCEPT. Both kinds get the same structure: ellipticity, a metallicity
    profile, infalling clumps, mergers (a quarter of the clusters), sloshing, cavities, turbulence and clumping, some
    cold gas in cool cores, and point sources.

    Parameters
    ----------
    n_halos : int
        Number of clusters.
    rng : int or `~numpy.random.Generator`, optional
        Seed; a fresh one by default. It is in ``name``.
    part : {"all", "train", "validation"}, optional
        Real clusters that the population is built from. Those of "validation" (every fifth of the packaged ones) take
        no part in "train". Every third cluster of ACCEPT, the public test of classifiers, is in none.
    real_share : float, optional
        Share of the clusters with whole real profiles, from 0 to 1; the others are parametric.
    log_mass : tuple of 2 floats, optional
        Smallest and largest log10 M500 [Msun], from 13 to 15.5.
    class_fractions : tuple of 3 floats, optional
        Fractions of strong, weak and non cool cores that the draw of parametric entropy profiles is weighted to. By
        default there is no such weight, and ACCEPT's fractions are left. The classes that come out, from the gas,
        differ somewhat.
    cell_mass : `~astropy.units.Quantity`, optional
        Gas mass of a cell; the default is that of TNG300.
    max_cells : int or None, optional
        About the largest number of cells of a cluster. Cells outside 0.03 R500 become heavier the farther out they
        are, the core keeps its resolution as far as possible. With None a massive cluster has 2e7 cells.

    Attributes
    ----------
    name : str
        Name of the simulation: ``embedded-<part>-<seed>``.
    snapshot : int
        99, as that of TNG at z = 0.
    redshift : float
        0.
    cosmology : `~astropy.cosmology.FLRW`
        That of IllustrisTNG.

    Raises
    ------
    ValueError, TypeError
        If an argument is not allowed.

    See Also
    --------
    make_mocks, write_embedded_snapshot

    References
    ----------
    Cavagnolo et al. 2009, ApJS 182, 12 (ACCEPT); Duffy et al. 2008, MNRAS 390, L64; Lovisari et al. 2015, A&A 573,
    A118; Su et al. 2020, MNRAS 498, 5620; Sun et al. 2009, ApJ 693, 1142; Tinker et al. 2008, ApJ 688, 709.

    Examples
    --------
    >>> from astroclassify.sim import EmbeddedPopulation, measure_core
    >>> population = EmbeddedPopulation(100, rng=1, part="train", max_cells=20_000)
    >>> len(population.select_halos())
    100
    >>> halo = population.read_halo(7)
    >>> halo
    <Halo 7 of embedded-train-1 snapshot 99: M500 = 2.23e+14 Msun, R500 = 942 kpc, 19122 gas cells>
    >>> print(f"{measure_core(halo).t_cool:.1f} {halo.meta['kind']} {halo.meta['profile']}")
    6.5 Gyr parametric MS_0451.6-0305
    """

    n_halos: int
    rng: object = field(default=None, repr=False, kw_only=True)
    part: str = field(default="all", kw_only=True)
    real_share: float = field(default=0.5, kw_only=True)
    log_mass: tuple = field(default=(13.5, 15.3), kw_only=True)
    class_fractions: tuple | None = field(default=None, kw_only=True)
    cell_mass: u.Quantity = field(default=2e6 * u.Msun, kw_only=True)
    max_cells: int | None = field(default=200_000, kw_only=True)
    seed: int = field(init=False)

    def __post_init__(self):
        checked = {
            "n_halos": check_integer("n_halos", self.n_halos, 1),
            "part": check_choice("part", self.part, PARTS),
            "real_share": check_number("real_share", self.real_share, 0, 1),
            "log_mass": _check_log_mass(self.log_mass),
            "class_fractions": _check_fractions(self.class_fractions),
            "cell_mass": check_quantity("cell_mass", self.cell_mass, u.Msun, positive=True, shape=()) * u.Msun,
            "seed": batch.master_seed(self.rng),
            "rng": None,
        }
        if self.max_cells is not None:
            checked["max_cells"] = check_integer("max_cells", self.max_cells, 100)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def name(self):
        """Name of the simulation, with part and seed: halos of other populations have other names."""
        return f"embedded-{self.part}-{self.seed}"

    @property
    def snapshot(self):
        """Number of the snapshot."""
        return SNAPSHOT

    @property
    def redshift(self):
        """Redshift of the snapshot."""
        return 0.0

    @property
    def cosmology(self) -> FLRW:
        """Cosmology of IllustrisTNG."""
        return cosmology_of(common_header(self.name))

    def select_halos(self, *, m_500_min=0 * u.Msun):
        """
        The clusters above a mass.

        Parameters
        ----------
        m_500_min : `~astropy.units.Quantity`, optional
            Smallest M500; all by default.

        Returns
        -------
        `~astropy.table.QTable`
            ``halo_id``, ``m_500`` [Msun] and ``r_500`` [kpc]. Without any such cluster the table has no rows and an
            `~astroclassify.exceptions.EmptyResultWarning` is given.
        """
        limit = check_quantity("m_500_min", m_500_min, u.Msun, shape=())
        m_500 = np.array([self._m_500(halo_id) for halo_id in range(self.n_halos)])
        kept = np.flatnonzero(m_500 >= limit)
        if not len(kept):
            warnings.warn(f"no cluster has M500 of at least {limit:.3g} Msun", EmptyResultWarning, stacklevel=2)
        table = QTable(
            {"halo_id": kept, "m_500": m_500[kept] * u.Msun, "r_500": physics.r_500_of(m_500[kept]) * u.kpc},
            meta=tables.provenance(simulation=self.name, snapshot=self.snapshot, m_500_min=limit),
        )
        return tables.readable(table)

    def read_halo(self, halo_id):
        """
        Make the X-ray emitting gas of one cluster.

        Parameters
        ----------
        halo_id : int
            Number of the cluster, from 0.

        Returns
        -------
        Halo
            As `Snapshot.read_halo` has it. Its ``meta`` also has the row of `truth`, and ``point_sources``, a
            `~astropy.table.QTable` with ``position`` [kpc from the centre, shape (n, 3)] and ``luminosity`` [erg/s,
            0.5 to 2 keV in the rest frame] of the active galaxies of the cluster.

        Raises
        ------
        ValueError
            If there is no such cluster.
        """
        halo_id = check_integer("halo_id", halo_id, 0, self.n_halos - 1)
        gas, group, cluster = self.gas_of(halo_id)
        halo = TngGroup(
            group,
            header=common_header(self.name),
            halo_id=halo_id,
            simulation=self.name,
            snapshot=self.snapshot,
            cosmology=self.cosmology,
            origin=self.name,
        ).whole(gas)
        halo.meta.update(cluster.truth)
        halo.meta["point_sources"] = QTable(
            {"position": cluster.sources[:, :3] * u.kpc, "luminosity": cluster.sources[:, 3] * (u.erg / u.s)}
        )
        return halo

    def truth(self):
        """
        What every cluster is made of.

        Returns
        -------
        `~astropy.table.QTable`
            One row per cluster: ``halo_id``; ``kind``, real or parametric; ``profile``, the real cluster of ACCEPT that
            its gas is from, ``profile_mixed``, the one that it is mixed with, and ``profiles_merger``, those of the
            second body; masses, gas fraction inside R500, central entropy; its disturbances; ``n_sources``, the number
            of point sources; and ``weight_tng300``, see `weights`.
        """
        rows = [{"halo_id": k, **self._plan(k, self._rng(k)).truth} for k in range(self.n_halos)]
        table = QTable(rows)
        for name, unit in TRUTH_UNITS.items():
            table[name] = table[name] * unit
        table["weight_tng300"] = self.weights()
        table.meta = self.provenance()
        return table

    def provenance(self):
        """Settings of the population, as a plain dict."""
        return tables.provenance(
            simulation=self.name,
            snapshot=self.snapshot,
            redshift=self.redshift,
            hubble=physics.HUBBLE,
            n_halos=self.n_halos,
            seed=self.seed,
            part=self.part,
            real_share=self.real_share,
            log_mass=list(self.log_mass),
            class_fractions=None if self.class_fractions is None else list(self.class_fractions),
            cell_mass=self.cell_mass,
            max_cells=self.max_cells,
        )

    def weights(self, mass_function="tng300"):
        """
        Weight of each cluster, so that their masses follow a mass function instead of being flat in log M500.

        Parameters
        ----------
        mass_function : "tng300" or callable, optional
            "tng300" is that of Tinker et al. (2008) at z = 0 in TNG's cosmology, from 10^13.75 Msun, as in the sample
            of Su et al. (2020); below, the weight is zero. A callable takes M500 (a `~astropy.units.Quantity`, shape
            (n,)) and returns the number of clusters per unit of log M500, in any unit; for a survey, times its
            selection.

        Returns
        -------
        `~numpy.ndarray`, shape (n_halos,)
            Weights with a mean of 1.

        Raises
        ------
        ValueError
            If the function is neither, or its values are not finite, negative, or all zero.
        """
        m_500 = self.select_halos()["m_500"]
        if callable(mass_function):
            density = np.asarray(mass_function(m_500), dtype=float)
        elif mass_function == "tng300":
            log_mass, number = physics.mass_function()
            log_m = np.log10(m_500.value)
            density = np.where(log_m >= _TNG300_LOWEST, np.exp(np.interp(log_m, log_mass, np.log(number))), 0.0)
        else:
            raise ValueError(f"mass_function must be 'tng300' or a function of M500, got {mass_function!r}")
        if density.shape != m_500.shape or not np.all(np.isfinite(density) & (density >= 0)) or not np.any(density):
            raise ValueError(f"mass_function must give {len(m_500)} numbers from 0, not all 0, got {density!r}")
        return density / np.mean(density)

    def _rng(self, *ids):
        return batch.derive_rng(self.seed, "embedded", self.part, *ids)

    def _m_500(self, halo_id):
        low, high = self.log_mass
        return float(10 ** (low + (high - low) * self._rng(halo_id, "mass").random()))

    def _plan(self, halo_id, rng, m_500=None):
        recipe = Recipe(bool(rng.random() < self.real_share), self.part, self.class_fractions)
        return draw_cluster(rng, self._m_500(halo_id) if m_500 is None else m_500, recipe)

    def gas_of(self, halo_id, *, m_500=None, abundances=False):
        """Gas and catalogue entry of one group in the code units of TNG, and its plan."""
        rng = self._rng(halo_id)
        cluster = self._plan(halo_id, rng, m_500)
        centre = rng.random(3) * _BOX
        if halo_id == 0:
            # always one halo across the faces of the periodic box
            centre[:2] = np.array([0.1, -0.2]) * cluster.r_500
        # The catalogue holds single precision: place the gas about the position that will be read back.
        position = np.float32(UNITS.kpc(centre % _BOX, inverse=True))
        velocity = 300.0 * rng.standard_normal(3)
        cells = draw_cells(cluster, rng, cell_mass=self.cell_mass.value, max_cells=self.max_cells)
        group = {
            "GroupPos": position,
            "GroupVel": UNITS.group_km_per_s(velocity, inverse=True),
            "Group_M_Crit500": UNITS.msun(cluster.m_500, inverse=True),
            "Group_R_Crit500": UNITS.kpc(cluster.r_500, inverse=True),
        }
        return to_code_units(cells, UNITS.kpc(position), velocity, abundances=abundances), group, cluster
