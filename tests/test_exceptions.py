"""Errors and the argument checks that raise them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from astroclassify import exceptions
from astroclassify.exceptions import MissingDependencyError, check_quantity, require


def test_every_error_has_one_base_and_a_builtin_kind():
    kinds = {
        "SchemaError": ValueError,
        "GeometryError": ValueError,
        "SnapshotError": ValueError,
        "FetchError": OSError,
        "ModelError": ValueError,
        "OutputError": OSError,
        "MissingDependencyError": ImportError,
    }
    for name, kind in kinds.items():
        assert issubclass(getattr(exceptions, name), exceptions.AstroclassifyError), name
        assert issubclass(getattr(exceptions, name), kind), name
    assert not issubclass(exceptions.FetchError, exceptions.SnapshotError), "not every service gives simulations"
    for name in ("ImageWarning", "EmptyResultWarning"):
        assert issubclass(getattr(exceptions, name), AstropyUserWarning)


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
