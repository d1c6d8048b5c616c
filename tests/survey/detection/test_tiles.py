"""Tiles that are read from disk give the sources of the whole image, each once."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from scipy.spatial import cKDTree

from astroclassify.exceptions import GeometryError
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, detect_tiles, find_sources, read_field

SIDE = 700
OPTIONS = {"size": 350, "overlap": 128}


@pytest.fixture(scope="module")
def field():
    found = simulate_field(rng=3, shape=(SIDE, SIDE), exposure=20 * u.ks).field
    return dataclasses.replace(found, exposure=np.where(found.mask, 0.0, found.exposure))


@pytest.fixture(scope="module")
def files(field, tmp_path_factory):
    """Paths of counts (unsigned integers, compressed), exposure and background."""
    folder = tmp_path_factory.mktemp("tiles")
    header = field.wcs.to_header()
    header["INSTRUME"] = "EPN"
    paths = {name: folder / f"{name}.fits" for name in ("counts", "exposure", "background")}
    counts = fits.CompImageHDU(np.where(field.mask, 0, field.counts).astype(np.uint16), header)
    fits.HDUList([fits.PrimaryHDU(), counts]).writeto(paths["counts"])
    fits.writeto(paths["exposure"], field.exposure.astype(np.float32), header)
    fits.writeto(paths["background"], field.background.astype(np.float32), header)
    return paths


def matched(one, other):
    """Rows of the other table nearest to those of one, and their distances [pixels]."""
    tree = cKDTree(np.column_stack([other["x"].value, other["y"].value]))
    return tree.query(np.column_stack([one["x"].value, one["y"].value]))[::-1]


def whole(files):
    return read_field(files["counts"], exposure=files["exposure"], background=files["background"])


def test_tiles_find_the_sources_of_the_whole_image(files):
    detector = partial(find_sources, scales=(2, 3, 4, 5))
    tiled = detect_tiles(
        files["counts"], exposure=files["exposure"], background=files["background"], detector=detector, **OPTIONS
    )
    untiled = detector(whole(files))
    assert len(tiled) == len(untiled) > 50 and len(set(tiled["source_id"])) == len(tiled)
    nearest, distance = matched(untiled, tiled)
    assert len(set(nearest)) == len(tiled) and distance.max() < 0.1
    for name in ("filtered_counts", "area"):
        np.testing.assert_allclose(tiled[name][nearest], untiled[name], rtol=0.02)
    assert np.all(tiled["sky_position"][nearest].separation(untiled["sky_position"]) < 0.5 * u.arcsec)


@pytest.mark.slow
def test_classes_are_those_of_the_whole_image(files):
    detector = partial(detect, scales=(2, 3, 4, 5))
    tiled = detect_tiles(
        files["counts"], exposure=files["exposure"], background=files["background"], detector=detector, **OPTIONS
    )
    untiled = detector(whole(files))
    sure = untiled[untiled["det_like"] > 30]
    nearest, distance = matched(sure, tiled)
    assert distance.max() < 0.1 and len(set(nearest)) == len(sure)
    assert list(tiled["x_class"][nearest]) == list(sure["x_class"])
    np.testing.assert_allclose(tiled["off_axis"][nearest], sure["off_axis"], rtol=1e-3)


def test_the_background_is_estimated_once(files, monkeypatch):
    """In binned pixels; it is that of the whole image, and so is the optical axis."""
    from astroclassify.survey.detection import _tiles

    monkeypatch.setattr(_tiles, "LARGEST", 350)
    seen = []

    def detector(field):
        seen.append(field)
        return find_sources(field)[:0]

    assert len(detect_tiles(files["counts"], exposure=files["exposure"], detector=detector, **OPTIONS)) == 0
    assert len(seen) == 4
    first = read_field(files["counts"], exposure=files["exposure"])  # with an estimate on the full pixels
    inner = first.background[:478, :478]
    used = first.exposure[:478, :478] > 0.02 * first.exposure.max()
    ratio = seen[0].background[used] / inner[used]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.06) and np.std(ratio) < 0.1
    assert all(Flag.NO_BACKGROUND in each.flags for each in seen)
    assert len({each.axis.ra.deg for each in seen}) == 1
    assert seen[0].off_axis(0, 0) == pytest.approx(first.off_axis(0, 0))


def test_tiles_without_exposure_are_left_out(tmp_path, files, field):
    exposure = np.where(np.arange(SIDE) < 200, field.exposure, 0.0)
    header = fits.getheader(files["exposure"])
    fits.writeto(tmp_path / "exposure.fits", exposure, header)
    found = detect_tiles(
        files["counts"], exposure=tmp_path / "exposure.fits", background=files["background"], size=350, overlap=32,
        detector=find_sources,
    )  # fmt: skip
    assert {name.split("-")[0] for name in found["source_id"]} == {"1", "3"}


def test_maps_that_do_not_fit(tmp_path, files):
    header = fits.getheader(files["exposure"])
    fits.writeto(tmp_path / "small.fits", np.ones((10, 10)), header)
    fits.writeto(tmp_path / "zero.fits", np.zeros((SIDE, SIDE)), header)
    fits.writeto(tmp_path / "area.fits", np.ones((SIDE, SIDE)), fits.Header([*header.cards, ("BUNIT", "cm2 s")]))
    for name, message in (
        ("small", r"exposure must have the image's shape \(700, 700\), got \(10, 10\)"),
        ("zero", "exposure leaves no pixel"),
        ("area", "exposure must be a map in seconds .*cm2 s"),
    ):
        with pytest.raises(GeometryError, match=message):
            detect_tiles(files["counts"], exposure=tmp_path / f"{name}.fits")
    with pytest.raises(FileNotFoundError):
        detect_tiles(tmp_path / "none.fits", exposure=files["exposure"])
    with pytest.raises(ValueError, match="size"):
        detect_tiles(files["counts"], exposure=files["exposure"], size=2)
