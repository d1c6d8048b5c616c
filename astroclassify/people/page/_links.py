"""Pages of other services about a place on the sky; nothing is asked of them here, a reader may open them."""

from urllib.parse import quote, urlencode

__all__ = ["sky_links"]

_FIELD = 10 / 60  # deg, what ESASky shows


def sky_links(position):
    """Name -> address about a position (SkyCoord): SIMBAD, NED, Legacy Survey, ESASky."""
    ra, dec = f"{position.icrs.ra.deg:.6f}", f"{position.icrs.dec.deg:+.6f}"
    queries = {
        "SIMBAD": ("simbad.cds.unistra.fr/simbad/sim-coo", {
            "Coord": f"{ra} {dec}", "CooFrame": "ICRS", "Radius": "2", "Radius.unit": "arcmin",
        }),
        "NED": ("ned.ipac.caltech.edu/conesearch", {
            "search_type": "Near Position Search", "in_csys": "Equatorial", "in_equinox": "J2000",
            "coordinates": f"{ra}d {dec}d", "radius": "2",
        }),
        "Legacy Survey": ("www.legacysurvey.org/viewer", {"ra": ra, "dec": dec, "layer": "ls-dr10", "zoom": "14"}),
        "ESASky": ("sky.esa.int/esasky/", {
            "target": f"{ra} {dec}", "cooframe": "J2000", "fov": f"{_FIELD:.3f}", "hips": "DSS2 color",
        }),
    }  # fmt: skip
    return {name: f"https://{path}?{urlencode(query, quote_via=quote)}" for name, (path, query) in queries.items()}
