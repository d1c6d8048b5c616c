"""Sources of a field while they are fitted: their models, what they lie on, and the pixels that they are seen on."""

from dataclasses import dataclass, field

import numpy as np

from ._expected import LEAST, Camera, cut_patch
from ._light import Light, draw, smooth_light
from ._profile import profile_table

__all__ = ["CHILD_EXT", "Source", "Survey", "best_model", "camera_of", "largest_ext", "local_exposure"]

ENCLOSED = 0.9  # share of a point source within the least radius of a fit
LEAST_PIXELS = 10  # that radius, at least
LEAST_COVERED = 0.1  # share of a point source on usable pixels without which there is no fit
NEGLIGIBLE = 0.02  # share of the background below which a neighbour is left out
# Gain in the Cash statistic from which a source is a neighbour to others. Detections of noise would take counts from
# extended sources; their counts are in the estimated background already.
NOT_NOISE = 15.0
# Upper bounds of a core radius, in units of the radius of the detected region and of the source's part of it. A beta
# model detected as one source is visible out to at least its core radius; a larger one is a fragment that makes up for
# a background or neighbour that is too low.
LARGEST, LARGEST_PART = 3.0, 10.0
WIDE = 0.95  # share of the largest core radius from which a fit is at that bound
# A child of a large structure: largest core radius, in half-energy radii (what is wider is structure), and relative
# error of the structure's light there.
CHILD_EXT, CHILD_LEVEL = 3.0, 0.3
CORE = 1.5  # half-energy radii of a point source that are no part of the light of a structure
FAINT = 0.1  # such light in units of the background, below which it is none
# It ends at so many of the radii that the search saw, over so many of them: for sources beside it, and for its counts.
MARGIN, WHOLE, EDGE = 1.5, 2.5, 0.5


@dataclass
class Source:
    """State of a source while it is fitted; the lists and arrays per camera are in the order of ``cameras``."""

    row: int
    parent: "Source | None" = None  # the structure that it lies on
    has_children: bool = False  # it is a large structure: never a point
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
    drawings: dict = field(default_factory=dict)  # of the current model, by camera
    stale: bool = True  # its surroundings changed since the last fit
    alone: bool = True  # no neighbour limited the radius of the first fit
    held: bool = False  # to a point: an extended model does not stand out from the structure it lies on
    form: str = "PNT"  # name of the model by which it is a neighbour to others, empty if it is none
    n_fits: int = 0  # in this stage
    fits: dict = field(default_factory=dict)  # `Fit` by name of the model
    radius: float = np.nan  # of the last fit [arcsec]
    n_counts: float = 0.0  # counts on the pixels of the last fit
    gain: float = 0.0  # of its best model over the background in the Cash statistic
    message: str = ""  # why there is no fit

    @property
    def ext(self):
        """Core radius of the current model [arcsec]."""
        return max((part[2] for part in self.parts), default=0.0)

    @property
    def is_sure(self):
        """Whether it counts as a neighbour to others once it is fitted."""
        return self.gain > NOT_NOISE

    def set_model(self, parts):
        """Set the current model and its reach."""
        self.parts, self.reach = parts, 0.0
        for x, y, ext, counts in parts:
            for table, number in zip(self.tables, counts, strict=True):
                reach = table.reach(ext, NEGLIGIBLE * max(self.background, LEAST) / number) if number > 0 else 0.0
                if reach:
                    self.reach = max(self.reach, reach + float(np.hypot(x, y)))


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


def best_model(source):
    """Name of the model with the least C + k ln n (Schwarz 1978, Ann. Stat. 6, 461), n the counts of the fit."""
    price = np.log(max(source.n_counts, 20.0))
    allowed = set(source.fits) - {"NULL"} - ({"EXT", "EPN"} if source.held else set())
    if source.has_children:
        allowed -= {"PNT", "DBL"}
    costs = {name: source.fits[name].statistic + price * source.fits[name].n_parameters for name in sorted(allowed)}
    return min(costs, key=costs.get)


class Survey:
    """Cameras with their coordinates, and the sources on them; lists have one entry per camera. ``matrices`` (n, 2, 2)
    turn pixels into arcsec east and north, ``off_axis`` gives arcmin of pixels, ``places`` (n, 2) are pixels,
    ``largest`` (n,) bounds core radii, ``parents`` (n,) are the rows of the structures that sources lie on (-1: none),
    ``segments`` (n, 2) the radii [arcsec] and counts that the search measured (NaN: unknown),
    ``level_error`` is that of the background (relative), ``radius`` [arcsec] that of all fits (None: by the size of the
    source)."""

    def __init__(self, cameras, matrices, off_axis, places, largest, parents, segments, level_error, radius=None):
        self.cameras, self.radius, self.off_axis, self.level_error = cameras, radius, off_axis, level_error
        self.matrices, self.places, self.largest = matrices, [np.array(each, float) for each in places], largest
        self.starts, self.segments = self.places[0].copy(), segments
        self.modelled = Light(cameras)
        self.sources = [Source(row) for row in range(len(places[0]))]
        for source in self.sources:
            self._place(source)
        for source, parent in zip(self.sources, parents, strict=True):
            if parent >= 0 and source.cameras and self.sources[parent].cameras:
                source.parent = self.sources[parent]
                source.parent.has_children = True
                self._place(source)
        self.structures = [source for source in self.sources if source.has_children]
        for places in self.places:
            # In a window of a hundred thousand pixels, hundreds are at the edge: these are not to depend on a shift.
            rows = [source.row for source in self.structures]
            places[rows] = np.round(places[rows])
        self.find_light()
        for source in self.sources:
            if source.cameras:
                self._guess(source)

    def find_light(self, *, below=True):
        """
        Light of the structures per camera, in which all other sources are fitted: structure has any shape, so that it
        is counts smoothed, without those of the sources, and not the beta model in the table. It ends where that is
        less than a tenth of the background, and about as far from its middle as the search saw. ``below`` sources it is
        interpolated; once they are fitted, their models suffice, and it reaches farther.
        """
        self.light = []
        for number, camera in enumerate(self.cameras if self.structures else []):
            half = np.mean([source.half for source in self.structures]) / camera.pixel
            others = [source for source in self.sources if not source.has_children and number in source.cameras]
            radii = [max(CORE * half, 0 if each.parent else self._seen(each) / camera.pixel) for each in others]
            places = self.places[number][[source.row for source in others]]
            where = zip(places, radii, strict=True) if below else ()
            light = smooth_light(camera, self.modelled.images[number], where, CHILD_EXT * half)
            least = FAINT * camera.background
            seen = np.clip((light - least) / (least + LEAST), 0, 1) * self._extent(number, MARGIN if below else WHOLE)
            self.light.append(light * seen)

    def _extent(self, number, margin):
        """One on the pixels of a camera where the structures are, by the circles that the search saw; zero far off."""
        rows, columns = np.ogrid[tuple(slice(n) for n in self.cameras[number].counts.shape)]
        extent = 0.0
        for source in self.structures:
            x, y = self.places[number][source.row]
            radius = self.segments[source.row, 0] / self.cameras[number].pixel
            far = np.hypot(columns - x, rows - y) / (radius if radius > 0 else np.inf)
            extent = np.maximum(extent, np.clip((margin - far) / EDGE, 0, 1))
        return extent

    def measured(self, structure):
        """
        Counts of a large structure on the image per camera, their common error, and rate [1/s]: of the light, which a
        beta model would not describe. Where several structures meet, each has the share of its beta model.
        """
        counts, variance, light, exposure = [], 0.0, 0.0, 0.0
        for number in structure.cameras:
            camera, share = self.cameras[number], self._share(structure, number)
            ground, seen = camera.background * share, self.light[number] * share
            counts.append(seen.sum())
            lit = seen > 0
            variance += np.sum((seen + ground)[lit]) + (self.level_error * np.sum(ground[lit])) ** 2
            light, exposure = light + seen, exposure + camera.exposure
        lit = light > 0
        return np.array(counts), float(np.sqrt(variance)), float(np.sum(light[lit] / exposure[lit]))

    def _share(self, structure, number):
        """Share of a structure in the light of all on the pixels of a camera."""
        if len(self.structures) == 1:
            return 1.0
        images = []
        for each in self.structures:
            images.append(np.full(self.cameras[number].counts.shape, LEAST))
            if number in each.drawings:
                images[-1][each.drawings[number].window] += each.drawings[number].image
        return images[self.structures.index(structure)] / sum(images)

    def _seen(self, source):
        """Radius within which the search saw a source [arcsec]; zero if there was none."""
        return np.nan_to_num(self.segments[source.row, 0])

    def _place(self, source):
        """Find the cameras that see a source, with their tables and exposures."""
        source.cameras, source.tables, source.references, source.background = [], [], [], 0.0
        source.half = source.least_radius = np.nan
        for number, (camera, places) in enumerate(zip(self.cameras, self.places, strict=True)):
            x, y = (float(value) for value in places[source.row])
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            angle = float(self.off_axis[number](x, y))
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
        if not source.cameras:
            source.message = "no usable pixels at the position"
            return
        widest = CHILD_EXT * source.half if source.parent is not None else largest_ext(self.cameras[source.cameras[0]])
        source.largest = min(max(self.largest[source.row], LARGEST * source.half), widest)

    def _guess(self, source):
        """First model: a point with the counts in two half-energy radii."""
        counts = []
        for patch in self.patches(source, 2 * source.half):
            image = patch.image(0.0, 0.0, 0.0)
            counts.append(max(patch.counts.sum() - patch.base.sum(), 0.0) / max(image.sum(), 0.05))
        source.first_counts = np.array(counts)
        source.set_model([(0.0, 0.0, 0.0, source.first_counts)])

    def patches(self, source, radius):
        """Patches about a source in its cameras, with background and all that is in the scene."""
        patches = []
        for number, table, reference in zip(source.cameras, source.tables, source.references, strict=True):
            place, matrix = self.places[number][source.row], self.matrices[number][source.row]
            patch = cut_patch(self.cameras[number], *place, radius, matrix, table, reference)
            others = self.modelled.images[number][patch.rows, patch.columns]
            if source.has_children:
                for other in self.structures:
                    if number in other.drawings:
                        others += other.drawings[number].at(patch.rows, patch.columns)
            elif self.structures:
                light = self.light[number][patch.rows, patch.columns]
                patch.background = np.maximum(patch.background + light, LEAST)
            patch.base = patch.background + others
            patches.append(patch)
        return patches

    def draw(self, source):
        """Drawings of the current model."""
        drawings = {}
        for index, number in enumerate(source.cameras):
            place, matrix = self.places[number][source.row], self.matrices[number][source.row]
            table, reference = source.tables[index], source.references[index]
            parts = [(x, y, ext, counts[index]) for x, y, ext, counts in source.parts]
            drawings[number] = draw(self.cameras[number], place, matrix, table, reference, parts, source.reach)
        return drawings

    def recentre(self):
        """Put each source where its model is now, so that pixels and tables no longer depend on where it began; noise
        stays where it is, or it would climb from hill to hill."""
        for source in self.sources:
            if not source.fits or not source.form:
                continue
            offset = np.array(source.parts[0][:2])
            before, cameras = [places[source.row].copy() for places in self.places], source.cameras
            for places, matrices in zip(self.places, self.matrices, strict=True):
                places[source.row] += np.linalg.solve(matrices[source.row], offset)
            self.modelled.add(source.drawings, -1)
            self._place(source)
            if source.cameras != cameras:  # it has moved off the exposed pixels of one
                for places, place in zip(self.places, before, strict=True):
                    places[source.row], offset = place, np.zeros(2)
                self._place(source)
            source.set_model([(x - offset[0], y - offset[1], ext, counts) for x, y, ext, counts in source.parts])
            source.drawings = self.draw(source) if source.form else {}
            self.modelled.add(source.drawings)
        self.find_light()
