"""Errors and warnings."""

from astropy.utils.exceptions import AstropyUserWarning

from astroclassify import exceptions


def test_every_error_has_one_base_and_a_builtin_kind():
    kinds = {
        "ArgumentError": ValueError,
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
    assert issubclass(exceptions.ArgumentError, TypeError), "a wrong type is not told from a wrong value"
