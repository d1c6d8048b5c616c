"""Event lists and SIMPUT catalogues: what readers find in them, against the images and against arithmetic."""

import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from scipy.stats import kstest

from astroclassify.exceptions import OutputError
from astroclassify.images import read_events, read_header
from astroclassify.sim import Observation, expected_spectrum, observe, write_events

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if importlib.util.find_spec("pyxsim") is None:
    pytest.skip("pyxsim is not installed", allow_module_level=True)

DARK = 0 * u.ct / u.s / u.arcsec**2


def binned(table, shape):
    """Image of a table of events, by the FITS rule that pixel k is from k - 0.5 to k + 0.5."""
    edges = [np.arange(size + 1) + 0.5 for size in shape]
    return np.histogram2d(table["Y"], table["X"], bins=edges)[0]


def pixel_wcs(header):
    """Coordinates from the keywords of the table's columns X and Y, as DS9 reads them."""
    number = {header[f"TTYPE{n}"]: n for n in range(1, header["TFIELDS"] + 1)}
    wcs = WCS(naxis=2)
    columns = [number["X"], number["Y"]]
    for attribute, key in (
        ("crval", "TCRVL"), ("crpix", "TCRPX"), ("cdelt", "TCDLT"), ("ctype", "TCTYP"), ("cunit", "TCUNI")
    ):  # fmt: skip
        setattr(wcs.wcs, attribute, [header[f"{key}{n}"] for n in columns])
    return wcs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"detector": "acis-i", "point_sources": 1e-13, "sky_background": 2e-6, "pointing_offset": (2, -1)},
    ],
    ids=["default", "acis-i"],
)
@pytest.mark.parametrize("axis", ["y", (1.0, 2.0, 0.5)])
def test_binned_it_is_the_image_of_the_same_seed(ball, tmp_path, changes, axis):
    units = {
        "point_sources": u.erg / u.s / u.cm**2, "sky_background": u.ct / u.s / u.arcsec**2, "pointing_offset": u.arcmin
    }  # fmt: skip
    changes = {key: value * units[key] if key in units else value for key, value in changes.items()}
    observation = Observation(exposure=10 * u.ks, shape=(100, 128), **changes)
    path = write_events(ball, observation, tmp_path / "events.fits", axis=axis, rng=5)
    assert path == tmp_path / "events.fits"
    assert [item.name for item in tmp_path.iterdir()] == ["events.fits"]
    image = observe(ball, observation, axis=axis, rng=5)
    table = Table.read(path, hdu="EVENTS")
    assert np.array_equal(binned(table, image.shape), image.data)
    again = read_events(path)
    assert np.array_equal(again.data, image.data)
    corner = (0, image.shape[0] - 1)
    np.testing.assert_allclose(again.wcs.all_pix2world(*corner, 0), image.wcs.all_pix2world(*corner, 0), atol=1e-10)
    assert read_header(again.meta, again.wcs).energy_range == read_header(image.meta, image.wcs).energy_range
    header = fits.getheader(path, "EVENTS")
    for key, value in image.meta.items():
        assert header[key] == value, key


def test_table_has_units_times_and_energies(ball, tmp_path):
    observation = Observation(exposure=20 * u.ks, energy_range=(0.7, 5.0) * u.keV)
    path = write_events(ball, observation, tmp_path / "a.fits", rng=1)
    table = QTable.read(path, hdu="EVENTS")
    assert table.colnames == ["TIME", "X", "Y", "ENERGY"]
    assert len(table) > 1e4
    assert table["ENERGY"].unit == u.eV
    assert (table["ENERGY"].min(), table["ENERGY"].max()) > (700 * u.eV, 4900 * u.eV)
    assert table["ENERGY"].max() < 5000 * u.eV
    assert table["TIME"].unit == u.s
    assert np.all(np.diff(table["TIME"]) >= 0 * u.s)
    assert kstest(table["TIME"].value / 20000, "uniform").pvalue > 0.01
    interval = QTable.read(path, hdu="GTI")
    assert (interval["STOP"] - interval["START"]).sum() == 20 * u.ks
    header = fits.getheader(path, "EVENTS")
    assert header["EXPOSURE"] == header["TSTOP"] == 20000


def test_coordinates_have_the_halo_in_the_middle(toy_halo, tmp_path):
    # a clump to the right and up: west and north
    halo = toy_halo([[200.0, 100.0, 0]], radius=2, n_e=1.0)
    observation = Observation(background=DARK, psf_fwhm=0 * u.arcsec, exposure=20 * u.ks, shape=(200, 240))
    path = write_events(halo, observation, tmp_path / "a.fits", rng=1)
    table, header = Table.read(path, hdu="EVENTS"), fits.getheader(path, "EVENTS")
    wcs = pixel_wcs(header)
    assert wcs.wcs_pix2world(0.5 * (240 + 1), 0.5 * (200 + 1), 1) == pytest.approx([180.0, 0.0], abs=1e-12)
    assert (header["TLMIN2"], header["TLMAX2"], header["TLMIN3"], header["TLMAX3"]) == (0.5, 240.5, 0.5, 200.5)
    right_ascension, declination = wcs.wcs_pix2world(table["X"].mean(), table["Y"].mean(), 1)
    kpc = halo.cosmology.kpc_proper_per_arcmin(0.05).to_value(u.kpc / u.deg)
    error = 5 * 2 / np.sqrt(5 * len(table))
    assert (180 - right_ascension) * kpc == pytest.approx(200, abs=error + 0.01)
    assert declination * kpc == pytest.approx(100, abs=error + 0.01)


def test_soxs_makes_the_same_image_of_it(ball, tmp_path):
    if importlib.util.find_spec("soxs") is None:
        pytest.skip("soxs is not installed")
    observation = Observation(exposure=5 * u.ks)
    path = write_events(ball, observation, tmp_path / "a.fits", rng=2)
    import soxs  # after the package has imported it

    with fits.open(path) as hdus:
        image = soxs.make_image(hdus, emin=0.5, emax=7.0).data
    # it drops what ends exactly on the limits, which no event does
    assert np.array_equal(image, observe(ball, observation, rng=2).data)


def test_simput_is_read_by_soxs(toy_halo, tmp_path):
    halo = toy_halo([[200.0, 100.0, 0], [3000.0, 3000.0, 3000.0]], radius=2, n_e=[0.5, 0.25])
    observation = Observation(exposure=30 * u.ks, nh_column=1e21 * u.cm**-2)
    path = write_events(halo, observation, tmp_path / "halo.fits", rng=1, kind="simput")
    import soxs  # after the package has imported it

    assert sorted(item.name for item in tmp_path.iterdir()) == ["halo.fits", "halo_phlist.fits"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (source,) = soxs.simput.read_catalog(str(path))
    assert source.name == "halo"
    energy = source["energy"].to_value("keV")
    assert energy.size > 3000
    # both clumps, the one outside the field too; flux as the definition says
    kpc = halo.cosmology.kpc_proper_per_arcmin(0.05).to_value(u.kpc / u.deg)
    right, up = (180 - source["ra"].to_value("deg")) * kpc, source["dec"].to_value("deg") * kpc
    near = np.hypot(right - 200, up - 100) < 20
    far = np.hypot(right - 3000, up - 3000) < 50
    assert np.all(near | far)
    assert near.sum() == pytest.approx(4 * far.sum(), rel=0.15)
    assert right[near].mean() == pytest.approx(200, abs=0.5)
    area = 1.2 * observation.load_response().effective_area.max()
    assert source.flux == pytest.approx(energy.sum() * u.keV.to(u.erg) / 3e4 / area)
    # as many as the gas sends through the Galaxy to that area
    wide = replace(observation, width=10 * u.Mpc)
    spectrum = expected_spectrum(halo, wide, bin_width=0.05 * u.keV)  # the bins of the effective area
    middle = 0.5 * (spectrum["energy_lo"] + spectrum["energy_hi"]).to_value(u.keV)
    number = np.sum(spectrum["counts"].value / observation.load_response().area(middle)) * area
    assert energy.size == pytest.approx(number, abs=5 * np.sqrt(number))


def test_simput_names_and_area(toy_halo, tmp_path):
    halo = toy_halo([[0.0, 0, 0]], radius=5, n_e=0.2)
    observation = Observation(exposure=10 * u.ks)
    sizes = []
    for name, area in (("one_simput.fits", None), ("two_simput", 3000 * u.cm**2)):
        path = write_events(halo, observation, tmp_path / name, axis=(1, 1, 0), rng=1, kind="simput", area=area)
        assert path.name == name
        # not as a Table: old astropy warns of the unit "erg/s/cm**2", which SIMPUT prescribes
        catalogue = fits.getdata(path, "SRC_CAT")
        photon_list = tmp_path / f"{name[:3]}_phlist.fits"
        assert str(catalogue["SPECTRUM"][0]).removeprefix("./").startswith(f"{photon_list.name}[PHLIST,1]")
        sizes.append(len(Table.read(photon_list, hdu="PHLIST")))
    assert len(list(tmp_path.iterdir())) == 4
    largest = observation.load_response().effective_area.max()
    assert sizes[1] / sizes[0] == pytest.approx(3000 / (1.2 * largest), rel=0.1)


@pytest.mark.parametrize("kind", ["events", "simput"])
def test_files_are_replaced_only_when_asked(ball, tmp_path, kind):
    observation = Observation(exposure=1 * u.ks, energy_range=(2, 4) * u.keV)
    write_events(ball, observation, tmp_path / "a.fits", rng=1, kind=kind)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        write_events(ball, observation, tmp_path / "a.fits", rng=2, kind=kind)
    assert before == {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    write_events(ball, observation, tmp_path / "a.fits", rng=2, kind=kind, overwrite=True)
    assert before.keys() == {item.name for item in tmp_path.iterdir()}
    assert before != {item.name: item.read_bytes() for item in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["events", "simput"])
def test_same_seed_same_photons(ball, tmp_path, kind):
    observation = Observation(exposure=1 * u.ks)
    hdu = {"events": "EVENTS", "simput": "PHLIST"}[kind]
    name = {"events": "{}.fits", "simput": "{}_phlist.fits"}[kind]
    tables = []
    for number, seed in enumerate((4, 4, 5)):
        write_events(ball, observation, tmp_path / f"{number}.fits", rng=seed, kind=kind)
        tables.append(fits.getdata(tmp_path / name.format(number), hdu)["ENERGY"])
    assert np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "list"}, ValueError, r"kind must be one of \('events', 'simput'\), got 'list'"),
        ({"area": 1000 * u.cm**2}, ValueError, "area must be None unless kind is 'simput'"),
        ({"kind": "simput", "area": 1000}, TypeError, "area"),
        ({"kind": "simput", "area": -1 * u.cm**2}, ValueError, "area"),
        ({"axis": "w"}, ValueError, "axis must be one of"),
        ({"rng": "1"}, TypeError, "rng must be a seed"),
        ({"observation": 3}, TypeError, "observation must be an Observation"),
        ({"halo": 3}, TypeError, "halo must be a Halo"),
        ({"path": "absent/a.fits"}, OutputError, "cannot write in"),
        ({"path": "absent/a.fits", "kind": "simput"}, OutputError, "cannot write in"),
        ({"kind": "simput"}, ValueError, "halo 12 sends no photon in 1"),
    ],
)
def test_bad_arguments_are_named(toy_halo, tmp_path, arguments, error, message):
    faint = toy_halo([[0.0, 0, 0]], radius=1, n_e=1e-6)
    arguments = {"halo": faint, "observation": Observation(exposure=1 * u.s), "path": "a.fits", "rng": 1, **arguments}
    halo, observation, path = (arguments.pop(name) for name in ("halo", "observation", "path"))
    with pytest.raises(error, match=message) as caught:
        write_events(halo, observation, tmp_path / path, **arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_kinds_are_documented():
    for kind in ("events", "simput"):
        assert f'``"{kind}"``' in write_events.__doc__


@pytest.mark.real_data
def test_instrument_of_soxs_writes_its_events(toy_halo, shared_data, tmp_path):
    if importlib.util.find_spec("soxs") is None:
        pytest.skip("soxs is not installed")
    folder = tmp_path / "files"
    folder.mkdir()
    for suffix in ("arf", "rmf"):
        (folder / f"acisi_aimpt_cy0.{suffix}").symlink_to(shared_data / "responses" / f"acisi_aimpt_cy0.{suffix}")
    image = fits.ImageHDU(np.ones((1, 1)))
    image.header.update(ENERGY=1.0, OFFAXIS=0.0, CUNIT1="mm", CRPIX1=1.0, CRPIX2=1.0, CDELT1=1e-3, CDELT2=1e-3)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / "chandra_psf.fits")
    halo = toy_halo([[0.0, 0, 0]], radius=5, n_e=0.2)
    observation = Observation(response="soxs:chandra_acisi_cy0", response_files=folder, exposure=10 * u.ks)
    path = write_events(halo, observation, tmp_path / "a.fits", rng=1)
    table = Table.read(path, hdu="EVENTS")
    assert np.array_equal(binned(table, observation.shape), observe(halo, observation, rng=1).data)
