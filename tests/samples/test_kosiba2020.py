"""The public training set of Kosiba et al. (2020), in a tiny folder of its layout."""

import logging
import os
import zlib

import numpy as np
import pytest
from astropy import units as u

from astroclassify import tables
from astroclassify.exceptions import MissingDependencyError, OutputError, SchemaError
from astroclassify.images import Cutout, pixel_scale
from astroclassify.schemes import CANDIDATE, Flag
from astroclassify.sim import to_binary
from astroclassify.survey import read_kosiba2020

TRAIN = (("101", "low-z"), ("102", "hi-z"), ("103", "galaxy"), ("104", "point"), ("105", "other"))


def picture(path, seed=0, shape=(356, 356, 3)):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(seed).integers(0, 40, shape).astype(np.uint8)
    pixels[..., 0] = 0
    image.fromarray(pixels).save(path)
    return pixels


def archive(folder, train=TRAIN, test=(("201", "hi-z"),), pictures=True):
    folder.mkdir()
    for split, rows in (("train", train), ("test", test)):
        (folder / f"{split}_images").mkdir()
        lines = ["image_id,class", *(",".join(row) for row in rows)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, _ in dict(rows).items() if pictures else ():
            picture(folder / f"{split}_images" / f"{name}.png", seed=int(name))
    return folder


def test_whole_set(tmp_path):
    root = archive(tmp_path / "Kosiba2020")
    for path in (root, tmp_path):  # the folder, or the one it was unpacked in
        sample = read_kosiba2020(path, out=tmp_path / "out")
        assert list(sample["label"]) == [*CANDIDATE.classes, "high_z"]
        assert list(sample["split"]) == ["train"] * 5 + ["test"] and set(sample["message"]) == {""}
        assert set(sample["flags"]) == {Flag.NO_UNIT.value} and sample.meta["scheme"] == CANDIDATE.to_dict()
    assert tables.read_sample(tmp_path / "out").colnames == sample.colnames
    assert list(to_binary(sample)["label"]) == ["cluster", "cluster", "other", "other", "other", "cluster"]


def test_channels_units_and_orientation(tmp_path):
    root = archive(tmp_path / "Kosiba2020", train=(("7", "point"),))
    pixels = picture(root / "train_images" / "7.png", seed=99)
    sample = read_kosiba2020(root, out=tmp_path / "out")
    cutout = Cutout.read(tables.image_paths(sample)[0])
    xray, optical = cutout.bands["xray"], cutout.bands["optical"]
    assert np.array_equal(xray.data, pixels[::-1, :, 2]) and np.array_equal(optical.data, pixels[::-1, :, 1])
    assert (xray.unit, optical.unit) == (u.ct, u.adu) and cutout.source_id == "7"
    assert (pixel_scale(xray) * 356).to_value(u.arcmin) == pytest.approx(7.0)


def test_second_run_converts_only_what_changed(tmp_path):
    root, out = archive(tmp_path / "Kosiba2020"), tmp_path / "out"
    read_kosiba2020(root, out=out)
    times = {path.name: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    picture(root / "train_images" / "103.png", seed=5)
    read_kosiba2020(root, out=out)
    changed = [name for name, time in times.items() if (out / "images" / name).stat().st_mtime_ns != time]
    assert changed == ["103.fits"]


def test_without_out_nothing_is_written_or_opened(tmp_path):
    root = archive(tmp_path / "Kosiba2020", pictures=False)
    (root / "train_images" / "101.png").write_bytes(b"not opened")
    sample = read_kosiba2020(root)
    assert list(sample["path"][:2]) == ["train_images/101.png", ""]
    assert tables.image_paths(sample)[0] == root.resolve() / "train_images" / "101.png"
    assert "no file train_images/102.png" in sample["message"][1] and sample["flags"][1] == Flag.FAILED.value


def test_faults_keep_their_rows(tmp_path, caplog):
    rows = [
        ("101", "low-z"),
        ("102", "hi-z"),  # damaged
        ("103", "galaxy"),  # not there
        ("104", "quasar"),  # unknown class
        ("105", "point"),  # other shape
        ("101", "point"),  # again, with another class
        ("../../secret", "other"),
        ("", "other"),
        ("106.png", "other"),  # with its ending
        ("107", "other"),  # cut off
        ("108", "other"),  # a bomb: claims 60000 x 60000
    ]
    root = archive(tmp_path / "Kosiba2020", train=rows, test=(("101", "low-z"), ("201", "hi-z")), pictures=False)
    for name in ("101", "104", "106", "107", "999"):
        picture(root / "train_images" / f"{name}.png", seed=int(name))
    picture(root / "train_images" / "105.png", shape=(40, 50, 3))
    picture(root / "test_images" / "101.png", seed=101)
    picture(root / "test_images" / "201.png", seed=201)
    (root / "train_images" / "102.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing of the kind")
    whole = (root / "train_images" / "107.png").read_bytes()
    (root / "train_images" / "107.png").write_bytes(whole[: len(whole) // 2])
    head = b"IHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = whole[:8] + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")
    (root / "train_images" / "108.png").write_bytes(bomb + whole[33:])
    with caplog.at_level(logging.WARNING, "astroclassify.samples._kosiba2020"):
        sample = read_kosiba2020(root, out=tmp_path / "out")
    assert len(sample) == 13 and len(set(sample["source_id"])) == 13
    failed = sample["flags"] & Flag.FAILED.value != 0
    assert list(failed) == [False, True, True, True, True, True, True, True, False, True, True, True, False]
    messages = dict(zip(sample["source_id"], sample["message"], strict=True))
    assert "102.png" in messages["102"] and messages["103"] == "no file train_images/103.png"
    assert "class must be one of ['low-z'" in messages["104"] and "'quasar'" in messages["104"]
    assert "picture must be RGB of 356 x 356 pixels, got RGB of 50 x 40" in messages["105"]
    assert messages["101-2"] == "image_id '101' is in the train list already with another class (low_z)"
    assert messages["101-3"] == "image_id '101' is in the train list already"
    assert "image_id must be letters" in messages["row-7"] and "image_id must be letters" in messages["row-8"]
    assert messages["106"] == "" and "truncated" in messages["107"] and "60000" in messages["108"] + "60000"
    unknown = list(sample["source_id"]).index("104")
    assert sample["label"][unknown] == "" and sample["path"][unknown] == "images/104.fits"
    assert "999.png" in caplog.text and "of 13 images have a fault" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == [
        "101.fits", "104.fits", "106.fits", "201.fits"
    ]  # fmt: skip
    groups = dict(zip(sample["source_id"], sample["group_id"], strict=True))
    assert groups["101"] == groups["101-2"] == groups["101-3"] == "101"


def test_lists_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither train.csv and test.csv nor a folder Kosiba2020"):
        read_kosiba2020(tmp_path)
    root = archive(tmp_path / "Kosiba2020", pictures=False)
    (root / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match="has no test.csv"):
        read_kosiba2020(root)
    (root / "test.csv").write_text("id,class\n1,low-z\n")
    with pytest.raises(SchemaError, match=r"must have the columns image_id and class, got \['id', 'class'\]"):
        read_kosiba2020(root)
    (root / "test.csv").write_bytes(b"image_id,class\n\xff\xfe,low-z\n")
    with pytest.raises(SchemaError, match="cannot be read as a list"):
        read_kosiba2020(root)
    (root / "test.csv").write_text("")
    with pytest.raises(SchemaError, match="must have the columns"):
        read_kosiba2020(root)


def test_lists_as_spreadsheets_write_them(tmp_path):
    root = archive(tmp_path / "Kosiba2020")
    (root / "test.csv").write_bytes('\ufeffimage_id,class,x\r\n"201", hi-z ,1\r\n'.encode())
    sample = read_kosiba2020(root)
    assert (sample["source_id"][-1], sample["label"][-1]) == ("201", "high_z")


def test_folder_of_something_else_is_refused(tmp_path):
    root = archive(tmp_path / "Kosiba2020", train=TRAIN[:1])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty and not such a sample"):
        read_kosiba2020(root, out=tmp_path / "full")


def test_pillow_is_asked_for_by_name(tmp_path, monkeypatch):
    root = archive(tmp_path / "Kosiba2020", train=TRAIN[:1])
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'astroclassify\[plots\]'"):
        read_kosiba2020(root, out=tmp_path / "out")


def test_what_is_no_regular_file_is_not_read(tmp_path):
    root = archive(tmp_path / "Kosiba2020")
    picture = next((root / "train_images").glob("*.png"))
    picture.unlink()
    os.mkfifo(picture)
    sample = read_kosiba2020(root, tmp_path / "out")
    assert [message for message in sample["message"] if message] == [f"no file train_images/{picture.name}"]
    (root / "test.csv").unlink()
    os.mkfifo(root / "test.csv")
    with pytest.raises((SchemaError, FileNotFoundError)):
        read_kosiba2020(root)
