"""Sample folders as all writers of samples use them: begun once, cleared with care, read back only when whole."""

import json
import os

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.exceptions import OutputError
from astroclassify.images import Cutout
from astroclassify.samples import _folders as folders
from astroclassify.samples._writer import DIGEST_KEY, SampleWriter

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


def writer(folder, **changes):
    (folder / "images").mkdir(exist_ok=True)
    return SampleWriter(folder, {"seed": 1}, NAME, **{"digest": "abc", **changes})


def test_of_two_runs_that_begin_at_once_with_other_settings_one_is_refused(tmp_path):
    path = tmp_path / NAME
    folders.write_settings(path, '{"seed": 1}')
    folders.write_settings(path, '{"seed": 2}')  # as if both had found the folder empty
    folders.check_settings(path, {"seed": 1})
    with pytest.raises(OutputError, match="seed is 1 there and 2 now"):
        folders.check_settings(path, {"seed": 2})
    assert content(tmp_path) == [NAME]


def test_run_whose_settings_another_has_written_and_cleared_goes_on(tmp_path, monkeypatch):
    path = tmp_path / NAME
    link = os.link

    def be_second(temporary, target):
        folders.write_settings(path, '{"seed": 1}')
        folders.remove_leftovers(tmp_path, NAME)
        link(temporary, target)

    monkeypatch.setattr(os, "link", lambda *names: (monkeypatch.setattr(os, "link", link), be_second(*names)))
    folders.write_settings(path, '{"seed": 2}')
    folders.check_settings(path, {"seed": 1})


def test_settings_are_written_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_links(*names):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / NAME
    for seed in (1, 2):
        folders.write_settings(path, json.dumps({"seed": seed}))
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


def test_a_sample_that_holds_more_is_refused_before_anything_is_removed(tmp_path):
    folders.prepare(tmp_path, {"seed": 1}, NAME)
    writer(tmp_path).finish(one_row())
    (tmp_path / "images" / ".a-xyz.fits").touch()
    with pytest.raises(OutputError, match=r"has 1 images \(e.g. a\)"):
        folders.prepare(tmp_path, {"seed": 1}, NAME, wanted=["b"])
    with pytest.raises(OutputError, match="already holds a sample"):
        folders.prepare(tmp_path, {"seed": 1}, NAME, resume=False)
    assert (tmp_path / "images" / ".a-xyz.fits").exists()
    folders.prepare(tmp_path, {"seed": 1}, NAME, wanted={"a", "b"})
    assert content(tmp_path) == ["sample.ecsv", NAME]


def test_only_what_a_run_leaves_is_removed(tmp_path):
    folders.prepare(tmp_path, {}, NAME)
    for name in (".settings-1f.json", ".sample-2e.ecsv", "images/.b-3d.fits", ".notes.json", ".b.ecsv", "images/.b"):
        (tmp_path / name).touch()
    folders.prepare(tmp_path, {}, NAME)
    assert content(tmp_path) == [".b.ecsv", ".notes.json", "images/.b", NAME]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write in"):
        SampleWriter(tmp_path / "none", {}, NAME).write("a", image())


@pytest.mark.parametrize("keep", [0, 100, 2880, 2880 + 100, -1, None])
def test_only_whole_files_of_the_same_settings_are_finished(tmp_path, keep):
    sample = writer(tmp_path)
    sample.write("a", image(**{DIGEST_KEY: "abc"}))
    path = tmp_path / sample.path("a")
    path.write_bytes(path.read_bytes()[:keep])
    assert (sample.header("a") is not None) == (keep is None)
    assert sample.header("a", "abd") is None
    assert sample.header("b") is None


def test_cutouts_are_finished_by_a_band(tmp_path):
    bands = {"optical": image(), "xray": image()}
    sample = writer(tmp_path, band="xray")
    sample.keep_or_make("a", lambda: Cutout("a", bands))
    assert sample.header("a")["EXTNAME"] == "XRAY"
    assert writer(tmp_path).header("a") is None
    assert writer(tmp_path, band="radio").header("a") is None
    with fits.open(tmp_path / "images" / "a.fits") as hdus:
        assert hdus["XRAY"].header["BITPIX"] == 16
    back = Cutout.read(tmp_path / "images" / "a.fits").bands["xray"]
    assert back.data.dtype.kind == "f" and np.array_equal(back.data, bands["xray"].data)


def test_an_image_is_made_only_where_there_is_none_of_use(tmp_path):
    sample, made = writer(tmp_path), []

    def make():
        made.append(len(made))
        return image(NUMBER=len(made))

    assert sample.keep_or_make("a", make)["NUMBER"] == 1
    assert sample.keep_or_make("a", make)["NUMBER"] == 1
    assert sample.keep_or_make("a", make, usable=lambda header: header["NUMBER"] > 1)["NUMBER"] == 2
    assert sample.keep_or_make("a", make, digest="abd")["NUMBER"] == 3
    assert len(made) == 3


def test_items_that_fail_give_what_the_caller_says(tmp_path, caplog):
    rows = writer(tmp_path).run(
        lambda item: 1 / item, [1, 0, 2], keys="abc", failed=lambda item, reason: (item, reason), progress=False
    )
    assert list(rows) == [1.0, (0, "ZeroDivisionError: division by zero"), 0.5]
    assert "b failed" in caplog.text


def test_the_table_holds_no_date(tmp_path):
    sample = writer(tmp_path).finish(one_row(), survey={"seed": 1})
    assert "date" not in sample.meta and sample.meta["survey"] == {"seed": 1} and "numpy" in sample.meta
    first = (tmp_path / "sample.ecsv").read_bytes()
    writer(tmp_path).finish(one_row(), survey={"seed": 1})
    assert (tmp_path / "sample.ecsv").read_bytes() == first
