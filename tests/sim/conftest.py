"""Toy halos for the tests of the room."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM

from astroclassify.sim import Halo

sys.path.insert(0, str(Path(__file__).parent))  # test files here share _tng_server

from _tng_server import KEY, Api

COSMOLOGY = FlatLambdaCDM(H0=67.74, Om0=0.3089)


def make_halo(position, *, radius, kT=4.0, metallicity=0.3, n_e=3e-3, velocity=(0, 0, 0), **other):
    """A halo of cells at positions [kpc] with radii [kpc]; everything else is the same for all or one per cell."""
    position = np.atleast_2d(np.asarray(position, dtype=float))
    n = len(position)
    volume = 4 / 3 * np.pi * np.broadcast_to(radius, n) ** 3 * u.kpc**3
    n_e = np.broadcast_to(n_e, n) / u.cm**3
    n_h = n_e / 1.158
    density = (n_h * 1.6726e-24 * u.g / 0.76).to(u.g / u.cm**3)
    settings = {
        "halo_id": 12,
        "simulation": "toy",
        "snapshot": 99,
        "redshift": 0.0,
        "m_500": 3e14 * u.Msun,
        "r_500": 1000 * u.kpc,
        "centre": [0, 0, 0] * u.kpc,
        "position": position * u.kpc,
        "velocity": np.broadcast_to(velocity, (n, 3)) * u.km / u.s,
        "mass": (density * volume).to(u.Msun),
        "density": density,
        "temperature": np.broadcast_to(kT, n) * u.keV,
        "n_e": n_e,
        "n_h": n_h,
        "metallicity": np.broadcast_to(metallicity, n) * u.one,
        "cosmology": COSMOLOGY,
    }
    return Halo(**{**settings, **other})


@pytest.fixture(scope="session")
def toy_halo():
    """Function that makes a halo of given cells."""
    return make_halo


@pytest.fixture(scope="session")
def ball():
    """A homogeneous sphere of 300 kpc with all temperatures from 0.3 to 10 keV and metallicities from 0 to 1."""
    rng = np.random.default_rng(1)
    n = 3000
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1)[:, np.newaxis]
    return make_halo(
        300 * np.cbrt(rng.random((n, 1))) * direction,
        radius=300 / np.cbrt(n),
        kT=np.geomspace(0.3, 10, n),
        metallicity=rng.random(n),
        n_e=2e-3,
        velocity=rng.normal(0, 300, (n, 3)),
    )


@pytest.fixture
def api(monkeypatch, tmp_path, caplog):
    """The TNG API on the loopback; checks after the test that the key went nowhere else."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TNG_API_KEY", raising=False)
    caplog.set_level(logging.DEBUG)
    waits = []
    monkeypatch.setattr("astroclassify._http.sleep", waits.append)
    service = Api()
    service.waits, service.cache = waits, tmp_path / "cache"
    service.start()
    yield service
    service.stop()
    assert KEY not in caplog.text
    assert all(KEY not in str(request) for request in service.requests if request[0] == "data")
    assert all(KEY not in request[2] for request in service.requests)
    for path in service.cache.rglob("*"):
        assert KEY not in str(path)
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
