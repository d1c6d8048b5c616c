"""Open FITS from anywhere: whatever is wrong with a file becomes one error of one line."""

import bz2
import gzip
import io
import lzma
import os
import tempfile
import warnings
import zipfile
from contextlib import ExitStack, contextmanager

from astropy.io import fits
from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning
from astropy.wcs import FITSFixedWarning

from astroclassify._checks import first_line, require, shorten
from astroclassify._fits_structure import check_structure
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import (
    ArgumentError,
    AstroclassifyError,
    GeometryError,
    ImageWarning,
    MissingDependencyError,
)

from ._packed import BLOCK, is_packed, unpack

__all__ = ["hdu_of_name", "name_of", "open_fits"]

_LARGEST_UNPACKED = 1 << 30
"""Bytes that a compressed file of any size may unpack to, and a file object that cannot be rewound may give."""
_UNPACKED_PER_BYTE = 200
"""Beyond that, unpacked bytes for each byte of a compressed file."""
_IN_MEMORY = 1 << 26  # bytes; what is larger goes to a temporary file
_STEP = 1 << 20
_PACKED = {
    b"\x1f\x8b\x08": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"PK\x03\x04": lambda file: _only_member(file),
}
_LZW = b"\x1f\x9d"
_HDUS = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU, fits.BinTableHDU, fits.TableHDU)


def name_of(source):
    """What messages call a source of `open_fits`."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, fits.HDUList):
        return source.filename() or "HDUList"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else type(source).__name__


def hdu_of_name(hdus, name):
    """First HDU of a name, in capitals, or None; headers are parsed only if there is such a name."""
    if name not in getattr(hdus, "names_there", (name,)):
        return None
    return next((hdu for hdu in hdus if hdu.name == name), None)


@contextmanager
def open_fits(source):
    """
    HDUs of a path, an address that fsspec reads (``memory://``, ``s3://``), a binary file object, an HDU or an HDUList.

    The file's structure is checked first (`check_structure`). Whatever is raised while it is read, also inside the
    ``with`` block, becomes a GeometryError of one line, but for errors of the package, FileNotFoundError and
    interruptions.
    """
    name = name_of(source)
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            # astropy repairs deprecated keywords (RADECSYS, missing units of the WCS): no reason to warn.
            warnings.simplefilter("ignore", FITSFixedWarning)
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            # For damaged files astropy 6 calls a function of its own that it deprecates.
            warnings.filterwarnings("ignore", "The indent function", AstropyDeprecationWarning)
            warnings.filterwarnings("error", "(?s).*truncated", AstropyUserWarning)
            yield _hdus_of(source, name, stack)
    except (AstroclassifyError, ImageWarning, FileNotFoundError):
        raise
    except MemoryError as error:
        raise GeometryError(f"{name!r} cannot be read as FITS: it needs more memory than there is") from error
    except Exception as error:  # readers of damaged files raise whatever comes
        raise GeometryError(f"{name!r} cannot be read as FITS: {first_line(error)}") from error


def _hdus_of(source, name, stack):
    if isinstance(source, fits.HDUList):
        return source
    if isinstance(source, _HDUS):
        return fits.HDUList([source])
    file, stored = _stored(source, stack)
    file, size = _unpacked(file, stored, stack)
    end, names = check_structure(file, size, stored)
    if end < size:
        file = _part(file, end, size, name)
    file.seek(0)
    # Without uint, BLANK is applied to unsigned integers too.
    hdus = fits.open(file, memmap=False, uint=False)  # holds nothing but the file; its own close would parse all HDUs
    hdus.names_there = names
    return hdus


def _stored(source, stack):
    """Seekable file of what is stored, and its size."""
    if isinstance(source, str) and "://" in source:
        file = _remote(source, stack)
    elif isinstance(source, (str, os.PathLike)):
        size = check_regular(source, error=GeometryError).st_size
        return stack.enter_context(open(source, "rb")), size
    elif callable(getattr(source, "read", None)):
        file = source
    else:
        raise ArgumentError(
            f"path must be a path, an address, a binary file object, an HDU or an HDUList, got {shorten(source)}"
        )
    if not (hasattr(file, "seekable") and file.seekable()):
        file = _spool(file, _LARGEST_UNPACKED, stack)
    return file, file.seek(0, os.SEEK_END)


def _remote(address, stack):
    fsspec = require("fsspec", extra="remote")
    try:
        return stack.enter_context(fsspec.open(address, "rb"))
    except FileNotFoundError:
        raise FileNotFoundError(f"path: no file {address!r}") from None
    except ImportError as error:  # the part of fsspec for this kind of address
        raise MissingDependencyError(f"path: {address!r} cannot be read: {first_line(error)}") from error


def _unpacked(file, stored, stack):
    """Seekable file as it was before a whole-file compression, or before `pack`, and its size."""
    file.seek(0)
    head = file.read(2 * BLOCK)
    if not isinstance(head, bytes):
        raise ArgumentError(f"path must be a file object in binary mode, got one that reads {type(head).__name__}")
    if head.startswith(_LZW):
        raise ValueError("it is packed by compress (.Z), which Python cannot unpack: unpack it first")
    most = max(_LARGEST_UNPACKED, _UNPACKED_PER_BYTE * stored)
    if is_packed(head) and stored <= _IN_MEMORY:
        content = unpack(head + file.read(), most)
        return io.BytesIO(content), len(content)
    opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
    if opener is None:
        return file, stored
    file.seek(0)
    file = _spool(opener(file), most, stack)
    return file, file.seek(0, os.SEEK_END)


def _only_member(file):
    archive = zipfile.ZipFile(file)
    if len(archive.namelist()) != 1:
        raise ValueError(f"it is an archive of {len(archive.namelist())} files, one is read")
    return archive.open(archive.namelist()[0])


def _spool(file, most, stack):
    """Copy of a stream of at most ``most`` bytes, in memory or in a temporary file."""
    copy, size = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY)), 0
    while data := file.read(_STEP):
        size += len(data)
        if size > most:
            raise ValueError(f"it unpacks to more than {most} bytes, the most that are read from a file of its size")
        copy.write(data)
    return copy


class _Part(io.RawIOBase):
    """The first ``end`` bytes of a file."""

    def __init__(self, file, end):
        self._file, self._end, self._place = file, end, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        return self._place

    def readinto(self, buffer):
        self._file.seek(self._place)
        data = self._file.read(max(0, min(len(buffer), self._end - self._place)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _part(file, end, size, name):
    """The file without what stands behind its last HDU; a warning if that is more than padding."""
    file.seek(end)
    if file.read(_STEP).strip(b" \0"):
        warnings.warn(f"{name}: the last {size - end} bytes are no HDU and are left out", ImageWarning, stacklevel=6)
    return io.BufferedReader(_Part(file, end))
