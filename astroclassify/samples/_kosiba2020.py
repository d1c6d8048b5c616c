"""Reader of the public X-CLASS training set of Kosiba et al. (2020)."""

import csv
import functools
import hashlib
import logging
import re
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData

from astroclassify import tables
from astroclassify._checks import require
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import GeometryError, SchemaError
from astroclassify.images import Cutout
from astroclassify.images._resample import target_wcs
from astroclassify.schemes import CANDIDATE, Flag

from ._writer import DIGEST_KEY, RowFormat, SampleWriter, dateless_provenance

__all__ = ["read_kosiba2020"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "kosiba2020.json"
LABELS = {"low-z": "low_z", "hi-z": "high_z", "galaxy": "galaxy", "point": "point", "other": "other"}
SPLITS = ("train", "test")
SHAPE = (356, 356)
SIZE = 7.0  # arcmin
_ROWS = RowFormat({**tables.SAMPLE.kinds(), "split": "str", "message": "str"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
# A layout of this many bytes cannot be a picture of 356 x 356 x 3.
_LARGEST = 4_000_000
_LARGEST_LIST = 64_000_000


def read_kosiba2020(path, out=None):
    """
    Read the public X-CLASS training set of Kosiba et al. (2020).

    Parameters
    ----------
    path : str or path-like
        The unpacked archive (Zenodo record 7236582, ``Kosiba2020.zip``): the folder ``Kosiba2020`` or the one it lies
        in. It holds ``train.csv`` and ``test.csv`` with the columns ``image_id`` and ``class``, and ``train_images``
        and ``test_images`` with ``<image_id>.png``, 356 x 356 pixels with the channels empty, optical, X-ray.
    out : str or path-like, optional
        Sample folder to write, with one FITS file of two bands for each image, as the classifiers read it. Images that
        are there already from the same picture are kept. Needs Pillow, which comes with the extra ``plots``.

    Returns
    -------
    `~astropy.table.QTable`
        A SAMPLE table with one row per line of the two lists, in their order, and the further columns ``split``
        (``"train"`` or ``"test"``) and ``message``. Labels are those of the scheme `~astroclassify.schemes.CANDIDATE`.
        With ``out`` the paths lead to the FITS files, without to the pictures, which are then looked for but not
        opened: enough to count and join, not to classify. A missing, damaged or repeated image or an unknown class
        keeps its row, with the flag ``FAILED``, an empty ``path`` (but for the unknown class) and the reason.

    Raises
    ------
    FileNotFoundError
        If a list is missing.
    SchemaError
        If a list lacks a column or cannot be read.
    OutputError
        If ``out`` cannot be written or holds something else.
    MissingDependencyError
        If ``out`` is given and Pillow is not installed.

    Notes
    -----
    The pictures hold grey levels from 0 to 255, scaled by their makers: no counts, no exposure, no coordinates. The
    X-ray band is given the unit ct and the flag ``NO_UNIT``, the optical band the unit adu. The coordinates are
    nominal: 7 arcmin, north up, centred on RA = Dec = 0. The first line of a picture is its upper edge; it becomes the
    last row of the array.

    ``group_id`` is the ``image_id``: the archive does not say which of them show the same source in two observations.
    An ``image_id`` that comes again, in the same list or the other, is flagged the second time and after, so that no
    image counts twice or is in both roles; its ``source_id`` has a number after it.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section 2.

    Examples
    --------
    >>> from astroclassify.samples import read_kosiba2020, to_binary
    >>> from astroclassify.schemes import Flag
    >>> sample = to_binary(read_kosiba2020("Kosiba2020", out="kosiba"))  # doctest: +SKIP
    >>> good = (sample["flags"] & Flag.FAILED.value) == 0  # doctest: +SKIP
    >>> train = sample[good & (sample["split"] == "train")]  # doctest: +SKIP
    """
    root = _root(Path(path))
    rows = [row for split in SPLITS for row in _lines(root / f"{split}.csv", split)]
    _name(rows)
    _find(rows, root)
    meta = {"source": "Kosiba et al. 2020, MNRAS 496, 4141", "scheme": CANDIDATE.to_dict()}
    if out is None:
        sample = _ROWS.table(rows)
        sample.meta |= dateless_provenance(**meta, folder=str(root.resolve()))
        return sample
    pillow = require("PIL.Image", extra="plots")
    settings = {"source": "Kosiba et al. 2020", "layout": 1}
    writer = SampleWriter(Path(out), settings, SETTINGS_FILE, band="xray")
    writer.prepare()
    found = [row for row in rows if row["path"]]
    convert = functools.partial(_convert, root, writer, pillow)
    how = {"keys": [row["source_id"] for row in found], "failed": _failed, "description": "pictures"}
    for row, changes in zip(found, writer.run(convert, found, **how), strict=True):
        row.update(changes)
    failed = sum(bool(row["message"]) for row in rows)
    if failed:
        log.warning("%d of %d images have a fault; column 'message' of the sample says which", failed, len(rows))
    return writer.finish(_ROWS.table(rows), **meta)


def _root(path):
    """Folder with the two lists."""
    for folder in (path, path / "Kosiba2020"):
        if any((folder / f"{split}.csv").is_file() for split in SPLITS):
            for split in SPLITS:
                if not (folder / f"{split}.csv").is_file():
                    raise FileNotFoundError(f"path: {str(folder)!r} has no {split}.csv")
            return folder
    raise FileNotFoundError(
        f"path: {str(path)!r} holds neither train.csv and test.csv nor a folder Kosiba2020 with them"
    )


def _lines(path, split):
    if check_regular(path, error=SchemaError).st_size > _LARGEST_LIST:
        raise SchemaError(f"{str(path)!r} must be smaller than {_LARGEST_LIST} bytes")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            missing = {"image_id", "class"} - set(names)
            if missing:
                raise SchemaError(f"{str(path)!r} must have the columns image_id and class, got {names}")
            lines = [(str(line["image_id"] or "").strip(), str(line["class"] or "").strip()) for line in reader]
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{str(path)!r} cannot be read as a list: {error}") from error
    return [
        {
            "image_id": identifier.removesuffix(".png"),
            "label": LABELS.get(label, ""),
            "split": split,
            "path": "",
            "group_id": identifier.removesuffix(".png"),
            "flags": 0 if label in LABELS else Flag.FAILED.value,
            "message": "" if label in LABELS else f"class must be one of {list(LABELS)}, got {label[:40]!r}",
        }
        for identifier, label in lines
    ]


def _name(rows):
    """Give each row a name of its own; flag what comes again."""
    first, used = {}, {row["image_id"] for row in rows}
    for number, row in enumerate(rows):
        identifier = row["image_id"]
        if not _IDENTIFIER.fullmatch(identifier):
            row["source_id"] = f"row-{number + 1}"
            row.update(_with_fault(row, f"image_id must be letters, digits and _.+-, got {identifier[:40]!r}"))
        elif identifier in first:
            copy = next(name for name in (f"{identifier}-{k}" for k in range(2, len(rows) + 3)) if name not in used)
            used.add(copy)
            row["source_id"] = copy
            earlier = first[identifier]
            other = "" if earlier["label"] == row["label"] else f" with another class ({earlier['label'] or 'unknown'})"
            row.update(_with_fault(row, f"image_id {identifier!r} is in the {earlier['split']} list already{other}"))
        else:
            row["source_id"], first[identifier] = identifier, row


def _with_fault(row, message):
    """What changes in the row of an image that cannot be used."""
    text = "; ".join(filter(None, (row["message"], message)))
    return {"flags": row["flags"] | Flag.FAILED.value, "message": text, "path": "", "faulty": True}


def _find(rows, root):
    """Put the path of each picture into its row; flag what is missing, log what is in no list."""
    there = {
        split: {each.name for each in (root / f"{split}_images").glob("*.png")}
        if (root / f"{split}_images").is_dir()
        else set()
        for split in SPLITS
    }
    for row in rows:
        name = f"{row['image_id']}.png"
        if row.get("faulty"):
            continue
        if name in there[row["split"]]:
            row["path"] = f"{row['split']}_images/{name}"
        else:
            row.update(_with_fault(row, f"no file {row['split']}_images/{name}"))
    for split in SPLITS:
        extra = there[split] - {f"{row['image_id']}.png" for row in rows if row["split"] == split}
        if extra:
            log.warning("%d images in %s_images are in no list (e.g. %s)", len(extra), split, min(extra))


def _convert(root, writer, pillow, row):
    """Write the two bands of a picture, unless they are there; return what changes in its row."""
    name, source = row["source_id"], root / row["path"]
    if check_regular(source, row["path"], error=GeometryError).st_size > _LARGEST:
        raise GeometryError(f"picture must be smaller than {_LARGEST} bytes")
    digest = hashlib.blake2b(source.read_bytes(), digest_size=8).hexdigest()
    writer.keep_or_make(name, lambda: _cutout(name, _pixels(source, pillow), digest), digest=digest)
    return {"path": writer.path(name), "flags": row["flags"] | Flag.NO_UNIT.value}


def _failed(row, reason):
    return _with_fault(row, f"{row['path']}: {reason}")


def _pixels(source, pillow):
    """Grey levels of a picture, shape (356, 356, 3); its size is checked before any pixel is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        with pillow.open(source, formats=("PNG",)) as picture:
            if picture.size != SHAPE[::-1] or picture.mode not in ("RGB", "RGBA"):
                size = " x ".join(map(str, picture.size))
                raise GeometryError(f"picture must be RGB of 356 x 356 pixels, got {picture.mode} of {size}")
            return np.asarray(picture)[::-1, :, :3].astype(float)


def _cutout(name, pixels, digest):
    wcs = target_wcs(SkyCoord(0, 0, unit="deg"), SIZE / SHAPE[1] * u.arcmin, SHAPE)
    meta = {"OBJECT": name, "ORIGIN": "Kosiba et al. 2020", "COORDS": "nominal"}
    xray = {**meta, "TELESCOP": "XMM", DIGEST_KEY: digest, "FLAGS": Flag.NO_UNIT.value}
    return Cutout(
        name,
        {
            "xray": CCDData(pixels[:, :, 2], unit=u.ct, wcs=wcs, meta=xray),
            "optical": CCDData(pixels[:, :, 1], unit=u.adu, wcs=wcs, meta={**meta, "SURVEY": "DSS2"}),
        },
    )
