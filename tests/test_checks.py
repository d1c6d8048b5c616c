"""The checks of arguments: what passes, and the one line that says what does not."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify._checks import (
    check_bool,
    check_choice,
    check_integer,
    check_number,
    check_quantity,
    check_text,
    require,
)
from astroclassify.exceptions import ArgumentError, MissingDependencyError


@pytest.mark.parametrize(
    ("check", "value", "options", "expected"),
    [
        (check_integer, np.int16(3), {"low": 3, "high": 3}, 3),
        (check_number, np.float32(0.5), {"low": 0, "high": 1}, 0.5),
        (check_number, 2, {}, 2.0),
        (check_choice, "a", {"allowed": ("a", "b")}, "a"),
        (check_bool, np.True_, {}, True),
        (check_text, " M 87 ", {}, "M 87"),
    ],
)
def test_what_is_allowed_comes_back_as_plain_type(check, value, options, expected):
    found = check("it", value, **options)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("check", "value", "options", "words"),
    [
        (check_integer, True, {}, "a whole number, got True"),
        (check_integer, 2.0, {"low": 1}, "a whole number from 1, got 2.0"),
        (check_integer, 5, {"low": 1, "high": 4}, "a whole number from 1 to 4, got 5"),
        (check_number, np.nan, {}, "a finite number, got nan"),
        (check_number, 1, {"low": 0, "high": 1, "open_high": True}, "a finite number from 0 and below 1, got 1"),
        (check_number, 0, {"low": 0, "open_low": True}, "a finite number above 0, got 0"),
        (check_number, "1", {"high": 2}, "a finite number up to 2, got '1'"),
        (check_number, False, {}, "a finite number, got False"),
        (check_number, 1 * u.m, {}, "a finite number, got 1.0 m"),
        (check_number, 1j, {}, "a finite number, got 1j"),
        (check_choice, "c", {"allowed": ["a", "b"]}, "one of ('a', 'b'), got 'c'"),
        (check_choice, ["a"], {"allowed": {"a": 1}}, "one of ('a',), got ['a']"),
        (check_bool, 1, {}, "True or False, got 1"),
        (check_text, "two\nlines", {}, "one line of text"),
        (check_text, "  ", {}, "one line of text"),
        (check_text, "x" * 9, {"max_length": 8}, "at most 8 characters"),
    ],
)
def test_what_is_not_allowed_is_named_in_one_line(check, value, options, words):
    with pytest.raises(ArgumentError) as caught:
        check("it", value, **options)
    text = str(caught.value)
    assert text.startswith("it must be ") and words in text and "\n" not in text


def test_check_quantity_converts():
    value = check_quantity("width", 1 * u.Mpc, u.kpc)
    assert isinstance(value, float) and value == pytest.approx(1000)
    assert check_quantity("centre", [1, 2, 3] * u.Mpc, "kpc", shape=(3,)) == pytest.approx([1000, 2000, 3000])
    assert check_quantity("x", np.array([1, 2]) * u.s, u.s).dtype == float


@pytest.mark.parametrize(
    ("value", "options", "error", "words"),
    [
        (5.0, {}, TypeError, "must be a Quantity with a unit like kpc, got float 5.0"),
        ("5 kpc", {}, TypeError, "got str"),
        (5 * u.s, {}, ValueError, "must have a unit like kpc, got s"),
        ([1, 2] * u.kpc, {"shape": ()}, ValueError, "must have shape"),
        (np.nan * u.kpc, {}, ValueError, "must be finite"),
        (np.inf * u.kpc, {}, ValueError, "must be finite"),
        (0 * u.kpc, {"positive": True}, ValueError, "must be larger than zero"),
        (np.full((100, 100), -1.0) * u.kpc, {"positive": True}, ValueError, "must be larger than zero"),
        (np.zeros((100, 100)), {}, TypeError, "must be a Quantity"),
    ],
)
def test_check_quantity_names_the_fault_in_one_line(value, options, error, words):
    with pytest.raises(error) as caught:
        check_quantity("width", value, u.kpc, **options)
    text = str(caught.value)
    assert text.startswith("width ") and words in text and "\n" not in text and len(text) < 200


def test_require():
    assert require("json", extra="sim").__name__ == "json"
    with pytest.raises(MissingDependencyError, match=r"no_such_module.*pip install 'astroclassify\[sim\]'"):
        require("no_such_module", extra="sim")


def test_require_does_not_hide_a_broken_installation(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import not_there_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_either") as caught:
        require("half_installed", extra="sim")
    assert not isinstance(caught.value, MissingDependencyError)
