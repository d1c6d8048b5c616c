"""Class schemes and flags."""

import dataclasses
import json
import pickle

import pytest

from astroclassify.exceptions import SchemaError
from astroclassify.schemes import CANDIDATE, CLUSTER, COOL_CORE, ClassScheme, Flag, flag_names, get_scheme

SCHEMES = (COOL_CORE, CLUSTER, CANDIDATE)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_packaged_schemes_survive_json_and_pickle(scheme):
    assert ClassScheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    assert get_scheme(scheme.name) is scheme and get_scheme(scheme) is scheme
    assert [scheme.index(label) for label in scheme.classes] == list(range(scheme.n_classes))
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.name = "other"


def test_class_order_is_fixed():
    assert COOL_CORE.classes == ("CC", "WCC", "NCC")
    assert CANDIDATE.classes == ("low_z", "high_z", "galaxy", "point", "other")


@pytest.mark.parametrize("name", ["no-such", None, 3, ["cool-core"]])
def test_unknown_scheme(name):
    with pytest.raises(SchemaError, match="scheme must be one of"):
        get_scheme(name)


def test_unknown_label():
    with pytest.raises(SchemaError, match="label must be one of.*cool-core.*'XX'"):
        COOL_CORE.index("XX")


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", ("x",), ("one",)),
        ("a", ("x", "x"), ("one", "two")),
        ("a", ("x", ""), ("one", "two")),
        ("a", ("x", "y"), ("one",)),
        ("", ("x", "y"), ("one", "two")),
        ("a", ("x", 2), ("one", "two")),
        ("a", ("x", "y"), ("one", "two"), 0),
        ("a", ("x", "y"), ("one", "two"), "1"),
    ],
)
def test_bad_scheme(arguments):
    with pytest.raises(SchemaError):
        ClassScheme(*arguments)


@pytest.mark.parametrize(
    "change", [{"name": None}, {"extra": 1}, {"classes": "CC,NCC"}, {"version": 1.0}, {"descriptions": None}]
)
def test_bad_mapping(change):
    with pytest.raises(SchemaError):
        ClassScheme.from_dict({**COOL_CORE.to_dict(), **change})


@pytest.mark.parametrize("mapping", [None, [], "cool-core", {}])
def test_mapping_of_a_wrong_kind(mapping):
    with pytest.raises(SchemaError, match="needs exactly the keys"):
        ClassScheme.from_dict(mapping)


def test_flag_bits_are_frozen():
    # Stored tables hold these numbers.
    assert {flag.name: flag.value for flag in Flag} == {
        "OFF_EDGE": 1,
        "MASKED": 2,
        "NO_EXPOSURE": 4,
        "NON_FINITE": 8,
        "LOW_COUNTS": 16,
        "FEW_CELLS": 32,
        "NEGATIVE": 64,
        "NO_UNIT": 128,
        "COARSE_PIXELS": 256,
        "OTHER_INSTRUMENT": 512,
        "OTHER_BAND": 1024,
        "NO_OPTICAL": 2048,
        "FAILED": 4096,
        "UNFAMILIAR": 8192,
        "SATURATED": 16384,
        "NO_BACKGROUND": 32768,
        "DOUBLE": 65536,
        "AT_BOUND": 131072,
        "EXTRAPOLATED": 262144,
        "LARGE_STRUCTURE": 524288,
        "SOURCE_IN_BACKGROUND": 1048576,
        "MISSING_VALUE": 2097152,
        "FEW_VOTES": 4194304,
        "NO_VOTES": 8388608,
        "OTHER_EXPOSURE": 16777216,
    }


def test_flag_names():
    assert flag_names(0) == ()
    assert flag_names(sum(Flag)) == tuple(flag.name.lower() for flag in Flag)
    for bad in (-1, 2 * max(Flag), 2 * max(Flag) + 1):
        with pytest.raises(ValueError, match="flags must be a sum of bits"):
            flag_names(bad)
