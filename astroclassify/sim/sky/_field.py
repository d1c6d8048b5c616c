"""Simulated XMM EPIC fields: all sources of a patch of sky, seen through the telescope, with the truth."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable, Table

from astroclassify import batch
from astroclassify._checks import check_number, check_quantity
from astroclassify.exceptions import SchemaError
from astroclassify.fields import Field, combine_fields, read_field
from astroclassify.fields._instruments import EPIC_SOFT_COUNTS
from astroclassify.images import Geometry, SkyImage
from astroclassify.samples._writer import dateless_provenance
from astroclassify.schemes import CANDIDATE, Flag
from astroclassify.tables import plain_table, readable

from ._candidate import sky_grid
from ._counterparts import add_plate_sky
from ._plate import expose_plate
from ._population import POPULATION as P
from ._sky import KINDS, draw_sky
from ._xmm import (
    AXIS,
    CAMERAS,
    Beta,
    Grid,
    Pointing,
    background_map,
    beside,
    bin_photons,
    draw_background,
    draw_detector,
    exposure_map,
    pile_up,
    scatter,
    vignetting,
)

__all__ = ["SimulatedField", "simulate_field"]

LEAST_COUNTS = 3.0
"""Sources that are expected to leave fewer counts have no row of truth."""

TRUE_BACKGROUND = "true_background"
"""Key of ``field.meta`` for the map of expected counts of sky and particles."""

_PLATE_PIXEL = 1.0  # arcsec, as DSS2
_LONGEST = 1e6  # s
_BAND = (0.5, 2.0)  # keV
_FLUX = u.erg / u.s / u.cm**2


@dataclass(frozen=True)
class SimulatedField:
    """
    A simulated field with its truth.

    Parameters
    ----------
    field : Field
        The X-ray field as it would be read from files.
    truth : `~astropy.table.QTable`
        One row for each source; see `simulate_field`.
    plate : `~astropy.nddata.CCDData`, optional
        Red photographic plate of the same sky.
    """

    field: Field
    truth: QTable
    plate: CCDData | None = None

    def __repr__(self):
        plate = "" if self.plate is None else ", plate"
        return f"<SimulatedField of {self.field!r}, {len(self.truth)} sources{plate}>"


def simulate_field(
    *,
    rng=None,
    exposure=10 * u.ks,
    cameras=("EPN",),
    pixel=2.5 * u.arcsec,
    shape=(648, 648),
    position=None,
    density=None,
    injected=None,
    optical=False,
):
    """
    Simulate an XMM EPIC field in 0.5 to 2 keV.

    Parameters
    ----------
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn; a fresh seed by default. It is in ``field.meta["SEED"]``. A seed
        gives the same field; the X-rays do not depend on ``optical``, those of the sky do not depend on ``injected``,
        and those of a kind of source have nothing to do with the ``density`` of another.
    exposure : `~astropy.units.Quantity`, optional
        Exposure time, of each camera.
    cameras : sequence of str, optional
        ``"EPN"``, and ``"EMOS1"`` and ``"EMOS2"`` if these are to be added. What pn sees does not depend on them.
    pixel : `~astropy.units.Quantity`, optional
        Side of a pixel.
    shape : tuple of int, optional
        Pixels along y and x. The default holds all that is seen within 13 arcmin of the optical axis.
    position : `~astropy.coordinates.SkyCoord`, optional
        Optical axis, in the middle of the image; by default anywhere.
    density : dict, optional
        Multiples of the sky's densities for kinds of sources: ``{"cluster": 10}`` for training samples, ``{"agn": 0}``
        for none, ``{"cluster": (10, 2)}`` for ten times the clusters below a redshift of 0.3 and twice those beyond.
        What is not named has 1.
    injected : `~astropy.table.Table`, optional
        Sources to add for selection functions, pure beta models (beta = 2/3, out to infinity): ``core_radius`` (zero
        for a point), ``sky_position`` or ``x`` and ``y`` (0-based pixels), ``counts`` or ``flux``; ``source_id`` is
        kept.
    optical : bool, optional
        Whether to make the photographic plate as well.

    Returns
    -------
    SimulatedField
        ``field``, of several cameras their sum (`combine_fields`), in exposures of pn: a second of a MOS counts as 0.28
        s, so that rates are those of pn. Its exposure map is the true one and its background is estimated from the
        counts as for any image (the true one, sky and particles, is ``field.meta["true_background"]``); ``plate``
        (densities, adu; pixels of 1 arcsec) or None; and ``truth``, a row for each source on the image that is expected
        to leave 3 counts or more,
        those injected first, every one of them: ``source_id``, ``sky_position``, ``x``, ``y``, ``kind`` (``agn``,
        ``star``, ``cluster``, ``clump``, ``galaxy``, ``bright``, ``hot``, ``arc``, ``injected``), ``label`` (scheme
        `~astroclassify.schemes.CANDIDATE`; empty for injected ones), ``flux`` (0.5 to 2 keV), ``counts`` (expected,
        with the vignetting at its place, without gaps, pile-up and the photons out of time), ``core_radius``,
        ``redshift``, ``m_500``, ``off_axis``, ``flags`` (``OFF_EDGE``: not on the image, ``MASKED``: in a gap). Sources
        that the PSF runs together, a nucleus in a cluster, and the second clump of a cluster that merges (``clump``)
        have rows of their own; binaries and nuclei of nearby galaxies do not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.

    Notes
    -----
    All numbers and their sources are in ``sim/sky/_population.py``. Active nuclei follow Moretti et al. (2003, ApJ
    588, 696) from 1e-16 to 2e-12 erg s-1 cm-2. Clusters come from a luminosity function that does not evolve (Rosati et
    al. 1998; amplitude between Ebeling et al. 1997 and De Grandi et al. 1999) at 0.01 < z < 1.3, all of them, found or
    not: 14 per deg2 brighter than 1e-14, where surveys give 5 to 20. Nearby galaxies are 1.5 per deg2 above 1e-14, near
    Georgakakis et al. (2006, MNRAS 367, 1017). One field in three has a bright target (up to 6 counts per second) with
    its out-of-time streak and a piled-up core. Chips, gaps, dead columns, King PSF and vignetting are those of
    `simulate_candidates`, whose limits hold here as well.

    MOS have effective areas, PSFs, backgrounds and chips of their own (MOS1 without CCD 3 and CCD 6, as since 2012),
    longer frames, and no streaks. Hot columns and stray light are in pn alone.

    Examples
    --------
    >>> from astroclassify.sim import simulate_field
    >>> simulated = simulate_field(rng=1, shape=(200, 200))
    >>> simulated.field.shape, simulated.plate is None
    ((200, 200), True)
    >>> simulated.truth.colnames[:6]
    ['source_id', 'sky_position', 'x', 'y', 'kind', 'label']
    """
    seed = batch.master_seed(rng)
    pointing, grid = _check_pointing(exposure, seed), _check_grid(pixel, shape)
    pointings = [pointing, *(beside(pointing, camera) for camera in check_cameras(cameras) if camera != "EPN")]
    wcs = sky_grid(_check_position(position, seed), grid.shape, grid.pixel)
    density = check_density(density)
    injected = [] if injected is None else _injected_rows(injected, wcs, pointings, grid)
    scene, rows = draw_sky(pointing, grid.half, density, seed)
    if optical:
        faint = P.galaxy_field_magnitudes[1], P.field_magnitudes[1]
        add_plate_sky(scene, grid.half, faint, batch.derive_rng(seed, "field", "plate sky"))
    scene.finish()
    meta = {"ORIGIN": "simulated", "SEED": seed, "ROLL": math.degrees(pointing.roll)}
    parts = [_observe(scene, injected, each, grid, seed, (wcs, meta)) for each in pointings]
    field = _add([part for part, _ in parts])
    live = np.logical_or.reduce([live for _, live in parts])
    truth = _truth(injected, rows, pointings, grid, live, wcs)
    names = [each.camera for each in pointings]
    truth.meta.update(field=meta, density=density, exposure=pointing.exposure * u.s, cameras=names)
    return SimulatedField(field, truth, _plate(scene, grid, wcs, seed, meta) if optical else None)


def _check_pointing(exposure, seed):
    """Pointing of the whole field, its optical axis in the middle of the image."""
    seconds = check_quantity("exposure", exposure, u.s, positive=True, shape=())
    if seconds > _LONGEST:
        raise ValueError(f"exposure must be at most {_LONGEST:g} s, got {exposure}")
    detector = draw_detector(batch.derive_rng(seed, "field", "detector"))
    return Pointing(exposure=seconds, x=AXIS[0], y=AXIS[1], **detector)


def _check_grid(pixel, shape):
    side = check_quantity("pixel", pixel, u.arcsec, positive=True, shape=())
    if not 0.5 <= side <= 30:
        raise ValueError(f"pixel must lie between 0.5 and 30 arcsec, got {pixel}")
    return Grid(Geometry(side * u.arcsec, shape).shape, side)


def _check_position(position, seed):
    """Right ascension and declination of the optical axis [deg]."""
    if position is None:
        rng = batch.derive_rng(seed, "field", "position")
        return 360 * rng.random(), math.degrees(math.asin(2 * rng.random() - 1))
    if not isinstance(position, SkyCoord) or not position.isscalar:
        raise TypeError(f"position must be a single SkyCoord, got {position!r}")
    return position.icrs.ra.deg, position.icrs.dec.deg


def check_cameras(cameras):
    """Names of cameras, pn among them."""
    names = [cameras] if isinstance(cameras, str) else list(cameras)
    if "EPN" not in names or not set(names) <= set(CAMERAS) or len(set(names)) < len(names):
        raise ValueError(f"cameras must be EPN and others out of {CAMERAS}, each once, got {cameras!r}")
    return [camera for camera in CAMERAS if camera in names]


def check_density(density):
    """Multiple of the sky's density for every kind of source."""
    multiples = dict.fromkeys(KINDS, 1.0)
    if density is not None and not isinstance(density, dict):
        raise TypeError(f"density must be a dict from kinds of sources to numbers, got {density!r}")
    for kind, value in (density or {}).items():
        if kind not in multiples:
            raise ValueError(f"density must name kinds out of {KINDS}, got {kind!r}")
        several = kind == "cluster" and isinstance(value, list | tuple)
        if several and len(value) != 2:
            raise ValueError(f"density of 'cluster' must be a number or two (near, far), got {value!r}")
        name = f"density of {kind!r}"
        checked = [check_number(name, each, 0, 1e4, open_high=True) for each in (value if several else [value])]
        multiples[kind] = checked if several else checked[0]
    return multiples


def _counts_per_flux(x, y, pointings):
    """Expected counts, in all cameras, of a flux of 1 erg s-1 cm-2 at offsets [arcsec] from the optical axis."""
    in_time = {"EPN": 1 - P.out_of_time}
    cameras = sum(EPIC_SOFT_COUNTS[each.camera] * in_time.get(each.camera, 1.0) for each in pointings)
    return P.counts_per_flux * pointings[0].exposure * vignetting(np.hypot(x, y) / 60) * cameras


def _injected_rows(injected, wcs, pointings, grid):
    """Rows of the sources to inject."""
    if not isinstance(injected, Table):
        raise TypeError(f"injected must be a Table, got {type(injected).__name__}")
    table = plain_table(injected)
    names = set(table.colnames)
    if not ({"sky_position"} <= names or {"x", "y"} <= names) or "core_radius" not in names:
        raise SchemaError("injected must have core_radius and either sky_position or x and y")
    if len(names & {"counts", "flux"}) != 1:
        raise SchemaError("injected must have either counts or flux")
    if "sky_position" in names:
        if not isinstance(table["sky_position"], SkyCoord):
            raise SchemaError("injected: column 'sky_position' must hold SkyCoord")
        column, row = wcs.world_to_pixel(table["sky_position"])
    else:
        column, row = (check_quantity(f"injected[{name!r}]", table[name], u.pix) for name in "xy")
    if not np.all(np.isfinite(column) & np.isfinite(row)):
        raise ValueError("injected: every sky_position must lie on the half of the sky around the optical axis")
    core = check_quantity("injected['core_radius']", table["core_radius"], u.arcsec)
    if np.any(core < 0):
        raise ValueError("injected['core_radius'] must not be negative")
    x, y = ((place - (side - 1) / 2) * grid.pixel for place, side in zip((column, row), grid.shape[::-1], strict=True))
    scale = _counts_per_flux(x, y, pointings)
    if "counts" in names:
        flux = check_quantity("injected['counts']", table["counts"], u.ct, positive=True) / scale
    else:
        flux = check_quantity("injected['flux']", table["flux"], _FLUX, positive=True)
    identifiers = table["source_id"].astype(str).tolist() if "source_id" in names else _names("injected", len(table))
    if len(set(identifiers)) != len(identifiers):
        raise SchemaError("injected: column 'source_id' has repeated values")
    keys = ("source_id", "x", "y", "flux", "core_radius")
    values = zip(identifiers, x.tolist(), y.tolist(), flux.tolist(), core.tolist(), strict=True)
    return [{**dict(zip(keys, row, strict=True)), "kind": "injected", "label": ""} for row in values]


def _names(kind, number):
    return [f"{kind}-{count:05d}" for count in range(number)]


def _observe(scene, injected, pointing, grid, seed, header):
    """What one camera makes of a scene, as a field, and its live pixels; ``header``: WCS and entries of the header."""
    rng = _generators(pointing, seed)
    exposure, live = exposure_map(pointing, grid)
    counts = (_sky_counts(scene, pointing, grid, rng) + _injected_counts(injected, pointing, grid, rng)) * live
    true_background = background_map(exposure, pointing, grid)
    wcs, meta = header
    meta = {**meta, "EXPOSURE": pointing.exposure, "INSTRUME": pointing.camera}
    field = _as_field(counts, exposure * EPIC_SOFT_COUNTS[pointing.camera], wcs, meta)
    return dataclasses.replace(field, meta={**field.meta, TRUE_BACKGROUND: true_background}), live


def _generators(pointing, seed):
    """Function that gives the generator of a purpose, for each camera another."""
    camera = () if pointing.camera == "EPN" else (pointing.camera,)
    return lambda name: batch.derive_rng(seed, "field", name, *camera)


def _add(fields):
    """Sum of the cameras' fields."""
    if len(fields) == 1:
        return fields[0]
    field = combine_fields(fields)
    background = sum(each.meta[TRUE_BACKGROUND] for each in fields)
    return dataclasses.replace(field, meta={**field.meta, "INSTRUME": field.instrument, TRUE_BACKGROUND: background})


def _sky_counts(scene, pointing, grid, rng):
    """Counts of everything but what was injected, as if there were no gaps."""
    photons = scatter(scene.extended, scene.points, pointing, rng("photons"))
    background = draw_background(pointing, grid, rng("background"))
    light = [tuple(places.T) for places in scene.detector_light if pointing.camera == "EPN"]
    counts = bin_photons(*(np.concatenate(part) for part in zip(photons, background, *light, strict=True)), grid)
    return pile_up(counts, pointing, grid, rng("pile-up"))


def _injected_counts(rows, pointing, grid, rng):
    extended = [
        Beta(row["flux"], row["x"], row["y"], row["core_radius"], math.inf) for row in rows if row["core_radius"]
    ]
    points = [[row["flux"], row["x"], row["y"]] for row in rows if not row["core_radius"]]
    return bin_photons(*scatter(extended, np.reshape(points, (-1, 3)), pointing, rng("injected")), grid)


def _as_field(counts, exposure, wcs, meta):
    """The field as `read_field` makes it of an image and its exposure map."""
    header = {**meta, "TELESCOP": "XMM", "E_MIN": _BAND[0], "E_MAX": _BAND[1]}
    header.update(RA_PNT=float(wcs.wcs.crval[0]), DEC_PNT=float(wcs.wcs.crval[1]), SUBMODE="PrimeFullWindow")
    header["PA_PNT"] = (90 - meta["ROLL"]) % 360  # x to the west and y to the north, as in real headers
    image = SkyImage(counts.astype(float), unit=u.ct, wcs=wcs, meta=header, exposure=exposure)
    return read_field(image, energy_range=u.Quantity(_BAND, u.keV))


def _truth(injected, rows, pointings, grid, live, wcs):
    """Table of the injected sources and of those that are visible."""
    rows = injected + _visible(rows, pointings, grid)
    columns = {
        name: np.array([row.get(name, math.nan) for row in rows], dtype=float)
        for name in ("x", "y", "flux", "counts", "core_radius", "redshift", "m_500")
    }
    x, y = columns["x"], columns["y"]
    unknown = np.isnan(columns["counts"])
    columns["counts"][unknown] = (columns["flux"] * _counts_per_flux(x, y, pointings))[unknown]
    columns["core_radius"][[row["label"] == "point" for row in rows]] = 0.0
    index, inside = grid.index(x, y)
    flags = np.where(inside, 0, Flag.OFF_EDGE.value)
    flags[inside] |= np.where(live.ravel()[index[inside]], 0, Flag.MASKED.value)
    column, row = x / grid.pixel + (grid.shape[1] - 1) / 2, y / grid.pixel + (grid.shape[0] - 1) / 2
    names = [each["source_id"] for each in injected] + _names("source", len(rows) - len(injected))
    truth = QTable(
        {
            "source_id": np.array(names, dtype="U"),
            "sky_position": wcs.pixel_to_world(column, row),
            "x": column * u.pix,
            "y": row * u.pix,
            "kind": np.array([each["kind"] for each in rows], dtype="U8"),
            "label": np.array([each["label"] for each in rows], dtype="U8"),
            "flux": columns["flux"] * _FLUX,
            "counts": columns["counts"] * u.ct,
            "core_radius": columns["core_radius"] * u.arcsec,
            "redshift": columns["redshift"],
            "m_500": columns["m_500"] * u.Msun,
            "off_axis": np.hypot(x, y) / 60 * u.arcmin,
            "flags": flags.astype(np.int64),
        },
        meta=dateless_provenance(scheme=CANDIDATE.to_dict()),
    )
    return readable(truth)


def _visible(rows, pointings, grid):
    """Rows of sources on the image that are expected to leave enough counts."""
    half_x, half_y = grid.half
    return [
        row
        for row in rows
        if abs(row["x"]) < half_x
        and abs(row["y"]) < half_y
        and row.get("counts", row.get("flux", 0) * _counts_per_flux(row["x"], row["y"], pointings)) >= LEAST_COUNTS
    ]


def _plate(scene, grid, wcs, seed, meta):
    """Photographic plate of the whole field."""
    shape = tuple(math.ceil(side * grid.pixel / _PLATE_PIXEL) for side in grid.shape)
    seen = scene.galaxies[scene.galaxies[:, 2] < P.field_magnitudes[1] + 0.5]
    rng = batch.derive_rng(seed, "field", "plate")
    plate = expose_plate(scene.stars, seen, Grid(shape, _PLATE_PIXEL), rng, painted=scene.painted)
    header = {**meta, "SURVEY": "POSS-II red, simulated", "BANDPASS": "R"}
    return SkyImage(plate, unit=u.adu, wcs=sky_grid(wcs.wcs.crval, shape, _PLATE_PIXEL), meta=header)
