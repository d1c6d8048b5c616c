"""A population of synthetic clusters, written as an IllustrisTNG snapshot."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify import batch, tables
from astroclassify._checks import check_bool, check_integer, check_quantity, require
from astroclassify.exceptions import OutputError

from . import _physics as physics
from ._cells import draw_cells
from ._layout import BOX_SIZE, SIMULATION, UNITS, SnapshotWriter, to_code_units
from ._population import CLASS_FRACTIONS, draw_cluster

__all__ = ["write_embedded_snapshot"]

log = logging.getLogger(__name__)

SNAPSHOT = 99
_BOX = float(UNITS.kpc(BOX_SIZE))  # kpc
_TRUTH_UNITS = {
    "m_500": u.Msun,
    "m_500_main": u.Msun,
    "k_0": u.keV * u.cm**2,
    "k_100": u.keV * u.cm**2,
    "merger_distance": u.kpc,
    "slosh_offset": u.kpc,
}
#: log10 M500 of the two small groups at the end of the catalogue; the second has no gas.
_SMALL_GROUPS = (13.3, 13.2)


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


def write_embedded_snapshot(
    path,
    *,
    n_halos,
    rng=None,
    cell_mass=1.1e7 * u.Msun,
    max_cells=None,
    n_files=2,
    class_fractions=CLASS_FRACTIONS,
    abundances=False,
):
    """
    Write a population of synthetic clusters in the layout of an IllustrisTNG snapshot.

    The folder holds ``output/groups_099``, ``output/snapdir_099`` and ``postprocessing/offsets`` as the TNG data
    release does, so that illustris_python and `open_snapshot` read it, and ``embedded_truth.ecsv`` with the
    properties of each cluster. After the ``n_halos`` clusters come two groups below 10^13.5 Msun, the last one without
    gas.

    Each cluster has M500 between 10^13.75 and 10^15.06 Msun from the mass function of Tinker et al. (2008), a halo of
    Navarro, Frenk & White with the concentrations of Duffy et al. (2008), and gas in hydrostatic equilibrium. Its
    entropy profile is that of a real cluster (K0, K100 and slope fitted to ACCEPT, Cavagnolo et al. 2009, drawn
    jointly, within their errors), scaled to the mass, and its gas mass inside R500 follows Lovisari et al. (2015). On
    top come ellipticity, a metallicity profile, infalling clumps, mergers (a quarter of the clusters), sloshing,
    cavities, turbulence and clumping, and some cold gas in cool cores.

    Parameters
    ----------
    path : path-like
        Folder to write. It must not exist, or be empty. It appears, complete, at the end.
    n_halos : int
        Number of clusters. Cluster ``k`` is the same for any number of clusters.
    rng : int or `~numpy.random.Generator`, optional
        Seed; a fresh one by default. It is in the meta of ``embedded_truth.ecsv``.
    cell_mass : `~astropy.units.Quantity`, optional
        Gas mass of a cell; the default is that of TNG300.
    max_cells : int, optional
        About the largest number of cells of a cluster. Cells outside 0.03 R500 become heavier the farther out they
        are, the core keeps its resolution as far as possible. A massive cluster has 2e7 cells without this.
    n_files : int, optional
        Number of files that the cells are split over.
    class_fractions : tuple of 3 floats or None, optional
        Fractions of strong, weak and non cool cores that the draw from ACCEPT is weighted to. The default is
        about that of Su et al. (2020); None takes ACCEPT as it is, with its many cool cores. The classes that come
        out, from the gas, differ somewhat.
    abundances : bool, optional
        Whether to write ``GFM_Metals``, the mass fraction of each element, as well: 40 bytes more per cell (which has
        72). The elements are mixed as in the Sun. Nothing else changes.

    Returns
    -------
    `~pathlib.Path`
        ``path/output``, for `open_snapshot`.

    Raises
    ------
    ValueError, TypeError
        If an argument is not allowed.
    OutputError
        If the folder is not empty or cannot be written. Nothing is left behind.
    MissingDependencyError
        If h5py is not installed.

    References
    ----------
    Cavagnolo et al. 2009, ApJS 182, 12; Duffy et al. 2008, MNRAS 390, L64; Lovisari et al. 2015, A&A 573, A118; Nelson
    et al. 2019, ComAC 6, 2; Su et al. 2020, MNRAS 498, 5620; Tinker et al. 2008, ApJ 688, 709.

    Examples
    --------
    >>> import tempfile
    >>> from astropy import units as u
    >>> from astroclassify.sim import open_snapshot, write_embedded_snapshot
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     base = write_embedded_snapshot(folder, n_halos=2, rng=1, cell_mass=1e10 * u.Msun)
    ...     snapshot = open_snapshot(base)
    ...     len(snapshot.select_halos())
    2
    """
    n_halos = check_integer("n_halos", n_halos, 1)
    n_files = check_integer("n_files", n_files, 1)
    if max_cells is not None:
        max_cells = check_integer("max_cells", max_cells, 100)
    cell_mass = check_quantity("cell_mass", cell_mass, u.Msun, positive=True, shape=())
    fractions = _check_fractions(class_fractions)
    check_bool("abundances", abundances)
    seed = batch.master_seed(rng)
    require("h5py", extra="sim")
    path = Path(path).expanduser()
    temporary = _temporary_beside(path)
    try:
        writer = SnapshotWriter(temporary, snapshot=SNAPSHOT, n_files=n_files, n_groups=n_halos + len(_SMALL_GROUPS))
        rows = []
        for halo_id in range(n_halos + len(_SMALL_GROUPS)):
            rows.append(_write_halo(writer, halo_id, n_halos, seed, cell_mass, max_cells, fractions, abundances))
        writer.close()
        _write_truth(temporary / "embedded_truth.ecsv", rows, seed, cell_mass, max_cells, fractions)
        _move_into_place(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write the snapshot to {path}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path / "output"


def _temporary_beside(path):
    """An empty folder beside the destination, after checking that the destination is free."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"output folder is not empty: {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        # mkdtemp makes private folders; this one gets the usual mode of the user
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
    except OSError as error:
        raise OutputError(f"output folder cannot be made: {path} ({error.strerror})") from error
    return temporary


def _move_into_place(temporary, path):
    if path.is_dir():
        path.rmdir()
    os.replace(temporary, path)


def _write_halo(writer, halo_id, n_halos, seed, cell_mass, max_cells, fractions, abundances):
    """Draw and write one group; returns its row of the truth table."""
    small = halo_id - n_halos
    kind, number = ("group", small) if small >= 0 else ("cluster", halo_id)
    rng = batch.derive_rng(seed, "embedded", kind, number)
    m_500 = 10 ** _SMALL_GROUPS[small] if small >= 0 else None
    cluster = draw_cluster(rng, m_500=m_500, class_fractions=fractions)
    centre = rng.random(3) * _BOX
    if halo_id == 0:
        # always one halo across the faces of the periodic box
        centre[:2] = np.array([0.1, -0.2]) * cluster.r_500
    # The catalogue holds single precision: place the gas about the position that will be read back.
    position = np.float32(UNITS.kpc(centre % _BOX, inverse=True))
    centre = UNITS.kpc(position)
    velocity = 300.0 * rng.standard_normal(3)
    fields = None
    if small != len(_SMALL_GROUPS) - 1:
        cells = draw_cells(cluster, rng, cell_mass=cell_mass, max_cells=max_cells)
        fields = to_code_units(cells, centre, velocity, abundances=abundances)
    writer.add_group(
        fields,
        GroupPos=position,
        GroupVel=UNITS.group_km_per_s(velocity, inverse=True),
        Group_M_Crit500=UNITS.msun(cluster.m_500, inverse=True),
        Group_R_Crit500=UNITS.kpc(cluster.r_500, inverse=True),
    )
    log.debug("group %d: M500 = %.3g Msun, %s", halo_id, cluster.m_500, cluster.truth["accept_name"])
    return {"halo_id": halo_id, **cluster.truth, "n_gas": 0 if fields is None else len(fields["Masses"])}


def _write_truth(path, rows, seed, cell_mass, max_cells, fractions):
    """Write the properties of each cluster; no other part of the package reads them."""
    table = QTable(rows)
    for name, unit in _TRUTH_UNITS.items():
        table[name] = table[name] * unit
    table.meta = tables.provenance(
        simulation=SIMULATION,
        snapshot=SNAPSHOT,
        seed=seed,
        cell_mass=cell_mass * u.Msun,
        max_cells=max_cells,
        class_fractions=None if fractions is None else list(fractions),
        redshift=0.0,
        hubble=physics.HUBBLE,
    )
    tables.write(table, path)
