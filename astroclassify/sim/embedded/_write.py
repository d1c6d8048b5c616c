"""A population of synthetic clusters, written as an IllustrisTNG snapshot."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from astroclassify import tables
from astroclassify._checks import check_bool, check_integer, require
from astroclassify.exceptions import OutputError

from ._layout import SnapshotWriter
from ._population import EmbeddedPopulation

__all__ = ["write_embedded_snapshot"]

log = logging.getLogger(__name__)

#: log10 M500 of the two small groups at the end of the catalogue; the second has no gas.
_SMALL_GROUPS = (13.3, 13.2)


def write_embedded_snapshot(path, population, *, n_files=2, abundances=False):
    """
    Write a population of synthetic clusters in the layout of an IllustrisTNG snapshot.

    The folder holds ``output/groups_099``, ``output/snapdir_099`` and ``postprocessing/offsets`` as the TNG data
    release does, so that illustris_python and `open_snapshot` read it, and ``embedded_truth.ecsv`` with the
    properties of each cluster. After the clusters come two groups below 10^13.5 Msun, the last one without gas.
    Files have no place for point sources: those of the clusters are in the population alone.

    Parameters
    ----------
    path : path-like
        Folder to write. It must not exist, or be empty. It appears, complete, at the end.
    population : EmbeddedPopulation
        The clusters.
    n_files : int, optional
        Number of files that the cells are split over.
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
    Nelson et al. 2019, ComAC 6, 2 (the layout).

    Examples
    --------
    >>> import tempfile
    >>> from astropy import units as u
    >>> from astroclassify.sim import EmbeddedPopulation, open_snapshot, write_embedded_snapshot
    >>> population = EmbeddedPopulation(2, rng=1, max_cells=5000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     base = write_embedded_snapshot(folder, population)
    ...     snapshot = open_snapshot(base)
    ...     len(snapshot.select_halos(m_500_min=10**13.5 * u.Msun))
    2
    """
    if not isinstance(population, EmbeddedPopulation):
        raise TypeError(f"population must be an EmbeddedPopulation, got {type(population).__name__}")
    n_files = check_integer("n_files", n_files, 1)
    check_bool("abundances", abundances)
    require("h5py", extra="sim")
    path = Path(path).expanduser()
    temporary = _temporary_beside(path)
    try:
        _write_groups(temporary, population, n_files, abundances)
        tables.write(population.truth(), temporary / "embedded_truth.ecsv")
        _move_into_place(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write the snapshot to {path}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path / "output"


def _write_groups(folder, population, n_files, abundances):
    """The files of the snapshot: the clusters, then the small groups."""
    masses = [None] * population.n_halos + [10**log_mass for log_mass in _SMALL_GROUPS]
    writer = SnapshotWriter(
        folder, name=population.name, snapshot=population.snapshot, n_files=n_files, n_groups=len(masses)
    )
    for halo_id, m_500 in enumerate(masses):
        gas, group, cluster = population.gas_of(halo_id, m_500=m_500, abundances=abundances)
        writer.add_group(None if halo_id == len(masses) - 1 else gas, **group)
        log.debug("group %d: M500 = %.3g Msun, %s", halo_id, cluster.m_500, cluster.truth["profile"])
    writer.close()


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
