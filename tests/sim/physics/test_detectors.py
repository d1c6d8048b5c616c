"""Chips of ACIS-S and of XMM-Newton's cameras against SOXS and real masks."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astroclassify.fields._instruments import ACIS_AIM_POINT, ACIS_CHIPS, epic_on_chips, vignetting
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Observation
from astroclassify.sim.physics._telescope import make_telescope

ARCSEC_PER_KPC = 1 / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(0.05).to_value(u.kpc / u.arcsec)
PARTICLES = 1e-6 * u.ct / u.s / u.arcsec**2


def telescope_of(detector, pixel, side, **changes):
    """A field of square pixels [arcsec] about the optical axis."""
    response = detector if detector.startswith("epic") else f"{detector}-cycle0"
    settings = {"detector": detector, "response": response, "shape": (side, side), "background": PARTICLES}
    return make_telescope(
        Observation(**settings, width=side * pixel / ARCSEC_PER_KPC * u.kpc, **changes), DEFAULT_COSMOLOGY
    )


def test_acis_geometry_is_that_of_soxs():
    pytest.importorskip("soxs")
    from astroclassify.sim.physics._soxs_files import specification

    for array, name, chips in (("ACIS-I", "chandra_acisi_cy0", range(4)), ("ACIS-S", "chandra_aciss_cy0", range(1, 5))):
        entry = specification(f"soxs:{name}")
        assert entry["aimpt_coords"] == list(ACIS_AIM_POINT[array])
        across, along = ACIS_CHIPS[array]
        ours = {(sum(x) / 2, sum(y) / 2, x[1] - x[0], y[1] - y[0]) for x in across for y in along}
        assert ours == {tuple(entry["chips"][chip][1:]) for chip in chips}


def test_s3_holds_the_axis_and_gaps_show():
    telescope = telescope_of("acis-s", 2.0, 1200)
    middle = 600
    assert telescope.fraction[middle, middle] == pytest.approx(1, abs=1e-3)
    row = telescope.fraction[middle] / vignetting("ACIS", np.abs(np.arange(1200) + 0.5 - middle) * 2.0 / 60)
    # chips end 9 pixels of 0.492" beside the middle, which the axis is 206 pixels from; the dither blurs by 8"
    gap = middle - round(206 * 0.492 / 2)
    assert 0.2 < row[gap] < 0.7 and row[gap + 12] == pytest.approx(1) == row[gap - 12]
    column = telescope.fraction[:, middle]
    edge = 512 * 0.492 / 2
    assert np.count_nonzero(column > 0) == pytest.approx(2 * (edge + 4), abs=2)
    # four chips in all
    area = np.sum(telescope.fraction / np.maximum(vignetting("ACIS", angles(1200, 2.0)), 1e-9)) * 4.0
    assert area == pytest.approx(4 * (1024 * 0.492) ** 2, rel=0.005)
    assert telescope.background.sum() == pytest.approx(1e-6 * 1e5 * area, rel=1e-6)


def angles(side, pixel):
    """Off-axis angles [arcmin] of a field about the axis."""
    places = (np.arange(side) + 0.5 - side / 2) * pixel / 60
    return np.hypot(places[:, np.newaxis], places)


@pytest.mark.parametrize("detector", ["epic-pn", "epic-mos1", "epic-mos2"])
def test_epic_is_chips_times_vignetting(detector):
    camera = {"epic-pn": "EPN", "epic-mos1": "EMOS1", "epic-mos2": "EMOS2"}[detector]
    telescope = telescope_of(detector, 4.0, 500)
    theta = angles(500, 4.0)
    live = telescope.background / (1e-6 * 1e5 * 16)
    assert live.min() == 0 and live.max() == pytest.approx(1)
    assert telescope.fraction == pytest.approx(live * vignetting(camera, theta))
    # half the area is left at 11.8' (to 10%: the fact is the same for all cameras)
    assert vignetting(camera, 11.8) == pytest.approx(0.5)
    # larger pixels hold the same area
    coarse = telescope_of(detector, 20.0, 100)
    assert coarse.background.sum() == pytest.approx(telescope.background.sum(), rel=2e-3)


def test_roll_turns_epic():
    plain, turned = (telescope_of("epic-pn", 4.0, 500, roll=roll * u.deg).fraction for roll in (0, 90))
    # the detector turns clockwise: what was up is at the right
    assert np.mean(turned != np.rot90(plain)) < 1e-3


@pytest.mark.real_data
@pytest.mark.parametrize("camera", ["EPN", "EMOS1", "EMOS2"])
def test_chips_are_those_of_a_real_mask(shared_data, camera):
    name = {"EPN": "PN", "EMOS1": "MOS1", "EMOS2": "MOS2"}[camera]
    with fits.open(shared_data / "xmm" / f"0827340901_{name}_detmask.fits.gz") as hdus:
        real, header = hdus[1].data > 0, hdus[1].header
    roll = np.radians(90 - header["PA_PNT"])
    row, column = np.indices(real.shape)
    right, up = 2.5 * (column + 1 - header["CRPIX1"]), 2.5 * (row + 1 - header["CRPIX2"])
    cos, sin = np.cos(roll), np.sin(roll)
    ours = epic_on_chips(camera, cos * right - sin * up, sin * right + cos * up)
    assert np.mean(ours[real]) > 0.98  # all that is used there, but small parts beyond the round field of MOS
    assert np.mean(real[ours]) > (0.92 if camera != "EMOS1" else 0.88)  # bad columns; many in MOS1


@pytest.mark.real_data
def test_background_of_pn_is_that_of_real_fields(shared_data):
    # the faintest parts of a field of 20 ks without large sources (M51), 0.5 to 2 keV, 4" per pixel
    [path] = (shared_data / "xmm" / "real").glob("*M51*20*.fits*")
    with fits.open(path) as hdus:
        hdu = next(each for each in hdus if each.data is not None)
        counts = hdu.data.astype(float)
    rows, columns = (side // 15 * 15 for side in counts.shape)
    blocks = counts[:rows, :columns].reshape(rows // 15, 15, columns // 15, 15).sum(axis=(1, 3))
    rate = np.percentile(blocks[blocks > 0.5 * np.median(blocks[blocks > 0])], 25) / 20e3  # per arcmin2
    ours = Observation.epic("pn")
    expected = [(0.7 * ours.sky_background + ours.background).to_value(u.ct / u.s / u.arcmin**2)]
    assert rate == pytest.approx(expected[0], rel=0.35)
