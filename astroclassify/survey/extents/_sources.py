"""Fits of all sources of a field: which sources are neighbours, which pixels a fit uses, and in which order."""

from dataclasses import dataclass, field

import numpy as np

from ._expected import LEAST, Camera, cut_patch
from ._models import fit_composite, fit_source
from ._profile import profile_table

__all__ = ["Source", "camera_of", "fit_sources", "local_exposure"]

ENCLOSED = 0.9  # share of a point source within the least radius of a fit
LEAST_PIXELS = 10  # that radius, at least
RADIUS_EXT = 5.0  # radius of a fit in core radii: 80 % of a beta model
GROWTH = 1.15  # factor by which the wanted radius must exceed the present one for another fit
LEAST_COVERED = 0.1  # share of a point source on usable pixels without which there is no fit
SHIFT = 2.0  # how far a position may move, in half-energy radii and in pixels, or by the core radius
FREE_HALF, FREE_EXT, MAX_FREE = 4.0, 2.0, 6  # distance within which the counts of a neighbour are free, and how many
NEGLIGIBLE = 0.02  # share of the background below which a neighbour is left out
PASSES = 4
# Gain in the Cash statistic from which a source is a neighbour to others. Detections of noise would take counts from
# extended sources; their counts are in the estimated background already.
NOT_NOISE = 15.0
MAX_GROWTHS = 5
# Largest radius of the first fit, in distances of the nearest neighbour: while neighbours are still points in
# the model, a wide beta model would absorb their counts into its wings, and keep them.
FIRST_SHARE = 0.5
# Upper bounds of a core radius, in units of the radius of the detected region and of the source's part of it. A beta
# model detected as one source is visible out to at least its core radius; a larger one is a fragment that makes up for
# a background or neighbour that is too low.
LARGEST, LARGEST_PART = 3.0, 10.0
EXCHANGE = 2.0  # gain in the Cash statistic for which two sources exchange their models


@dataclass
class Source:
    """State of a source while it is fitted; the lists and arrays per camera are in the order of ``cameras``."""

    row: int
    cameras: list = field(default_factory=list)  # numbers of the cameras that see it
    tables: list = field(default_factory=list)  # ProfileTable at the position
    references: list = field(default_factory=list)  # exposures there [s]
    half: float = np.nan  # half-energy radius of the PSF [arcsec]
    least_radius: float = np.nan  # of the fit [arcsec]
    largest: float = np.inf  # upper bound of the core radius [arcsec]
    background: float = 0.0  # expected counts per pixel without sources, sum of the cameras
    first_counts: np.ndarray = None  # first guess per camera
    parts: list = field(default_factory=list)  # current model: (x, y, ext, counts per camera)
    reach: float = 0.0  # distance beyond which that is negligible [arcsec]
    alone: bool = True  # no neighbour has reached it so far
    fits: dict = field(default_factory=dict)  # `Fit` by name of the model
    radius: float = np.nan  # of the last fit [arcsec]
    n_counts: float = 0.0  # counts on the pixels of the last fit
    message: str = ""  # why there is no fit

    @property
    def ext(self):
        """Core radius of the current model [arcsec]."""
        return max((part[2] for part in self.parts), default=0.0)

    @property
    def is_sure(self):
        """Whether it counts as a neighbour to others, as every source does before its first fit."""
        return not self.fits or self.fits["NULL"].statistic - self.fits[best_model(self)].statistic > NOT_NOISE

    def set_model(self, parts):
        """Set the current model and its reach."""
        self.parts, self.reach = parts, 0.0
        for x, y, ext, counts in parts:
            for table, number in zip(self.tables, counts, strict=True):
                reach = table.reach(ext, NEGLIGIBLE * max(self.background, LEAST) / number) if number > 0 else 0.0
                if reach:
                    self.reach = max(self.reach, reach + float(np.hypot(x - parts[0][0], y - parts[0][1])))


def camera_of(field_):
    """Plain arrays of a `Field`."""
    exposure = np.where(field_.mask, 0.0, np.asarray(field_.exposure, float))
    good = (exposure > 0) & np.isfinite(field_.background)
    background = np.where(good, field_.background, 0.0)
    return Camera(np.asarray(field_.counts, float), exposure, background, good, field_.pixel, field_.psf)


def largest_ext(camera):
    """Upper bound of core radii [arcsec]: a quarter of the shorter side."""
    return max(min(camera.counts.shape) * camera.pixel / 4, 3 * camera.pixel)


def local_exposure(camera, table, x, y, off_axis, radius):
    """PSF-weighted exposure [s] and background [counts per pixel] on usable pixels, and the share of a point source on
    these. ``x``, ``y`` in pixels, ``off_axis`` in arcmin, ``radius`` in arcsec."""
    patch = cut_patch(camera, x, y, radius, np.eye(2) * camera.pixel, table, 1.0)
    weights = table.look_up(table.point[:1], patch.x**2 + patch.y**2)[0]
    if not weights.sum() > 0:
        return 0.0, 0.0, 0.0
    covered = weights.sum() / camera.psf.encircled(radius, off_axis)
    return float(weights @ patch.ratio / weights.sum()), float(weights @ patch.base / weights.sum()), float(covered)


class Survey:
    """Cameras with their coordinates, and the sources on them; lists have one entry per camera. ``matrices`` (n, 2, 2)
    turn pixels into arcsec east and north, ``off_axis`` gives arcmin of pixels, ``places`` (n, 2) are pixels,
    ``largest`` (n,) bounds core radii, ``radius`` [arcsec] is that of all fits (None: by the size of the source)."""

    def __init__(self, cameras, matrices, off_axis, places, largest, radius=None):
        self.cameras, self.radius, self.off_axis = cameras, radius, off_axis
        self.matrices, self.places, self.largest = matrices, places, largest
        self.sources = [self._prepare(row, off_axis) for row in range(len(places[0]))]

    def _prepare(self, row, off_axis):
        """The source of a row, with the cameras that see it and a first guess of its counts."""
        source = Source(row)
        for number, (camera, places) in enumerate(zip(self.cameras, self.places, strict=True)):
            x, y = (float(value) for value in places[row])
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            angle = float(off_axis[number](x, y))
            least = max(float(camera.psf.radius(ENCLOSED, angle)), LEAST_PIXELS * camera.pixel)
            (ny, nx), margin = camera.counts.shape, least / camera.pixel
            if not (-margin < x < nx + margin and -margin < y < ny + margin):
                continue
            table = profile_table(camera.psf, angle, camera.pixel, largest_ext(camera))
            exposure, background, covered = local_exposure(camera, table, x, y, angle, least)
            if covered < LEAST_COVERED:
                continue
            source.cameras.append(number)
            source.tables.append(table)
            source.references.append(exposure)
            source.background += background
            source.half = np.fmax(source.half, float(camera.psf.radius(0.5, angle)))
            source.least_radius = np.fmax(source.least_radius, least)
        first = self.cameras[source.cameras[0] if source.cameras else 0]
        source.largest = min(max(self.largest[row], LARGEST * source.half), largest_ext(first))
        if not source.cameras:
            source.message = "no usable pixels at the position"
            return source
        counts = []
        for patch in self._patches(source, 2 * source.half):
            image = patch.image(0.0, 0.0, 0.0)
            counts.append(max(patch.counts.sum() - patch.base.sum(), 0.0) / max(image.sum(), 0.05))
        source.first_counts = np.array(counts)
        source.set_model([(0.0, 0.0, 0.0, source.first_counts)])
        return source

    def _patches(self, source, radius):
        """Patches about a source in its cameras, with background only."""
        return [
            cut_patch(self.cameras[number], *self.places[number][source.row], radius, self.matrices[number][source.row],
                      table, reference)
            for number, table, reference in zip(source.cameras, source.tables, source.references, strict=True)
        ]  # fmt: skip

    def _others(self, source):
        """Sources that may be neighbours of this one."""
        return [each for each in self.sources if each.parts and each.is_sure and each is not source]

    def _offset(self, source, other, number):
        """Offsets from a source to others [arcsec east, north], by their pixels in a camera."""
        step = self.places[number][[each.row for each in other]] - self.places[number][source.row]
        return step @ self.matrices[number][source.row].T

    def _fill(self, source, patches, radius):
        """Add the neighbours as modelled now: near ones as free images (returned), the others to the base."""
        others = self._others(source)
        places = self._offset(source, others, source.cameras[0]) + np.reshape([o.parts[0][:2] for o in others], (-1, 2))
        distances = np.hypot(*(places - source.parts[0][:2]).T)
        free = []
        for index in np.argsort(distances):
            other, distance = others[index], distances[index]
            if distance - radius > other.reach:
                continue
            near = distance < FREE_HALF * source.half + FREE_EXT * max(source.ext, other.ext)
            images = [
                self._image(source, other, number, patch, reference)
                for number, patch, reference in zip(source.cameras, patches, source.references, strict=True)
            ]
            if near and len(free) < MAX_FREE:
                free.append((other, images))
            else:
                for patch, image in zip(patches, images, strict=True):
                    patch.base += image
            source.alone = False
        set_neighbours(patches, [images for _, images in free])
        return free

    def _image(self, source, other, number, patch, reference):
        """Expected counts of another source on the patch of this one."""
        total = np.zeros(len(patch.counts))
        if number in other.cameras:
            (offset,), index = self._offset(source, [other], number), other.cameras.index(number)
            for x, y, ext, counts in other.parts:
                table = other.tables[index]
                squared = (patch.x - offset[0] - x) ** 2 + (patch.y - offset[1] - y) ** 2
                total += counts[index] * table.look_up(table.at(table.to_u(ext))[:1], squared)[0]
            total *= patch.ratio * (reference / other.references[index])
        return total

    def _shift(self, source, radius):
        """How far the position may move along each axis [arcsec]: at most half-way to the next source."""
        pixel = self.cameras[source.cameras[0]].pixel
        widest = max(SHIFT * max(source.half, pixel), radius / RADIUS_EXT)
        return max(min(widest, self._nearest(source) / 2), pixel / 2)

    def _nearest(self, source):
        """Distance of the nearest neighbour [arcsec]."""
        return np.hypot(*self._offset(source, self._others(source), source.cameras[0]).T).min(initial=np.inf)

    def _exchange(self, source, patches, free, fits, shift):
        """Fits with the roles of point and extended source exchanged with a neighbour, where these are better: the
        source fitted first takes the light of both and would keep it."""
        for index, (other, images) in enumerate(free):
            best = min(fits["PNT"].statistic, fits["EXT"].statistic)
            if other.ext <= fits["EXT"].ext:
                continue
            before, point = (other.parts, other.reach), np.maximum(other.first_counts, 1.0)
            other.set_model([(0.0, 0.0, 0.0, point)])
            trial = list(images)
            for camera, (patch, number) in enumerate(zip(patches, source.cameras, strict=True)):
                trial[camera] = self._image(source, other, number, patch, source.references[camera])
            neighbours = [each for _, each in free]
            set_neighbours(patches, [*neighbours[:index], trial, *neighbours[index + 1 :]])
            exchanged = fit_source(patches, shift=shift, largest=source.largest)
            if exchanged["EXT"].statistic < best - EXCHANGE:
                return exchanged
            set_neighbours(patches, neighbours)
            other.parts, other.reach = before
        return fits

    def fit(self, source, *, first, last):
        """Fit a source beside the current models of its neighbours; the radius follows the core radius."""
        largest = RADIUS_EXT * source.largest
        if first:
            largest = min(largest, max(source.least_radius, FIRST_SHARE * self._nearest(source)))
        radius = self.radius or min(max(source.least_radius, RADIUS_EXT * source.ext), largest)
        for _ in range(MAX_GROWTHS):
            patches = self._patches(source, radius)
            free = self._fill(source, patches, radius)
            shift = self._shift(source, radius)
            fits = fit_source(patches, shift=shift, largest=source.largest)
            wanted = min(RADIUS_EXT * fits["EXT"].ext, largest)
            if self.radius or fits["EXT"].statistic >= fits["PNT"].statistic or wanted < GROWTH * radius:
                break
            radius = min(wanted, 3 * radius)
        if first and max(radius, wanted) >= largest:
            source.alone = False
        if not last:
            fits = self._exchange(source, patches, free, fits, shift)
        else:
            fits |= fit_composite(patches, fits, shift=shift, half=source.half, largest=source.largest)
        source.fits, source.radius = fits, radius
        source.n_counts = float(sum(patch.counts.sum() for patch in patches))
        source.set_model(list(fits[best_model(source)].parts))


def set_neighbours(patches, free):
    """Give each patch the images of the free neighbours (for each neighbour a list, one per camera)."""
    for index, patch in enumerate(patches):
        patch.neighbours = np.reshape([images[index] for images in free], (len(free), len(patch.counts)))


def best_model(source):
    """Name of the model with the least C + k ln n (Schwarz 1978, Ann. Stat. 6, 461), n the counts of the fit."""
    price = np.log(max(source.n_counts, 20.0))
    costs = {name: fit.statistic + price * fit.n_parameters for name, fit in source.fits.items() if name != "NULL"}
    return min(costs, key=costs.get)


def fit_sources(survey):
    """Fit all sources in place, brightest first, `PASSES` times so that neighbours converge together."""
    sources = [source for source in survey.sources if source.cameras]
    sources.sort(key=lambda source: -source.parts[0][3].sum())
    for turn in range(PASSES):
        last = turn == PASSES - 1
        for source in sources:
            if turn == 0 or last or not source.alone:
                survey.fit(source, first=turn == 0, last=last)
