"""The physics of ``benchmarks/real_sky.py``: its images of clusters, and its measures."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from scipy.special import gamma

from astroclassify.images import SkyImage, concentration
from astroclassify.sim import Observation, expected_counts

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Imports a helper of the benchmarks, which lie beside the package."""
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not here")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def accept(module):
    return module("_accept")


def beta_model(accept, *, n_0=0.02, core=80.0, kT=5.0):
    """A cluster of beta = 2/3 in shells of 2 kpc: n_e = n_0 / (1 + (r / core)^2)."""
    edges = np.arange(0.0, 1000.0, 2.0)
    middle = edges[:-1] + 1.0
    n_e = n_0 / (1 + (middle / core) ** 2)
    n_shells = len(middle)
    return accept.Cluster(
        "beta", edges[:-1], edges[1:], n_e, 0.01 * n_e, np.full(n_shells, kT), np.full(n_shells, 3.0), test=False
    )


def test_projected_profile_is_that_of_a_beta_model(accept):
    """Surface brightness of beta = 2/3 is S0 (1 + R^2 / r_c^2)^-1.5, S0 = sqrt(pi) Gamma(1.5) / Gamma(2) n0^2 r_c."""
    observation = Observation()
    found = accept.profiles([beta_model(accept)], observation)[0]
    counts = (accept.counts_per_emission(observation) * observation.exposure).to_value(u.ct * u.cm**3)
    emission = 0.02**2 / 1.2 * 80.0 * (u.kpc**3).to(u.cm**3)  # n_e n_H r_c [cm-6 kpc] over kpc2
    central = np.sqrt(np.pi) * gamma(1.5) / gamma(2.0) * emission * counts
    inside = accept.RADII < 400.0
    expected = central * (1 + (accept.RADII[inside] / 80.0) ** 2) ** -1.5
    np.testing.assert_allclose(found[inside], expected, rtol=0.01)


@pytest.mark.parametrize("observation", [Observation(), Observation.epic("pn", redshift=0.1, point_sources=None)])
def test_image_is_that_of_the_engine(accept, observation):
    """The projected profile and the direct engine on cells give one image, ring by ring."""
    cluster = beta_model(accept)
    _, (image,) = accept.accept_images([cluster], observation, rng=1)
    background = accept.background_counts(observation)
    cells = expected_counts(accept.sphere_halo(cluster, n_cells=100_000), observation).data - background
    rows, columns = np.indices(observation.shape) - 127.5
    radius = observation.pixel_kpc * np.hypot(rows, columns)
    for low, high in ((0, 10), (10, 40), (40, 100), (100, 400)):
        ring = (radius >= low) & (radius < high) & (background > 0)
        total = np.sum(image.data[ring] - background[ring])
        noise = np.sqrt(image.data[ring].sum())
        assert total == pytest.approx(cells[ring].sum(), abs=0.02 * cells[ring].sum() + 4 * noise)


def test_shifted_cluster_keeps_its_counts(accept):
    cluster, observation = beta_model(accept), Observation()
    (plain,), (moved,) = (list(accept._sources([cluster], observation, [place])) for place in ((0.0, 0.0), (40.0, 0.0)))
    assert moved.argmax() % 256 - plain.argmax() % 256 == pytest.approx(40 / observation.pixel_kpc, abs=1)
    assert moved.sum() == pytest.approx(plain.sum(), rel=0.01)


def test_lumps_keep_the_gas(accept):
    """A lumpy, triaxial cluster has the gas mass of its sphere, and more emission."""
    cluster = beta_model(accept)
    sphere, lumpy = accept.sphere_halo(cluster, n_cells=40_000), accept.lumpy_halo(cluster)
    electrons = [np.sum(halo.n_e * halo.volume).to_value(u.one) for halo in (sphere, lumpy)]
    assert electrons[1] == pytest.approx(electrons[0], rel=0.1)
    assert lumpy.emission_measure.sum() > 0.95 * sphere.emission_measure.sum()


def test_concentrations_are_those_of_the_package(module, accept):
    cluster, observation = beta_model(accept), Observation()
    _, images = accept.accept_images([cluster, cluster], observation)
    level = float(accept.background_counts(observation)[0, 0])
    for background in (0.0, level):
        found = module("_judge").c_sb(images, redshift=0.05, background=background)
        np.testing.assert_allclose(found, [concentration(image, background=background) for image in images], rtol=1e-6)


def test_area_under_the_curve(module):
    judge = module("_judge")
    assert judge.auc([3, 4], [1, 2], n_bootstrap=0)["auc"] == 1.0
    assert judge.auc([1, 2, 3], [1, 2, 3], n_bootstrap=0)["auc"] == 0.5
    assert judge.auc([2, 4], [1, 3], n_bootstrap=0)["auc"] == 0.75
    interval = judge.auc(np.arange(50) + 10.0, np.arange(50))
    assert interval["auc_lo"] < interval["auc"] < interval["auc_hi"]


def test_stretch_and_its_inverse(module):
    """What lies between the ends of the stretch comes back within a colour."""
    observed = module("_real_observed")
    assert observed.from_indices([0, 255]) == pytest.approx([0.0, 1.0])
    rows, columns = np.indices((300, 300)) - 149.5
    image = (1 + (rows**2 + columns**2) / 20.0**2) ** -1.5
    index = observed.to_indices(image)
    back, shown = observed.from_indices(index), (index > 0) & (index < 255)
    ratio = back[shown] / image[shown]
    outside = np.hypot(rows, columns)[shown] > 15  # where smoothing changes little
    assert np.ptp(ratio[outside & (index[shown] > 100)]) < 0.06 * np.median(ratio)


def test_evidence_in_gaps(module):
    """Even evidence gives 1, evidence that avoids the gaps gives 0."""
    accept_part = module("_real_accept")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [32.5, 32.5], [-0.001, 0.001]
    exposure = np.full((64, 64), 1e4)
    exposure[:, 30:33] = 10.0
    image = SkyImage(np.ones((64, 64)), unit=u.ct, wcs=wcs, exposure=exposure)
    even = SkyImage(np.ones((64, 64)), unit=u.one, wcs=wcs)
    assert accept_part.gap_ratio(even, image) == pytest.approx(1.0)
    seen = SkyImage((exposure > 100).astype(float), unit=u.one, wcs=wcs)
    assert accept_part.gap_ratio(seen, image) == pytest.approx(0.0)
    assert np.isnan(accept_part.gap_ratio(even, SkyImage(np.ones((64, 64)), unit=u.ct, wcs=wcs)))


def test_what_is_asked_for_follows_counts_and_resolution(module):
    wanted = module("_real_accept").wanted
    assert wanted(6000, 5.0) == 0.78
    assert wanted(6000, 50.0) == wanted(2000, 5.0) == 0.70
    assert np.isnan(wanted(500, 5.0))


@pytest.mark.real_data
def test_clusters_of_accept(accept, shared_data):
    """212 clusters reach beyond 120 kpc, 70 of them of the public third; 61, 103 and 48 are CC, WCC and NCC."""
    clusters = accept.read_accept(shared_data)
    t_cool = np.array([cluster.t_cool for cluster in clusters])
    assert len(clusters) == 212 and sum(cluster.test for cluster in clusters) == 70
    assert (np.sum(t_cool < 1), np.sum((t_cool >= 1) & (t_cool <= 7.7)), np.sum(t_cool > 7.7)) == (61, 103, 48)


@pytest.mark.real_data
def test_pictures_know_their_clusters(module, shared_data):
    index, images, mocks = module("_real_observed").picture_images(shared_data, every=16)
    assert len(index) == len(images) == len(mocks)
    assert sum(mock is not None for mock in mocks) > len(mocks) // 2
    for image, mock in zip(images, mocks, strict=True):
        assert image.data.sum() == pytest.approx(1e6)
        assert mock is None or mock.shape == image.shape
