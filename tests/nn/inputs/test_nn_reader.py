"""Files that end their reader: the process that reads them is not the one that has the answers."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.exceptions import ImageWarning
from astroclassify.images import Cutout, read_image
from astroclassify.nn import load_classifier
from astroclassify.nn.inputs import _reader
from astroclassify.schemes import Flag

COUNTS = np.random.default_rng(1).poisson(0.5, (256, 256)).astype(np.int16)
HEADER = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 128.5, "CRPIX2": 128.5, "CRVAL1": 150.0,
          "CRVAL2": 2.0, "CDELT1": -3.9 / 3600, "CDELT2": 3.9 / 3600, "REDSHIFT": 0.05}  # fmt: skip


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("coolcore")


def write(path, *, unit="count", counts=COUNTS, **settings):
    """A tile-compressed image."""
    compressed = fits.CompImageHDU(counts, fits.Header({**HEADER, "BUNIT": unit}), **settings)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(path)
    return path


def write_killer(path):
    """HCOMPRESS with a width of an eighth of what the tile holds: astropy writes beyond what it has allocated."""
    write(path, counts=COUNTS[:64, :64], compression_type="HCOMPRESS_1", tile_shape=(64, 64))
    content = path.read_bytes()
    lying = content.replace(b"ZNAXIS1 =                   64", b"ZNAXIS1 =                    8")
    assert lying != content
    path.write_bytes(lying)
    return path


@pytest.mark.parametrize("packed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_file_that_kills_its_reader_has_a_row_like_others(classifier, tmp_path, packed):
    good = [write(tmp_path / f"{name}.fits", compression_type=kind) for name, kind in
            (("a", "HCOMPRESS_1"), ("z", "RICE_1"))]  # fmt: skip
    killer = write_killer(tmp_path / "m.fits")
    if packed:
        killer = tmp_path / "m.fits.gz"
        killer.write_bytes(gzip.compress((tmp_path / "m.fits").read_bytes()))
    table = classifier.classify([good[0], killer, good[1], killer])
    assert (table["flags"] & Flag.FAILED != 0).tolist() == [False, True, False, True]
    right = classifier.classify(CCDData(COUNTS.astype(float), unit=u.ct, wcs=WCS(HEADER)), redshift=0.05)["p_CC"][0]
    assert table["p_CC"][[0, 2]].tolist() == pytest.approx([right] * 2, abs=1e-6)
    assert killer.name in table["message"][1]  # whether memory is found to be damaged is the C library's choice


@pytest.fixture
def reader(monkeypatch):
    """A child that ends at files called ``die`` and never answers for files called ``wait``."""
    odd = "; import astroclassify.nn.inputs._child as c, os, time; read = c.read_here; "
    odd += "c.read_here = lambda path, *rest: os._exit(1) if path.endswith('die.fits') else "
    odd += "time.sleep(1000) if path.endswith('wait.fits') else read(path, *rest); main()"
    child = _reader._Child()
    monkeypatch.setattr(_reader, "_child", child)
    monkeypatch.setattr(_reader, "_PROGRAM", _reader._PROGRAM.removesuffix("; main()") + odd)
    yield child
    child.stop()


def test_death_of_the_reader_is_said(classifier, tmp_path, reader):
    paths = [write(tmp_path / f"{name}.fits", compression_type="RICE_1") for name in ("a", "die", "z")]
    table = classifier.classify(paths)
    assert (table["flags"] & Flag.FAILED != 0).tolist() == [False, True, False]
    assert "the reader died on this file: " in table["message"][1] and "die.fits" in table["message"][1]


@pytest.mark.slow
def test_a_reader_that_takes_too_long_is_ended(classifier, tmp_path, reader, monkeypatch):
    paths = [write(tmp_path / f"{name}.fits", compression_type="RICE_1") for name in ("a", "wait", "z")]
    assert classifier.classify([paths[0]])["message"][0] == ""
    monkeypatch.setattr(_reader, "_SECONDS", 1.0)
    assert "the reader took more than 1 s over this file" in classifier.classify([paths[1]])["message"][0]
    monkeypatch.setattr(_reader, "_SECONDS", 600.0)
    assert classifier.classify([paths[2]])["message"][0] == ""


def test_warnings_and_errors_come_through(classifier, tmp_path):
    with pytest.warns(ImageWarning, match="BUNIT 'furlong' is not a unit"):
        classifier.classify(write(tmp_path / "a.fits", unit="furlong"))
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(b"\x1f\x8b and nothing more")
    message = classifier.classify([packed])["message"][0]
    assert message.startswith("GeometryError") and "b.fits.gz" in message


def test_plain_files_and_our_own_need_no_other_process(classifier, tmp_path, monkeypatch):
    fits.PrimaryHDU(COUNTS, fits.Header({**HEADER, "BUNIT": "count"})).writeto(tmp_path / "a.fits")
    Cutout("b", {"xray": read_image(tmp_path / "a.fits")}).write(tmp_path / "b.fits")

    def no_child():
        raise AssertionError("a child was started")

    monkeypatch.setattr(_reader._child, "_started", no_child)
    predictions = classifier.classify([tmp_path / "a.fits", tmp_path / "b.fits"])
    assert list(predictions["message"]) == ["", ""]
