"""
Teach a packaged cool-core model what clusters look like, so that it says of an image whether it is one of a cluster.

Takes the samples that the model was trained on (``tools/train_coolcore.py simulate``; any that `make_mocks` has made)
and writes `astroclassify.nn.Familiarity` into the model's folder.

    python tools/fit_familiarity.py mocks astroclassify/data/models/coolcore --workers 2
"""

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from astroclassify import tables
from astroclassify.batch import derive_rng
from astroclassify.nn import Familiarity, load_classifier
from astroclassify.nn.inputs._brightness import resolution_of
from astroclassify.nn.inputs._items import as_items
from astroclassify.nn.inputs._pixels import load_pixels

PIXEL = 7.8  # kpc, to which images are binned: finer ones are by the score itself

log = logging.getLogger("fit_familiarity")


def measured(path, bands, geometry, stretch, pixel):
    """Counts and exposure of an image, binned to about `PIXEL`, and its resolution [kpc]."""
    items, _ = as_items([path], bands=bands, shape=geometry.shape)
    planes, _, _ = load_pixels(items[0], bands=bands, geometry=geometry, stretch=stretch)
    factor = max(1, round(PIXEL / pixel))
    side = planes.shape[1] // factor
    blocks = planes[:2, : side * factor, : side * factor].reshape(2, side, factor, side, factor)
    return blocks[0].sum(axis=(1, 3)), blocks[1].mean(axis=(1, 3)), resolution_of(planes, pixel)


def familiarity_of(paths, groups, model, *, rng, executor):
    """`Familiarity` of images (paths, and the cluster of each), put on the grid of a model."""
    pixel = model.predictor_.preprocessing.pixel
    load = partial(measured, bands=model.bands, geometry=model.geometry, stretch=model.stretch, pixel=pixel)
    counts, exposure, resolution = zip(*executor.map(load, paths, chunksize=20), strict=True)
    pixel *= max(1, round(PIXEL / pixel))
    return Familiarity.fit(np.array(counts), pixel=pixel, resolution=resolution, exposure=np.array(exposure),
                           groups=groups, rng=rng, executor=executor)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("samples", type=Path, help="folder that holds samples named train*, or one sample")
    parser.add_argument("model", type=Path)
    parser.add_argument("--number", type=int, default=6000, help="images to take, at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folders = sorted(arguments.samples.glob("train*")) or [arguments.samples]
    rows = []
    for folder in folders:
        sample = tables.read_sample(folder)
        paths = [str(path) for path in tables.image_paths(sample)]
        rows += [(path, f"{folder.name}/{group}") for path, group, stored in
                 zip(paths, sample["group_id"], sample["path"], strict=True) if stored]  # fmt: skip
    chosen = derive_rng(arguments.seed, "sample").permutation(len(rows))[: arguments.number]
    paths, groups = zip(*(rows[number] for number in chosen), strict=True)
    model = load_classifier(arguments.model)
    with ProcessPoolExecutor(arguments.workers) as executor:
        score = familiarity_of(paths, groups, model, rng=arguments.seed, executor=executor)
    model.familiarity_ = model.predictor_.familiarity = score
    model.save(arguments.model, overwrite=True)
    log.info("%s knows %d images of %d clusters", arguments.model, len(paths), len(set(groups)))


if __name__ == "__main__":
    main()
