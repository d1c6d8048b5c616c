"""
What the files of a snapshot hold: entries of the group catalogue and the gas of one group, in code units.

Layouts: those of the TNG data release (Nelson et al. 2019, ComAC 6, 2, and its data specifications) with offsets in
``postprocessing/offsets``, and of the first Illustris release, whose catalogue holds the offsets.

Zoom simulations: the catalogue of TNG-Cluster says of each group whether it is the one that its zoom was made for
(``GroupPrimaryZoomTarget``, 1 or 0) and how much of its dark matter is of low resolution
(``GroupContaminationFracByMass``: low-resolution over all dark-matter mass; Nelson et al. 2024, A&A 686, A157, and the
data release's page on TNG-Cluster). The zooms are simulations of one volume: other groups may occur more than once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astroclassify.exceptions import SnapshotError

from ._hdf5 import attribute, opened, whole_number
from ._tng_gas import CATALOGUE_FIELDS, GAS_FIELDS, OPTIONAL_GAS_FIELDS, gas_field

__all__ = [
    "CONTAMINATION",
    "PRIMARY",
    "Group",
    "Paths",
    "gas_names",
    "gas_of",
    "gas_pieces",
    "group_of",
    "groups_above",
]

PRIMARY, CONTAMINATION = "GroupPrimaryZoomTarget", "GroupContaminationFracByMass"
# Fields of a zoom simulation: their values where all has one resolution.
_UNIFORM = {PRIMARY: 1, CONTAMINATION: 0.0}
_SHAPES = {**CATALOGUE_FIELDS, **dict.fromkeys(_UNIFORM, ())}


@dataclass(frozen=True)
class Paths:
    """Where the files of one snapshot are."""

    base: Path
    snapshot: int

    def _either(self, folder, stems, chunk):
        """The file of the first of two names that is there, or else the second one."""
        number = f"{self.snapshot:03d}"
        first, second = (self.base / f"{folder}_{number}" / f"{stem}_{number}.{chunk}.hdf5" for stem in stems)
        return first if first.is_file() else second

    def groups(self, chunk):
        return self._either("groups", ("groups", "fof_subhalo_tab"), chunk)

    def cells(self, chunk):
        return self._either("snapdir", ("snap", "snapshot"), chunk)

    def offsets_in_catalogue(self):
        """Whether the group catalogue itself holds the offsets, as that of the original Illustris release does."""
        return not self.groups(0).name.startswith("fof_subhalo")

    def offsets(self):
        return self.base.parent / "postprocessing" / "offsets" / f"offsets_{self.snapshot:03d}.hdf5"


@dataclass(frozen=True)
class Group:
    """
    Catalogue entry of one group, in code units, and where its gas is: the number of its first gas cell in the snapshot
    and those of the first one of each file.
    """

    fields: dict
    first: int
    starts: np.ndarray


def groups_above(paths, n_groups, m_500_min):
    """
    Entries of the groups with at least a mass [code units] that is above zero: arrays ``halo_id`` and `_SHAPES`.

    Contamination is 1 where all dark matter is of low resolution, of which the catalogue of TNG-Cluster may say 0.
    """
    with opened(paths.groups(0), "Header") as handle:
        n_files = whole_number(handle["Header"].attrs, "NumFiles", paths.groups(0))
    # One file at a time: the whole catalogue of TNG300 has 1.7e7 groups.
    parts, start = [], 0
    for number in range(n_files):
        path = paths.groups(number)
        with opened(path, "Header", "Group") as handle:
            count = whole_number(handle["Header"].attrs, "Ngroups_ThisFile", path)
            if count:
                mass = _field(handle, "Group_M_Crit500", count, path)[()]
                chosen = np.flatnonzero((mass >= m_500_min) & (mass > 0))
                fields = {name: _field(handle, name, count, path) for name in _SHAPES}
                if len(chosen):  # of hundreds of files the first few hold all that are massive
                    parts.append({"halo_id": chosen + start, **{n: data[()][chosen] for n, data in fields.items()}})
        start += count
    if start != n_groups:
        raise SnapshotError(f"group catalogue: {paths.base} holds {start} of {n_groups} groups in {n_files} files")
    nothing = {"halo_id": np.zeros(0, dtype=int), **{name: np.zeros((0, *shape)) for name, shape in _SHAPES.items()}}
    found = {name: np.concatenate([part[name] for part in parts or [nothing]]) for name in nothing}
    coarse = (found["GroupLenType"][:, 1] == 0) & (found["GroupLenType"][:, 2] > 0) & (found[PRIMARY] == 0)
    found[CONTAMINATION] = np.where(coarse, 1.0, found[CONTAMINATION])
    return found


def _field(handle, name, count, path):
    """One field of all groups of a file, a dataset or an array."""
    group = handle.get("Group", {})
    if name not in group:
        if name in _UNIFORM:
            return np.full(count, _UNIFORM[name])
        raise SnapshotError(f"group catalogue: field {name} is missing from {path}")
    data = group[name]
    if data.shape != (count, *_SHAPES[name]):
        raise SnapshotError(f"group catalogue: field {name} of {count} groups has shape {data.shape} in {path}")
    if name == "GroupLenType" and data.dtype.kind not in "iu":
        raise SnapshotError(f"group catalogue: field {name} must be whole numbers, not {data.dtype}, in {path}")
    return data


def group_of(paths, halo_id):
    """The `Group` of a number."""
    old = paths.offsets_in_catalogue()
    index = paths.groups(0) if old else paths.offsets()
    with opened(index, *(["Header"] if old else ["FileOffsets", "Group"])) as handle:
        if old:
            header = handle["Header"].attrs
            files, starts = (attribute(header, f"FileOffsets_{name}", index) for name in ("Group", "Snap"))
            starts = starts[0]
        else:
            files, starts, by_type = (
                _offsets(handle, name, index)
                for name in ("FileOffsets/Group", "FileOffsets/SnapByType", "Group/SnapByType")
            )
            files, starts, first = files[()], starts[:, 0], int(by_type[halo_id, 0])
        for numbers in (files, starts):
            if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
                raise SnapshotError(f"wrong offsets in {index}: they are not one whole number for each file")
    number = int(np.searchsorted(files, halo_id, side="right")) - 1
    path = paths.groups(max(number, 0))
    with opened(path, "Header", "Group", "Offsets") as handle:
        count = whole_number(handle["Header"].attrs, "Ngroups_ThisFile", path)
        row = halo_id - int(files[number])
        if number < 0 or not 0 <= row < count:
            raise SnapshotError(f"wrong offsets in {index}: group {halo_id} is not among the {count} groups of {path}")
        fields = {name: _field(handle, name, count, path)[row] for name in _SHAPES}
        if old:
            first = int(_offsets(handle, "Offsets/Group_SnapByType", path)[row, 0])
    return Group(fields, first, starts.astype(np.int64))


def _offsets(handle, name, path):
    """A dataset of offsets, which must be there."""
    if name not in handle:
        raise SnapshotError(f"offsets file lacks {name}: {path}")
    return handle[name]


def gas_of(paths, halo_id, group):
    """The gas of a group, arrays in code units: `GAS_FIELDS`, and those of `OPTIONAL_GAS_FIELDS` that are there."""
    pieces = list(gas_pieces(paths, halo_id, group))
    if len(pieces) == 1:
        return pieces[0]
    names = [name for name in (*GAS_FIELDS, *OPTIONAL_GAS_FIELDS) if all(name in piece for piece in pieces)]
    return {name: np.concatenate([piece.pop(name) for piece in pieces]) for name in names}


def gas_names(paths, halo_id, group):
    """`GAS_FIELDS`, and those of `OPTIONAL_GAS_FIELDS` that all files of a group have."""
    names = [*GAS_FIELDS, *OPTIONAL_GAS_FIELDS]
    for part, *_ in _files(paths, halo_id, group):
        names = [name for name in names if name in part or name in GAS_FIELDS]
    return names


def gas_pieces(paths, halo_id, group, *, names=None, size=None):
    """
    The gas of a group, one dict of arrays in code units after the other, each from one file and of ``size`` cells at
    most; by default all rows of a file, and of the optional fields those that it has.
    """
    for part, count, rows, path in _files(paths, halo_id, group):
        chosen = names or [*GAS_FIELDS, *(name for name in OPTIONAL_GAS_FIELDS if name in part)]
        data = {name: gas_field(part[name], name, count, path) for name in chosen}
        for start in range(rows.start, rows.stop, size or count):
            piece = slice(start, min(start + (size or count), rows.stop))
            yield {name: values[piece] for name, values in data.items()}


def _files(paths, halo_id, group):
    """Of each file that holds gas of a group, open: its gas, the number of cells in it, the rows, and its path."""
    left = int(group.fields["GroupLenType"][0])
    number = int(np.searchsorted(group.starts, group.first, side="right")) - 1
    start = group.first - int(group.starts[number])
    while left > 0:
        path = paths.cells(max(number, 0))
        wrong = f"gas of halo {halo_id} of {paths.base} is not where the offsets say: "
        if not 0 <= number < len(group.starts):
            raise SnapshotError(f"{wrong}cell {group.first} and {left} on are in none of {len(group.starts)} files")
        with opened(path, "Header", "PartType0") as handle:
            count = int(np.atleast_1d(attribute(handle["Header"].attrs, "NumPart_ThisFile", path))[0])
            following = group.starts[number + 1 : number + 2] - group.starts[number]
            if start > count or any(following != count):
                raise SnapshotError(f"{wrong}{path} has {count} gas cells")
            stop = min(count, start + left)
            if stop > start:
                part = handle.get("PartType0", {})
                for name in GAS_FIELDS:
                    if name not in part:
                        raise SnapshotError(f"gas of halo {halo_id}: field {name} is missing from {path}")
                yield part, count, slice(start, stop), path
        left -= stop - start
        number, start = number + 1, 0
