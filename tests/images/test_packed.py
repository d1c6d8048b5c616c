"""Cutouts on disk: the same to the last bit, small, readable by others, and refused where they are damaged."""

import zlib

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astroclassify.exceptions import GeometryError
from astroclassify.images import Cutout, SkyImage, read_image
from astroclassify.images._packed import only_packed

RNG = np.random.default_rng(4)
SHAPE = (60, 50)
ARRAYS = {
    "whole": (RNG.poisson(0.3, SHAPE).astype(float), 16),
    "large whole": (RNG.poisson(0.3, SHAPE) * 70_001.0, 32),
    "negative": (RNG.integers(-9, 9, SHAPE).astype(float), 16),
    "nothing": (np.zeros(SHAPE), 16),
    "eighths": (RNG.poisson(40.0, SHAPE) / 8, 16),
    "millionths": (RNG.poisson(40.0, SHAPE) * 2.0**-20, 16),
    "far from zero": (RNG.poisson(40.0, SHAPE) * 2.0**-6 + 5e6, 32),
    "any": (RNG.normal(size=SHAPE), -64),
    "wide": (10.0 ** RNG.uniform(-300, 300, SHAPE), -64),
}


def image(data, **settings):
    return SkyImage(data, unit=u.ct, meta={"OBJECT": "it's END", "HISTORY": "one\ntwo"}, **settings)


@pytest.mark.parametrize("name", ARRAYS)
def test_the_same_bits_for_us_and_for_astropy(tmp_path, name):
    data, bitpix = ARRAYS[name]
    path = Cutout("a", {"xray": image(data), "longestname01234": image(data[::-1])}).write(tmp_path / "a.fits")
    back = Cutout.read(path)
    assert np.array_equal(back.bands["xray"].data, data)
    assert np.array_equal(back.bands["longestname01234"].data, data[::-1])
    assert back.bands["xray"].meta["OBJECT"] == "it's END" and len(back.bands["xray"].meta["HISTORY"]) == 2
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus["XRAY"].compression_type == "GZIP_2" and hdus["XRAY"].header["BITPIX"] == bitpix
        assert np.array_equal(hdus["XRAY"].data, data)


def test_what_is_not_finite_stays_masked(tmp_path):
    data = ARRAYS["any"][0].copy()
    data[3:5, 7] = np.nan, np.inf
    cutout = Cutout("a", {"xray": image(data)})
    back = Cutout.read(cutout.write(tmp_path / "a.fits")).bands["xray"]
    assert np.array_equal(back.data, cutout.bands["xray"].data) and back.mask.sum() == 2


def test_planes_that_say_nothing_take_no_space(tmp_path):
    counts = RNG.poisson(0.1, (356, 356)).astype(float)
    plain = Cutout("a", {"xray": image(counts)}).write(tmp_path / "a.fits")
    assert plain.stat().st_size < counts.size / 4
    unmasked = image(counts, mask=np.zeros(counts.shape, bool), exposure=np.full(counts.shape, 1e4))
    path = Cutout("a", {"xray": unmasked}).write(tmp_path / "b.fits")
    assert path.stat().st_size - plain.stat().st_size <= 2 * 2880
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "XRAY", "XRAY_EXPMAP"]
    assert (Cutout.read(path).bands["xray"].exposure == 1e4).all()


def test_a_band_is_an_image_of_its_own(tmp_path):
    data = ARRAYS["eighths"][0]
    path = Cutout("a", {"xray": image(data, exposure=data + 1)}).write(tmp_path / "a.fits")
    found = read_image(path, hdu="XRAY")
    assert np.array_equal(found.data, data) and found.unit == u.ct


def packed(tmp_path):
    return Cutout("a", {"xray": image(ARRAYS["whole"][0])}).write(tmp_path / "a.fits").read_bytes()


@pytest.mark.parametrize("keep", [2880, 3000, 5760, 5761, 5765, 6000])
def test_files_that_end_too_soon(tmp_path, keep):
    (tmp_path / "a.fits").write_bytes(packed(tmp_path)[:keep])
    with pytest.raises(GeometryError, match="a.fits"):
        Cutout.read(tmp_path / "a.fits")


def replaced(content, **values):
    """With other values of cards behind the first header."""
    for key, value in values.items():
        start = content.index(f"{key:8}= ".encode(), 2880)
        text = value.ljust(20) if value.startswith("'") else value.rjust(20)
        content = content[: start + 10] + text.encode() + content[start + 30 :]
    return content


def with_length(content, length):
    return replaced(content, PCOUNT=str(length), TFORM1=f"'1PB({length})'")


LIES = {
    "another size": lambda content: replaced(content, ZNAXIS1="51", ZTILE1="51"),
    "more than memory": lambda content: replaced(content, ZNAXIS1="9" * 12, ZTILE1="9" * 12),
    "numbers of no size": lambda content: replaced(content, ZBITPIX="0"),
    "no size": lambda content: replaced(content, ZNAXIS1="0", ZTILE1="0"),
    "no stream": lambda content: content[:5768] + bytes(40) + content[5808:],
    "a negative stream": lambda content: with_length(content, -5),
    "a stream without end": lambda content: with_length(content, 9),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(tmp_path, lie):
    (tmp_path / "a.fits").write_bytes(LIES[lie](packed(tmp_path)))
    with pytest.raises(GeometryError, match="a.fits"):
        Cutout.read(tmp_path / "a.fits")


def test_a_stream_that_unpacks_to_more_than_the_image(tmp_path):
    """It is unpacked as far as the image goes, whatever it holds."""
    content = packed(tmp_path)
    compressor = zlib.compressobj(9, wbits=31)
    bomb = compressor.compress(bytes(1 << 24)) + compressor.flush()
    content = with_length(content, len(bomb))[:5760] + len(bomb).to_bytes(4, "big") + bytes(4) + bomb
    (tmp_path / "a.fits").write_bytes(content + bytes(-len(content) % 2880))
    with pytest.raises(GeometryError, match="unpacks to 6001 bytes, 6000 are declared"):
        Cutout.read(tmp_path / "a.fits")


def test_which_files_zlib_alone_unpacks(tmp_path):
    """Those that we write: others can make the C code of astropy write where it must not."""
    content = packed(tmp_path)
    assert only_packed(content) and only_packed(b"") and only_packed(content[:2880])
    assert not only_packed(content.replace(b"GZIP_2", b"RICE_1"))
    assert not only_packed(content[:2880] + content[2960:])
    assert not only_packed(content + content[2880 : 2880 + 80 * 12] + b"ZIMAGE  ".ljust(80))
    assert not only_packed(replaced(content, TFIELDS="2"))
