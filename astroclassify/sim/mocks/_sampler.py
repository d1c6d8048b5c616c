"""Observations drawn at random, so that a training set holds many conditions."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u

from astroclassify._checks import check_bool, check_quantity
from astroclassify.batch import master_seed

from ._observation import Observation, check_pair

__all__ = ["ObservationSampler"]

# field: unit
_RANGES = {"redshift": u.one, "exposure": u.s, "nh_column": u.cm**-2}
# names in to_meta, those of Observation.to_meta
_KEYS = {"redshift": "redshift", "exposure": "exposure_s", "nh_column": "nh_column_cm-2"}


@dataclass(frozen=True, eq=False)
class ObservationSampler:
    """
    Draws observations that differ from a base one.

    Parameters
    ----------
    base : Observation
        Everything that is not drawn.
    redshift : tuple of float, optional
        Lowest and highest redshift; drawn uniformly in the logarithm, as are the next two. None keeps that of ``base``.
    exposure : `~astropy.units.Quantity`, shape (2,), optional
        Shortest and longest exposure.
    nh_column : `~astropy.units.Quantity`, shape (2,), optional
        Lowest and highest column density, larger than zero. ``sky_background`` stays that of ``base``.
    offset : `~astropy.units.Quantity`, optional
        Radius of a disc about the optical axis in which the halo's centre is placed uniformly.
    roll : bool, optional
        Whether the roll angle is drawn, uniformly from 0 to 360 deg.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If a value is not allowed, or ``offset`` or ``roll`` is given with ``detector="uniform"``, where neither
        would change anything; the message names the argument.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import Observation, ObservationSampler
    >>> sampler = ObservationSampler(Observation(), redshift=(0.03, 0.2), exposure=[10, 100] * u.ks)
    >>> sampler.draw(1) == sampler.draw(1)
    True
    >>> 0.03 <= sampler.draw(2).redshift <= 0.2
    True
    """

    base: Observation
    redshift: tuple | None = None
    exposure: u.Quantity | None = None
    nh_column: u.Quantity | None = None
    offset: u.Quantity | None = None
    roll: bool = False

    def __post_init__(self):
        if not isinstance(self.base, Observation):
            raise TypeError(f"base must be an Observation, got {type(self.base).__name__}")
        for name, unit in _RANGES.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._check_range(name, unit))
        if self.offset is not None:
            radius = check_quantity("offset", self.offset, u.arcmin, shape=())
            if radius < 0:
                raise ValueError(f"offset must not be negative, got {self.offset}")
        check_bool("roll", self.roll)
        if self.base.detector == "uniform" and (self.offset is not None or self.roll):
            name = "roll" if self.offset is None else "offset"
            raise ValueError(f"{name} changes nothing with detector='uniform'; give a base with another detector")

    def _check_range(self, name, unit):
        """A range as a read-only Quantity, or plain floats where there is no unit."""
        given = getattr(self, name)
        if unit is u.one and not isinstance(given, u.Quantity):
            try:
                given = u.Quantity(np.asarray(given, dtype=float))
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name} must be two numbers (low, high), got {given!r}") from error
        value, (low, high) = check_pair(name, given, unit, positive=True)
        if low > high:
            raise ValueError(f"{name} must go from a lower to a higher value, got {value}")
        return (float(low), float(high)) if unit is u.one else value

    def __eq__(self, other):
        return isinstance(other, ObservationSampler) and self.to_meta() == other.to_meta()

    def __hash__(self):
        return hash(repr(self.to_meta()))

    def draw(self, rng=None):
        """
        Draw an observation.

        Parameters
        ----------
        rng : int or `~numpy.random.Generator`, optional
            A seed or a generator; the same state gives the same observation, by default each draw is another. Six
            numbers are taken whatever is drawn, so that a setting that is switched on changes no other one.

        Returns
        -------
        Observation
            The base with what was drawn, which its `Observation.to_meta` records.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(master_seed(rng))
        *places, radius, angle, roll = (float(number) for number in rng.random(6))
        changes = {}
        for (name, unit), place in zip(_RANGES.items(), places, strict=True):
            given = getattr(self, name)
            if given is not None:
                low, high = u.Quantity(given).to_value(unit)
                # clipped: the power may round to the other side of an end
                value = float(np.clip(low * (high / low) ** place, low, high))
                changes[name] = value if unit is u.one else value * unit
        if self.offset is not None:
            distance = self.offset.to_value(u.arcmin) * np.sqrt(radius)
            angle *= 2.0 * np.pi
            changes["pointing_offset"] = [distance * np.cos(angle), distance * np.sin(angle)] * u.arcmin
        if self.roll:
            changes["roll"] = 360.0 * roll * u.deg
        return replace(self.base, **changes)

    def to_meta(self):
        """
        Return the settings as plain types in fixed units, for JSON and the meta of tables.

        Returns
        -------
        dict
            Those of the base, and what is drawn under names that start with ``draw_``; None for what is not drawn.
        """
        meta = self.base.to_meta()
        for name, unit in _RANGES.items():
            given = getattr(self, name)
            key = f"draw_{_KEYS[name]}"
            meta[key] = None if given is None else [float(end) for end in u.Quantity(given).to_value(unit)]
        meta["draw_offset_arcmin"] = None if self.offset is None else float(self.offset.to_value(u.arcmin))
        meta["draw_roll"] = bool(self.roll)
        return meta
