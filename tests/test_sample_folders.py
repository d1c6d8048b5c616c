"""Sample folders as all that write them use them: claimed once, swept with care, read back only when whole."""

import json
import os

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify import _sample_folders as folders
from astroclassify import tables
from astroclassify.exceptions import OutputError
from astroclassify.images import Cutout

NAME = "settings.json"


def content(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def image(**meta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = [-0.01, 0.01]
    return CCDData(np.arange(12.0).reshape(3, 4), unit=u.ct, wcs=wcs, meta=meta)


def one_row():
    """A SAMPLE table of one row."""
    row = [{"str": "a", "int": 0, "float": 0.1}.get(kind, 1.0) for kind in tables.SAMPLE.kinds().values()]
    sample = tables.empty(tables.SAMPLE)
    sample.add_row([value * kind if isinstance(kind, u.UnitBase) else value
                    for value, kind in zip(row, tables.SAMPLE.kinds().values(), strict=True)])  # fmt: skip
    return sample


def test_of_two_runs_that_begin_at_once_with_other_settings_one_is_refused(tmp_path):
    path = tmp_path / NAME
    folders.claim(path, '{"seed": 1}')
    folders.claim(path, '{"seed": 2}')  # as if both had found the folder empty
    folders.check_settings(path, {"seed": 1})
    with pytest.raises(OutputError, match="seed is 1 there and 2 now"):
        folders.check_settings(path, {"seed": 2})
    assert content(tmp_path) == [NAME]


def test_run_whose_settings_another_has_written_and_swept_goes_on(tmp_path, monkeypatch):
    path = tmp_path / NAME
    link = os.link

    def be_second(temporary, target):
        folders.claim(path, '{"seed": 1}')
        folders.sweep(tmp_path, NAME)
        link(temporary, target)

    monkeypatch.setattr(os, "link", lambda *names: (monkeypatch.setattr(os, "link", link), be_second(*names)))
    folders.claim(path, '{"seed": 2}')
    folders.check_settings(path, {"seed": 1})


def test_settings_are_written_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_links(*names):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / NAME
    for seed in (1, 2):
        folders.claim(path, json.dumps({"seed": seed}))
    folders.check_settings(path, {"seed": 1})
    assert content(tmp_path) == [NAME]


def test_settings_that_differ_are_all_named_and_long_ones_cut(tmp_path):
    folders.prepare(tmp_path / "new", {"seed": 1, "numbers": list(range(99)), "same": (1, 2)}, NAME)
    with pytest.raises(OutputError) as caught:
        folders.prepare(tmp_path / "new", {"seed": 2, "numbers": [], "same": [1, 2], "more": True}, NAME)
    text = str(caught.value)
    assert "(more is None there and True now; numbers is [0, 1, 2," in text
    assert "... there and [] now; seed is 1 there and 2 now)" in text
    assert "same" not in text.partition("other settings")[2] and len(text) < 400


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="out must be a folder, .*file' is a file"):
        folders.prepare(tmp_path / "file", {}, NAME)
    with pytest.raises(OutputError, match=r"is not empty and not a list of stars \(holds 'file'\)"):
        folders.prepare(tmp_path, {}, NAME, what="a list of stars")
    for text in ("[1]", "{", "\x00"):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(OutputError, match=f"{NAME}' cannot be read"):
            folders.prepare(tmp_path, {}, NAME)
    assert content(tmp_path) == ["file", NAME]


def test_a_sample_that_holds_more_is_refused_before_anything_is_swept(tmp_path):
    folders.prepare(tmp_path, {"seed": 1}, NAME)
    folders.write_table(one_row(), tmp_path)
    (tmp_path / "images" / ".a-xyz.fits").touch()
    with pytest.raises(OutputError, match=r"has 1 images that are not asked for now \(e.g. a\)"):
        folders.prepare(tmp_path, {"seed": 1}, NAME, wanted={"b"})
    with pytest.raises(OutputError, match="already holds a sample"):
        folders.prepare(tmp_path, {"seed": 1}, NAME, resume=False)
    assert (tmp_path / "images" / ".a-xyz.fits").exists()
    folders.prepare(tmp_path, {"seed": 1}, NAME, wanted={"a", "b"})
    assert content(tmp_path) == ["sample.ecsv", NAME]


def test_only_what_a_run_leaves_is_swept(tmp_path):
    folders.prepare(tmp_path, {}, NAME)
    for name in (".settings-1f.json", ".sample-2e.ecsv", "images/.b-3d.fits", ".notes.json", ".b.ecsv", "images/.b"):
        (tmp_path / name).touch()
    folders.prepare(tmp_path, {}, NAME)
    assert content(tmp_path) == [".b.ecsv", ".notes.json", "images/.b", NAME]


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot write in"):
        folders.write_image(image(), tmp_path / "none" / "a.fits")


@pytest.mark.parametrize("keep", [0, 100, 2880, 2880 + 100, -1, None])
def test_only_whole_files_of_the_same_settings_are_finished(tmp_path, keep):
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.fits"
    folders.write_image(image(**{folders.DIGEST_KEY: "abc"}), path)
    path.write_bytes(path.read_bytes()[:keep])
    found = folders.finished_headers(tmp_path, ["a", "b"], "abc")
    assert list(found) == (["a"] if keep is None else [])
    assert folders.finished_headers(tmp_path, ["a"], "abd") == {}
    assert folders.finished_header(tmp_path / "images" / "b.fits", "abc") is None


def test_cutouts_are_finished_by_a_band(tmp_path):
    bands = {"optical": image(), "xray": image(**{folders.DIGEST_KEY: "abc"})}
    path = tmp_path / "a.fits"
    folders.write_cutout(Cutout("a", bands), path)
    assert folders.finished_header(path, "abc", extension="XRAY")["EXTNAME"] == "XRAY"
    assert folders.finished_header(path, "abc") is None
    assert folders.finished_header(path, "abc", extension="RADIO") is None
    back = Cutout.read(path).bands["xray"]
    assert back.data.dtype.kind == "f" and np.array_equal(back.data, bands["xray"].data)
