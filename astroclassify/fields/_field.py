"""An observed field: counts, exposure, background, mask, coordinates and point spread function on one grid."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError
from astroclassify.images import SkyImage
from astroclassify.images._checks import pixel_area
from astroclassify.images._resample import same_grid
from astroclassify.schemes import Flag

from ._instruments import field_radius, max_off_axis
from ._psf import MixedPsf

__all__ = ["Field", "check_field", "combine_fields"]

_NAMES = ("FILENAME", "OBS_ID")  # cards that say which field it is
BEYOND = 0.05  # share of the exposed pixels that may lie beyond the field of one pointing (an axis that is a bit off)


@dataclass(frozen=True, eq=False)
class Field:
    """
    One observation, or several added, on one grid of pixels.

    Made by `read_field`; the arrays are plain floats.

    Parameters
    ----------
    counts : `~numpy.ndarray`, shape (ny, nx)
        Whole counts, zero where masked.
    exposure : `~numpy.ndarray`, shape (ny, nx)
        Exposure [s] equivalent to that on the optical axis (vignetting included); zero where not observed.
    background : `~numpy.ndarray`, shape (ny, nx)
        Expected counts per pixel of all that is no source.
    mask : `~numpy.ndarray` of bool, shape (ny, nx)
        True where a pixel is not to be used: not observed, masked in the image, or not finite.
    wcs : `~astropy.wcs.WCS`
        Celestial coordinates.
    psf : KingPsf, GaussianPsf, ImagePsf or MixedPsf
        Point spread function; any object with ``profile``, ``encircled``, ``radius`` and ``limit``.
    axis : `~astropy.coordinates.SkyCoord`
        The optical axis.
    energy_range : `~astropy.units.Quantity` or None
        Lower and upper end of the band.
    instrument : str
        ``"EPN"``, ``"EMOS1"``, ``"EMOS2"``, ``"EPIC"``, ``"ACIS"``, ``"PSPC"``, ``"EROSITA"``, ``"XRT"``, ``"FXT"`` or
        ``"UNKNOWN"``; of several, joined by "+".
    flags : `~astroclassify.schemes.Flag`
        What had to be assumed.
    meta : dict
        Header of the image, with the name of its file as FILENAME where it was read from one. Of a background that was
        given and did not fit the counts outside sources: BKGSCALE, the factor it was multiplied by, or BKGADDED, the
        share of the whole that was added to a map of particles alone.
    background_error : float
        Relative uncertainty (1 sigma) of the background on the scale of sources: scatter of the counts outside sources
        about it beyond Poisson noise, in blocks of 3 arcmin (or a sixth of the image); where noise hides it, what the
        number of counts allows. One where too little is seen to measure it; zero: the background is taken as exact.

    Raises
    ------
    GeometryError
        If the arrays are not images of one shape.
    """

    counts: np.ndarray
    exposure: np.ndarray
    background: np.ndarray
    mask: np.ndarray
    wcs: WCS
    psf: object
    axis: SkyCoord
    energy_range: u.Quantity | None = None
    instrument: str = "UNKNOWN"
    flags: Flag = Flag(0)
    meta: dict = field(default_factory=dict)
    background_error: float = 0.0

    def __post_init__(self):
        shapes = {name: np.shape(getattr(self, name)) for name in ("counts", "exposure", "background", "mask")}
        if len(set(shapes.values())) > 1 or len(shapes["counts"]) != 2:
            raise GeometryError(f"counts, exposure, background and mask must be images of one shape, got {shapes}")

    def __repr__(self):
        return (
            f"<Field {self.instrument} {self.shape[0]} x {self.shape[1]} pixels of {self.pixel:.3g} arcsec, "
            f"{self.counts.sum():.0f} counts, {self.livetime:.0f} s>"
        )

    @property
    def shape(self):
        """Pixels along y and x."""
        return self.counts.shape

    @cached_property
    def pixel(self):
        """Side of a pixel [arcsec]."""
        return float(3600 * np.sqrt(pixel_area(self.wcs)))

    @cached_property
    def livetime(self):
        """Largest exposure [s]."""
        return float(self.exposure.max())

    @cached_property
    def max_off_axis(self):
        """
        Angle from the optical axis [arcmin] up to which surveys use this instrument.

        None where it is not known, and for a mosaic: where more than 5 % of the exposed pixels lie farther from the
        axis than the instrument's field reaches.
        """
        radius = field_radius(self.instrument)
        if radius is None:
            return None
        rows, columns = np.nonzero(~self.mask & (self.exposure > 0))
        mosaic = len(rows) and np.mean(self.off_axis(columns, rows) > radius) > BEYOND
        return None if mosaic else max_off_axis(self.instrument)

    @cached_property
    def _axis_pixel(self):
        return tuple(float(value) for value in self.wcs.world_to_pixel(self.axis))

    def off_axis(self, x, y):
        """
        Angle between a place and the optical axis.

        Parameters
        ----------
        x, y : float or `~numpy.ndarray`
            Pixels, counted from 0 in the middle of the first.

        Returns
        -------
        float or `~numpy.ndarray`
            In arcmin, in the plane of the image (1e-4 from the true angle at one degree).
        """
        column, row = self._axis_pixel
        return np.hypot(np.subtract(x, column), np.subtract(y, row)) * (self.pixel / 60)

    def to_ccd(self):
        """
        Field as an image for the classifiers.

        Returns
        -------
        `~astroclassify.images.SkyImage`
            Counts [ct] with mask, WCS, exposure and background; ``meta`` holds the header and FLAGS, but no other map.
        """
        meta = {key: value for key, value in self.meta.items() if not isinstance(value, np.ndarray)}
        maps = {"exposure": self.exposure, "background": self.background}
        meta["FLAGS"] = int(self.flags)
        return SkyImage(self.counts, unit=u.ct, mask=self.mask, wcs=self.wcs, meta=meta, **maps)


def combine_fields(fields):
    """
    Add observations of the same sky on the same grid: counts, exposure and background.

    Parameters
    ----------
    fields : sequence of Field
        For example the three EPIC cameras; all on one grid.

    Returns
    -------
    Field
        The sum. A pixel is masked where it is in all; the point spread function is the mean, weighted by exposure;
        ``meta`` is that of the first, with FILENAME and OBS_ID of all, joined by "+".

    Raises
    ------
    TypeError
        If there is something else than fields.
    GeometryError
        If there is none or the grids differ: counts cannot be moved to other pixels without losing their statistics,
        so bin the events of all cameras on one grid.

    Notes
    -----
    The joint exposure is the sum, so a rate is counts per second and camera. For rates of each camera fit the fields
    together, but apart (`fit_extent` takes a sequence).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.survey import combine_fields, read_field
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.5, "CRPIX2": 20.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.001, "CDELT2": 0.001})
    >>> cameras = [CCDData(np.ones((40, 40)), unit=u.ct, wcs=wcs, meta={"INSTRUME": name}) for name in ("EPN", "EMOS1")]
    >>> both = combine_fields([read_field(camera, exposure=10 * u.ks) for camera in cameras])
    >>> both.instrument, both.livetime, float(both.counts.sum())
    ('EPN+EMOS1', 20000.0, 3200.0)
    """
    fields = list(fields)
    for each in fields:
        if not isinstance(each, Field):
            raise TypeError(f"fields must be Field objects (from read_field), got {type(each).__name__}")
    if not fields:
        raise GeometryError("fields must hold at least one field")
    first = fields[0]
    for number, other in enumerate(fields[1:], 1):
        if not same_grid(other.wcs, other.shape, first.wcs, first.shape):
            raise GeometryError(
                f"fields must be on one grid: number {number} ({other.shape}) differs from number 0 ({first.shape}) in "
                "shape or WCS; bin the events of all on one grid"
            )
    if len(fields) == 1:
        return first
    weights = np.array([each.exposure[~each.mask].sum() for each in fields])
    bands = [each.energy_range for each in fields]
    one_band = all(band is not None and np.allclose(band.to_value(u.keV), bands[0].to_value(u.keV)) for band in bands)
    axes = np.average([each.axis.icrs.cartesian.xyz.value for each in fields], axis=0, weights=weights)
    axis = SkyCoord(*axes, representation_type="cartesian", frame="icrs")
    flags = Flag(0)
    for each in fields:
        flags |= each.flags
    # Errors of one sky seen by all are the same in all: they add up as the backgrounds do.
    totals = [each.background[~each.mask].sum() for each in fields]
    error = np.average([each.background_error for each in fields], weights=totals if any(totals) else None)
    return replace(
        first,
        counts=sum(np.where(each.mask, 0.0, each.counts) for each in fields),
        exposure=sum(np.where(each.mask, 0.0, each.exposure) for each in fields),
        background=sum(np.where(each.mask, 0.0, each.background) for each in fields),
        mask=np.logical_and.reduce([each.mask for each in fields]),
        psf=MixedPsf([each.psf for each in fields], weights),
        axis=SkyCoord(axis.spherical.lon, axis.spherical.lat, frame="icrs"),
        energy_range=bands[0] if one_band else None,
        instrument="+".join(dict.fromkeys(each.instrument for each in fields)),
        flags=flags,
        meta={**first.meta, **_joined(fields)},
        background_error=float(error),
    )


def _joined(fields):
    """Names of the files and of the observations of several fields, as cards."""
    named = {key: dict.fromkeys(str(each.meta[key]) for each in fields if each.meta.get(key)) for key in _NAMES}
    return {key: "+".join(names) for key, names in named.items() if names}


def check_field(field):
    """Raise a TypeError unless ``field`` is a `Field`."""
    if not isinstance(field, Field):
        raise TypeError(f"field must be a Field (from read_field), got {type(field).__name__}")
