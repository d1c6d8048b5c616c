"""The one writer of sample folders: settings, images made or kept, rows in headers and tables, failures, resume."""

import hashlib
import json
import logging
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from astroclassify import batch, tables
from astroclassify.exceptions import OutputError
from astroclassify.images._files import write_cutout, write_image

from . import _folders as folders

__all__ = [
    "DIGEST_KEY",
    "RowFormat",
    "SampleWriter",
    "dateless_provenance",
    "digest_of",
    "one_line",
    "rounded",
]

log = logging.getLogger(__name__)

#: Keyword, in the header of an image, of the digest of what it was made from.
DIGEST_KEY = "SETTINGS"

# What stays as it is in a header; the rest is written as %xx. Long texts with ' or & are not read back unchanged.
_SAFE = ' !"#$()*+,-./:;<=>?@[\\]^_`{|}~'


def digest_of(content):
    """Short name (16 hex digits) of plain types."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def dateless_provenance(**extra):
    """Provenance without the date, so that the same settings give the same file."""
    return {key: value for key, value in tables.provenance(**extra).items() if key != "date"}


def rounded(value):
    """Round to 12 digits: they survive a FITS header, where the last ones of a double may not."""
    return float(f"{value:.12g}")


def one_line(text):
    """Text as one line, without blanks at its ends."""
    return " ".join(str(text).split())


@dataclass(frozen=True)
class RowFormat:
    """
    Columns of a sample (name -> ``"str"``, ``"int"``, ``"float"`` or a unit) and the keywords (column -> keyword) of
    those that the header of an image holds, so that a row can be read back from its image.
    """

    kinds: dict
    keywords: dict = field(default_factory=dict)

    def to_header(self, row):
        """Header entries in the order of the row: 12 digits, texts quoted; no NaN, which FITS headers cannot hold."""
        entries = {}
        for name, value in row.items():
            keyword = self.keywords[name]
            if isinstance(value, str):
                entries[keyword] = quote(value, safe=_SAFE)
            elif not isinstance(value, float):
                entries[keyword] = value
            elif not math.isnan(value):
                entries[keyword] = rounded(value)
        return entries

    def from_header(self, header):
        """Values of the columns in the header of an image; what it lacks is empty, zero or NaN."""
        types = {"str": lambda text: unquote(str(text)), "int": int}
        empty = {"str": "", "int": 0}
        return {
            name: types.get(self.kinds[name], float)(header.get(keyword, empty.get(self.kinds[name], math.nan)))
            for name, keyword in self.keywords.items()
        }

    def table(self, rows):
        """Table of rows (column -> value); what a row lacks is empty, zero or NaN."""
        columns = {}
        for name, kind in self.kinds.items():
            # Units first: comparing a unit with a text makes astropy parse the text, which takes milliseconds.
            if isinstance(kind, u.UnitBase):
                columns[name] = np.array([row.get(name, math.nan) for row in rows], dtype=float) * kind
            elif kind == "str":
                columns[name] = np.array([row.get(name, "") for row in rows] or np.zeros(0, "U1"), dtype=str)
            elif kind == "int":
                columns[name] = np.array([row.get(name, 0) for row in rows], dtype=np.int64)
            else:
                columns[name] = np.array([row.get(name, math.nan) for row in rows], dtype=float)
        return QTable(columns)


@dataclass(frozen=True)
class SampleWriter:
    """
    A sample folder in the making; small, so that it can be sent to workers.

    ``settings`` (plain types) go into ``settings_file``, ``digest`` into the header of every image. ``band``: name of
    the band whose header holds the row; None where a file is a single image.
    """

    folder: Path
    settings: dict
    settings_file: str
    digest: str = ""
    band: str | None = None

    def prepare(self, **checks):
        """Make or check the folder, see `folders.prepare`."""
        folders.prepare(self.folder, self.settings, self.settings_file, **checks)

    def path(self, name):
        """Path of an image, relative to the folder."""
        return f"{tables.IMAGE_FOLDER}/{name}.fits"

    def header(self, name, digest=None):
        """Header of an image that an earlier run made from the same; None if it is missing, damaged or another."""
        path = self.folder / self.path(name)
        if not path.is_file():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # astropy's remarks on odd headers do not matter here
                warnings.simplefilter("error", AstropyUserWarning)  # but a file shorter than its headers say does
                with open(path, "rb") as file, fits.open(file, memmap=False, disable_image_compression=True) as hdus:
                    len(hdus)  # reads the headers of all extensions, not only of the first
                    header = hdus[0 if self.band is None else self.band.upper()].header
                    same = header.get(DIGEST_KEY) == (digest or self.digest)
        except (OSError, TypeError, ValueError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
            log.debug("%s is made again: %s", path, error)
            return None
        return header if same else None

    def write(self, name, image):
        """Write an image or a cutout so that it is whole or not there; one that is there is replaced."""
        path = self.folder / self.path(name)
        if isinstance(image, CCDData):
            _twice(lambda: write_image(image, path, overwrite=True))
        else:
            _twice(lambda: write_cutout(name, image.bands, path, overwrite=True))

    def keep_or_make(self, name, make, *, digest=None, usable=None):
        """Header of the image that is there, if its digest is right and ``usable(header)``, else of one made now."""
        digest = digest or self.digest
        header = self.header(name, digest)
        if header is None or (usable is not None and not usable(header)):
            image = make()
            header = image.meta if self.band is None else image.bands[self.band].meta
            header[DIGEST_KEY] = digest
            self.write(name, image)
        return header

    def run(self, function, items, *, keys, failed, **how):
        """Yield ``function(item)``, or ``failed(item, reason)``, for each item in order; see `batch.run`."""
        for item, outcome in zip(items, batch.run(function, items, keys=keys, **how), strict=True):
            yield outcome.value if outcome.error is None else failed(item, outcome.error)

    def finish(self, table, **meta):
        """Write the table with further entries of meta and return it; its meta then has the folder as well."""
        table.meta.update(dateless_provenance(**meta))
        return _twice(lambda: tables.write_sample(table, self.folder, overwrite=True))


def _twice(write):
    """Write, once more if it fails: a second run that has just started may have removed the temporary file."""
    try:
        return write()
    except OutputError as error:
        log.debug("writing once more after %s", error)
        return write()
