"""Files of tables that lie about themselves: one error of the package, soon and in little memory."""

import gzip
import io
import os
import resource

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.survey import read_catalogue

TABLE = Table({"NAME": ["a", "b"], "RA": [1.0, 2.0] * u.deg, "DEC": [3.0, 4.0] * u.deg})
VOTABLE = """<?xml version="1.0"?>{head}<VOTABLE version="1.3"><RESOURCE><TABLE {table}>
<FIELD name="NAME" datatype="char" arraysize="{size}"/><FIELD name="RA" datatype="double" unit="deg"/>
<FIELD name="DEC" datatype="double" unit="deg"/><DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>
"""
SAME = b'<FIELD ID="a" name="a" datatype="int"/>'
ROWS = "<TABLEDATA><TR><TD>a</TD><TD>1</TD><TD>2</TD></TR></TABLEDATA>"


def votable(head="", table="", size="*", data=ROWS):
    return VOTABLE.format(head=head, table=table, size=size, data=data).encode()


def cards(**changes):
    """A FITS table with other numbers in its header."""
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(TABLE)]).writeto(file)
    content = file.getvalue()
    for key, value in changes.items():
        start = content.index(key.ljust(8).encode() + b"=", 2880)
        content = content[: start + 10] + str(value).rjust(20).encode() + content[start + 30 :]
    return content


def stream(where):
    return f'<BINARY><STREAM encoding="base64" {where}></STREAM></BINARY>'


ECSV = "# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: RA, unit: deg, datatype: float64}}\n"
ECSV += "# - {{name: DEC, unit: deg, datatype: float64}}\n# meta: !!omap\n{meta}# schema: astropy-2.0\nRA DEC\n1 2\n"
LAUGHS = "# - a0: &a0 [x, x]\n" + "".join(f"# - a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))

HOSTILE = {
    "votable of another file": ("x.vot", votable(data=stream('href="file:///etc/passwd"'))),
    "votable of an address": ("x.vot", votable(data=stream("HREF='http://127.0.0.1:9/x'"))),
    "votable with prefix": (
        "x.vot",
        votable(data=stream('href="x"')).replace(b"<", b"<v:").replace(b"<v:/", b"</v:").replace(b"<v:?", b"<?"),
    ),
    "votable of FITS elsewhere": ("x.vot", votable(data='<FITS><STREAM href="ftp://127.0.0.1/x.fits"/></FITS>')),
    "votable in UTF-16": (
        "x.vot",
        votable(data=stream('href="x"')).decode().replace("?>", ' encoding="UTF-16"?>').encode("utf-16"),
    ),
    "votable packed": ("x.vot.gz", gzip.compress(votable(data=stream('href="x"')))),
    "document type": ("x.vot", votable('<!DOCTYPE VOTABLE SYSTEM "http://127.0.0.1:9/x.dtd">')),
    "external entity": ("x.vot", votable('<!DOCTYPE VOTABLE [<!ENTITY x SYSTEM "file:///etc/passwd">]>')),
    "entities": ("x.vot", votable('<!DOCTYPE VOTABLE [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>')),
    "rows of a votable": ("x.vot", votable(table='nrows="1000000000000"')),
    "array of a votable": ("x.vot", votable(size="1000000000000")),
    "rows of FITS": ("x.fits", cards(NAXIS2=10**12)),
    "columns of FITS": ("x.fits", cards(TFIELDS=2**31 - 1)),
    "fields of one name": ("x.vot", votable().replace(b"<FIELD ", 2000 * SAME + b"<FIELD ", 1)),
    "columns of FITS beyond any number": ("x.fits", cards(TFIELDS=10**20 - 1)),
    "heap of FITS": ("x.fits", cards(PCOUNT=10**15)),
    "negative size": ("x.fits", cards(NAXIS2=-1)),
    "rows of no bytes": ("x.fits", cards(NAXIS1=0, NAXIS2=10**12)),
    "header without end": ("x.fits", cards()[: 2880 + 400] + b" " * 28800),
    "something after the table": ("x.fits", cards() + b"x" * 2880),
    "bomb": ("x.ecsv.gz", gzip.compress(b"# %ECSV 1.0\n" + b"#" * (1 << 25))),
    "bomb of FITS": ("x.fits.gz", gzip.compress(cards() + b"\0" * (1 << 25))),
    "references of YAML": ("x.ecsv", ECSV.format(meta=LAUGHS).encode()),
    "code in YAML": ("x.ecsv", ECSV.format(meta="# - x: !!python/object/apply:os.system [exit 1]\n").encode()),
    "long line": ("x.ecsv", ECSV.format(meta="").encode() + b"1" * (1 << 25)),
    "not gzip": ("x.fits.gz", b"\x1f\x8b" + b"x" * 100),
    "cut gzip": ("x.fits.gz", gzip.compress(cards())[:-40]),
    "another packing": ("x.fits", b"BZh91AY&SY" + b"\0" * 100),
}

# What the reader itself refuses, quickly.
LEFT_TO_READERS = ("code in YAML",)


@pytest.mark.parametrize("reader", [tables.read, read_catalogue], ids=["read", "read_catalogue"])
@pytest.mark.parametrize("name", HOSTILE)
def test_refused_before_it_is_parsed_and_in_little_memory(name, reader, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("a reader went to the network")

    given = []  # to a reader, whose errors become a SchemaError as well

    def no_reader(*args, **kwargs):
        given.append(args)
        raise OSError

    monkeypatch.setattr("socket.socket.connect", no_network)
    ending, content = HOSTILE[name]
    (tmp_path / ending).write_bytes(content)
    if name not in LEFT_TO_READERS:
        for reads in ("astropy.table.Table.read", "astropy.table.QTable.read", "astropy.io.votable.parse"):
            monkeypatch.setattr(reads, no_reader)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SchemaError) as caught:
        reader(tmp_path / ending)
    assert not given
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_field_of_csv_without_end(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"Name,RA,DEC\na,1,2\n" + b"x" * (1 << 25) + b",1,2\n")
    with pytest.raises(SchemaError, match="a line of more than"):
        read_catalogue(tmp_path / "x.csv")


@pytest.mark.parametrize("reader", [tables.read, read_catalogue], ids=["read", "read_catalogue"])
def test_what_is_no_regular_file(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(SchemaError, match="not a regular file"):
        reader(tmp_path / "pipe.fits")
    (tmp_path / "device.fits").symlink_to("/dev/zero")
    with pytest.raises(SchemaError, match="not a regular file"):
        reader(tmp_path / "device.fits")
    (tmp_path / "folder.fits").mkdir()
    for name in ("folder.fits", "none.fits"):
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / name)


@pytest.mark.parametrize("ending", [".ecsv", ".ecsv.gz", ".fits", ".fits.gz", ".vot", ".vot.gz"])
def test_what_is_whole_is_read(ending, tmp_path):
    table = QTable(TABLE, meta={"list": [[1, 2]] * 3, "text": "R & D <x>"})
    path = tables.write(table, tmp_path / f"table{ending}")
    assert path.read_bytes().startswith(b"\x1f\x8b") == ending.endswith(".gz")
    back = tables.read(path)
    assert back["NAME"].tolist() == ["a", "b"] and back["RA"].unit == u.deg and back.meta == table.meta
    assert np.all(read_catalogue(path)["sky_position"].ra.deg == [1, 2])


def test_many_columns(tmp_path):
    names = ",".join(["RA", "DEC", *(f"c{number}" for number in range(2000))])
    (tmp_path / "wide.csv").write_text(names + "\n1h2m3s,4d5m6s" + ",1" * 2000 + "\n")
    assert len(read_catalogue(tmp_path / "wide.csv").colnames) == 2004
