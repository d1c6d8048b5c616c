"""How the numbers of a table are printed: few enough digits that a table can be read at 80 columns."""

from astropy.coordinates import SkyCoord

__all__ = ["readable"]

_SCORES = ("precision", "recall", "f1", "bacc", "accuracy", "auc", "purity", "completeness")
_FORMATS = {"x": ".1f", "y": ".1f", "counts": ".1f"}
_POSITION = "{0.ra.deg:.5f} {0.dec.deg:.5f}"  # 0.04 arcsec


def _format_of(name):
    if name.startswith("p_") or name.removesuffix("_lo").removesuffix("_hi").removesuffix("_std") in _SCORES:
        return ".3f"
    return _FORMATS.get(name, ".4g")


def readable(table):
    """
    The same table, of which each column of real numbers, and of equatorial positions, has a format for printing.

    A format that is there stays. Values, and what is written to files, keep all digits.
    """
    for name in table.colnames:
        column = table[name]
        if column.info.format is None and isinstance(column, SkyCoord):
            column.info.format = _POSITION if hasattr(column, "ra") else None
        elif column.info.format is None and getattr(getattr(column, "dtype", None), "kind", "") == "f":
            column.info.format = _format_of(name)
    return table
