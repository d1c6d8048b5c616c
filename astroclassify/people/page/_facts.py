"""What is known of a source, in words, and where it is marked on its pictures."""

import math

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify import tables
from astroclassify._checks import first_line
from astroclassify.exceptions import GeometryError, SchemaError
from astroclassify.fields._telescopes import default_psf
from astroclassify.images import read_header
from astroclassify.images._pictures import valid_values
from astroclassify.images.headers._wcs import is_celestial
from astroclassify.schemes import flag_names

from ._grid import compass, coordinate_grid
from ._links import sky_links

__all__ = ["Facts"]

# Numbers of a table of candidates, which a sample of cutouts keeps: name shown, unit, decimals, mark. No column that
# could tell the answer is shown.
_NUMBERS = {
    "ext": ("EXT", u.arcsec, 1, '"'),
    "ext_like": ("EXT_LIKE", None, 1, ""),
    "det_like": ("DET_LIKE", None, 1, ""),
    "counts": ("counts", u.ct, 0, ""),
    "off_axis": ("off-axis angle", u.arcmin, 1, "'"),
}
_NEIGHBOURS = 5  # nearest ones of each catalogue
_CROSS = "\N{MULTIPLICATION SIGN}"


class Facts:
    """
    Facts by source, from the columns of a sample and the headers of its images; ``catalogues`` are tables with
    ``source_id``, ``sky_position`` and perhaps ``redshift``, by name.
    """

    def __init__(self, sample, catalogues=None):
        names = sample["source_id"].tolist()
        self._rows = {str(name): number for number, name in enumerate(names)}
        self._flags = tables.plain_column(sample["flags"], 0).tolist()
        self._numbers = {name: _numbers(sample, name, unit) for name, (_, unit, *_) in _NUMBERS.items()}
        self._ext_err = _numbers(sample, "ext_err", u.arcsec)
        has_class = "x_class" in sample.colnames
        classes = tables.plain_column(sample["x_class"]).astype(str).tolist() if has_class else [""] * len(names)
        self.x_class = dict(zip(self._rows, classes, strict=True))
        has_sky = "sky_position" in sample.colnames and isinstance(sample["sky_position"], SkyCoord)
        self._sky = sample["sky_position"].icrs if has_sky else None
        self._catalogues = {name: _catalogue(name, table) for name, table in (catalogues or {}).items()}

    def number(self, source_id, name):
        """Value of one of the columns in its unit, or None."""
        value = self._numbers[name][self._rows[source_id]]
        return value if math.isfinite(value) else None

    def of(self, source_id, bands):
        """Facts of a source and its images by band, as plain types."""
        image = bands["xray"] if "xray" in bands else next(iter(bands.values()))
        facts, (ny, nx) = self.texts(source_id), image.shape
        answer = {"facts": facts, "view": {"width": nx, "height": ny}}
        if is_celestial(image.wcs):
            try:
                answer |= self._places(source_id, image, answer["view"])
            except (GeometryError, ValueError) as error:  # the pictures are worth seeing without marks
                facts["coordinates"] = first_line(error)
            sides = np.array([nx, ny]) * proj_plane_pixel_scales(image.wcs.celestial) * 60
            facts["field"] = f"{sides[0]:.3g}' {_CROSS} {sides[1]:.3g}'"
        if "xray" in bands and image.unit == u.ct:
            values, valid = valid_values(image)
            facts["counts in the image"] = f"{values[valid].sum():.0f}"
        facts["bands"] = ", ".join(bands)
        answer["bands"] = list(bands)
        return answer

    def texts(self, source_id):
        """Columns and flags of a source in words."""
        facts = {}
        for name, (shown, _, decimals, mark) in _NUMBERS.items():
            if (number := self.number(source_id, name)) is not None:
                error = self._ext_err[self._rows[source_id]] if name == "ext" else math.nan
                spread = f" \N{PLUS-MINUS SIGN} {error:.{decimals}f}" if math.isfinite(error) else ""
                facts[shown] = f"{number:.{decimals}f}{spread}{mark}"
        facts["class"] = self.x_class[source_id]
        facts["flags"] = ", ".join(flag_names(int(self._flags[self._rows[source_id]]))).replace("_", " ")
        return {name: text for name, text in facts.items() if text}

    def _places(self, source_id, image, view):
        """Position, links, neighbours, and what is marked on the pictures."""
        wcs, (ny, nx), row = image.wcs.celestial, image.shape, self._rows[source_id]
        sky = None if self._sky is None else self._sky[row]
        if sky is None or not np.isfinite(sky.ra.deg + sky.dec.deg):
            sky = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
        x, y = map(float, wcs.world_to_pixel(sky))
        if not math.isfinite(x + y):
            raise GeometryError("the position of the source is not on the projection of its image")
        pixel = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
        view |= {"x": x, "y": y, "pixel": pixel, "ext": self.number(source_id, "ext"), "psf": None}
        view["north"], view["east"] = compass(wcs, x, y, pixel * u.arcsec)
        view["grid"] = coordinate_grid(wcs, image.shape)
        view["psf"] = _half_energy(image, self.number(source_id, "off_axis"))
        neighbours = self._neighbours(sky, wcs, pixel * math.hypot(nx, ny) / 2)
        position = {"degrees": f"{sky.ra.deg:.5f} {sky.dec.deg:+.5f}",
                    "sexagesimal": sky.to_string("hmsdms", precision=2, sep=":", pad=True)}  # fmt: skip
        return {"position": position, "links": sky_links(sky), "neighbours": neighbours}

    def _neighbours(self, sky, wcs, radius):
        """Nearest entries of each catalogue within a radius [arcsec]."""
        found = []
        for catalogue, (places, names, redshifts) in self._catalogues.items():
            distance = sky.separation(places).arcsec
            for row in np.argsort(distance)[:_NEIGHBOURS].tolist():
                if not distance[row] <= radius:
                    break
                x, y = map(float, wcs.world_to_pixel(places[row]))
                near = f'{distance[row]:.1f}"' if distance[row] < 60 else f"{distance[row] / 60:.2f}'"
                z = f", z = {redshifts[row]:.3f}" if math.isfinite(redshifts[row]) else ""
                found.append({"catalogue": catalogue, "name": names[row], "text": f"{near}{z}", "x": x, "y": y})
        return found


def _numbers(sample, name, unit):
    """Plain values of a column in a unit; NaN where there is none, or a unit that says something else."""
    values = tables.plain_column(sample[name]) if name in sample.colnames else np.nan
    if isinstance(values, u.Quantity) and unit is not None and values.unit.is_equivalent(unit):
        return values.to_value(unit).astype(float).tolist()
    known = unit is None and not isinstance(values, u.Quantity)
    return np.broadcast_to(np.asarray(values if known else np.nan, float), len(sample)).tolist()


def _catalogue(name, table):
    """Positions, names and redshifts of the rows of a catalogue that have a position."""
    if "sky_position" not in table.colnames or "source_id" not in table.colnames:
        raise SchemaError(f"catalogue {name!r} must have columns source_id and sky_position, got {table.colnames}")
    sky = tables.plain_sky(table["sky_position"], f"column 'sky_position' of catalogue {name!r}").icrs
    good = np.isfinite(sky.ra.deg + sky.dec.deg)
    missing = np.full(len(table), np.nan)
    redshifts = tables.plain_column(table["redshift"]).astype(float) if "redshift" in table.colnames else missing
    return sky[good], np.asarray(table["source_id"]).astype(str)[good].tolist(), redshifts[good].tolist()


def _half_energy(image, off_axis):
    """Radius [arcsec] that holds half of the light of a point, or None of an instrument that is not known."""
    instrument = read_header(image.meta).instrument
    try:
        return float(default_psf(instrument).radius(0.5, off_axis or 0.0))
    except (TypeError, ValueError, AttributeError):
        return None
