"""From images to probabilities; nothing here needs torch."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from astropy import units as u
from scipy.special import softmax
from tqdm import tqdm

from astroclassify import batch
from astroclassify.exceptions import ModelError, SchemaError
from astroclassify.schemes import Flag

from ..doubt._novelty import FALSE_ALARM_RATE
from ..inputs._brightness import resolution_of
from ..inputs._columns import as_planes, with_values
from ..inputs._items import as_items, open_folder
from ..inputs._pixels import attempt, load_pixels
from ..inputs._predictions import prediction_table
from ..inputs._preprocess import CALIBRATED, n_planes
from ._kept_rows import KeptRows, Row, fingerprints
from ._onnx_network import BATCH, OnnxNetwork, lanes

__all__ = ["OnnxNetwork", "Predictor", "Row", "classify", "feature_source", "novelty_features", "probabilities"]


# How much longer, or shorter, than those of training an exposure may be without a flag.
_DEPTH = 1.5


def feature_source(names):
    """Output of a network with most information: ``"features"``, else ``"class_maps"``, else ``"logits"``."""
    return next(name for name in ("features", "class_maps", "logits") if name in names)


def novelty_features(outputs):
    """Numbers (n, k) for `Novelty`: features, else mean and standard deviation of each class map, else logits."""
    name = feature_source(outputs)
    values = np.asarray(outputs[name], dtype=float)
    return np.concatenate([values.mean(axis=(2, 3)), values.std(axis=(2, 3))], axis=1) if values.ndim == 4 else values


class Predictor:
    """
    All that inference needs of a fitted classifier.

    ``instruments`` and ``energy_range`` of the description ``training`` decide about flags, of which those in
    ``refused`` leave an image without an answer. ``optional`` bands may be absent.
    """

    def __init__(
        self, network, *, bands, geometry, preprocessing, training, temperature=1.0, novelty=None, familiarity=None,
        optional=(), refused=0,
    ):  # fmt: skip
        self.network = network
        self.bands = tuple(bands)
        self.geometry = geometry
        self.preprocessing = preprocessing
        self.training = training
        self.temperature = temperature
        self.novelty = novelty
        self.familiarity = familiarity
        self.optional = tuple(optional)
        self.refused = refused

    @property
    def needed(self):
        """Bands that must be there."""
        return tuple(band for band in self.bands if band not in self.optional)

    @property
    def columns(self):
        """Names of the numbers beside an image that it uses."""
        return () if self.preprocessing.columns is None else self.preprocessing.columns.names

    def items(self, images, *, columns=None, **where):
        """
        As `as_items`, for this model; with the numbers beside the images, from a table ``columns`` or the images' own.
        """
        images = open_folder(images)
        items, single = as_items(images, bands=self.bands, shape=self.geometry.shape, **where)
        if self.columns:
            items = with_values(items, images, columns, self.columns, self.preprocessing.columns.units)
        elif columns is not None:
            raise SchemaError("columns are for a model that uses numbers beside the images, which this one does not")
        return items, single

    def messages(self, items, rows):
        """Why each row failed, or what an answer is made without, or an empty text."""
        return [row.message or self._note(item, row.flags) for item, row in zip(items, rows, strict=True)]

    def _note(self, item, flags):
        """What the answer for an item is made without."""
        notes = []
        if self.optional and flags & Flag.NO_OPTICAL:
            notes.append(f"no {' or '.join(self.optional)} image: judged by {', '.join(self.needed)} alone")
        if flags & Flag.MISSING_VALUE and not flags & Flag.FAILED:
            values = zip(self.columns, item.values, strict=True)
            # `_values` takes the exposure from the image where it can.
            has_exposure = not (flags & Flag.NO_EXPOSURE or isinstance(item.value, np.ndarray))
            lost = [name for name, value in values if not np.isfinite(value)]
            names = [name for name in lost if name != "exposure" or not has_exposure] or lost
            notes.append(f"no {', '.join(names)}: the mean of the training images is taken")
        return "; ".join(notes)

    def load(self, item):
        """Counts on the grid, float32, (n_planes, ny, nx), and flags of one item; SchemaError if it is refused."""
        return self._admitted(item)[:2]

    def _admitted(self, item):
        """As `_load`, for one that is not refused."""
        pixels, flags, header = self._load(item)
        if refusal := self._refusal(flags, header):
            raise SchemaError(f"{item.source_id}: {refusal}")
        return pixels, flags, header

    def _load(self, item):
        """Counts, flags and header (None for an array)."""
        pixels, flags, header = load_pixels(
            item, bands=self.bands, geometry=self.geometry, energy=self.energy, stretch=self.preprocessing.stretch,
            optional=self.optional,
        )  # fmt: skip
        if self.columns:
            values = self._values(item, header)
            pixels = as_planes(pixels[None], [values])[0]
            flags |= 0 if np.all(np.isfinite(values)) else int(Flag.MISSING_VALUE)
        return pixels, flags if header is None else flags | self._strangeness(header), header

    def _values(self, item, header):
        """Numbers of an item; an exposure that its row does not have is that of its image."""
        values = dict(zip(self.columns, item.values, strict=True))
        if not np.isfinite(values.get("exposure", 0)) and header is not None and header.exposure is not None:
            unit = self.preprocessing.columns.units[self.columns.index("exposure")]
            values["exposure"] = u.Quantity(header.exposure, u.s).to_value(unit)
        return list(values.values())

    def _refusal(self, flags, header):
        """Why an image gets no answer, or an empty text."""
        reasons = []
        if flags & self.refused & Flag.OTHER_INSTRUMENT:
            known = ", ".join(" ".join(pair) for pair in self.training["instruments"])
            found = " ".join(filter(None, (header.telescope, header.instrument))) or "none named in its header"
            reasons.append(f"the telescope and instrument must be among {known}, got {found}")
        if flags & self.refused & Flag.OTHER_BAND:
            found = header.energy_range or "none named in its header"
            reasons.append(f"the energy band must be {self.energy} keV, got {found}")
        return "; ".join(reasons)

    @property
    def shape(self):
        """Shape of the planes of an image, (n_planes, ny, nx)."""
        return n_planes(self.bands, self.preprocessing.stretch) + len(self.columns), *self.geometry.shape

    @property
    def energy(self):
        """Band [keV] of the training images, or a dict of those of their instruments; None where it is not known."""
        return self.training.get("energy_range") or self.training.get("energy_ranges")

    def _strangeness(self, header):
        """Flags of an image that is not, or not known to be, of the kind seen in training."""
        flags = Flag(0)
        known = {tuple(pair) for pair in self.training.get("instruments") or []}
        names = (header.instrument or "").split("+")
        # Not all headers say which array of ACIS it was.
        names = ["ACIS-I" if name == "ACIS" and ("CHANDRA", name) not in known else name for name in names]
        if known and not {(header.telescope or "", name) for name in names} <= known:
            flags |= Flag.OTHER_INSTRUMENT
        energy = self.energy
        if isinstance(energy, dict):
            energy = energy.get(names[0])
        if energy and (header.energy_range is None or not np.allclose(header.energy_range, energy, rtol=0.05)):
            flags |= Flag.OTHER_BAND
        seen = self.training.get("exposure_range")
        if seen and header.exposure and self.preprocessing.stretch not in CALIBRATED:
            if not seen[0] / _DEPTH <= header.exposure <= seen[1] * _DEPTH:
                flags |= Flag.OTHER_EXPOSURE
        return int(flags)

    def logits(self, counts):
        """Logits (n, n_classes) of counts (n, n_planes, ny, nx), divided by the temperature."""
        return self.network.logits(self.preprocessing(counts)) / np.float32(self.temperature)

    def probabilities(self, counts):
        """Probabilities (n, n_classes) of counts (n, n_planes, ny, nx), in scheme order."""
        return softmax(self.logits(counts).astype(float), axis=1)

    def decisive(self):
        """What decides its answers, in plain types and bytes: two predictors with the same one give the same rows."""
        known = {key: self.training.get(key) for key in ("instruments", "energy_range", "energy_ranges")}
        taken = [self.bands, self.optional, int(self.refused)]
        rules = [*taken, self.geometry.to_dict(), self.preprocessing.to_dict(), known]
        scores = [None if each is None else each.to_dict() for each in (self.novelty, self.familiarity)]
        return [*rules, self.temperature, *scores], self.network.data

    def load_batch(self, items):
        """
        Read items: a list of Row without probabilities, one per item, also where reading failed; and a dict of place in
        that list to (counts of shape (n_planes, ny, nx), exposure in s or None).
        """
        rows, images = [], {}
        for place, item in enumerate(items):
            loaded, message = attempt(self._load, item)
            if message:
                rows.append(self._no_answer(item.flags | int(Flag.FAILED), message))
                continue
            counts, flags, header = loaded
            refusal = self._refusal(flags, header)
            if not refusal:
                images[place] = counts, None if header is None else header.exposure
            rows.append(self._no_answer(flags | (int(Flag.FAILED) if refusal else 0), refusal))
        return rows, images

    def _no_answer(self, flags, message=""):
        """Row without probabilities."""
        return Row(np.full(self.network.n_classes, np.nan), flags, message)

    def classify_batch(self, rows, images, *, extras=()):
        """Rows with probabilities, from the result of `load_batch`; ``extras`` are other network outputs to keep."""
        if not images:
            return rows
        names = ["logits", *extras]
        if self.novelty is not None and "features" in self.novelty.kinds:
            names.append(feature_source(self.network.outputs))
        names = tuple(dict.fromkeys(names))
        counts = np.stack([pixels for pixels, _ in images.values()])
        outputs = dict(zip(names, self.network.run_batch(self.preprocessing(counts), names), strict=True))
        finite = np.all([np.isfinite(array.reshape(len(array), -1)).all(axis=1) for array in outputs.values()], axis=0)
        p, unfamiliar = np.full(outputs["logits"].shape, np.nan), np.zeros(len(counts), bool)
        if finite.any():
            outputs_there = {name: array[finite] for name, array in outputs.items()}
            p[finite] = softmax(outputs_there["logits"].astype(float) / self.temperature, axis=1)
            exposure = [seconds for (_, seconds), good in zip(images.values(), finite, strict=True) if good]
            unfamiliar[finite] = self._unfamiliar(outputs_there, counts[finite], exposure)
        rows = list(rows)
        for number, place in enumerate(images):
            flags = rows[place].flags
            if finite[number]:
                familiarity = self._familiarity_of(counts[number])
                flags |= int(Flag.UNFAMILIAR) if unfamiliar[number] or familiarity < FALSE_ALARM_RATE else 0
                kept = {name: outputs[name][number] for name in extras}
                rows[place] = Row(p[number], flags, "", kept, familiarity)
            else:
                message = "ModelError: the network gives no finite numbers for it"
                rows[place] = self._no_answer(flags | int(Flag.FAILED), message)
        return rows

    def _familiarity_of(self, planes):
        """How often images of the training population look at least as odd as one (n_planes, ny, nx), or NaN."""
        if self.familiarity is None:
            return float("nan")
        counts, exposure = planes[:2]
        # Without a map the exposure is not known where there is none: places without counts are taken for such.
        exposure = None if np.all((exposure == 0) | (exposure == 1)) else exposure
        pixel = self.preprocessing.pixel
        return self.familiarity.p(
            counts, pixel=pixel, exposure=exposure, resolution=resolution_of(planes, pixel),
            poisson=bool(planes[5, 0, 0]),
        )  # fmt: skip

    def _unfamiliar(self, outputs, counts, exposure):
        """Which images are unlike those of training; none where nothing was learned of these."""
        if self.novelty is None:
            return np.zeros(len(counts), bool)
        from ..doubt._statistics import image_statistics

        known = {}
        if "features" in self.novelty.kinds:
            known["features"] = novelty_features(outputs)
        if "statistics" in self.novelty.kinds:
            known["statistics"] = image_statistics(counts[:, : len(self.bands)], exposure)
        return self.novelty.unfamiliar(**known)

    def run(self, items, *, extras=()):
        """Rows of all items, one batch after the other in the calling thread; ``extras`` as in `classify_batch`."""
        rows = []
        for start in range(0, len(items), BATCH):
            loaded = self.load_batch(items[start : start + BATCH])
            rows += self.classify_batch(*loaded, extras=extras)
        return rows

    def stream(self, items, *, extras=()):
        """Yield rows of any number of items in bounded memory: this thread reads ahead, others run the network."""
        self.network.start()
        n_threads = lanes()
        waiting, pool = deque(), ThreadPoolExecutor(n_threads)
        try:
            for start in range(0, len(items), BATCH):
                loaded = self.load_batch(items[start : start + BATCH])
                waiting.append(pool.submit(self.classify_batch, *loaded, extras=extras))
                if len(waiting) > n_threads + 1:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _run_chunks(predictor, items, executor, **bar):
    """Rows of all items from an executor, in order. A task is worth sending the network along with it."""
    size = min(128, max(8, -(-len(items) // 64)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    keys = [chunk[0].source_id for chunk in chunks]
    outcomes = batch.run(predictor.run, chunks, keys=keys, executor=executor, description="classifying", **bar)
    for outcome in outcomes:
        if outcome.error:
            raise ModelError(f"the model cannot be run on {outcome.key!r} and those after it: {outcome.error}")
        yield from outcome.value


def _one_row(predictor, item):
    """Row of a single image; any failure is an error."""
    counts, flags, header = predictor._admitted(item)
    exposure = None if header is None else header.exposure
    (row,) = predictor.classify_batch([predictor._no_answer(flags)], {0: (counts, exposure)})
    if row.message:
        raise ModelError(f"the network gives no finite numbers for {item.source_id!r}")
    return row


def _check_labels(items, scheme):
    """Refuse a sample with labels of another scheme."""
    unknown = sorted({item.label for item in items} - {"", *scheme.classes})
    if unknown:
        raise SchemaError(
            f"images must have labels of the model's scheme {scheme.name!r} {scheme.classes} or none, "
            f"got {unknown[:5]}; leave out the column label to classify them all the same"
        )


def _rows(predictor, items, executor, progress, n_before=0):
    """Rows of items in their order, as they come."""
    if executor is not None:
        yield from _run_chunks(predictor, items, executor, progress=progress)
        return
    bar = {"desc": "classifying", "unit": "image", "dynamic_ncols": True, "initial": n_before}
    hidden = None if progress is None else not progress
    yield from tqdm(predictor.stream(items), total=n_before + len(items), disable=hidden, **bar)


def _kept_rows(predictor, items, checkpoint, executor, progress):
    """As `_rows`, as a list, of which those in a file are not made again; others are added to it as they come."""
    with KeptRows(checkpoint, fingerprints(items, predictor), predictor.network.n_classes) as kept:
        wanted = [number for number in range(len(items)) if number not in kept.rows]
        rows = _rows(predictor, [items[number] for number in wanted], executor, progress, len(kept.rows))
        for number, row in zip(wanted, rows, strict=True):
            kept.add(number, row)
        return [kept.rows[number] for number in range(len(items))]


def classify(
    predictor, images, *, scheme, redshift=None, centre=None, pixel_scale=None, executor=None, progress=None,
    checkpoint=None, model="", columns=None,
):  # fmt: skip
    """Table of predictions, one row per image in the order given; see `CutoutClassifier.classify`."""
    images = open_folder(images)
    items, single = predictor.items(
        images, redshift=redshift, centre=centre, pixel_scale=pixel_scale, columns=columns
    )  # fmt: skip
    _check_labels(items, scheme)
    if single:
        rows = [_one_row(predictor, items[0])]
    elif checkpoint is not None:
        rows = _kept_rows(predictor, items, checkpoint, executor, progress)
    else:
        rows = list(_rows(predictor, items, executor, progress))
    return prediction_table(
        [item.source_id for item in items],
        np.array([row.probabilities for row in rows]),
        [row.flags for row in rows],
        predictor.messages(items, rows),
        scheme,
        sample=images if hasattr(images, "colnames") else None,
        familiarity=None if predictor.familiarity is None else [row.familiarity for row in rows],
        model=model,
    )


def probabilities(predictor, images):
    """Probabilities (n, n_classes) of images; one that cannot be used is an error."""
    items, _ = predictor.items(images)
    result = np.zeros((len(items), predictor.network.n_classes))
    size = BATCH * (lanes() + 1)
    for start in range(0, len(items), size):
        counts = np.stack([predictor.load(item)[0] for item in items[start : start + size]])
        result[start : start + size] = predictor.probabilities(counts)
    return result
