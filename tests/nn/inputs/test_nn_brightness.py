"""Images on one scale of brightness, their profiles about the peak, and the network of profiles."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.images import Geometry, SkyImage
from astroclassify.nn import CutoutClassifier, load_classifier, occlusion_map, spread
from astroclassify.nn.inputs._brightness import PLANES, brightness
from astroclassify.nn.inputs._items import as_items
from astroclassify.nn.inputs._pixels import load_pixels
from astroclassify.nn.inputs._profile import EDGES_KPC, N_RINGS, RING_AREAS, painted, profile_input, to_profile
from astroclassify.schemes import ClassScheme
from astroclassify.sim import Observation
from astroclassify.survey import KingPsf

SIZE = 256
GRID = Geometry(1 * u.Mpc, (SIZE, SIZE))
KPC = 1000 / SIZE  # a pixel
# What the header of a mock image in the setting of Su et al. (2020) holds.
SU = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS-I", "EXPOSURE": 1e5, "REDSHIFT": 0.05, "E_MIN": 0.5, "E_MAX": 7.0,
      "RESPONSE": "acis-i-cycle0", "PSFFWHM": 2.0}  # fmt: skip
PN = {"TELESCOP": "XMM", "INSTRUME": "EPN", "E_MIN": 0.5, "E_MAX": 2.0, "RESPONSE": ""}
Y, X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def image_of(counts, *, exposure=None, mask=None, drop=(), **changes):
    """Image on the grid, so that nothing is resampled."""
    header = {key: value for key, value in {**SU, **changes}.items() if key not in drop}
    pixel = GRID.pixel_width(header["REDSHIFT"]).to_value(u.deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [120.0, -40.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [(SIZE + 1) / 2] * 2, [-pixel, pixel]
    image = CCDData(np.asarray(counts, float), unit=u.ct, wcs=wcs, mask=mask, meta=header)
    return image if exposure is None else SkyImage(image, exposure=exposure * u.s)


def planes_of(image):
    """Planes by name."""
    items, _ = as_items(image, bands=("xray",), shape=GRID.shape)
    return load_pixels(items[0], bands=("xray",), geometry=GRID, stretch="brightness")[0]


def plane(image, name):
    return planes_of(image)[PLANES.index(name)]


def beta_model(core=50.0, total=3e5, *, at=(0.0, 0.0), rng=None, beta=2 / 3):
    """Surface brightness of a beta model with a core [kpc], centred off the middle by ``at`` (row, column) [kpc]."""
    radius = np.hypot(Y * KPC - at[0], X * KPC - at[1])
    shape = (1 + (radius / core) ** 2) ** (0.5 - 3 * beta)
    counts = total * shape / shape.sum()
    return counts if rng is None else rng.poisson(counts).astype(float)


def test_the_reference_is_the_default_observation():
    """Su et al. (2020): ACIS-I in its first year, 100 ks, z = 0.05. There brightness is log10(1 + counts)."""
    setting = Observation()
    assert (setting.exposure, setting.redshift) == (SU["EXPOSURE"] * u.s, SU["REDSHIFT"])
    planes = planes_of(image_of(np.full((SIZE, SIZE), 9.0)))
    assert planes.shape == (len(PLANES), *GRID.shape) and planes.dtype == np.float32
    assert planes[2] == pytest.approx(0.0, abs=1e-6) and np.all(planes[5] == 1)
    assert brightness(planes) == pytest.approx(1.0, abs=1e-6)


def test_depth_follows_exposure_area_and_redshift():
    counts = np.ones((SIZE, SIZE))
    assert plane(image_of(counts, EXPOSURE=2e5), "depth")[0, 0] == pytest.approx(np.log10(2), abs=1e-6)
    # A unit of emission measure at twice the distance gives somewhat more than a quarter of the counts per photon
    # energy shifted: the band sees softer gas.
    far = plane(image_of(counts, REDSHIFT=0.1), "depth")[0, 0]
    assert -0.75 < far < -0.55
    # EPIC pn has a few times the area of ACIS-I, of which the band 0.5 to 2 keV takes a part.
    assert 0 < plane(image_of(counts, **PN), "depth")[0, 0] < 1


def test_the_same_sky_has_one_brightness():
    """However long, and through whatever vignetting, it was looked at."""
    once = brightness(planes_of(image_of(np.full((SIZE, SIZE), 4.0))))
    assert brightness(planes_of(image_of(np.full((SIZE, SIZE), 12.0), EXPOSURE=3e5))) == pytest.approx(once, abs=1e-5)
    part = np.where(X < 0, 0.5, 1.0)
    vignetted = image_of(4.0 * part, exposure=1e5 * part)
    assert plane(vignetted, "exposure") == pytest.approx(part)
    assert brightness(planes_of(vignetted)) == pytest.approx(once, abs=1e-5)


def test_masked_pixels_are_not_exposed():
    mask = np.hypot(Y, X) > 100
    planes = planes_of(image_of(np.where(mask, 1e4, 4.0), mask=mask))
    assert np.array_equal(planes[1] == 0, mask) and np.all(brightness(planes)[mask] == 0)
    assert brightness(planes)[~mask] == pytest.approx(np.log10(5), abs=1e-5)


def test_profiles_of_the_same_sky_agree():
    """Longer exposure, half the field at half the exposure, a masked corner: the brightness of rings stays."""
    sky = beta_model()
    part = np.where(X < 0, 0.5, 1.0)
    corner = (X > 20) & (Y > 20)
    right = rings(image_of(sky))
    assert rings(image_of(3 * sky, EXPOSURE=3e5)) == pytest.approx(right, abs=1e-4)
    assert rings(image_of(sky * part, exposure=1e5 * part)) == pytest.approx(right, abs=0.03)
    assert rings(image_of(sky, mask=corner)) == pytest.approx(right, abs=0.03)


def rings(image):
    """Brightness of the rings, as the network sees it."""
    return profile_input(to_profile(planes_of(image), KPC)[None])[0, 0, 0]


SHAPE_ALONE = {
    "no exposure": {"drop": ["EXPOSURE"]},
    "no instrument": {"drop": ["TELESCOP", "INSTRUME", "RESPONSE"]},
    "another telescope": {"TELESCOP": "ROSAT", "INSTRUME": "PSPC", "E_MIN": 0.5, "E_MAX": 2.0, "RESPONSE": ""},
    "another band": {"E_MIN": 3.0, "E_MAX": 4.0},
}


@pytest.mark.parametrize("case", SHAPE_ALONE)
def test_where_the_depth_is_not_known_the_shape_is_judged(case):
    sky = beta_model()
    one, seven = (planes_of(image_of(sky * n, **SHAPE_ALONE[case])) for n in (1, 7))
    assert not one[5].any() and not seven[5].any()
    assert seven[2] - one[2] == pytest.approx(np.log10(7), abs=1e-5)
    assert brightness(seven) == pytest.approx(brightness(one), abs=1e-5)
    first, second = (profile_input(to_profile(planes, KPC)[None])[0, 0, 0] for planes in (one, seven))
    assert second == pytest.approx(first, abs=1e-4)


def test_an_array_is_judged_by_its_shape():
    items, _ = as_items(beta_model(), bands=("xray",), shape=GRID.shape)
    planes, _, header = load_pixels(items[0], bands=("xray",), geometry=GRID, stretch="brightness")
    assert header is None and np.all(planes[1] == 1) and not planes[5].any()


def test_sharpness_is_that_of_the_instrument():
    """
    Half-energy width of a King profile: 2 r_c (2^(1 / (alpha - 1)) - 1)^1/2, less a little for its cut at 300"; for
    ACIS what the mock image says.
    """
    counts = np.ones((SIZE, SIZE))
    core, slope = KingPsf("EPN").parameters(0.0)
    width = 2 * core * np.sqrt(2 ** (1 / (slope - 1)) - 1)
    for redshift in (0.05, 0.1):
        pixel = GRID.pixel_width(redshift).to_value(u.arcsec)
        blur = np.sqrt(8 * np.log(2) / 12) * pixel  # of the pixels of the image, as the FWHM of a Gaussian
        images = [image_of(counts, **each, REDSHIFT=redshift) for each in (PN, {})]
        pn, acis = (5 * 10 ** plane(image, "psf")[0, 0] * pixel / KPC for image in images)
        assert 0.93 * width < np.sqrt(pn**2 - blur**2) < width
        assert np.sqrt(acis**2 - blur**2) == pytest.approx(2.0, rel=1e-2)


def test_profile_of_a_peak_off_the_middle():
    """It is that of the same cluster in the middle, where the field still holds the rings."""
    middle, off = (to_profile(planes_of(image_of(beta_model(at=at))), KPC) for at in ((0, 0), (18, -24)))
    inner = EDGES_KPC[1:] < 450
    assert off[0, 0, inner] == pytest.approx(middle[0, 0, inner], rel=0.06)
    assert middle[1, 0, inner] == pytest.approx(1.0, abs=0.05) and np.all(off[1, 0, inner] > 0.95)
    assert off[1, 0, -1] < 0.99, "a part of the last ring is off the image"


def test_profile_keeps_counts_and_follows_the_model():
    sky = beta_model(core=80.0)
    profile = to_profile(planes_of(image_of(sky)), KPC)
    within = np.hypot(Y, X) * KPC < EDGES_KPC[-1]
    assert np.sum(profile[0, 0] * RING_AREAS) == pytest.approx(sky[within].sum(), rel=1e-4)
    # Mean of a beta model (beta = 2/3) over a ring: that of (1 + r^2 / core^2)^-1.5 has a closed form.
    growth = 1 - (1 + (EDGES_KPC / 80) ** 2) ** -0.5
    shape = np.diff(growth) / np.diff(EDGES_KPC**2)
    ratio = profile[0, 0] / shape
    assert ratio / ratio[5] == pytest.approx(1.0, abs=0.03)


def test_rings_that_are_not_exposed_get_the_brightness_of_their_neighbours():
    sky = beta_model()
    distance = np.hypot(Y, X) * KPC
    gap = (distance > 96 - KPC) & (distance < 136 + KPC)
    ring = int(np.searchsorted(EDGES_KPC, 100)) - 1
    profile = to_profile(planes_of(image_of(sky, mask=gap)), KPC)
    assert profile[1, 0, ring] < 0.1
    seen = profile_input(profile[None])[0, 0, 0]
    assert min(seen[[ring - 1, ring + 1]]) < seen[ring] < max(seen[[ring - 1, ring + 1]])
    blank = profile_input(np.zeros_like(profile)[None])
    assert np.all(np.isfinite(blank)), "also where nothing is exposed at all"


@pytest.mark.parametrize("at", [(0, 0), (60, -40)])
def test_painted_maps_have_the_mean_of_the_rings(at):
    planes = planes_of(image_of(beta_model(at=at)))
    values = np.random.default_rng(0).normal(size=N_RINGS)
    values[-1] = 0.0  # a part of which lies off the image, the rest has it all
    cells = painted(values, planes, KPC, 4)
    assert cells.shape == (SIZE // 4, SIZE // 4) and cells.mean() == pytest.approx(values.mean(), abs=1e-6)
    core = np.zeros(N_RINGS)
    core[0] = 1.0
    row, column = np.unravel_index(painted(core, planes, KPC, 4).argmax(), cells.shape)
    middle = (len(cells) - 1) / 2
    assert np.hypot(row - middle - at[0] / 4 / KPC, column - middle - at[1] / 4 / KPC) < 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stretch": "log"}, "architecture 'profile' is for stretch 'profile'"),
        ({"architecture": "attention"}, "architecture 'profile' is for stretch 'profile'"),
        ({"augmentation": ("flip", "depth")}, "augmentation may only be 'depth'"),
        ({"geometry": Geometry(7 * u.arcmin, (64, 64))}, "on a grid in kpc"),
        ({"bands": ("xray", "optical")}, "one band of counts"),
        ({"bands": ("optical",)}, "one band of counts"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    settings = {"architecture": "profile", "stretch": "profile", "augmentation": ()}
    with pytest.raises(ValueError, match=message):
        CutoutClassifier(**{**settings, **changes}).fit(np.ones((4, SIZE, SIZE)), ["CC", "NCC"] * 2)


def test_the_depth_is_changed_only_where_it_is_known():
    with pytest.raises(ValueError, match="'depth' is for stretches"):
        CutoutClassifier(augmentation=("depth",)).fit(np.ones((4, SIZE, SIZE)), ["CC", "NCC"] * 2)


# --- the network ---------------------------------------------------------------------------------------------------

PAIR = ClassScheme("pair", ("steep", "flat"), ("a core of 20 kpc", "a core of 150 kpc"))
CORES = {"steep": 20.0, "flat": 150.0}


def sample(n, seed):
    """Images of beta models with either core, of several depths and centres, and their labels."""
    rng = np.random.default_rng(seed)
    labels = [PAIR.classes[number % 2] for number in range(n)]
    images = []
    for label in labels:
        core, times = CORES[label] * rng.uniform(0.8, 1.2), rng.uniform(0.3, 1.0)
        sky = beta_model(core, 1e5 * times, at=rng.normal(0, 10, 2), rng=rng)
        images.append(image_of(sky, EXPOSURE=1e5 * times, OBJECT=f"{label}-{seed}-{len(images)}"))
    return images, labels


@pytest.fixture(scope="module")
def trained():
    pytest.importorskip("torch")
    model = CutoutClassifier(
        "profile", stretch="profile", scheme=PAIR, geometry=GRID, augmentation=("depth",), epochs=40, batch_size=16,
        n_filters=16, random_state=0, device="cpu", validation_fraction=0,
    )  # fmt: skip
    return model.fit(*sample(60, 1))


def test_steep_cores_are_told_from_flat_ones(trained):
    images, labels = sample(20, 2)
    assert np.mean(trained.predict(images) == np.array(labels)) >= 0.9
    bare = [image.data for image in images]
    assert np.mean(trained.predict(np.array(bare)) == np.array(labels)) >= 0.9, "by their shape alone"


def test_maps_are_exact(trained):
    """The part of each ring in the logit is its value times the logit's derivative, which torch has on its own."""
    torch = pytest.importorskip("torch")
    images, _ = sample(4, 3)
    planes = np.array([planes_of(image) for image in images])
    pixels = torch.from_numpy(trained.predictor_.preprocessing(planes))
    network = trained.build_network().eval()
    values = network._values(pixels).detach().requires_grad_(True)
    logits, maps = network.maps(pixels)
    for index in range(len(PAIR.classes)):
        (gradient,) = torch.autograd.grad(network.fc(network._layers(values)[1])[:, index].sum(), values)
        parts = (gradient * values)[:, : 3 * N_RINGS].reshape(-1, 3, N_RINGS).sum(dim=1)
        np.testing.assert_allclose(maps[:, index, 0].detach(), N_RINGS * parts.detach(), rtol=1e-3, atol=1e-4)
    exact, without_torch = trained.predictor_.network.run(pixels.numpy(), ("logits", "class_maps"))
    np.testing.assert_allclose(exact, logits.detach(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(without_torch, maps.detach(), rtol=1e-3, atol=1e-3)
    for image, logit, rings_of in zip(images, exact, without_torch, strict=True):
        found = trained.activation_map(image, "steep")
        assert found.shape == (SIZE // 4, SIZE // 4) and found.meta["METHOD"] == "exact"
        assert found.data.mean() + found.meta["BIAS"] == pytest.approx(logit[0], abs=1e-4)
        assert found.meta["LOGIT"] == pytest.approx(logit[0], abs=1e-4)
        assert found.data.mean() == pytest.approx(rings_of[0].mean(), rel=0.02, abs=0.02)


def test_what_any_classifier_can_do(trained, tmp_path):
    images, labels = sample(10, 4)
    before = trained.classify(images)
    assert np.all(before["message"] == "") and not np.any(np.isnan(before["p_steep"]))
    trained.save(tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.classify(images)["p_steep"].tolist() == pytest.approx(before["p_steep"].tolist(), abs=1e-6)
    assert occlusion_map(loaded, images[0], "steep", size=250 * u.kpc).shape == (4, 4)
    table = spread(loaded, images[:3], n=4, rng=0)
    assert np.all(table["message"] == "") and np.all(np.isfinite(table["p_steep_std"]))
    best = loaded.predict(images).tolist()
    labels[0], labels[1] = labels[1], labels[0]  # two wrong ones, or no temperature would be too low
    assert loaded.calibrate(images, labels).temperature_ > 0 and loaded.predict(images).tolist() == best


def test_fine_tuning_the_packaged_model_takes_three_lines():
    pytest.importorskip("torch")
    images, labels = sample(18, 5)
    labels = ["CC" if label == "steep" else "NCC" for label in labels]
    packaged = load_classifier("coolcore")
    model = CutoutClassifier(**{**packaged.get_params(), "epochs": 2, "batch_size": 6, "validation_fraction": 0})
    model.fit(images, labels, start=packaged)
    assert set(model.classes_) == {"CC", "WCC", "NCC"} and model.training_["start"]
    assert np.all(np.isfinite(model.predict_proba(images[:2])))
