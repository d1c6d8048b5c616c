"""Rows of a sample in the headers of its images: what is written there is read back."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from astroclassify.images import write_image
from astroclassify.samples._writer import RowFormat, one_line, rounded

KINDS = {"label": "str", "message": "str", "flags": "int", "redshift": "float", "entropy": u.keV * u.cm**2}
ROWS = RowFormat(KINDS, {name: name.upper()[:8] for name in KINDS})


@pytest.mark.parametrize("length", [*range(0, 80, 8), *range(100, 400, 40)])
def test_rows_survive_the_header(length, tmp_path):
    """Any message and any number, NaN included, through a file and back."""
    rng = np.random.default_rng([5, length])
    letters = list("abc XYZ 019 '\"&/=()[]#%é–\n\t\\'&")
    for _ in range(5):
        row = {name: one_line("".join(rng.choice(letters, size=length))) for name in ("label", "message")}
        row["flags"] = int(rng.integers(2**40))
        for name in ("redshift", "entropy"):
            number = rounded(float(rng.normal() * 10.0 ** rng.integers(-30, 30)))
            row[name] = number if rng.random() < 0.8 else np.nan
        image = CCDData(np.ones((3, 3)), unit="ct", meta=ROWS.to_header(row))
        back = ROWS.from_header(fits.getheader(write_image(image, tmp_path / "a.fits", overwrite=True)))
        assert list(back) == list(KINDS)
        for name, value in back.items():
            np.testing.assert_equal(value, row[name], err_msg=name)


def test_every_number_survives_the_header():
    for value in np.random.default_rng(1).lognormal(sigma=20, size=2000):
        kept = rounded(float(value))
        header = fits.Header.fromstring(fits.Header({"VALUE": kept}).tostring())
        assert header["VALUE"] == kept
