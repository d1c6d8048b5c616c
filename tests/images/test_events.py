"""Event lists: images of them against histograms by hand, in the layout of each mission; what is said and refused."""

import gzip
import shutil
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning
from astroclassify.images import read_events, read_header, read_image, write_image
from astroclassify.schemes import Flag
from astroclassify.survey import read_field

N = 4000


@dataclass
class Mission:
    """A list in a mission's layout: its columns, keywords, and the numbers that reading must find."""

    columns: list  # name, format, unit, further keywords
    header: dict
    centre: tuple  # sky of the reference pixel [deg]
    crpix: tuple
    cdelt: float  # deg
    low: float  # edge of the sky, in pixels of the list
    length: int
    factor: int  # pixels of the list to one of the image
    telescope: str
    instrument: str
    exposure: float | None
    keV: tuple = (1e-3, 0.0)  # energy = factor * column + constant
    extension: str = "EVENTS"
    gti: tuple = (("GTI", {}, 10000.0),)
    wcs: str = "T"  # T: TCTYPn; REF: REFXCTYP
    date: str = "2010-01-02T03:04:05"


CHANDRA = Mission(  # the header of a list of CIAO 4.16, as that of ObsID 18059 in ../shared/data
    columns=[("time", "D", "s", {}), ("ccd_id", "I", None, {}), ("x", "E", "pixel", {}), ("y", "E", "pixel", {}),
             ("energy", "E", "eV", {}), ("pi", "J", "chan", {"TNULL": 0}), ("status", "32X", None, {})],
    header={"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "SIM_Z": -233.6, "RADESYS": "ICRS",
            "EXPOSURE": 9869.3, "ONTIME": 10000.0, "CONTENT": "EVT2", "DSTYP1": "ccd_id", "DSVAL1": "7:7",
            "2DSVAL1": "6:6", "DATE-OBS": "2010-01-02T03:04:05"},
    centre=(150.1, 2.2), crpix=(4096.5, 4096.5), cdelt=0.492 / 3600, low=0.5, length=8192, factor=4,
    telescope="CHANDRA", instrument="ACIS-I", exposure=9869.3,
    gti=(("GTI", {"EXTVER": 7}, 10000.0), ("GTI", {"EXTVER": 3}, 9990.0)),
)  # fmt: skip
XMM = Mission(  # XMM-Newton Data Files Handbook, calibrated event lists of EPIC pn; attcalc for the keywords
    columns=[("TIME", "D", "s", {}), ("X", "J", "0.05arcsec", {"TNULL": -99999999}),
             ("Y", "J", "0.05arcsec", {"TNULL": -99999999}), ("PI", "I", "eV", {}), ("FLAG", "J", None, {}),
             ("PATTERN", "B", None, {}), ("CCDNR", "B", None, {})],
    header={"TELESCOP": "XMM", "INSTRUME": "EPN", "RADECSYS": "FK5", "EQUINOX": 2000.0, "PA_PNT": 130.0,
            "EXPOSURE": 9000.0, "SLCTEXPR": "(FLAG == 0) && (PATTERN<=4)", "DATAMODE": "IMAGING"},
    centre=(195.36, 27.76), crpix=(25921, 25921), cdelt=0.05 / 3600, low=0.5, length=51840, factor=80,
    telescope="XMM", instrument="EPN", exposure=9000.0, wcs="REF", date=None,
    gti=(("STDGTI01", {}, 9000.0), ("STDGTI02", {}, 8900.0)),
)  # fmt: skip
EROSITA = Mission(  # eSASS, eROSITA event file format (EDR)
    columns=[("TIME", "D", "s", {}), ("RA", "J", "deg", {"TSCAL": 1e-6, "TZERO": 0.0}),
             ("DEC", "J", "deg", {"TSCAL": 1e-6, "TZERO": 0.0}), ("X", "J", None, {}), ("Y", "J", None, {}),
             ("PI", "E", "eV", {}), ("TM_NR", "B", None, {})],
    header={"MISSION": "SRG", "TELESCOP": "eROSITA", "INSTRUME": "merged", "INSTRUM1": "TM1", "RADECSYS": "FK5",
            "EQUINOX": 2000.0, "OBS_MODE": "POINTING"},
    centre=(55.7, -53.6), crpix=(0.0, 0.0), cdelt=0.05 / 3600, low=-32400.5, length=64801, factor=80,
    telescope="EROSITA", instrument="EROSITA", exposure=8000.0, date=None,
    gti=(("GTI1", {}, 8000.0), ("GTI2", {}, 7000.0), ("FLAREGTI1", {}, 99999.0)),
)  # fmt: skip
PSPC = Mission(  # ROSAT Data Products Guide, rationalised data format
    columns=[("X", "I", "pixel", {}), ("Y", "I", "pixel", {}), ("PHA", "I", "bin", {}), ("PI", "I", "bin", {}),
             ("TIME", "D", "s", {})],
    header={"TELESCOP": "ROSAT", "INSTRUME": "PSPCB", "LIVETIME": 9800.0, "ONTIME": 10000.0, "RADECSYS": "FK5",
            "EQUINOX": 2000.0, "DATE-OBS": "08/01/92", "HDUCLAS1": "EVENTS", "HDUCLAS2": "ACCEPTED"},
    centre=(55.7, -53.6), crpix=(7681, 7680), cdelt=0.5 / 3600, low=0.5, length=15360, factor=30,
    telescope="ROSAT", instrument="PSPC", exposure=9800.0, keV=(0.01, 0.005), extension="STDEVT", date="1992-01-08",
    gti=(("STDGTI", {}, 10000.0),),
)  # fmt: skip
SWIFT = Mission(  # Swift XRT Data Reduction Guide, cleaned list of the photon counting mode
    columns=[("TIME", "D", "s", {}), ("X", "I", "pixel", {"TNULL": -1}), ("Y", "I", "pixel", {"TNULL": -1}),
             ("PI", "J", "chan", {}), ("GRADE", "I", None, {})],
    header={"TELESCOP": "SWIFT", "INSTRUME": "XRT", "DATAMODE": "PHOTON", "RADECSYS": "FK5", "EQUINOX": 2000.0,
            "EXPOSURE": 10000.0},
    centre=(55.7, -53.6), crpix=(500.5, 500.5), cdelt=2.357 / 3600, low=0.5, length=1000, factor=1,
    telescope="SWIFT", instrument="XRT", exposure=10000.0, keV=(0.01, 0.005), date=None,
)  # fmt: skip
NUSTAR = Mission(  # NuSTAR Data Analysis Software Guide, level 2
    columns=[("TIME", "D", "s", {}), ("STATUS", "2B", None, {}), ("PI", "J", "chan", {"TNULL": -4095}),
             ("X", "I", "pixel", {"TNULL": -1}), ("Y", "I", "pixel", {"TNULL": -1})],
    header={"TELESCOP": "NuSTAR", "INSTRUME": "FPMA", "RADECSYS": "FK5", "EQUINOX": 2000.0, "LIVETIME": 9300.0,
            "EXPOSURE": 9300.0, "DSTYP1": "GRADE", "DSVAL1": "0:26"},
    centre=(187.7, 12.4), crpix=(500, 500), cdelt=2.4581 / 3600, low=0.5, length=1000, factor=1,
    telescope="NUSTAR", instrument="FPMA", exposure=9300.0, keV=(0.04, 1.62), date=None,
)  # fmt: skip
SOXS = Mission(  # soxs.events, version 5.3
    columns=[("ENERGY", "E", "eV", {}), ("X", "D", "pixel", {}), ("Y", "D", "pixel", {}), ("PI", "J", "Chan", {}),
             ("TIME", "D", "s", {})],
    header={"MISSION": "AXAF", "TELESCOP": "CHANDRA", "INSTRUME": "chandra_acisi_cy22", "RADECSYS": "FK5",
            "EQUINOX": 2000.0, "EXPOSURE": 10000.0, "HDUCLAS1": "EVENTS", "HDUCLAS2": "ACCEPTED"},
    centre=(30.0, 45.0), crpix=(4096.5, 4096.5), cdelt=0.492 / 3600, low=0.5, length=8192, factor=4,
    telescope="CHANDRA", instrument="ACIS-I", exposure=10000.0, date=None, gti=(("STDGTI", {}, 10000.0),),
)  # fmt: skip
MISSIONS = {
    "chandra": CHANDRA, "xmm": XMM, "erosita": EROSITA, "pspc": PSPC, "swift": SWIFT, "nustar": NUSTAR, "soxs": SOXS,
}  # fmt: skip


def native_wcs(mission):
    """Pixels of the list on the sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = mission.centre, mission.crpix
    wcs.wcs.cdelt = [-mission.cdelt, mission.cdelt]
    wcs.wcs.radesys = mission.header.get("RADESYS", mission.header.get("RADECSYS"))
    return wcs


def sky_of(mission, n=N):
    """Places (pixels of the list) of events: a flat field over all of the sky, and a source that is a third of them."""
    rng = np.random.default_rng(4)
    places = mission.low + rng.random((2, n)) * mission.length
    source = mission.low + np.array([0.62, 0.45]) * mission.length
    width = 3.0 / 3600 / mission.cdelt
    places[:, : n // 3] = source[:, None] + np.clip(rng.standard_normal((2, n // 3)), -3, 3) * width
    if any(name.upper() == "X" and form in "IJ" for name, form, *_ in mission.columns):
        places = np.clip(np.round(places), mission.low + 0.5, mission.low + mission.length - 0.5)
    places[:, -40:] = mission.low + 0.5  # so that the border is not empty
    x, y = places.astype(np.float32).astype(float)
    middle = native_wcs(mission).all_pix2world(*source, 1)
    return x, y, SkyCoord(*middle, unit=u.deg, frame="icrs" if mission.header.get("RADESYS") else "fk5")


def energies_of(mission, n=N):
    """Numbers of the column of energies, and the energies [keV] that they mean."""
    factor, constant = mission.keV
    wanted = np.random.default_rng(5).uniform(0.3, 2.4, n) + (2.0 if constant > 1 else 0.0)
    numbers = (wanted - constant) / factor
    form = next(form for name, form, *_ in mission.columns if name.upper() in ("ENERGY", "PI"))
    numbers = np.round(numbers) if form in "IJ" else numbers.astype(np.float32).astype(float)
    return numbers, constant + factor * numbers


def interval_hdu(name, cards, length):
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("START", "D", unit="s", array=[100.0]),
            fits.Column("STOP", "D", unit="s", array=[100.0 + length]),
        ],
        name=name,
    )
    hdu.header.update({**cards, "HDUCLAS1": "GTI"})
    return hdu


def write_list(path, mission, *, values=None, header=None, drop=(), n=N, more=()):
    """Write a list in a mission's layout; ``values`` by column in upper case, ``header`` None to leave a card out."""
    x, y, _ = sky_of(mission, n)
    numbers, energies = energies_of(mission, n)
    given = {"X": x, "Y": y, "PI": numbers, "ENERGY": numbers, "PHA": numbers}
    if any(name == "ENERGY" or name == "energy" for name, *_ in mission.columns):
        given["PI"] = np.floor(energies / 0.0146) + 1
    wcs = native_wcs(mission)
    lon, lat = wcs.all_pix2world(x, y, 1)
    given["RA"], given["DEC"] = lon, lat
    given |= values or {}
    columns, keys = [], {}
    kept = [column for column in mission.columns if column[0].upper() not in drop]
    for number, (name, form, unit, further) in enumerate(kept, 1):
        array = np.zeros(n) if form[-1] != "X" else np.zeros((n, 32), bool)
        array = np.zeros((n, 2)) if form == "2B" else array
        array = given.get(name.upper(), array)
        scale = further.get("TSCAL", 1.0)
        plain = form[-1] in "IJB"
        array = np.round(array / scale).astype(np.int64) if plain else array
        columns.append(fits.Column(name, form, unit=unit, array=array))
        keys |= {f"{key}{number}": value for key, value in further.items()}
        if name.upper() in ("X", "Y"):
            axis = "XY".index(name.upper())
            prefix, mark = (f"REF{name}", "") if mission.wcs == "REF" else ("T", number)
            keys |= {
                f"{prefix}CTYP{mark}": wcs.wcs.ctype[axis], f"{prefix}CRVL{mark}": mission.centre[axis],
                f"{prefix}CRPX{mark}": mission.crpix[axis], f"{prefix}CDLT{mark}": (-1, 1)[axis] * mission.cdelt,
                f"{prefix}CUNI{mark}": "deg",
            }  # fmt: skip
            whole = 0.5 if plain else 0.0
            keys[f"TLMIN{number}"] = mission.low + whole
            keys[f"TLMAX{number}"] = mission.low + mission.length - whole
    table = fits.BinTableHDU.from_columns(columns, name=mission.extension)
    table.header.update({**mission.header, **keys})
    for key, value in (header or {}).items():
        if value is None:
            table.header.pop(key, None)
        else:
            table.header[key] = value
    hdus = [fits.PrimaryHDU(), table, *(interval_hdu(*each) for each in mission.gti), *more]
    fits.HDUList(hdus).writeto(path, output_verify="ignore", overwrite=True)
    return path


def by_hand(mission, x, y, keep=slice(None)):
    """Counts on the pixels of the whole sky, by `numpy.histogram2d`."""
    n = -(-mission.length // mission.factor)
    edges = mission.low + mission.factor * np.arange(n + 1)
    return np.histogram2d(y[keep], x[keep], bins=[edges, edges])[0]


def read(path, **options):
    """Read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_events(path, **options)


@pytest.mark.parametrize("name", MISSIONS)
def test_image_is_the_histogram_of_the_columns(tmp_path, name):
    mission = MISSIONS[name]
    path = write_list(tmp_path / "events.fits", mission)
    image = read(path)
    x, y, source = sky_of(mission)
    assert isinstance(image, CCDData)
    assert image.unit == u.ct
    assert np.array_equal(image.data, by_hand(mission, x, y))
    header = read_header(image.meta, image.wcs)
    assert (header.telescope, header.instrument) == (mission.telescope, mission.instrument)
    assert header.exposure == pytest.approx(mission.exposure)
    assert header.date == mission.date
    row, column = np.unravel_index(image.data.argmax(), image.shape)
    assert image.wcs.pixel_to_world(column, row).separation(source) < mission.factor * mission.cdelt * u.deg
    assert not any(key.startswith(("TTYPE", "TCRPX", "REFX", "TLMIN")) for key in image.meta)
    assert image.meta["HDUCLAS1"] == "IMAGE"
    assert "all energies" in str(image.meta["HISTORY"])


@pytest.mark.parametrize("name", MISSIONS)
def test_band_selects_energies(tmp_path, name):
    mission = MISSIONS[name]
    path = write_list(tmp_path / "events.fits", mission)
    energies = energies_of(mission)[1]
    low, high = (3.0, 4.0) if name == "nustar" else (0.5, 2.0)
    image = read(path, energy=[1e3 * low, 1e3 * high] * u.eV)
    x, y, _ = sky_of(mission)
    assert np.array_equal(image.data, by_hand(mission, x, y, (energies >= low) & (energies < high)))
    assert read_header(image.meta).energy_range == (low, high)
    outside = np.count_nonzero(~((energies >= low) & (energies < high)))
    assert f"{outside} lie outside the band" in str(image.meta["HISTORY"])


def test_band_by_pi_is_that_by_energy_within_a_channel(tmp_path):
    energies = energies_of(CHANDRA)[1]
    with_energy = read(write_list(tmp_path / "a.fits", CHANDRA), energy=[0.5, 2] * u.keV)
    without = read(write_list(tmp_path / "b.fits", CHANDRA, drop=("ENERGY",)), energy=[0.5, 2] * u.keV)
    # channels 35 to 137, 0.4964 to 2.0002 keV
    assert without.data.sum() == np.count_nonzero((energies >= 34 * 0.0146) & (energies < 137 * 0.0146))
    assert abs(without.data.sum() - with_energy.data.sum()) <= np.count_nonzero(
        (abs(energies - 0.5) < 0.0146) | (abs(energies - 2.0) < 0.0146)
    )


def test_wcs_of_every_pixel_is_that_of_the_list(tmp_path):
    image = read(write_list(tmp_path / "a.fits", XMM))
    x, y = np.array([0.0, 10.0, 647.0]), np.array([5.0, 300.0, 1.0])
    sky = image.wcs.all_pix2world(x, y, 0)
    native = native_wcs(XMM).all_pix2world(0.5 + 80 * (x + 0.5), 0.5 + 80 * (y + 0.5), 1)
    np.testing.assert_allclose(sky, native, atol=1e-9)


def test_read_image_field_and_writing_take_lists(tmp_path):
    path = write_list(tmp_path / "events.fits", XMM)
    image = read_image(path)
    assert np.array_equal(image.data, read(path).data)
    assert read_field(path).counts.sum() == image.data.sum()
    again = read_image(write_image(image, tmp_path / "image.fits"))
    assert np.array_equal(again.data, image.data)
    assert again.meta["EXPOSURE"] == 9000.0
    with pytest.raises(GeometryError, match="exposure: .*event list.*survey.read_field"):
        read_image(path, exposure=tmp_path / "image.fits")


def test_an_image_beside_events_is_the_image(tmp_path):
    picture = fits.ImageHDU(np.ones((4, 5)))
    path = write_list(tmp_path / "a.fits", SWIFT, more=(picture,))
    assert read_image(path).shape == (4, 5)
    assert read(path).shape == (1000, 1000)


def test_compressed_lists_are_read_alike(tmp_path):
    plain = write_list(tmp_path / "events.fits", SWIFT)
    with open(plain, "rb") as source, gzip.open(tmp_path / "events.fits.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    assert np.array_equal(read(plain).data, read(tmp_path / "events.fits.gz").data)


@pytest.mark.parametrize("changed", [False, True])
def test_open_lists_are_read_as_they_are_in_memory(tmp_path, changed):
    path = write_list(tmp_path / "events.fits", XMM)
    with fits.open(path) as hdus:
        if changed:
            hdus["EVENTS"].data = hdus["EVENTS"].data[: N // 4]
        image = read(hdus)
        assert len(hdus["EVENTS"].data) == image.data.sum() == (N // 4 if changed else N)
    table = fits.BinTableHDU(fits.getdata(path, 1), fits.getheader(path, 1))
    assert np.array_equal(read(fits.HDUList([fits.PrimaryHDU(), table])).data, read(path).data)


def test_blocks_leave_out_no_row(tmp_path, monkeypatch):
    path = write_list(tmp_path / "events.fits", CHANDRA)
    whole = read(path)
    monkeypatch.setattr("astroclassify.images.events._table.BLOCK", 1000)
    assert np.array_equal(read(path).data, whole.data)
    assert whole.data.sum() == N


@pytest.mark.parametrize(
    ("pixel", "factor"),
    [(2, 2), (7, 7), (4.0 * u.arcsec, 80), (0.1 * u.arcmin, 120), (4.013 * u.arcsec, 80)],
)
def test_whole_places_get_whole_pixels(tmp_path, pixel, factor):
    x, y, source = sky_of(XMM)
    path = write_list(tmp_path / "events.fits", XMM)
    image = read(path, pixel=pixel, position=source, size=1 * u.arcmin)
    n = image.shape[0]
    assert n == round(1200 / factor)
    low = 0.5 + factor * np.round((XMM.low + np.array([0.62, 0.45]) * XMM.length - 0.5) / factor - n / 2)
    edges = [each + factor * np.arange(n + 1) for each in low]
    assert np.array_equal(image.data, np.histogram2d(y, x, bins=edges[::-1])[0])
    assert image.data.sum() >= N // 3
    assert "lie outside the part of the sky" in str(image.meta["HISTORY"])


def test_any_pixel_goes_where_places_are_not_whole(tmp_path):
    image = read(write_list(tmp_path / "a.fits", CHANDRA), pixel=3 * u.arcsec)
    assert abs(image.wcs.wcs.cdelt[1]) * 3600 == pytest.approx(3.0)
    assert image.data.sum() == N


def test_large_images_lose_their_empty_border_and_keep_their_middle(tmp_path):
    x, y, _ = sky_of(CHANDRA)
    x, y = 4096.5 + (x - 4096.5) / 8, 4096.5 + (y - 4096.5) / 6
    image = read(write_list(tmp_path / "a.fits", CHANDRA, values={"X": x, "Y": y}))
    assert image.shape[0] < 350
    assert image.shape[1] < 260
    assert image.data.sum() == N
    middle = image.wcs.pixel_to_world(*((length - 1) / 2 for length in image.shape[::-1]))
    assert middle.separation(SkyCoord(*CHANDRA.centre, unit=u.deg)).arcsec < 1e-3


@pytest.mark.parametrize("name", ["chandra", "swift"])
def test_events_without_a_place_are_counted(tmp_path, name):
    mission = MISSIONS[name]
    x, y, _ = sky_of(mission)
    x[:3] = np.nan if name == "chandra" else -1
    y[10:15] = -50.0
    x[20:22] = mission.length + 10
    image = read(write_list(tmp_path / "a.fits", mission, values={"X": np.copy(x), "Y": y}))
    assert image.data.sum() == N - 10
    history = str(image.meta["HISTORY"])
    assert f"{N} events of EVENTS, {N - 10} of them in this image" in history
    assert "3 have no place on the sky" in history
    assert "7 lie outside the legal range" in history
    x[:100] = -7.0
    with pytest.warns(ImageWarning, match="100 of 4000 events have no place on the list's sky"):
        read_events(write_list(tmp_path / "b.fits", mission, values={"X": x}))


def test_secondary_pixels_of_erosita_are_no_photons(tmp_path):
    numbers, _ = energies_of(EROSITA)
    numbers[:40] *= -1
    image = read(write_list(tmp_path / "a.fits", EROSITA, values={"PI": numbers}))
    assert image.data.sum() == N - 40
    assert "40 are no photons" in str(image.meta["HISTORY"])


def test_rejected_events_of_rosat_do_not_count(tmp_path):
    rejected = fits.BinTableHDU.from_columns([fits.Column("X", "I", array=[1]), fits.Column("Y", "I", array=[1])])
    rejected.header.update({"EXTNAME": "REJEVT", "HDUCLAS1": "EVENTS", "HDUCLAS2": "REJECTED"})
    path = write_list(tmp_path / "a.fits", PSPC, more=(rejected,))
    assert read(path).data.sum() == N
    fits.HDUList([fits.PrimaryHDU(), rejected]).writeto(tmp_path / "b.fits")
    with pytest.raises(GeometryError, match="has no event list, only PRIMARY .*REJEVT"):
        read_events(tmp_path / "b.fits")


@pytest.mark.parametrize("units", ["MeV", "GeV", "keV"])
def test_lists_with_ra_and_dec_alone(tmp_path, units):
    """Fermi LAT: FT1 files have RA, DEC, ENERGY [MeV], a circle in the data subspace, and no X and Y."""
    rng = np.random.default_rng(1)
    ra, dec = 83.6 + rng.normal(0, 1, 500), 22.0 + rng.normal(0, 1, 500)
    ra[:300], dec[:300] = 84.03, 22.31
    energy = rng.uniform(100, 2000, 500)
    factor = (1 * u.MeV).to_value(units)
    table = fits.BinTableHDU.from_columns(
        [fits.Column("ENERGY", "E", unit=units, array=energy * factor), fits.Column("RA", "E", unit="deg", array=ra),
         fits.Column("DEC", "E", unit="deg", array=dec)], name="EVENTS")  # fmt: skip
    table.header.update({"TELESCOP": "GLAST", "INSTRUME": "LAT", "RADECSYS": "FK5", "EQUINOX": 2000.0,
                         "DSTYP1": "POS(RA,DEC)", "DSVAL1": "CIRCLE(83.6,22.0,8)", "DSUNI1": "deg"})  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), table, interval_hdu("GTI", {}, 1e4)]).writeto(tmp_path / "a.fits")
    with pytest.warns(ImageWarning, match="moved over the sky"):
        image = read_events(tmp_path / "a.fits", energy=[0.1, 1] * u.GeV)
    assert image.data.sum() == np.count_nonzero(np.float32(energy * factor) < np.float32(1000 * factor))
    row, column = np.unravel_index(image.data.argmax(), image.shape)
    place = SkyCoord(84.03, 22.31, unit=u.deg, frame="fk5")
    assert image.wcs.pixel_to_world(column, row).separation(place).deg < 0.08
    assert read_header(image.meta).exposure is None


def test_scaled_ra_and_dec_of_erosita(tmp_path):
    path = write_list(
        tmp_path / "a.fits", EROSITA, drop=("X", "Y"), header={"RA_CEN": 55.7, "DEC_CEN": -53.6, "OBS_MODE": "SURVEY"}
    )
    _, _, source = sky_of(EROSITA)
    with pytest.warns(ImageWarning, match="moved over the sky"):
        image = read_events(path, position=source, size=5 * u.arcmin)
    row, column = np.unravel_index(image.data.argmax(), image.shape)
    assert image.wcs.pixel_to_world(column, row).separation(source).arcsec < 4
    assert "EXPOSURE" not in image.meta
    with pytest.raises(GeometryError, match="position must be given"):
        read_events(write_list(tmp_path / "b.fits", EROSITA, drop=("X", "Y")))


@pytest.mark.parametrize(
    ("header", "gti", "used", "text"),
    [
        ({"EXPOSURE": 9869.3}, 10000.0, 9869.3, "by the header"),
        ({"EXPOSURE": None, "LIVETIME": 9000.0}, 10000.0, 9000.0, "by the header"),
        ({"EXPOSURE": None, "ONTIME": None, "DTCOR": 0.98}, 10000.0, 9800.0, "dead time"),
        ({"EXPOSURE": None, "ONTIME": None}, None, None, "no time in the header"),
        ({"EXPOSURE": 9869.3}, None, 9869.3, "no good time intervals"),
    ],
)
def test_exposure(tmp_path, header, gti, used, text):
    mission = Mission(**{**CHANDRA.__dict__, "gti": () if gti is None else (("GTI", {}, gti),)})
    image = read(write_list(tmp_path / "a.fits", mission, header=header))
    assert image.meta.get("EXPOSURE") == (None if used is None else pytest.approx(used))
    assert text in str(image.meta["HISTORY"])


def test_exposure_of_a_list_cut_in_time(tmp_path):
    """EXPOSURE stays that of the whole list; chips share most of their time, which counts once."""
    mission = Mission(**{**CHANDRA.__dict__, "gti": (("GTI", {"EXTVER": 7}, 1000.0), ("GTI", {"EXTVER": 6}, 990.0))})
    with pytest.warns(ImageWarning, match="header's 9869.3 s exceeds the good time of 1000 s"):
        image = read_events(write_list(tmp_path / "a.fits", mission))
    assert image.meta["EXPOSURE"] == pytest.approx(986.93)


@pytest.mark.parametrize(
    ("instrument", "expression", "missing"),
    [
        ("EPN", "", "FLAG and PATTERN"), ("EPN", "(PATTERN<=4)", "FLAG"), ("EMOS1", "", "PATTERN <= 12"),
        ("EMOS2", "(FLAG == 0) && (PATTERN <= 12)", None),
    ],
)  # fmt: skip
def test_selection_of_xmm_lists_is_left_and_said(tmp_path, instrument, expression, missing):
    path = write_list(tmp_path / "a.fits", XMM, header={"INSTRUME": instrument, "SLCTEXPR": expression})
    if missing is None:
        assert "no selection" not in str(read(path).meta["HISTORY"])
        return
    with pytest.warns(ImageWarning, match="no selection on") as caught:
        image = read_events(path)
    assert image.data.sum() == N
    assert missing in str(caught[0].message)
    assert missing in " ".join(str(image.meta["HISTORY"]).split())


def test_selection_of_the_file_is_in_the_history(tmp_path):
    history = str(read(write_list(tmp_path / "a.fits", CHANDRA)).meta["HISTORY"])
    assert "selection of the file: CCD_ID 7:7 or 6:6" in history
    with pytest.warns(ImageWarning, match="level 1"):
        read_events(write_list(tmp_path / "b.fits", CHANDRA, header={"CONTENT": "EVT1"}))


@pytest.mark.parametrize("n", [0, 3])
def test_few_events_are_an_image_with_a_flag(tmp_path, n):
    image = read(write_list(tmp_path / "a.fits", SWIFT, n=n))
    assert image.shape == (1000, 1000)
    assert image.data.sum() == n
    assert Flag.LOW_COUNTS in Flag(image.meta["FLAGS"])


def test_band_beyond_that_of_the_file(tmp_path):
    path = write_list(tmp_path / "a.fits", XMM, header={"DSTYP1": "PI", "DSVAL1": "500:2000", "DSUNI1": "eV"})
    with pytest.warns(ImageWarning, match="0.5 to 2 keV, asked for are 0.3 to 7 keV"):
        image = read_events(path, energy=[0.3, 7] * u.keV)
    assert read_header(image.meta).energy_range == (0.5, 2.0)
    with pytest.raises(GeometryError, match="energy: .* has events from 0.5 to 2 keV"):
        read_events(path, energy=[2, 7] * u.keV)


@pytest.mark.parametrize(
    ("mission", "header", "drop", "message"),
    [
        (SWIFT, {}, ("X",), r"no sky coordinates .* only the columns \['TIME', 'Y', 'PI', 'GRADE'\]"),
        (NUSTAR, {"TCRVL4": "0.0"}, (), "TCRVL4 must be a number, got '0.0'"),
        (NUSTAR, {"TCDLT4": -2.458}, (), "cannot be true: pixels of 2.458 deg"),
        (NUSTAR, {"TCDLT4": 0.0}, (), "no usable coordinate system"),
        (SWIFT, {"TCRPX2": None}, (), "TCRPX2 must be a number, but is not there"),
        (SWIFT, {"TCDLT2": -0.5, "TCDLT3": 0.5}, (), "cannot be true: a sky of 500 deg"),
        (SWIFT, {"TSCAL2": "two"}, (), "TSCAL2 must be a number, got 'two'"),
        (SWIFT, {"DATAMODE": "WINDOWED"}, (), "mode without images .DATAMODE = WINDOWED"),
        (CHANDRA, {"READMODE": "CONTINUOUS"}, (), "mode without images .READMODE = CONTINUOUS"),
        (SWIFT, {"ZTABLE": True}, (), "compressed table"),
    ],
)  # fmt: skip
def test_lists_that_make_no_image_are_refused(tmp_path, mission, header, drop, message):
    path = write_list(tmp_path / "a.fits", mission, header=header, drop=drop)
    for reader in (read_events, read_image):
        with pytest.raises(GeometryError, match=message):
            reader(path)


def test_nicer_has_no_sky_coordinates(tmp_path):
    """NICER Data Analysis Guide: columns TIME, RAWX, RAWY, PHA, PI ... of detectors that make no images."""
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "J", array=[1, 2]) for name in ("TIME", "RAWX", "RAWY", "PHA", "PI")], name="EVENTS"
    )
    table.header.update({"TELESCOP": "NICER", "INSTRUME": "XTI"})
    table.writeto(tmp_path / "a.fits")
    with pytest.raises(GeometryError, match="no sky coordinates"):
        read_image(tmp_path / "a.fits")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"energy": [0.5, 2]}, TypeError, "energy must be a Quantity"),
        ({"energy": [2, 0.5] * u.keV}, ArgumentError, "energy must rise"),
        ({"energy": 1 * u.keV}, ValueError, "energy must have shape"),
        ({"energy": [1, 2] * u.arcsec}, u.UnitConversionError, "energy must have a unit like keV"),
        ({"pixel": 0}, ArgumentError, "pixel must be a whole number from 1"),
        ({"pixel": 2.5}, ArgumentError, "pixel must be a whole number"),
        ({"pixel": 0.01 * u.arcsec}, GeometryError, "pixel must be at least that of the list"),
        ({"pixel": -1 * u.arcsec}, ValueError, "pixel must be larger than zero"),
        ({"pixel": 1}, GeometryError, "pixel: an image of .* 51840 by 51840 pixels .* give a larger one"),
        ({"size": 1 * u.arcmin}, ArgumentError, "position and size go together"),
        ({"position": SkyCoord(10, 10, unit="deg")}, ArgumentError, "position and size go together"),
        ({"position": "M87", "size": 1 * u.arcmin}, TypeError, "position must be one SkyCoord"),
        ({"position": SkyCoord(10, 10, unit="deg"), "size": 1 * u.arcmin}, GeometryError, "lies off the list's sky"),
        ({"position": SkyCoord(195.4, 27.8, unit="deg"), "size": 1 * u.keV}, ValueError, "size must have a unit"),
    ],
)
def test_wrong_arguments(tmp_path, options, error, message):
    path = write_list(tmp_path / "a.fits", XMM)
    with pytest.raises(error, match=message):
        read_events(path, **options)


def test_energies_that_nothing_explains_are_refused(tmp_path):
    path = write_list(tmp_path / "a.fits", PSPC, header={"INSTRUME": "HRI"})
    assert read(path).data.sum() == N
    with pytest.raises(GeometryError, match="energy: .*ROSAT HRI. has no energies"):
        read_events(path, energy=[0.5, 2] * u.keV)


def test_damaged_lists(tmp_path):
    path = write_list(tmp_path / "a.fits", SWIFT)
    (tmp_path / "cut.fits").write_bytes(path.read_bytes()[: 5 * 2880])
    with pytest.raises(GeometryError, match="cut.fits"):
        read_events(tmp_path / "cut.fits")
    with fits.open(path) as hdus:
        content = bytearray(path.read_bytes())
        start = hdus[1].fileinfo()["hdrLoc"]
    place = content.index(b"NAXIS1  =", start)
    content[place : place + 30] = b"NAXIS1  =                   99"
    (tmp_path / "rows.fits").write_bytes(content)
    with pytest.raises(GeometryError, match="rows"):
        read_events(tmp_path / "rows.fits")
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "absent.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(GeometryError, match="cannot be read as FITS"):
        read_events(tmp_path / "text.fits")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "source", "distance"),
    [
        ("chandra_aciss_10027_m82_evt2.fits", "09:55:50.2 +69:40:47", 0.5),
        ("chandra_aciss_10027_m82_noenergy_evt2.fits", "09:55:50.2 +69:40:47", 0.5),
        ("rosat_hri_rh400145_ctb109_bas.fits.gz", "23:01:08.3 +58:52:44.5", 5.0),  # the attitude of that observation
    ],
)
def test_known_sources_land_where_they_are(shared_data, name, source, distance):
    source = SkyCoord(source, unit=("hourangle", "deg"))
    path = shared_data / "events" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        image = read_events(path, pixel=1, position=source, size=20 * u.arcsec)
    row, column = np.unravel_index(image.data.argmax(), image.shape)
    y, x = np.indices(image.shape)
    near = image.wcs.pixel_to_world(x, y).separation(image.wcs.pixel_to_world(column, row)).arcsec < 3
    x, y = (np.average(each, weights=image.data * near) for each in (x, y))
    assert image.wcs.pixel_to_world(x, y).separation(source).arcsec < distance


@pytest.mark.real_data
def test_real_lists(shared_data):
    folder = shared_data / "events"
    with pytest.warns(ImageWarning, match="header's 18279.3 s exceeds the good time of 945.336 s"):
        image = read_events(folder / "chandra_aciss_10027_m82_evt2.fits", energy=[0.5, 7] * u.keV)
    with fits.open(folder / "chandra_aciss_10027_m82_evt2.fits") as hdus:
        energy = hdus["EVENTS"].data["energy"]
    assert image.data.sum() == np.count_nonzero((energy >= 500) & (energy < 7000))
    assert read_header(image.meta).instrument == "ACIS-S"
    image = read(folder / "rosat_hri_rh400145_ctb109_bas.fits.gz")
    assert image.data.sum() == 180758
    assert read_header(image.meta, image.wcs).exposure == pytest.approx(22181.24)
    assert read_header(image.meta, image.wcs).date == "1992-01-08T07:16:08.000"
    with pytest.raises(GeometryError, match="TCRVL13 must be a number"):
        read_image(folder / "nustar_90410111001A06_sunpos.evt")
    image = read(folder / "chandra_acis_18059_2rows_4ccd_evt2.fits")
    assert image.data.sum() == 2
    assert "CCD_ID 7:7 or 6:6 or 3:3 or 8:8" in str(image.meta["HISTORY"])
