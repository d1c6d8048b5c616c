"""A folder of images: one that is damaged, or breaks its reader, becomes a row of its own and stops no other."""

import numpy as np
from astropy.io import fits

from astroclassify.images import _open
from astroclassify.nn import load_classifier
from astroclassify.schemes import Flag

BAD = {"empty": b"", "truncated": 4000, "no FITS": b"\x00" * 5000, "deep": RecursionError, "large": MemoryError}


def test_one_bad_image_stops_no_other(tmp_path, monkeypatch):
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 200.0})
    header.update(CRPIX2=200.0, CDELT1=-1 / 3600, CDELT2=1 / 3600, BUNIT="count")
    image = fits.PrimaryHDU(np.random.default_rng(0).poisson(1.0, (400, 400)).astype(np.float32), header)
    for name in ("a good", *BAD, "z good"):
        image.writeto(tmp_path / f"{name}.fits")
        if isinstance(change := BAD.get(name), bytes):
            (tmp_path / f"{name}.fits").write_bytes(change)
        elif isinstance(change, int):
            (tmp_path / f"{name}.fits").write_bytes((tmp_path / f"{name}.fits").read_bytes()[:change])
    opened = fits.open

    def breaking(file, *arguments, **options):
        error = BAD.get(str(getattr(file, "name", "")).rpartition("/")[2].removesuffix(".fits"))
        if isinstance(error, type):
            raise error
        return opened(file, *arguments, **options)

    monkeypatch.setattr(_open.fits, "open", breaking)
    found = load_classifier("coolcore").classify(tmp_path, redshift=0.1)
    failed = (found["flags"] & Flag.FAILED.value) > 0
    assert len(found) == len(BAD) + 2 and failed.sum() == len(BAD)
    assert not failed[0] and not failed[-1] and found["p_CC"][0] == found["p_CC"][-1]
