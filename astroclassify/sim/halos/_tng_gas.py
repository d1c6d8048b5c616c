"""
The gas of one group as IllustrisTNG stores it, turned into a `Halo`: one path for files on disk and for downloads.

Nothing about the run is assumed: scale factor, Hubble parameter, box and cosmology are those of the header, so that
TNG50, TNG100, TNG300, TNG-Cluster and the original Illustris pass through the same lines.
"""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW, FlatLambdaCDM, LambdaCDM

from astroclassify.exceptions import SnapshotError

from ..physics._constants import ATOMIC_WEIGHT, ELEMENTS, SOLAR_NUMBER_RATIO, TNG_SOLAR_METAL_FRACTION
from ._halo import Halo
from ._tng_units import TNG_UNITS_CGS, CodeUnits

__all__ = [
    "CATALOGUE_FIELDS",
    "GAS_FIELDS",
    "GROUP_FIELDS",
    "OPTIONAL_GAS_FIELDS",
    "SUMMARY_FIELDS",
    "TngGroup",
    "around_centre",
    "check_header",
    "cosmology_of",
    "decoded",
    "gas_field",
]

#: Gas fields that a halo is made from.
GAS_FIELDS = (
    "Coordinates",
    "Velocities",
    "Masses",
    "Density",
    "InternalEnergy",
    "ElectronAbundance",
    "GFM_Metallicity",
    "StarFormationRate",
)
#: Those that say which cells emit X-rays, where they are and how they move.
SUMMARY_FIELDS = (
    "Coordinates",
    "Velocities",
    "Masses",
    "InternalEnergy",
    "ElectronAbundance",
    "StarFormationRate",
)
#: Gas fields that are used where a run has them: mini snapshots and some runs have no `GFM_Metals`.
OPTIONAL_GAS_FIELDS = ("GFM_Metals",)
#: Catalogue fields that a halo is made from: the shape of an entry.
GROUP_FIELDS = {
    "Group_M_Crit500": (),
    "Group_R_Crit500": (),
    "GroupPos": (3,),
    "GroupVel": (3,),
}
#: Catalogue fields that are read.
CATALOGUE_FIELDS = {**GROUP_FIELDS, "GroupLenType": (6,)}
#: Gas colder than this does not shine in X-rays [K] (with star-forming gas, the usual X-ray filter of TNG papers).
MIN_TEMPERATURE = 3e5

# No cell of a group is farther from its centre than this [R500], and at least this fraction of them is within R500.
# R200 is 1.5 R500, and the longest groups that friends of friends make, chains of merging halos, span a few R200 about
# the centre of their largest halo, which M500 says is there. Cells of another group are as far away as that is.
_FARTHEST, _LEAST_INSIDE = 20.0, 0.01
# Cells that are added up at a time.
_BLOCK = 1 << 16

_HEADER_FIELDS = ("Time", "Redshift", "BoxSize", "HubbleParam", "Omega0", "OmegaLambda", "NumFilesPerSnapshot")
# The original Illustris has neither.
_OPTIONAL_HEADER_FIELDS = ("OmegaBaryon", *TNG_UNITS_CGS)
_KEV_PER_K = (1 * u.K).to_value(u.keV, equivalencies=u.temperature_energy())
# Columns of GFM_Metals (data specifications of both releases): Illustris has these nine, TNG a tenth, all other metals.
_METALS_COLUMNS = ("H", "He", *ELEMENTS)


def decoded(value):
    """A header attribute as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_header(header, path):
    """
    Raise a SnapshotError unless a snapshot header has what is needed, in the units of Illustris and IllustrisTNG.

    Code units and baryons may be absent, as in the original Illustris. ``path`` is for the message.
    """
    numbers = {}
    for name in (*_HEADER_FIELDS, *_OPTIONAL_HEADER_FIELDS):
        if name not in header:
            if name in _OPTIONAL_HEADER_FIELDS:
                continue
            raise SnapshotError(f"attribute {name} is missing from the Header of {path}")
        try:
            numbers[name] = float(header[name])
        except (TypeError, ValueError) as error:
            raise SnapshotError(f"attribute {name} must be a number, got {header[name]!r} in {path}") from error
    for name, expected in TNG_UNITS_CGS.items():
        found = numbers.get(name, expected)
        if not np.isclose(found, expected, rtol=1e-3):
            raise SnapshotError(f"wrong header units: {name} is {found:g} in {path}, TNG's is {expected:g}")
    scale, redshift, hubble = (numbers[name] for name in ("Time", "Redshift", "HubbleParam"))
    if not 0.3 < hubble < 1.5:
        raise SnapshotError(f"wrong header units: HubbleParam is {hubble:g} in {path}, expected H0 / (100 km/s/Mpc)")
    if not np.isclose(scale * (1.0 + redshift), 1.0, rtol=1e-3):
        raise SnapshotError(
            f"wrong header units: Time is {scale:g} and Redshift {redshift:g} in {path}, expected Time = 1/(1 + z)"
        )
    if not (np.isfinite(numbers["BoxSize"]) and numbers["BoxSize"] > 0):
        raise SnapshotError(f"BoxSize must be larger than zero, got {header['BoxSize']} in {path}")
    for name, most in (("Omega0", 2), ("OmegaLambda", 2), ("OmegaBaryon", numbers["Omega0"])):
        if not 0 <= numbers.get(name, 0) <= most:
            raise SnapshotError(f"{name} must be a density in units of the critical one, got {header[name]} in {path}")


def cosmology_of(header):
    """
    Cosmology of a checked header: flat where the densities add up to one, as those of TNG and Illustris do; with the
    density of baryons where the header has it (the original Illustris has not).
    """
    settings = {"H0": 100.0 * float(header["HubbleParam"]) * u.km / u.s / u.Mpc, "Om0": float(header["Omega0"])}
    if "OmegaBaryon" in header:
        settings["Ob0"] = float(header["OmegaBaryon"])
    omega_de = float(header["OmegaLambda"])
    if np.isclose(settings["Om0"] + omega_de, 1.0, atol=1e-3):
        return FlatLambdaCDM(**settings)
    return LambdaCDM(Ode0=omega_de, **settings)


def gas_field(data, name, count, path):
    """One gas field of a file with ``count`` gas cells, a dataset, whose shape is checked before anything is read."""
    columns = data.shape[1:]
    few = len(columns) == 1 and (columns[0] in (9, 10) if name == "GFM_Metals" else columns[0] == 3)
    vector = name in ("Coordinates", "Velocities", "GFM_Metals")
    if data.shape[:1] != (count,) or not (few if vector else columns == ()):
        raise SnapshotError(f"gas field {name} of {count} cells has shape {data.shape} in {path}")
    return data


def abundances_of(metals):
    """
    Atoms of each of `ELEMENTS` per hydrogen atom in solar units (Anders & Grevesse 1989), (n, 7), from ``GFM_Metals``:
    mass fractions of H, He, C, N, O, Ne, Mg, Si, Fe (and all others), (n, 9) or (n, 10).

    Negative fractions count as none. Hydrogen is that of the cell, 0.74 to 0.76 by mass; ``n_h`` and metallicity of a
    `Halo` take 0.76 for every cell, as the electron abundance of TNG does: lines come out up to 2% too bright.
    """
    metals = np.asarray(metals)
    metals = metals if metals.dtype.kind == "f" else metals.astype(float)
    if metals.ndim != 2 or metals.shape[1] not in (9, 10):
        raise ValueError(f"GFM_Metals must have 9 or 10 columns (H, He, C, ...), got shape {metals.shape}")
    hydrogen = metals[:, :1]
    if np.any(hydrogen <= 0):
        raise ValueError(f"GFM_Metals must have hydrogen in every cell, got {np.count_nonzero(hydrogen <= 0)} without")
    solar = np.array([SOLAR_NUMBER_RATIO[name] * ATOMIC_WEIGHT[name] / ATOMIC_WEIGHT["H"] for name in ELEMENTS])
    abundances = np.maximum(metals[:, 2 : len(_METALS_COLUMNS)], 0)
    with np.errstate(over="ignore", invalid="ignore"):
        # in the precision of the file: seven columns of 2e7 cells are worth it
        return abundances / hydrogen / solar.astype(metals.dtype)


@dataclass(frozen=True)
class Cells:
    """Gas cells in code units, their offset from the centre, which of them are kept, and their temperature [keV]."""

    gas: dict
    offset: np.ndarray
    kept: np.ndarray
    temperature: np.ndarray


@dataclass(frozen=True)
class Summary:
    """What the cells of a group have in common: their number, that of those left out, and the velocity of the gas."""

    n_gas: int
    n_excluded: int
    bulk_velocity: np.ndarray  # (3,) [km/s]

    @property
    def meta(self):
        """For ``meta`` of a halo."""
        return {
            "n_gas": self.n_gas,
            "n_excluded": self.n_excluded,
            "bulk_velocity": self.bulk_velocity * u.km / u.s,
        }


@dataclass(frozen=True)
class TngGroup:
    """
    One group in code units, whose gas may come whole or in pieces, with the same result.

    Positions are wrapped about the centre; velocities are relative to the mass-weighted mean of the X-ray emitting gas
    inside R500 (to that of the group if there is none). Faults of the data raise a SnapshotError that names ``origin``.
    """

    group: dict
    header: dict
    halo_id: int
    simulation: str
    snapshot: int
    cosmology: FLRW
    origin: str

    def __post_init__(self):
        for name in GROUP_FIELDS:
            if name not in self.group:
                raise SnapshotError(f"{self.what}: group catalogue field {name} is missing from {self.origin}")
        if not (self.group["Group_M_Crit500"] > 0 and self.group["Group_R_Crit500"] > 0):
            raise SnapshotError(f"{self.what} has no M500: Group_M_Crit500 is {self.group['Group_M_Crit500']}")

    @property
    def what(self):
        """Name of the halo, for messages."""
        return f"halo {self.halo_id} of {self.simulation} snapshot {self.snapshot}"

    @property
    def units(self):
        """Its code units."""
        return CodeUnits(float(self.header["Time"]), float(self.header["HubbleParam"]))

    @property
    def r_500(self):
        """R500 [kpc]."""
        return float(self.units.kpc(self.group["Group_R_Crit500"]))

    @property
    def scalars(self):
        """Attributes of a halo that the catalogue has."""
        return {
            "halo_id": self.halo_id,
            "simulation": self.simulation,
            "snapshot": self.snapshot,
            "redshift": max(0.0, float(self.header["Redshift"])),
            "cosmology": self.cosmology,
            "m_500": float(self.units.msun(self.group["Group_M_Crit500"])) * u.Msun,
            "r_500": self.r_500 * u.kpc,
            "centre": self.units.kpc(self.group["GroupPos"]) * u.kpc,
        }

    def whole(self, gas):
        """A `Halo` of all its cells: `GAS_FIELDS` and perhaps `OPTIONAL_GAS_FIELDS`."""
        cells = self.cells(gas)
        return self.halo(cells, self.summary([cells]))

    def cells(self, gas):
        """Some of its cells, as `Cells`."""
        for name in SUMMARY_FIELDS:
            if name not in gas:
                raise SnapshotError(f"{self.what}: gas field {name} is missing from {self.origin}")
        lengths = {name: np.shape(gas[name])[:1] for name in (*GAS_FIELDS, *OPTIONAL_GAS_FIELDS) if name in gas}
        if len(set(lengths.values())) != 1:
            raise SnapshotError(f"{self.what} in {self.origin} is damaged: gas fields differ in length: {lengths}")
        temperature = self.units.kev(gas["InternalEnergy"], gas["ElectronAbundance"])
        # not(...) keeps cells with NaN, so that a damaged file is reported and not quietly thinned out
        excluded = (gas["StarFormationRate"] > 0) | (temperature < MIN_TEMPERATURE * _KEV_PER_K)
        return Cells(gas, _offset(gas, self.group, float(self.header["BoxSize"])), ~excluded, temperature)

    def summary(self, pieces):
        """The `Summary` of all its cells, an iterable of `Cells`; raise if they are not those of the group."""
        n_gas = n_kept = n_inside = 0
        farthest, moment = 0.0, np.zeros(4)
        for cells in pieces:
            distance = _distance(cells.offset, self.group)
            n_gas += len(distance)
            n_kept += int(np.count_nonzero(cells.kept))
            n_inside += int(np.count_nonzero(distance < 1))
            farthest = np.maximum(farthest, np.max(distance, initial=0.0))  # NaN, if there is any
            moment = self._momentum(cells, moment)
        if n_gas == 0:
            raise SnapshotError(f"{self.what} has no gas")
        _check_around(n_gas, n_inside, farthest, f"{self.what} in {self.origin}")
        if n_kept == 0:
            raise SnapshotError(f"{self.what} has no X-ray emitting gas: all {n_gas} cells are cold or star-forming")
        bulk = moment[:3] / moment[3] if moment[3] > 0 else self.units.group_km_per_s(self.group["GroupVel"])
        return Summary(n_gas, n_gas - n_kept, bulk)

    def _momentum(self, cells, moment):
        """
        Momentum and mass of the kept cells within R500, (4,), added to ``moment`` cell after cell, so that it does not
        depend on the pieces to the last bit.
        """
        position = self.units.kpc(cells.offset[cells.kept])
        inside = np.flatnonzero(cells.kept)[np.sum(position**2, axis=1) < self.r_500**2]
        for block in np.split(inside, range(_BLOCK, len(inside), _BLOCK)):
            terms = np.ones((len(block) + 1, 4))
            terms[0] = moment
            terms[1:, :3] = self.units.km_per_s(cells.gas["Velocities"][block])
            terms[1:] *= self.units.msun(cells.gas["Masses"][block])[:, np.newaxis]
            moment = np.cumsum(terms, axis=0)[-1]
        return moment

    def halo(self, cells, summary):
        """A `Halo` of some of its cells, those that emit X-rays; there must be one."""
        for name in GAS_FIELDS:
            if name not in cells.gas:
                raise SnapshotError(f"{self.what}: gas field {name} is missing from {self.origin}")
        try:
            return Halo(**self.scalars, **self._physical(cells, summary))
        except ValueError as error:
            raise SnapshotError(f"{self.what} in {self.origin} is damaged: {error}") from error

    def _physical(self, cells, summary):
        """Attributes of the halo that have a row for each cell, and ``meta``."""
        gas, kept, units = cells.gas, cells.kept, self.units
        density = units.g_per_cm3(gas["Density"][kept])
        n_h = units.hydrogen_per_cm3(density)
        metals = np.maximum(gas["GFM_Metallicity"][kept].astype(float), 0.0) / TNG_SOLAR_METAL_FRACTION
        return {
            "position": units.kpc(cells.offset[kept]) * u.kpc,
            "velocity": (units.km_per_s(gas["Velocities"][kept]) - summary.bulk_velocity) * u.km / u.s,
            "mass": units.msun(gas["Masses"][kept]) * u.Msun,
            "density": density * u.g / u.cm**3,
            "temperature": cells.temperature[kept] * u.keV,
            "n_e": n_h * gas["ElectronAbundance"][kept] / u.cm**3,
            "n_h": n_h / u.cm**3,
            "metallicity": metals * u.one,
            "abundances": abundances_of(gas["GFM_Metals"][kept]) * u.one if "GFM_Metals" in gas else None,
            "meta": summary.meta,
        }


def around_centre(gas, group, box, what):
    """Raise if the gas is that of another group."""
    distance = _distance(_offset(gas, group, box), group)
    _check_around(len(distance), np.count_nonzero(distance < 1), np.max(distance), what)


def _offset(gas, group, box):
    """Positions relative to the centre (code units), wrapped over the box."""
    with np.errstate(invalid="ignore"):
        offset = gas["Coordinates"].astype(float) - np.asarray(group["GroupPos"], dtype=float)
        offset -= box * np.round(offset / box)
    return offset


def _distance(offset, group):
    """Distances from the centre [R500]."""
    return np.sqrt(np.sum(offset**2, axis=1)) / float(group["Group_R_Crit500"])


def _check_around(number, n_inside, farthest, what):
    """Raise unless cells are around their group: ``n_inside`` of them within R500, the farthest at so many R500."""
    inside = n_inside / number
    # With NaN among them the positions are damaged, which is said elsewhere.
    if farthest > _FARTHEST or (inside < _LEAST_INSIDE and not np.isnan(farthest)):
        raise SnapshotError(
            f"{what} has gas that is not around its group: {100 * inside:.3g}% of the cells are within R500, the "
            f"farthest is at {farthest:.3g} R500; are the offsets (or the cutout) of another group or snapshot?"
        )
