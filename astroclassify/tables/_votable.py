"""Tables as VOTable, with what other programs need: descriptions, UCDs, and the system of the coordinates."""

from astropy.io.votable import from_table
from astropy.io.votable.tree import CooSys

from ._meanings import meaning_of

__all__ = ["write_votable"]

_SYSTEM = "icrs"


def write_votable(table, file):
    """Write a table of plain columns, positions in ICRS; what its columns say of themselves comes before our words."""
    document = from_table(table)
    (resource,) = document.resources
    for field in resource.tables[0].fields:
        text, ucd = meaning_of(field.name)
        field.description = field.description or text or None
        field.ucd = field.ucd or ucd or None
        if field.ucd is not None and field.ucd.startswith("pos.eq."):
            field.ref = _SYSTEM
    if any(field.ref == _SYSTEM for field in resource.tables[0].fields):
        resource.coordinate_systems.append(CooSys(ID=_SYSTEM, system="ICRS"))
    document.to_xml(file)
