"""Instruments of SOXS from local files: their counts, chips, point spread function and matrix, and no network."""

import importlib.util
import socket
import tempfile

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astroclassify.sim import Observation, observe
from astroclassify.sim.engines import _soxs
from astroclassify.sim.engines._photon_source import bin_events, photon_source
from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.physics._plasma import load_emissivity
from astroclassify.sim.physics._response import load_response
from astroclassify.sim.physics._telescope import make_telescope
from astroclassify.sim.physics._xray_packages import load_soxs, quiet

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if importlib.util.find_spec("pyxsim") is None or importlib.util.find_spec("soxs") is None:
    pytest.skip("pyxsim and soxs are not installed", allow_module_level=True)

DARK = 0 * u.ct / u.s / u.arcsec**2
NAME = "soxs:chandra_acisi_cy0"
# plate scale of the instrument in the focal plane, for a focal length of 10 m
MM_PER_ARCSEC = 1e4 * np.pi / 180 / 3600


def write_psf(path, *, sigma):
    """A Gaussian [arcsec] for two energies and two off-axis angles, in the format of SOXS's ``multi_image``."""
    pixel = 0.25  # arcsec
    place = (np.arange(201) - 100) * pixel
    image = np.exp(-0.5 * (place[:, np.newaxis] ** 2 + place**2) / sigma**2)
    hdus = [fits.PrimaryHDU()]
    for energy in (1.0, 4.0):
        for angle in (0.0, 10.0):
            hdu = fits.ImageHDU(image)
            hdu.header.update(ENERGY=energy, OFFAXIS=angle, CUNIT1="mm", CUNIT2="mm")
            hdu.header.update(CRPIX1=101.0, CRPIX2=101.0, CDELT1=pixel * MM_PER_ARCSEC, CDELT2=pixel * MM_PER_ARCSEC)
            hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)


@pytest.fixture(scope="module")
def files(shared_data, tmp_path_factory):
    """Folder with the ARF and RMF of early ACIS-I and a point spread function of 1.5"."""
    folder = tmp_path_factory.mktemp("responses")
    for suffix in ("arf", "rmf"):
        (folder / f"acisi_aimpt_cy0.{suffix}").symlink_to(shared_data / "responses" / f"acisi_aimpt_cy0.{suffix}")
    write_psf(folder / "chandra_psf.fits", sigma=1.5)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to reach the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def settings(files, **changes):
    return Observation(**{"background": DARK, "response": NAME, "response_files": files, **changes})


def detected(halo, observation, axis="z", seed=1):
    telescope = make_telescope(observation, halo.cosmology)
    with photon_source(halo, observation, telescope, seed) as source:
        return source(axis, np.random.default_rng(seed))


def redistribution(path):
    """Probability of each channel for each true energy, and both energy grids."""
    with fits.open(path) as hdus:
        table = hdus["MATRIX" if "MATRIX" in hdus else "SPECRESP MATRIX"].data
        channels = hdus["EBOUNDS"].data
        matrix = np.zeros((len(table), len(channels)))
        for i, (starts, lengths, values) in enumerate(
            zip(table["F_CHAN"], table["N_CHAN"], table["MATRIX"], strict=True)
        ):
            place = 0
            for start, length in zip(np.atleast_1d(starts), np.atleast_1d(lengths), strict=False):
                start = int(start) - int(channels["CHANNEL"][0])
                matrix[i, start : start + int(length)] = values[place : place + int(length)]
                place += int(length)
        true = np.append(table["ENERG_LO"], table["ENERG_HI"][-1]).astype(float)
        measured = np.append(channels["E_MIN"], channels["E_MAX"][-1]).astype(float)
    return matrix / matrix.sum(axis=1, keepdims=True), true, measured


@pytest.mark.real_data
def test_counts_are_those_that_arf_and_rmf_give(files, toy_halo):
    halo = toy_halo([[0.0, 0, 0]], radius=3, n_e=1.0, kT=4.0)
    observation = settings(files, exposure=300 * u.ks)
    events = detected(halo, observation)
    table = load_emissivity()
    z = observation.redshift
    distance = halo.cosmology.luminosity_distance(z).to_value(u.cm)
    rate = (halo.n_e * halo.n_h * halo.volume).to_value(u.cm**-3)[0] * (1 + z) / (4 * np.pi * distance**2)
    matrix, true, measured = redistribution(files / "acisi_aimpt_cy0.rmf")
    arf = fits.getdata(files / "acisi_aimpt_cy0.arf", "SPECRESP")
    middle = 0.5 * (true[1:] + true[:-1])
    cumulative = np.append(0, np.cumsum(table.spectrum(4.0, 0.3)))
    photons = rate * np.diff(np.interp(true * (1 + z), table.energy_edges, cumulative))
    photons *= transmission(middle, 4e20) * 3e5
    photons *= np.interp(middle, 0.5 * (arf["ENERG_LO"] + arf["ENERG_HI"]), arf["SPECRESP"])
    # channels are cut at the ends of the band as their energies are spread evenly over them
    share = np.clip((np.minimum(measured[1:], 7.0) - np.maximum(measured[:-1], 0.5)) / np.diff(measured), 0, 1)
    expected = (photons @ matrix) @ share
    true_energies = photons[(middle > 0.5) & (middle < 7.0)].sum()
    # SOXS draws a Poisson number out of a Poisson number of photons
    assert expected > 2e5
    assert events.energy.size == pytest.approx(expected, abs=4 * np.sqrt(2 * expected))
    assert 0.99 < expected / true_energies < 0.997
    assert events.energy.min() >= 0.5
    assert events.energy.max() <= 7.0
    # and the energies are those of the channels
    spectrum = (photons @ matrix) * share
    found = np.sort(events.energy)
    model = np.append(0, np.cumsum(spectrum)) / spectrum.sum()
    distance = np.abs(np.interp(found, measured, model) - (np.arange(found.size) + 0.5) / found.size).max()
    assert distance * np.sqrt(found.size) < 1.63  # Kolmogorov: p > 0.01


@pytest.mark.real_data
@pytest.mark.parametrize("roll", [0.0, 63.0])
def test_place_width_and_energies(files, toy_halo, roll):
    place = np.array([40.0, -25.0, 70.0])
    halo = toy_halo([place], radius=1, n_e=2.0)
    observation = settings(
        files, exposure=40 * u.ks, width=200 * u.kpc, pointing_offset=(1.5, 2.5) * u.arcmin, roll=roll * u.deg
    )
    events = detected(halo, observation, axis="y")  # right z, up x
    scale = observation.pixel_scale(halo.cosmology).to_value(u.arcsec)
    assert events.x.size > 3000
    # PSF, cell, and the detector's pixels within which SOXS spreads the events
    sigma = np.sqrt(1.5**2 + 0.492**2 / 12 * 2 + 0.25**2 / 12 + (0.45 * scale / 0.78) ** 2) / scale
    for found, wanted in ((events.x, 70 / 200 * 256 + 128), (events.y, 40 / 200 * 256 + 128)):
        assert np.median(found) == pytest.approx(wanted, abs=6 * sigma / np.sqrt(found.size) + 0.1 / scale)
        assert np.std(found) == pytest.approx(sigma, rel=0.08)


@pytest.mark.real_data
@pytest.mark.parametrize("roll", [0.0, 30.0])
@pytest.mark.slow
def test_chips_are_where_the_telescope_s_are(files, toy_halo, roll):
    # a wide flat sheet: SOXS's image shows the gaps that the telescope of detector="acis-i" has for the same pointing
    grid = np.stack(np.meshgrid(np.arange(-320, 321, 20.0), np.arange(-320, 321, 20.0), [0.0]), axis=-1).reshape(-1, 3)
    halo = toy_halo(grid, radius=30, n_e=2e-3)
    observation = settings(
        files, width=400 * u.kpc, shape=(100, 100), pointing_offset=(-0.8, 1.1) * u.arcmin, roll=roll * u.deg,
        exposure=400 * u.ks,
    )  # fmt: skip
    counts = bin_events(detected(halo, observation), observation.shape)
    like = Observation(
        width=observation.width, shape=observation.shape, pointing_offset=observation.pointing_offset,
        roll=observation.roll, detector="acis-i", psf_fwhm=0 * u.arcsec,
    )  # fmt: skip
    fraction = make_telescope(like, halo.cosmology).fraction
    open_sky, gap = fraction > 0.9, fraction < 0.45
    assert gap.sum() > 100
    assert open_sky.sum() > 5000
    expected = counts[open_sky].mean() * fraction[gap].mean() / fraction[open_sky].mean()
    assert counts[gap].mean() == pytest.approx(expected, rel=0.25)
    assert counts[gap].mean() < 0.5 * counts[open_sky].mean()


@pytest.mark.real_data
def test_observe_with_an_instrument_leaves_nothing_behind(files, toy_halo, tmp_path, monkeypatch, capfd):
    halo = toy_halo([[0.0, 0, 0]], radius=40, n_e=0.02)
    observation = settings(files, exposure=30 * u.ks)
    soxs = load_soxs()
    before = set(soxs.instrument_registry.keys()), soxs.utils.soxs_cfg.get("soxs", "soxs_data_dir")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image = observe(halo, observation, rng=1)
    assert not list(tmp_path.iterdir())
    assert before == (set(soxs.instrument_registry.keys()), soxs.utils.soxs_cfg.get("soxs", "soxs_data_dir"))
    assert image.meta["RESPONSE"] == NAME
    assert image.shape == (256, 256)
    assert image.data.sum() > 1000
    assert np.array_equal(image.data, observe(halo, observation, rng=1).data)
    assert not np.array_equal(image.data, observe(halo, observation, rng=2).data)
    direction = observe(halo, observation, axis=(1, 1, 1), rng=1).data.sum()
    assert direction == pytest.approx(image.data.sum(), rel=0.15)
    assert capfd.readouterr() == ("", "")


@pytest.mark.real_data
def test_nothing_on_the_detector_is_an_empty_image(files, toy_halo):
    halo = toy_halo([[0.0, 0, 0]], radius=3, n_e=0.3)
    for offset, kT in (((40, 0), 4.0), ((0, 0), 0.03)):
        observation = settings(files, pointing_offset=offset * u.arcmin, exposure=1 * u.ks)
        assert detected(toy_halo([[0.0, 0, 0]], radius=3, n_e=0.3, kT=kT), observation).x.size == 0
    assert halo.n_cells == 1


@pytest.mark.real_data
def test_area_is_that_of_the_arf(files, shared_data):
    response = load_response(NAME, files)
    table = fits.getdata(shared_data / "responses" / "acisi_aimpt_cy0.arf", 1)
    assert response.name == NAME
    np.testing.assert_allclose(response.area(0.5 * (table["ENERG_LO"] + table["ENERG_HI"])), table["SPECRESP"])


@pytest.mark.parametrize("missing", ["acisi_aimpt_cy22.arf", "acisi_aimpt_cy22.rmf", "chandra_psf.fits"])
def test_missing_file_is_named(tmp_path, missing):
    for name in {"acisi_aimpt_cy22.arf", "acisi_aimpt_cy22.rmf", "chandra_psf.fits"} - {missing}:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"response_files must hold '{missing}', the ... of 'soxs:chandra_acisi_cy22'"):
        Observation(response="soxs:chandra_acisi_cy22", response_files=tmp_path)


@pytest.mark.parametrize("name", ["soxs:chandra_acisi_cy1", "soxs:", "soxs:lynx_xgs"])
def test_unknown_instrument_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"imaging instrument of SOXS .*chandra_acisi_cy22.*, got '{name}'"):
        load_response(name, tmp_path)


def test_folder_and_instrument_belong_together(tmp_path):
    with pytest.raises(ValueError, match="response_files must be the folder"):
        load_response("soxs:chandra_acisi_cy0")
    with pytest.raises(ValueError, match="response_files must be None"):
        load_response("acis-i-cycle0", tmp_path)


def test_damaged_arf_is_named(tmp_path):
    for name in ("acisi_aimpt_cy0.arf", "acisi_aimpt_cy0.rmf", "chandra_psf.fits"):
        (tmp_path / name).write_bytes(b"no FITS")
    with pytest.raises(ValueError, match="acisi_aimpt_cy0.arf is no ARF"):
        load_response(NAME, tmp_path)


def test_what_soxs_would_download_is_an_error(tmp_path):
    soxs = load_soxs()
    with quiet(), _soxs._only_local(soxs, tmp_path):
        for name in ("chandra_psf.fits", "acisi_aimpt_cy22.arf", "of_no_registry.fits"):
            with pytest.raises(ValueError, match=f"response_files must hold '{name}': SOXS wants to download it"):
                soxs.utils.get_data_file(name)
