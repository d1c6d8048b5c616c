"""Observations drawn at random, so that a training set holds many conditions."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u

from astroclassify._checks import check_bool, check_choice, check_integer, check_number, check_quantity
from astroclassify.batch import master_seed
from astroclassify.images import DEFAULT_COSMOLOGY

from ..physics._telescope import NATIVE_PIXEL
from ._observation import TREATMENTS, Observation, check_pair

__all__ = ["ObservationSampler"]

# field: unit
_RANGES = {"redshift": u.one, "exposure": u.s, "nh_column": u.cm**-2, "background": u.one}
# names in to_meta, those of Observation.to_meta
_KEYS = {"redshift": "redshift", "exposure": "exposure_s", "nh_column": "nh_column_cm-2", "background": "background"}
_DISCS = {"offset": u.arcmin, "centring": u.kpc}
# Places in the row of random numbers of a draw; new ones go to its end, so that old seeds keep their draws.
_NUMBERS = ("redshift", "exposure", "nh_column", "radius", "angle", "roll", "base", "background", "centring")
_NUMBERS += ("centring_angle", "binning", "treatment", "map")
# Pixels along the longer side of a binned image.
_FEWEST, _MOST = 64, 1024
_CYCLES = (0, 5, 10, 15, 19)


@dataclass(frozen=True, eq=False)
class ObservationSampler:
    """
    Draws observations that differ from a base one, or from one of several.

    Parameters
    ----------
    base : Observation or sequence of Observation
        Everything that is not drawn; of several, one is drawn.
    redshift : tuple of float, optional
        Lowest and highest redshift; drawn uniformly in the logarithm, as are the next three. None keeps that of the
        base.
    exposure : `~astropy.units.Quantity`, shape (2,), optional
        Shortest and longest exposure.
    nh_column : `~astropy.units.Quantity`, shape (2,), optional
        Lowest and highest column density, larger than zero. ``sky_background`` does not follow it.
    offset : `~astropy.units.Quantity`, optional
        Radius of a disc about the optical axis in which the halo's centre is placed uniformly.
    roll : bool, optional
        Whether the roll angle is drawn, uniformly from 0 to 360 deg.
    weights : sequence of float, optional
        How often each base is drawn, relative to the others; equally often by default.
    background : tuple of float, optional
        Least and largest factor by which ``background`` and ``sky_background`` of the base are multiplied.
    centring : `~astropy.units.Quantity`, optional
        Largest distance of the image's middle from the halo's centre; uniform in the distance, in any direction.
    binning : sequence of int, optional
        Sides that a pixel may have, in pixels of the detector: one is drawn, and the image gets as many pixels as cover
        the width of the base, 64 to 1024 on its longer side (the pixels give way). None keeps ``shape``.
    source_treatment : sequence of str, optional
        Treatments of point sources, see `Observation`, of which one is drawn.
    exposure_map : float, optional
        Share of the observations, 0 to 1, that come with an exposure map.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If a value is not allowed, or ``offset``, ``roll`` or ``binning`` is given with ``detector="uniform"``, where
        nothing would change and which has no pixels; the message names the argument.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import Observation, ObservationSampler
    >>> sampler = ObservationSampler(Observation(), redshift=(0.03, 0.2), exposure=[10, 100] * u.ks)
    >>> sampler.draw(1) == sampler.draw(1)
    True
    >>> 0.03 <= sampler.draw(2).redshift <= 0.2
    True
    >>> print(ObservationSampler.wide().draw(2).response)
    acis-i-cycle15
    """

    base: Observation | tuple
    redshift: tuple | None = None
    exposure: u.Quantity | None = None
    nh_column: u.Quantity | None = None
    offset: u.Quantity | None = None
    roll: bool = False
    weights: tuple | None = None
    background: tuple | None = None
    centring: u.Quantity | None = None
    binning: tuple | None = None
    source_treatment: tuple | None = None
    exposure_map: float | None = None

    def __post_init__(self):
        self._check_bases()
        for name, unit in _RANGES.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._check_range(name, unit))
        for name, unit in _DISCS.items():
            if getattr(self, name) is not None and check_quantity(name, getattr(self, name), unit, shape=()) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        check_bool("roll", self.roll)
        self._set_choices("binning", lambda side: check_integer("binning", side, 1, 64))
        self._set_choices("source_treatment", lambda name: check_choice("source_treatment", name, TREATMENTS))
        if self.exposure_map is not None:
            object.__setattr__(self, "exposure_map", check_number("exposure_map", self.exposure_map, 0, 1))
        if any(base.detector == "uniform" for base in self._bases):
            given = {"offset": self.offset, "roll": self.roll or None, "binning": self.binning}
            for name in (name for name, value in given.items() if value is not None):
                raise ValueError(f"{name} changes nothing with detector='uniform'; give a base with another detector")

    @property
    def _bases(self):
        return (self.base,) if isinstance(self.base, Observation) else self.base

    def _check_bases(self):
        if not isinstance(self.base, Observation):
            several = isinstance(self.base, list | tuple)
            for each in self.base if several else (self.base,):
                if not isinstance(each, Observation):
                    raise TypeError(f"base must be an Observation, or a sequence of several, got {type(each).__name__}")
            if not self.base:
                raise ValueError("base must be at least one Observation, got none")
            object.__setattr__(self, "base", tuple(self.base))
        weights = np.ones(len(self._bases)) if self.weights is None else np.asarray(self.weights, dtype=float)
        if weights.shape != (len(self._bases),) or not np.all(np.isfinite(weights) & (weights > 0)):
            raise ValueError(f"weights must be {len(self._bases)} numbers larger than zero, got {self.weights}")
        object.__setattr__(self, "weights", tuple((weights / weights.sum()).tolist()))

    def _set_choices(self, name, check):
        """Replace a sequence of choices by a tuple of checked ones."""
        choices = getattr(self, name)
        if choices is None:
            return
        if isinstance(choices, str) or not np.iterable(choices) or len(choices) == 0:
            raise ValueError(f"{name} must be a sequence of choices, at least one, got {choices!r}")
        object.__setattr__(self, name, tuple(check(choice) for choice in choices))

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

    @classmethod
    def wide(cls, telescopes=("chandra", "xmm")):
        """
        Observations as an archive of clusters holds them: what the packaged classifiers are trained on.

        Parameters
        ----------
        telescopes : sequence of {"chandra", "xmm"}, optional
            Telescopes, equally often.

        Returns
        -------
        ObservationSampler
            ACIS-I and ACIS-S (S3 aim point) in cycles 0 to 19, 0.5 to 7 keV, half of Chandra's observations each; pn
            (half of XMM-Newton's), MOS1 and MOS2, 0.5 to 2 keV. Redshifts of 0.02 to 0.5, 3 to 300 ks, columns of 1e20
            to 2e21 cm-2, backgrounds times 1/3 to 3, clusters up to 4' off the axis and up to 50 kpc off the middle of
            the image, any roll, 1 Mpc in pixels of 1 to 8 of the detector's; point sources up to 1e-12 erg/s/cm2,
            present, masked or filled; four of five images with an exposure map. All of this is a choice.

        Raises
        ------
        ValueError
            If a telescope is not known, or none is given.
        """
        sources = {"point_sources": 1e-12 * u.erg / u.s / u.cm**2}
        makers = {"i": Observation.acis_i, "s": Observation.acis_s}
        of_telescope = {
            "chandra": [
                (make(response=f"acis-{array}-cycle{cycle}", **sources), 1.0)
                for array, make in makers.items()
                for cycle in _CYCLES
            ],
            "xmm": [(Observation.epic(camera, **sources), weight) for camera, weight in _CAMERAS.items()],
        }
        bases, weights = [], []
        for telescope in telescopes:
            chosen = of_telescope[check_choice("telescopes", telescope, tuple(of_telescope))]
            total = sum(weight for _, weight in chosen)
            bases += [base for base, _ in chosen]
            weights += [weight / total for _, weight in chosen]
        return cls(
            tuple(bases),
            weights=weights,
            redshift=(0.02, 0.5),
            exposure=(3, 300) * u.ks,
            nh_column=(1e20, 2e21) * u.cm**-2,
            background=(1 / 3, 3),
            offset=4 * u.arcmin,
            roll=True,
            centring=50 * u.kpc,
            binning=(1, 2, 4, 8),
            source_treatment=TREATMENTS,
            exposure_map=0.8,
        )

    def draw(self, rng=None):
        """
        Draw an observation.

        Parameters
        ----------
        rng : int or `~numpy.random.Generator`, optional
            A seed or a generator; the same state gives the same observation, by default each draw is another. The same
            numbers are taken whatever is drawn, so that a setting that is switched on changes no other one.

        Returns
        -------
        Observation
            A base with what was drawn, which its `Observation.to_meta` records.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(master_seed(rng))
        place = dict(zip(_NUMBERS, rng.random(len(_NUMBERS)).tolist(), strict=True))
        base = self._bases[_index(self.weights, place["base"])]
        changes = {}
        for name, unit in _RANGES.items():
            given = getattr(self, name)
            if given is not None:
                low, high = u.Quantity(given).to_value(unit)
                # clipped: the power may round to the other side of an end
                value = float(np.clip(low * (high / low) ** place[name], low, high))
                changes[name] = value if unit is u.one else value * unit
        if self.background is not None:
            factor = changes.pop("background")
            changes.update(background=factor * base.background, sky_background=factor * base.sky_background)
        if self.offset is not None:
            changes["pointing_offset"] = _vector(self.offset * np.sqrt(place["radius"]), place["angle"])
        if self.centring is not None:
            changes["centre_offset"] = _vector(self.centring * place["centring"], place["centring_angle"])
        if self.roll:
            changes["roll"] = 360.0 * place["roll"] * u.deg
        if self.source_treatment is not None:
            changes["source_treatment"] = _choice(self.source_treatment, place["treatment"])
        if self.exposure_map is not None:
            changes["exposure_map"] = place["map"] < self.exposure_map
        if self.binning is not None:
            redshift = changes.get("redshift", base.redshift)
            changes.update(_pixels(base, redshift, _choice(self.binning, place["binning"])))
        return replace(base, **changes)

    def to_meta(self):
        """
        Return the settings as plain types in fixed units, for JSON and the meta of tables.

        Returns
        -------
        dict
            Those of the base (of several, a list of them and their weights as ``bases`` and ``weights``), and what is
            drawn under names that start with ``draw_``; None for what is not drawn.
        """
        if isinstance(self.base, Observation):
            meta = self.base.to_meta()
        else:
            meta = {"bases": [base.to_meta() for base in self.base], "weights": list(self.weights)}
        for name, unit in _RANGES.items():
            given = getattr(self, name)
            key = f"draw_{_KEYS[name]}"
            meta[key] = None if given is None else [float(end) for end in u.Quantity(given).to_value(unit)]
        for name, unit in _DISCS.items():
            given = getattr(self, name)
            meta[f"draw_{name}_{unit}"] = None if given is None else float(given.to_value(unit))
        meta["draw_roll"] = bool(self.roll)
        for name in ("binning", "source_treatment"):
            given = getattr(self, name)
            meta[f"draw_{name}"] = None if given is None else list(given)
        meta["draw_exposure_map"] = self.exposure_map
        return meta


# How often each camera of XMM-Newton is drawn.
_CAMERAS = {"pn": 2.0, "mos1": 1.0, "mos2": 1.0}


def _index(weights, place):
    """Number of the part of the unit interval, divided by weights that sum to one, in which a place lies."""
    return min(int(np.searchsorted(np.cumsum(weights), place, side="right")), len(weights) - 1)


def _choice(choices, place):
    return choices[int(place * len(choices))]


def _vector(length, turn):
    """Two components of a length (a Quantity) in a direction (a share of the circle)."""
    return length * np.array([np.cos(2.0 * np.pi * turn), np.sin(2.0 * np.pi * turn)])


def _pixels(base, redshift, binning):
    """Shape and width of an image with pixels of so many of the detector's on a side, in the default cosmology."""
    kpc_per_arcsec = DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift).to(u.kpc / u.arcsec)
    native = NATIVE_PIXEL[base.detector] * u.arcsec * kpc_per_arcsec
    rows, columns = base.shape
    longer = float(base.width / native) * max(rows, columns) / columns
    least = max(1, int(np.ceil(longer / _MOST)))
    side = min(max(binning, least), max(int(longer / _FEWEST), least))
    number = np.ceil(longer / side) / max(rows, columns)
    shape = tuple(max(1, round(number * part)) for part in (rows, columns))
    return {"shape": shape, "width": shape[1] * side * native}
