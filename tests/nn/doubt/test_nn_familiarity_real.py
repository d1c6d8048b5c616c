"""What the packaged cool-core model says of real images: clusters are familiar, other things are not."""

import csv
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from astroclassify.images import SkyImage
from astroclassify.nn import load_classifier

REFUSED = 0.01

# Archives write dates that astropy puts right.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")


@pytest.fixture(scope="module")
def model():
    model = load_classifier("coolcore")
    if model.familiarity_ is None:
        pytest.skip("the packaged model has not learned what clusters look like (tools/fit_familiarity.py)")
    return model


def familiarity(model, images, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of archives
        return np.asarray(model.classify(images, progress=False, **how)["familiarity"])


def epic(folder, name):
    with fits.open(next((folder / "xmm" / "real").glob(f"{name}*"))) as hdus:
        header = hdus[0].header
        meta = {key: header[key] for key in ("TELESCOP", "INSTRUME", "EXPOSURE")} | {"E_MIN": 0.5, "E_MAX": 2.0}
        return SkyImage(hdus[0].data.astype(float), unit=u.ct, wcs=WCS(header), meta=meta)


@pytest.mark.real_data
def test_a_real_cluster_is_familiar_at_any_depth(model, shared_data):
    images = [epic(shared_data, name) for name in ("A3667_20ks", "A3667_58.94ks")]
    p = familiarity(model, images, redshift=0.0556, centre=SkyCoord("20h12m27.3s -56d49m36s"))
    assert np.all(p >= REFUSED) and abs(p[0] - p[1]) < 0.3


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["M51_galaxy_20ks", "W49B_SNR_20ks", "RCW103_SNR_20ks"])
def test_other_things_are_refused(model, shared_data, name):
    # No redshift is theirs; this one shows the whole of each.
    assert familiarity(model, [epic(shared_data, name)], redshift=0.05)[0] < REFUSED


@pytest.mark.real_data
def test_pictures_of_real_clusters_are_familiar(model, shared_data):
    folder, images, places = shared_data / "chandra_pictures", [], []
    with open(folder / "index.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with fits.open(folder / f"{row['name']}.fits.gz") as hdus:
                brightness = 0.08 * np.sinh(hdus[0].data / 255 * np.arcsinh(1 / 0.08))
                meta = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "REDSHIFT": float(row["z"])}
                images.append(SkyImage(1e4 * brightness, unit=u.ct, wcs=WCS(hdus[0].header), meta=meta))
            places.append((float(row["ra"]), float(row["dec"])))
    p = familiarity(model, images, centre=SkyCoord(places, unit=u.deg))
    known = p[np.isfinite(p)]  # the nearest show too little of 1 Mpc
    assert len(known) >= 120 and np.mean(known >= REFUSED) >= 0.9


@pytest.mark.real_data
def test_plates_of_the_visible_sky_are_refused(model, shared_data):
    with fits.open(shared_data / "optical" / "DSS1_M67.fits") as hdus:
        plate = SkyImage(hdus[0].data.astype(float), unit=u.ct, wcs=WCS(hdus[0].header), meta={})
    assert familiarity(model, [plate], redshift=0.05)[0] < REFUSED
