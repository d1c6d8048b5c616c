"""Class schemes and flags: what a label and a bit mean, carried by every table and model."""

import enum
from dataclasses import dataclass, field

from .exceptions import SchemaError

__all__ = [
    "CANDIDATE", "CLUSTER", "COOL_CORE", "C_SB_BOUNDS", "N_E_BOUNDS", "T_COOL_BOUNDS", "ClassScheme", "Flag",
    "flag_names", "get_scheme",
]  # fmt: skip


@dataclass(frozen=True)
class ClassScheme:
    """
    An ordered set of classes with their meaning.

    Parameters
    ----------
    name : str
        Name of the scheme.
    classes : tuple of str
        Class labels in the order of the probability columns.
    descriptions : tuple of str
        One sentence per class.
    version : int
        Raised when the meaning of a class changes.

    Raises
    ------
    SchemaError
        If the labels are fewer than two, empty, repeated, or not one to a description.

    Examples
    --------
    >>> from astroclassify.schemes import COOL_CORE
    >>> COOL_CORE.classes
    ('CC', 'WCC', 'NCC')
    >>> COOL_CORE.index("WCC")
    1
    """

    name: str
    classes: tuple
    descriptions: tuple = field(repr=False)  # sentences, too long for the repr of an estimator
    version: int = 1

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "descriptions", tuple(self.descriptions))
        strings = [self.name, *self.classes, *self.descriptions]
        if not all(isinstance(text, str) and text for text in strings):
            raise SchemaError(f"name, classes and descriptions of a ClassScheme must be non-empty strings, got {self}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise SchemaError(f"classes must be at least two different labels, got {self.classes}")
        if len(self.descriptions) != len(self.classes):
            raise SchemaError(f"descriptions must be one per class ({len(self.classes)}), got {len(self.descriptions)}")
        if not isinstance(self.version, int) or self.version < 1:
            raise SchemaError(f"version must be a whole number from 1, got {self.version!r}")

    @property
    def n_classes(self):
        """Number of classes."""
        return len(self.classes)

    def index(self, label):
        """
        Position of a label in the scheme.

        Parameters
        ----------
        label : str
            A class label.

        Returns
        -------
        int
            Its position.

        Raises
        ------
        SchemaError
            If the scheme has no such class.
        """
        try:
            return self.classes.index(str(label))
        except ValueError:
            raise SchemaError(f"label must be one of {self.classes} (scheme {self.name!r}), got {label!r}") from None

    def to_dict(self):
        """Return the scheme as plain types, for JSON and table meta."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "descriptions": list(self.descriptions),
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, mapping):
        """
        Build a scheme from what `to_dict` gives.

        Parameters
        ----------
        mapping : dict
            With keys ``name``, ``classes``, ``descriptions``, ``version``.

        Returns
        -------
        ClassScheme
            The scheme.

        Raises
        ------
        SchemaError
            If a key is missing, unknown or of a wrong type.
        """
        wanted = {"name", "classes", "descriptions", "version"}
        if not isinstance(mapping, dict) or set(mapping) != wanted:
            raise SchemaError(f"a class scheme needs exactly the keys {sorted(wanted)}, got {mapping!r}")
        if not isinstance(mapping["classes"], list) or not isinstance(mapping["descriptions"], list):
            raise SchemaError("classes and descriptions of a class scheme must be lists")
        return cls(**mapping)


T_COOL_BOUNDS = (1.0, 7.7)
"""Central cooling times [Gyr] that part CC from WCC and WCC from NCC (Su et al. 2020, MNRAS 498, 5620, section 2); both
bounds themselves are WCC."""

N_E_BOUNDS = (0.015, 0.005)
"""Central electron densities [cm-3] that part CC from WCC and WCC from NCC (Su et al. 2020, section 2)."""

C_SB_BOUNDS = (0.155, 0.075)
"""Concentrations C_SB, 40 / 400 kpc, that part CC from WCC and WCC from NCC (Su et al. 2020, section 2)."""

COOL_CORE = ClassScheme(
    "cool-core",
    ("CC", "WCC", "NCC"),
    (
        f"cool core: central cooling time below {T_COOL_BOUNDS[0]:g} Gyr (Su et al. 2020, section 2)",
        f"weak cool core: central cooling time from {T_COOL_BOUNDS[0]:g} to {T_COOL_BOUNDS[1]:g} Gyr",
        f"non-cool core: central cooling time above {T_COOL_BOUNDS[1]:g} Gyr",
    ),
)

CLUSTER = ClassScheme(
    "cluster",
    ("cluster", "other"),
    (
        "cluster of galaxies at any redshift (Kosiba et al. 2020, binary classification)",
        "anything else: nearby galaxy, point source, edge, blend or artefact",
    ),
)

CANDIDATE = ClassScheme(
    "candidate",
    ("low_z", "high_z", "galaxy", "point", "other"),
    (
        "cluster of galaxies at z < 0.3 (Kosiba et al. 2020, expert classes)",
        "cluster of galaxies at z > 0.3",
        "nearby galaxy",
        "point source",
        "other: edge, blend or artefact",
    ),
)

_SCHEMES = {scheme.name: scheme for scheme in (COOL_CORE, CLUSTER, CANDIDATE)}


def get_scheme(name):
    """
    Look up a packaged class scheme.

    Parameters
    ----------
    name : str or ClassScheme
        Name of a scheme; a scheme is returned as it is.

    Returns
    -------
    ClassScheme
        The scheme.

    Raises
    ------
    SchemaError
        If there is no scheme of this name.

    Examples
    --------
    >>> from astroclassify.schemes import get_scheme
    >>> get_scheme("cool-core").n_classes
    3
    """
    if isinstance(name, ClassScheme):
        return name
    try:
        return _SCHEMES[name]
    except (KeyError, TypeError):
        raise SchemaError(f"scheme must be one of {sorted(_SCHEMES)}, got {name!r}") from None


class Flag(enum.IntFlag):
    """
    Bits of the ``flags`` column of every table.

    Examples
    --------
    >>> from astroclassify.schemes import Flag, flag_names
    >>> flag_names(Flag.MASKED | Flag.NO_EXPOSURE)
    ('masked', 'no_exposure')
    """

    OFF_EDGE = 1
    """Part of the wanted field lies outside the image."""
    MASKED = 2
    """Masked pixels lie in the field; they count as empty."""
    NO_EXPOSURE = 4
    """Neither an exposure map nor an exposure time came with the image; for a field: no map, it was estimated."""
    NON_FINITE = 8
    """NaN or infinite pixels were masked."""
    LOW_COUNTS = 16
    """Fewer than 100 counts in the field."""
    FEW_CELLS = 32
    """Fewer than 10 gas cells in the aperture of a central measure."""
    NEGATIVE = 64
    """Negative pixels: the image is not one of raw counts."""
    NO_UNIT = 128
    """The file has no unit; counts were assumed."""
    COARSE_PIXELS = 256
    """Pixels more than 1.5 times as large as the model's grid."""
    OTHER_INSTRUMENT = 512
    """Not, or not known to be, from the instrument of the training images."""
    OTHER_BAND = 1024
    """Not, or not known to be, in the energy band of the training images."""
    NO_OPTICAL = 2048
    """No optical image for this position; a classifier that was trained to do without judges by the other bands."""
    FAILED = 4096
    """No result; the column ``message`` says why."""
    UNFAMILIAR = 8192
    """The image is unlike those of clusters, or unlike those that the classifier was trained on."""
    SATURATED = 16384
    """Constant, or clipped: 16 or more pixels share the largest value, which is 50 or more."""
    NO_BACKGROUND = 32768
    """No background came with the field; it was estimated from the counts."""
    DOUBLE = 65536
    """Two points fit the source better than an extended one."""
    AT_BOUND = 131072
    """A fitted core radius lies at, or within 5 % of, the end of its range: the extent is not measured."""
    EXTRAPOLATED = 262144
    """Much of the fitted model lies where the image does not show it: outside the exposed field, or far above what the
    search saw."""
    LARGE_STRUCTURE = 524288
    """Emission that covers a large share of the field, or lies on such emission: background and extent are those of a
    model that cannot be checked within the field."""
    SOURCE_IN_BACKGROUND = 1048576
    """The background map that was given holds light of the sources themselves."""
    MISSING_VALUE = 2097152
    """A number of the catalogue that the classifier uses is missing; the mean of the training images stands for it."""
    FEW_VOTES = 4194304
    """The posterior rests on fewer than five votes."""
    NO_VOTES = 8388608
    """None of the votes is for the outcome: it follows from the model of the voters."""
    OTHER_EXPOSURE = 16777216
    """Exposed longer than 1.5 times any training image, or shorter than the shortest over 1.5; not asked by classifiers
    that allow for the exposure."""


def flag_names(flags):
    """
    Names of the bits that are set.

    Parameters
    ----------
    flags : int
        A value of a ``flags`` column.

    Returns
    -------
    tuple of str
        Names in lower case, in order of the bits.

    Raises
    ------
    ValueError
        If a bit is set that has no name.
    """
    flags = int(flags)
    known = sum(Flag)
    if flags < 0 or flags & ~known:
        raise ValueError(f"flags must be a sum of bits from 1 to {max(Flag).value}, got {flags}")
    return tuple(flag.name.lower() for flag in Flag if flags & flag)
