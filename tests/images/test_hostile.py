"""Files that lie: reading ends in an image or in one error of one line, before memory, time or the process is lost."""

import bz2
import gzip
import importlib.util
import io
import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astroclassify import _fits_structure
from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning, MissingDependencyError
from astroclassify.images import Cutout, _open, read_image

DATA = np.arange(600.0).reshape(20, 30)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "fuzz_readers.py"


def content(*hdus):
    file = io.BytesIO()
    fits.HDUList(list(hdus) or [fits.PrimaryHDU(DATA)]).writeto(file)
    return file.getvalue()


PLAIN, EXTENDED = content(), content(fits.PrimaryHDU(), fits.ImageHDU(DATA))
EXTEND = b"EXTEND  =                    T"


def card(data, key, text, nth=0):
    """The file with another value (as it is in the card) of a keyword; ``nth`` among the cards of that keyword."""
    places = [k for k in range(0, len(data), 80) if data[k : k + 10] == key.ljust(8).encode() + b"= "]
    place = places[nth]
    return data[: place + 10] + text.rjust(20).encode().ljust(70) + data[place + 80 :]


def refused(source, text="cannot be read as FITS"):
    with pytest.raises(GeometryError, match=text) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lie", "text"),
    {
        "empty": (b"", "it is empty"),
        "text": (b"not FITS " * 1000, "does not begin as FITS"),
        "SIMPLE=F": (card(PLAIN, "SIMPLE", "F"), "SIMPLE must be T"),
        "no END": (PLAIN[:2880].replace(b"END ", b"EMD ") * 3, "no END card"),
        "endless header": (PLAIN[:2880].replace(b"END ", b"EMD ") + b" " * 2880 * 700, "more than 20000 cards"),
        "text after END": (PLAIN.replace(b"END   ", b"END  x"), "END card is not blank"),
        "two NAXIS1": (PLAIN.replace(EXTEND, b"NAXIS1  =                 9999"), "two values of NAXIS1"),
        "BITPIX": (card(PLAIN, "BITPIX", "7"), "BITPIX must be one of"),
        "NAXIS": (card(PLAIN, "NAXIS", "999"), "NAXIS3 must be a whole number"),
        "NAXIS of words": (card(PLAIN, "NAXIS", "'two'"), "NAXIS must be a whole number from 0 to 999, got \"'two'\""),
        "negative length": (card(PLAIN, "NAXIS1", "-30"), "NAXIS1 must be a whole number from 0"),
        "huge length": (card(PLAIN, "NAXIS1", "99999999999999"), "truncated: .* bytes of data are declared"),
        "truncated": (PLAIN[:5000], "truncated: 4800 bytes of data are declared, 2120 are there"),
        "PCOUNT": (card(EXTENDED, "PCOUNT", "-1"), "HDU 1: PCOUNT must be"),
        "GCOUNT": (card(EXTENDED, "GCOUNT", "1000000000"), "HDU 1: .* truncated"),
        "random groups": (
            card(PLAIN, "NAXIS1", "0").replace(b"EXTEND  =", b"GROUPS  ="), "random groups"
        ),
        "BSCALE": (PLAIN.replace(EXTEND, b"BSCALE  =                  NaN"), "a.fits"),
        "inflated": (b"\x1f\x8b\x08" + bytes(100), "cannot be read as FITS"),
    }.values(),
)  # fmt: skip
def test_structure(tmp_path, lie, text):
    (tmp_path / "a.fits").write_bytes(lie)
    assert "a.fits" in refused(tmp_path / "a.fits", text)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.fits")
    (tmp_path / "link.fits").symlink_to(tmp_path / "fifo.fits")
    for path in (tmp_path / "fifo.fits", tmp_path / "link.fits"):
        refused(path, "is a FIFO, not a regular file")
        with pytest.raises(GeometryError, match="is a FIFO"):
            Cutout.read(path)
    refused("/dev/zero", "is a device, not a regular file")
    refused("a\0b.fits", "is no name of a file")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        read_image(tmp_path)
    (tmp_path / "a.fits").write_bytes(PLAIN)
    (tmp_path / "good.fits").symlink_to(tmp_path / "a.fits")
    assert read_image(tmp_path / "good.fits").shape == (20, 30)


@pytest.mark.parametrize("error", [RecursionError, MemoryError, RuntimeError, UnicodeError, OverflowError])
def test_whatever_a_reader_raises(tmp_path, monkeypatch, error):
    (tmp_path / "a.fits").write_bytes(PLAIN)

    def raising(*_, **__):
        raise error("reason\nand more")

    monkeypatch.setattr(_open.fits, "open", raising)
    assert "reason" in refused(tmp_path / "a.fits") or error is MemoryError


def test_an_interruption_is_none_of_its_errors(tmp_path, monkeypatch):
    (tmp_path / "a.fits").write_bytes(PLAIN)
    monkeypatch.setattr(_open, "check_structure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        read_image(tmp_path / "a.fits")


def test_many_hdus_are_not_parsed(tmp_path, monkeypatch):
    extension = content(fits.PrimaryHDU(), fits.ImageHDU())[2880:]
    (tmp_path / "a.fits").write_bytes(PLAIN + 1000 * extension)
    with _open.open_fits(tmp_path / "a.fits") as hdus:
        assert _open.hdu_of_name(hdus, "MASK") is None and list.__len__(hdus) == 1
    assert read_image(tmp_path / "a.fits").shape == (20, 30)
    monkeypatch.setattr(_fits_structure, "MOST_HDUS", 1000)
    refused(tmp_path / "a.fits", "more than 1000 HDUs")


def test_what_stands_behind_the_last_hdu(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(PLAIN + bytes(2880))
    np.testing.assert_array_equal(read_image(path).data, DATA)
    path.write_bytes(PLAIN + b"special record" * 300)
    with pytest.warns(ImageWarning, match="the last 4200 bytes are no HDU and are left out"):
        np.testing.assert_array_equal(read_image(path).data, DATA)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.fits", data)
    return file.getvalue()


@pytest.mark.parametrize("pack", [*PACKERS.values(), zipped])
def test_packed_files(tmp_path, monkeypatch, pack):
    (tmp_path / "a.fits").write_bytes(pack(PLAIN))
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits").data, DATA)
    big = fits.PrimaryHDU(np.zeros((2000, 2000), np.uint8))
    (tmp_path / "bomb.fits").write_bytes(pack(content(big)))
    monkeypatch.setattr(_fits_structure, "MOST_PIXELS", 10_000)
    refused(tmp_path / "bomb.fits", "an image may have .* pixels, 4000000 are declared")
    monkeypatch.setattr(_open, "_LARGEST_UNPACKED", 1 << 20)
    refused(tmp_path / "bomb.fits", "unpacks to more than .* bytes")


class Pipe(io.RawIOBase):
    """A stream that cannot be rewound."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._file.readinto(buffer)


def test_sources_that_are_no_path():
    file = io.BytesIO(PLAIN)
    file.seek(100)
    hdu = fits.ImageHDU(DATA)
    for source in (file, Pipe(PLAIN), Pipe(gzip.compress(PLAIN)), hdu, fits.HDUList([fits.PrimaryHDU(), hdu])):
        np.testing.assert_array_equal(read_image(source).data, DATA)
    assert not file.closed
    assert "'BytesIO'" in refused(io.BytesIO(PLAIN[:5000]))
    for wrong in (5, None, DATA, io.StringIO("SIMPLE")):
        with pytest.raises(ArgumentError, match="path must be a"):
            read_image(wrong)


def test_addresses(monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/hostile/a.fits", PLAIN)
    np.testing.assert_array_equal(read_image("memory://hostile/a.fits").data, DATA)
    with pytest.raises(FileNotFoundError, match="no file 'memory://hostile/b.fits'"):
        read_image("memory://hostile/b.fits")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match="fsspec is needed"):
        read_image("memory://hostile/a.fits")


# Compressed images. The decompressors in C believe what the compressed bytes say of themselves.

COUNTS = np.random.default_rng(0).poisson(20, (20, 30)).astype(np.int16)


def compressed(kind, data=COUNTS, **more):
    hdu = fits.CompImageHDU(data, compression_type=kind, tile_shape=(20, 30), **more)
    return content(fits.PrimaryHDU(), hdu)


def heap(data):
    """Where the compressed bytes of the one tile begin."""
    table = fits.open(io.BytesIO(data), disable_image_compression=True)[1]
    return table.fileinfo()["datLoc"] + table.header["NAXIS1"]


def stream(data, place, new):
    """The file with other bytes at a place of the compressed ones."""
    start = heap(data) + place
    return data[:start] + new + data[start + len(new) :]


HCOMPRESS, RICE, PLIO, GZIP = (compressed(kind) for kind in ("HCOMPRESS_1", "RICE_1", "PLIO_1", "GZIP_1"))
DITHERED = compressed("RICE_1", DATA.astype(np.float32) ** 0.5, quantize_method=1, dither_seed=5)
BIG = card(card(RICE, "ZNAXIS1", "8000"), "ZNAXIS2", "8000")
LIES = {
    "HCOMPRESS size": stream(HCOMPRESS, 2, (4000).to_bytes(4, "big") * 2),
    "HCOMPRESS sides": stream(HCOMPRESS, 2, (30).to_bytes(4, "big") + (20).to_bytes(4, "big")),
    "HCOMPRESS magic": stream(HCOMPRESS, 0, b"xx"),
    "HCOMPRESS planes": stream(HCOMPRESS, 22, b"\xff\xff\xff"),
    "HCOMPRESS smooth": card(HCOMPRESS, "ZVAL2", "77"),
    "RICE block": card(RICE, "ZVAL1", "1000000"),
    "RICE bytes": card(RICE, "ZVAL2", "8"),
    "RICE length": card(card(BIG, "ZTILE1", "8000"), "ZTILE2", "8000"),
    "PLIO length": stream(PLIO, 6, b"\x7f\xff\x7f\xff"),
    "PLIO start": stream(PLIO, 2, b"\x80\x00"),
    "PLIO type": PLIO.replace(b"1PI(", b"1PB("),
    "dither seed": card(DITHERED, "ZDITHER0", "-2000000000"),
    "pixels": card(card(GZIP, "ZNAXIS1", "2000000000"), "ZTILE1", "2000000000"),
    "tiles": card(GZIP, "ZTILE1", "1"),
    "tile of nothing": card(GZIP, "ZTILE1", "0"),
    "axes": card(GZIP, "ZNAXIS", "999"),
    "heap": card(GZIP, "THEAP", "99999999") if b"THEAP" in GZIP else card(GZIP, "PCOUNT", "4"),
    "form": GZIP.replace(b"1PB(", b"9PB("),
}  # fmt: skip


def test_honest_compressed_files():
    for data in (HCOMPRESS, RICE, PLIO, GZIP, compressed("GZIP_2"), compressed("HCOMPRESS_1", hcomp_smooth=1)):
        np.testing.assert_array_equal(read_image(io.BytesIO(data)).data, COUNTS)
    assert np.abs(read_image(io.BytesIO(DITHERED)).data - DATA**0.5).max() < 0.5


def test_lies_of_compressed_files(tmp_path):
    """In a process of its own: several of them kill one that decompresses them."""
    for name, data in LIES.items():
        (tmp_path / f"{name}.fits").write_bytes(data)
    code = """
import sys
from astroclassify.exceptions import GeometryError
from astroclassify.images import read_image
for path in sys.argv[1:]:
    try:
        print("READ", path, read_image(path).shape)
    except GeometryError as error:
        print("refused", error)
"""
    paths = [str(tmp_path / f"{name}.fits") for name in LIES]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=300, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(LIES), done.stderr[-500:]
    assert not [line for line in lines if not line.startswith("refused") or "cannot be read as FITS: HDU 1" not in line]


def test_a_tile_that_unpacks_without_end(monkeypatch):
    from astroclassify import _fits_tiles

    bomb = gzip.compress(bytes(1 << 20))
    data = stream(compressed("GZIP_1", np.random.default_rng(0).integers(0, 2**15, (20, 30)).astype(np.int16)), 0, b"")
    start, length = heap(data), 1100
    assert len(bomb) < length
    data = data[:start] + bomb + data[start + len(bomb) :]
    data = data[: start - 8] + len(bomb).to_bytes(4, "big") + data[start - 4 :]
    monkeypatch.setattr(_fits_tiles, "_GZIP_TRUSTED", 100)
    refused(io.BytesIO(data), "tile 1 unpacks to more than its 600 pixels can take")


@pytest.mark.parametrize(("reader", "n"), [("image", 40), ("votes", 40)])
def test_damaged_inputs(tmp_path, reader, n):
    """A short run of the tool that does this for hours."""
    if not TOOL.exists():
        pytest.skip("the tools are not part of this distribution")
    spec = importlib.util.spec_from_file_location("fuzz_readers", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    outcomes = tool.fuzz(reader, seconds=240, seed=7, faults=tmp_path, most=n)
    assert sum(outcomes.values()) == n and not [name for name in outcomes if name.startswith("FAULT")], outcomes
