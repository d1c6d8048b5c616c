"""Parts of ``real_sky.py`` made from observations: Chandra pictures, XMM and ROSAT images, and what is no cluster."""

import csv
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _accept import RADII, accept_images, background_counts, profiles, read_accept
from _judge import auc, expected_class, unfamiliar
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter, uniform_filter

from astroclassify.images import DEFAULT_COSMOLOGY, SkyImage, concentration
from astroclassify.schemes import flag_names
from astroclassify.sim import Observation

__all__ = ["from_indices", "others", "picture_images", "pictures", "to_indices", "xmm"]

# --- Pictures ---------------------------------------------------------------------------------------------------------
# Of the pictures: stretch and smoothing [pixel], see the INDEX of the data; the drawn axes [pixel]; and the share of
# pixels below the brightest colour: about the clusters 0.12% are saturated (median).
STRETCH, SMOOTHING, FRAME, UPPER = 0.08, 2.0, 6, 0.9988
TOTAL = 1e6  # ct in the field, to which brightness is scaled: about what a cluster of ACCEPT has at z = 0.05
MOCK_EXPOSURE = 50 * u.ks  # of mock images that are made into pictures: a choice
SPLIT, COOL, WARM = 0.12, 30.0, 60.0  # redshift; K0 [keV cm2]

# --- Observations -----------------------------------------------------------------------------------------------------
# Redshifts of NED [from memory: A3667 0.0556, M87 0.00428, NGC 1399 0.00475, A3158 0.0597], and the class: A3667 and
# A3158 have high central entropies, M87 a low one (ACCEPT); NGC 1399 cools in less than 1 Gyr in its centre. Positions
# are those of the brightest galaxies.
XMM = {
    "A3667": (0.0556, "NCC", "20h12m27.3s -56d49m36s"),
    "M87_Virgo": (0.00428, "CC", "12h30m49.4s +12d23m28s"),
    "NGC1399_Fornax": (0.00475, "CC", "03h38m29.1s -35d27m03s"),
}
ROSAT = (0.0597, "NCC", "03h42m52.9s -53d37m52s")
NOT_CLUSTERS = {
    "M51_galaxy": ("spiral galaxy M51", "13h29m52.7s +47d11m43s"),
    "W49B_SNR": ("supernova remnant W49B", "19h11m08s +09d06m00s"),
    "RCW103_SNR": ("supernova remnant RCW 103", "16h17m33s -51d02m00s"),
}
ASSUMED = (0.05, 0.2)  # redshifts that somebody might assume for what is no cluster
REFUSED = 0.01  # p of being a cluster below which an image is refused
N_THINNED = 20


def to_indices(image, exposed=True):
    """
    Colour indices 0 to 255 of a background-subtracted image, as the pictures were made.

    The lower end of the stretch is the 5 percentile: zero, as more than 5% of a mosaic is without exposure.
    """
    smooth = np.where(exposed, gaussian_filter(np.asarray(image, dtype=float), SMOOTHING), 0.0)
    high = np.quantile(smooth, UPPER)
    relative = np.clip(smooth / max(high, 1e-300), 0.0, 1.0)
    return np.round(255 * np.arcsinh(relative / STRETCH) / np.arcsinh(1 / STRETCH)).astype(np.uint8)


def from_indices(index):
    """Relative brightness, 0 to 1, of colour indices; what was below or above is lost."""
    return STRETCH * np.sinh(np.asarray(index, dtype=float) / 255 * np.arcsinh(1 / STRETCH))


def _as_counts(index, header, **cards):
    """A picture, without the axes drawn about it, as an image of `TOTAL` counts without exposure."""
    inside = slice(FRAME, -FRAME), slice(FRAME, -FRAME)
    relative = from_indices(index[inside])
    meta = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", **cards}
    return SkyImage(relative * (TOTAL / relative.sum()), unit=u.ct, wcs=WCS(header)[inside], meta=meta)


def picture_images(data, *, every=1):
    """The index of the pictures as a table, the pictures as images, and mocks through the same transform (or None)."""
    folder = Path(data) / "chandra_pictures"
    with (folder / "index.csv").open(encoding="utf-8") as stream:
        index = list(csv.DictReader(stream))[::every]
    known = {_plain(cluster.name): cluster for cluster in read_accept(data, fitted=True)}
    images, mocks = [], []
    for row in index:
        with fits.open(folder / f"{row['name']}.fits.gz") as hdus:
            picture, header = np.array(hdus[0].data), hdus[0].header
            cards = {"OBJECT": row["name"], "REDSHIFT": float(row["z"])}
            images.append(_as_counts(picture, header, **cards))
            cluster = known.get(_plain(row["name"]))
            mock = None if cluster is None else _mock_picture(cluster, picture, header)
            mocks.append(None if mock is None else _as_counts(mock, header, **cards))
    return QTable(rows=index), images, mocks


def _plain(name):
    """Name of a cluster without what the catalogues write differently."""
    letters = re.sub("[^A-Z0-9.+-]", "", name.upper().replace("_", "").replace("RXC", "RX"))
    return re.sub(r"(?<![0-9.])0+(?=[0-9])", "", letters)


def _mock_picture(cluster, picture, header):
    """Indices of a picture of a cluster of ACCEPT, as large, coarse and partly exposed as the real one."""
    redshift = header["REDSHIFT"]
    scale = DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift).to_value(u.kpc / u.deg) * abs(header["CDELT1"])
    observation = Observation(redshift=_near(redshift), exposure=MOCK_EXPOSURE)
    dimming = ((1 + observation.redshift) / (1 + redshift)) ** 3  # of photons per solid angle
    rows, columns = np.indices((header["NAXIS2"], header["NAXIS1"]))
    radius = scale * np.hypot(columns + 1 - header["CRPIX1"], rows + 1 - header["CRPIX2"])
    kpc_per_arcsec = observation.pixel_kpc / observation.pixel_scale().to_value(u.arcsec)
    per_arcsec2 = profiles([cluster], observation)[0] * kpc_per_arcsec**2 * dimming
    area = (abs(header["CDELT1"]) * 3600) ** 2
    background = (observation.background * observation.exposure).to_value(u.ct / u.arcsec**2) * area
    draws = np.random.default_rng(len(cluster.name) + round(1e4 * redshift))
    counts = draws.poisson(np.interp(radius, RADII, per_arcsec2) * area + background)
    exposed = uniform_filter((picture > 0).astype(float), 15) > 0.2
    return to_indices(counts - background, exposed)


def _near(redshift):
    """Redshift of a coarse list at which photons per emission measure are computed; the dimming is put right."""
    steps = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
    return float(steps[np.argmin(np.abs(np.log(steps / redshift)))])


def pictures(model, data, *, quick=False):
    """Rows of areas under the curve of K0 < 30 against > 60 keV cm2, real and mock; the images and predictions."""
    index, images, mocks = picture_images(data, every=3 if quick else 1)
    k_0, redshift = (np.array(index[name], dtype=float) for name in ("K0_keVcm2", "z"))
    rows, kept = [], None
    for kind, chosen in (("real", images), ("mock", mocks)):
        there = np.array([image is not None for image in chosen])
        found = [image for image in chosen if image is not None]
        centres = SkyCoord(*(np.array(index[name], dtype=float)[there] for name in ("ra", "dec")), unit=u.deg)
        predictions = _classify(model, found, centre=centres)
        measured = {
            "network, -p_NCC": -np.asarray(predictions["p_NCC"]),
            "network, p_CC": np.asarray(predictions["p_CC"]),
            "network, expected class": -expected_class(predictions),
            "C_SB of the picture": np.array([_concentration(*pair) for pair in zip(found, centres, strict=True)]),
        }
        if kind == "real":
            measured["C_SB of the index"] = np.array(index["csb_clipped"], dtype=float)
            kept = images, predictions
        z, k = redshift[there], k_0[there]
        for name, part in ((f"z < {SPLIT}", z < SPLIT), (f"z > {SPLIT}", z >= SPLIT)):
            for method, values in measured.items():
                good = part & np.isfinite(values)
                cool, warm = values[good & (k < COOL)], values[good & (k > WARM)]
                row = {"pictures": kind, "redshift": name, "method": method, "cool": len(cool), "not": len(warm)}
                row |= auc(cool, warm)
                if method.startswith("network"):
                    row["unfamiliar"] = float(np.mean(unfamiliar(predictions)[part]))
                rows.append(row)
    return rows, kept


def _concentration(image, centre):
    """C_SB about a place, NaN if the image is too small."""
    column, row = np.round(image.wcs.world_to_pixel(centre)).astype(int)
    reach = min(column, row, image.shape[1] - 1 - column, image.shape[0] - 1 - row)
    try:
        return concentration(image[row - reach : row + reach + 1, column - reach : column + reach + 1])
    except ValueError:
        return np.nan


def _classify(model, images, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.classify(list(images), progress=False, **options)


# --- XMM and ROSAT ----------------------------------------------------------------------------------------------------


@dataclass
class _Observed:
    """One image and what is known of it."""

    name: str
    image: object
    redshift: float
    truth: str
    centre: str | None = None


def _xmm_image(path):
    with fits.open(path) as hdus:
        header = hdus[0].header
        meta = {key: header[key] for key in ("TELESCOP", "INSTRUME", "OBJECT", "EXPOSURE")}
        meta |= {"E_MIN": header["ENERGYLO"], "E_MAX": header["ENERGYHI"]}
        return SkyImage(hdus[0].data.astype(float), unit=u.ct, wcs=WCS(header), meta=meta)


def _xmm_paths(data, name):
    paths = (Path(data) / "xmm" / "real").glob(f"{name}_*ks.fits.gz")
    return sorted(paths, key=lambda path: float(path.name.split("_")[-1].removesuffix("ks.fits.gz")))


def _rosat(data):
    folder = Path(data) / "rosat"
    header = fits.getheader(folder / "pyproffit_b_37.fits.gz")
    counts, exposure = (fits.getdata(folder / f"pyproffit_{name}_37.fits.gz") for name in ("b", "expose_mask"))
    meta = {"TELESCOP": "ROSAT", "INSTRUME": "PSPCB", "OBJECT": "A3158", "EXPOSURE": float(exposure.max())}
    return SkyImage(counts.astype(float), unit=u.ct, wcs=WCS(header), meta=meta, exposure=exposure * u.s)


def xmm(model, data):
    """Rows of what the model says of each cluster seen by XMM and ROSAT; A3667 also thinned to 20 ks many times."""
    seen = []
    for name, (redshift, truth, centre) in XMM.items():
        for path in _xmm_paths(data, name):
            image = _xmm_image(path)
            label = f"{name.replace('_', ', ')}, EPIC pn {image.meta['EXPOSURE'] / 1e3:.0f} ks"
            seen.append(_Observed(label, image, redshift, truth, centre))
    seen.append(_Observed("A3158, ROSAT PSPC", _rosat(data), ROSAT[0], ROSAT[1], ROSAT[2]))
    rows = [_said(model, each) for each in seen]
    long = seen[1].image
    share = seen[0].image.data.sum() / long.data.sum()
    draws = np.random.default_rng(1)
    thinned = [
        SkyImage(draws.binomial(long.data.astype(int), share).astype(float), unit=u.ct, wcs=long.wcs, meta=long.meta)
        for _ in range(N_THINNED)
    ]
    for image in thinned:
        image.meta["EXPOSURE"] = float(long.meta["EXPOSURE"]) * share
    place = SkyCoord(seen[1].centre)
    spread = _classify(model, thinned, redshift=seen[1].redshift, centre=place)
    for name in ("p_CC", "p_WCC", "p_NCC"):
        error = float(np.std(spread[name]))
        for row in rows[:2]:
            row[f"error of {name}"] = error
    return rows


def _said(model, each):
    """Row of one image: the answer, or why there is none."""
    row = {"image": each.name, "redshift": each.redshift, "truth": each.truth}
    centre = None if each.centre is None else SkyCoord(each.centre)
    answer = _classify(model, [each.image], redshift=each.redshift, centre=centre)[0]
    row |= {"said": str(answer["label_pred"]) or "refused"}
    row |= {name: float(answer[name]) for name in ("p_CC", "p_WCC", "p_NCC")}
    if "familiarity" in answer.colnames:
        row["familiarity"] = float(answer["familiarity"])
    row["flags"] = " ".join(flag_names(answer["flags"]))
    row["message"] = str(answer["message"])
    return row


# --- What is no cluster -----------------------------------------------------------------------------------------------


def others(model, data):
    """Rows of what the model says of galaxies, remnants, points, empty and false images."""
    rows = []
    for each in _not_clusters(data):
        row = _said(model, each)
        doubt = row.get("familiarity", np.nan)
        row["refused"] = row["said"] == "refused" or doubt < REFUSED or "unfamiliar" in row["flags"].split()
        rows.append(row)
    return rows


def _not_clusters(data):
    data = Path(data)
    for key, (name, centre) in NOT_CLUSTERS.items():
        for path in _xmm_paths(data, key):
            image = _xmm_image(path)
            for redshift in ASSUMED:
                label = f"{name}, EPIC pn {image.meta['EXPOSURE'] / 1e3:.0f} ks"
                yield _Observed(label, image, redshift, "no cluster", centre)
    chandra = data / "chandra"
    for name, path in (
        ("elliptical galaxy NGC 4649, Chandra", chandra / "NGC4649_merged_counts.fits"),
        ("point source, Chandra", next(chandra.glob("sherpatest*"))),
    ):
        with fits.open(path) as hdus:
            hdu = next(hdu for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
            counts, meta = np.array(hdu.data, dtype=float), {"TELESCOP": "CHANDRA"}
            image = SkyImage(counts, unit=u.ct, wcs=WCS(hdu.header), meta=meta)
        for redshift in (0.0037, *ASSUMED) if "NGC" in name else ASSUMED:
            yield _Observed(name, image, redshift, "no cluster")
    plates = {"optical plate, Horsehead": "DSS2red_HorseHead.fits", "optical plate, M67": "DSS1_M67.fits"}
    for name, path in plates.items():
        with fits.open(data / "optical" / path) as hdus:
            header = hdus[0].header
            image = SkyImage(np.array(hdus[0].data, dtype=float), unit=u.adu, wcs=WCS(header), meta={"OBJECT": name})
        yield _Observed(name, image, ASSUMED[0], "no cluster")
        counts = SkyImage(image.data, unit=u.ct, wcs=image.wcs, meta=image.meta)
        yield _Observed(f"{name}, said to be counts", counts, ASSUMED[0], "no cluster")
    yield from _made(data)


def _made(data):
    """Empty images, stray light, a cluster in another band or unit."""
    clusters = read_accept(data)
    one = next(cluster for cluster in clusters if cluster.name == "ABELL_2029")
    for redshift in ASSUMED:
        observation = Observation.acis_i(redshift=redshift, exposure=30 * u.ks)
        _, (image,) = accept_images([one], observation)
        level = background_counts(observation)
        draws = np.random.default_rng(5)
        yield _Observed("blank field", _like(image, draws.poisson(level)), redshift, "no cluster")
        slope = np.linspace(0.2, 6.0, level.shape[1])[np.newaxis, :]
        stray = _like(image, draws.poisson(level * slope))
        yield _Observed("stray light, rising to one side", stray, redshift, "no cluster")
    standard = Observation()
    hard = replace(standard, energy_range=(4.0, 7.0) * u.keV)
    _, (image,) = accept_images([one], hard)
    yield _Observed("cluster A2029, 4 to 7 keV (header says so)", image, 0.05, "another band")
    _, (image,) = accept_images([one], standard)
    rate = SkyImage(image.data / 1e5, unit=u.ct / u.s, wcs=image.wcs, meta=image.meta)
    yield _Observed("cluster A2029 as ct/s", rate, 0.05, "another unit")
    lost = SkyImage(image.data / 1e5, unit=u.ct, wcs=image.wcs, meta=image.meta)
    yield _Observed("cluster A2029 as ct/s, said to be counts", lost, 0.05, "another unit")
    log = SkyImage(np.log10(1 + image.data), unit=u.ct, wcs=image.wcs, meta=image.meta)
    yield _Observed("cluster A2029, logarithm said to be counts", log, 0.05, "another unit")


def _like(image, counts):
    """Counts with the coordinates and header of an image."""
    return SkyImage(
        np.asarray(counts, dtype=np.float32), unit=u.ct, wcs=image.wcs, mask=image.mask, meta=image.meta.copy(),
        exposure=image.exposure,
    )  # fmt: skip
