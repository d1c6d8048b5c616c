"""What is checked of a file of a table before it is read: the readers believe what a file says of itself."""

import gzip
import re
import zlib
from collections import Counter
from pathlib import Path
from xml.parsers import expat

from astroclassify._checks import first_line
from astroclassify._fits_structure import check_structure
from astroclassify.exceptions import SchemaError

__all__ = ["check_file", "head_of", "open_unpacked"]

_CHUNK = 1 << 20
_STARTS = {"ecsv": b"# %ECSV", "fits": b"SIMPLE", "votable": (b"<", b"\xff\xfe", b"\xfe\xff")}  # UTF-16
# Tables shrink to a tenth or a fiftieth; what shrinks to less than this is made of nothing.
_LARGEST_RATIO, _SMALLEST_BOMB = 100, 16 << 20
# Readers of text need some ten times as much memory as the text.
_LARGEST_TEXT, _LONGEST_LINE = 1 << 30, 16 << 20
_MOST_OF_ONE_NAME = 100
_LONGEST_YAML, _MOST_NODES = 4 << 20, 1_000_000
# Bytes of a value in VOTable's binary form (VOTable 1.5, section 2.1).
_VOTABLE_BYTES = {"short": 2, "unicodeChar": 2, "int": 4, "float": 4, "long": 8, "double": 8, "floatComplex": 8}
_VOTABLE_BYTES["doubleComplex"] = 16


def open_unpacked(path):
    """A file as a binary stream, unpacked where it is gzipped."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def head_of(path, length=4096):
    """First bytes of a file, unpacked, without the mark that some editors put before UTF-8."""
    with open_unpacked(path) as stream:
        return stream.read(length).removeprefix(b"\xef\xbb\xbf")


def check_file(path, form, name="path"):
    """
    Refuse a file that its reader should not be given, with SchemaError.

    ``form``: ``"fits"``, ``"votable"``, ``"ecsv"`` or ``"text"``. That is: a packed file that unpacks to nothing but
    size, FITS that declares more than there is, VOTable that points to other files or addresses or declares arrays out
    of all proportion, text with lines without end, and a header of ECSV that expands without end.
    """
    try:
        # Readers unpack other things than gzip by themselves.
        if not head_of(path).lstrip().startswith(_STARTS.get(form, b"")):
            raise SchemaError(f"does not begin like {form.upper()}")
        size = _unpacked_size(path)
        with open_unpacked(path) as stream:
            if form == "fits":
                _check_fits(stream, size, Path(path).stat().st_size)
            elif form == "votable":
                _check_votable(stream, size)
            else:
                _check_text(stream, size, is_ecsv=form == "ecsv")
    except SchemaError as error:
        raise SchemaError(f"{name}: {str(path)!r} cannot be read as {form}: it {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SchemaError(f"{name}: {str(path)!r} cannot be read: {first_line(error)}") from error


def _unpacked_size(path):
    """Bytes of a file when unpacked."""
    packed = Path(path).stat().st_size
    with open_unpacked(path) as stream:
        if not isinstance(stream, gzip.GzipFile):
            return packed
        size, largest = 0, max(_LARGEST_RATIO * packed, _SMALLEST_BOMB)
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > largest:
                raise SchemaError(
                    f"unpacks to more than {largest} bytes, which no table does: it is damaged or hostile"
                )
    return size


def _check_fits(stream, size, stored):
    """The structure of the file, and nothing behind it: readers look for extensions there all the same."""
    try:
        end, _ = check_structure(stream, size, stored)
    except ValueError as error:
        raise SchemaError(f"is not sound FITS: {error}") from None
    stream.seek(end)
    while chunk := stream.read(_CHUNK):
        if chunk.strip(b" \0"):
            raise SchemaError(f"has {size - end} bytes behind its last extension that are none")


def _check_votable(stream, size):
    """No document type, no entity, no stream from elsewhere, no array larger than the file could fill."""
    parser, sizes, fields = expat.ParserCreate(), {"row": 0, "rows": 0, "declared": 0}, Counter()

    def refuse_document(name, system, public, internal):
        if system or public or internal:
            raise SchemaError("has a document type (<!DOCTYPE) that points elsewhere or has its own: remove that line")

    def refuse_entity(*_):
        raise SchemaError("defines entities (<!ENTITY), which a table does not need")

    def start(tag, attributes):
        tag = tag.rpartition(":")[2].upper()
        names = {key.rpartition(":")[2].lower(): value for key, value in attributes.items()}
        if tag == "STREAM" and "href" in names:
            raise SchemaError(f"has its data elsewhere (STREAM href={names['href'][:80]!r}): save it with them inside")
        if tag == "TABLE":
            sizes.update(row=0, rows=0)
            sizes["declared"] = int(names["nrows"]) if names.get("nrows", "").isdecimal() else 0
        elif tag == "FIELD":
            sizes["row"] += _field_bytes(names)
            # astropy looks for a free name again from the first for each, which takes for ever with thousands.
            for name in {names.get("id", ""), names.get("name", "")} - {""}:
                fields[name] += 1
                if fields[name] > _MOST_OF_ONE_NAME:
                    raise SchemaError(f"has more than {_MOST_OF_ONE_NAME} fields called {name[:80]!r}")
        elif tag == "TR":
            sizes["rows"] += 1
        elif tag != "DATA":
            return
        # A row is at least one byte of the file, but a fixed array may be left short.
        if sizes["declared"] > size or max(sizes["rows"], 1) * sizes["row"] > max(100 * size, _SMALLEST_BOMB):
            raise SchemaError(f"declares more rows or larger arrays than its {size} bytes can hold")

    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = refuse_document, refuse_entity
    parser.StartElementHandler = start
    try:
        while chunk := stream.read(_CHUNK):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"is not XML: {first_line(error)}") from None


def _field_bytes(names):
    """Bytes of a value of a VOTable field of fixed size."""
    n = 1
    for part in names.get("arraysize", "1").split("x"):
        n *= int(part) if part.strip().isdecimal() else 1
    return n * _VOTABLE_BYTES.get(names.get("datatype", ""), 1)


def _check_text(stream, size, *, is_ecsv):
    """No line without end; of ECSV, a header that stays small when its references are followed."""
    if size > _LARGEST_TEXT:
        raise SchemaError(f"has {size} bytes of text: save tables above {_LARGEST_TEXT} as FITS")
    header, in_header = [], is_ecsv
    while line := stream.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise SchemaError(f"has a line of more than {_LONGEST_LINE} bytes: it is damaged or no table")
        in_header = in_header and line.startswith(b"#")
        if in_header and not line.startswith(b"# %"):
            header.append(line[2:])
    if is_ecsv:
        _check_yaml(b"".join(header))


def _check_yaml(text):
    """Anchors and references (& and *) may multiply: ten lines of ten references each are ten billion values."""
    if len(text) > _LONGEST_YAML:
        raise SchemaError(f"has a header of {len(text)} bytes, at most {_LONGEST_YAML} are read: save it as FITS")
    if not re.search(rb"[\s,\[{:-]\*", text):
        return
    import yaml

    sizes, open_nodes, total = {}, [], 0
    try:
        for event in yaml.parse(text.decode("utf-8", "replace"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.NodeEvent):
                total += sizes.get(event.anchor, 1) if isinstance(event, yaml.AliasEvent) else 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_nodes.pop()
                if anchor:
                    sizes[anchor] = total - before + 1
            if total > _MOST_NODES:
                raise SchemaError(f"has a header whose references expand to more than {_MOST_NODES} values")
    except (yaml.YAMLError, RecursionError) as error:
        raise SchemaError(f"has a header that is not YAML: {first_line(error)}") from None
