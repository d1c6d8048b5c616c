"""Pictures of cutouts, and back."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from astroclassify.exceptions import GeometryError, OutputError
from astroclassify.images import Cutout
from astroclassify.survey import merge_bands, read_kosiba2020, write_png


def cutout(shape=(356, 356), *, optical=True):
    """Counts that grow to the upper right, a plate with a bright half on the left, both with a masked pixel."""
    y, x = np.indices(shape)
    mask = np.zeros(shape, bool)
    mask[0, 0] = True
    bands = {"xray": CCDData((x + y).astype(float), unit=u.ct, mask=mask)}
    if optical:
        plate = np.where(x < shape[1] // 2, 9000.0, 4000.0)
        bands["optical"] = CCDData(plate, unit=u.adu, mask=mask)
    return Cutout("a", bands)


def test_channels_and_orientation():
    picture = merge_bands(cutout((20, 30)))
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    assert not picture[:, :, 0].any()
    # The upper right of the image is the end of the first line; counts enter with their root.
    assert picture[0, -1, 2] == 255
    assert picture[-1, 4, 2] == round(255 * np.sqrt(4 / 48))
    assert picture[5, 3, 1] == 255 and picture[5, 25, 1] == 0
    assert picture[-1, 0, 1] == picture[-1, 0, 2] == 0


def test_without_optical_and_without_counts():
    assert not merge_bands(cutout((9, 9), optical=False))[:, :, 1].any()
    empty = Cutout("b", {"xray": CCDData(np.zeros((9, 9)), unit=u.ct)})
    assert not merge_bands(empty).any()


def test_read_kosiba2020_reads_them_back(tmp_path):
    pytest.importorskip("PIL")
    root = tmp_path / "Kosiba2020"
    for split in ("train", "test"):
        (root / f"{split}_images").mkdir(parents=True)
    (root / "train.csv").write_text("image_id,class\n17,low-z\n")
    (root / "test.csv").write_text("image_id,class\n18,point\n")
    source = cutout()
    write_png(source, root / "train_images" / "17.png")
    write_png(cutout(optical=False), root / "test_images" / "18.png")
    sample = read_kosiba2020(tmp_path, out=tmp_path / "out")
    assert list(sample["message"]) == ["", ""]
    back = Cutout.read(tmp_path / "out" / "images" / "17.fits")
    picture = merge_bands(source)
    assert np.array_equal(back.bands["xray"].data[::-1], picture[:, :, 2])
    assert np.array_equal(back.bands["optical"].data[::-1], picture[:, :, 1])
    # The root is undone to within the steps of the levels.
    counts = source.bands["xray"].data.max() * (back.bands["xray"].data / 255) ** 2
    assert np.max(np.abs(counts - source.bands["xray"].data)) < 710 * 1.1 / 255
    with pytest.raises(OutputError, match="exists already"):
        write_png(source, root / "train_images" / "17.png")
    write_png(source, root / "train_images" / "17.png", overwrite=True)


def test_arguments():
    with pytest.raises(TypeError, match="cutout must be a Cutout"):
        merge_bands(np.zeros((3, 3)))
    with pytest.raises(GeometryError, match="must have the band 'xray'"):
        merge_bands(Cutout("c", {"optical": CCDData(np.ones((3, 3)), unit=u.adu)}))
