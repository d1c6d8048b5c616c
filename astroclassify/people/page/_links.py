"""Pages of other services about a place on the sky; nothing is asked of them here, a reader may open them."""

from urllib.parse import quote, urlencode

__all__ = ["ADDRESSES", "sky_links"]

_FIELD = 10 / 60  # deg, what ESASky shows
_QUERIES = {
    "SIMBAD": ("simbad.cds.unistra.fr/simbad/sim-coo", {
        "Coord": "{ra} {dec}", "CooFrame": "ICRS", "Radius": "2", "Radius.unit": "arcmin",
    }),
    "NED": ("ned.ipac.caltech.edu/conesearch", {
        "search_type": "Near Position Search", "in_csys": "Equatorial", "in_equinox": "J2000",
        "coordinates": "{ra}d {dec}d", "radius": "2",
    }),
    "Legacy Survey": ("www.legacysurvey.org/viewer", {"ra": "{ra}", "dec": "{dec}", "layer": "ls-dr10", "zoom": "14"}),
    "ESASky": ("sky.esa.int/esasky/", {
        "target": "{ra} {dec}", "cooframe": "J2000", "fov": f"{_FIELD:.3f}", "hips": "DSS2 color",
    }),
}  # fmt: skip
#: Address by service, with ``{ra}`` and ``{dec}`` in the place of degrees (ICRS), which are to be quoted.
ADDRESSES = {
    name: f"https://{path}?{urlencode(query, quote_via=quote, safe='{}')}" for name, (path, query) in _QUERIES.items()
}


def sky_links(position):
    """Name -> address about a position (SkyCoord): SIMBAD, NED, Legacy Survey, ESASky."""
    ra, dec = f"{position.icrs.ra.deg:.6f}", quote(f"{position.icrs.dec.deg:+.6f}")
    return {name: address.format(ra=ra, dec=dec) for name, address in ADDRESSES.items()}
