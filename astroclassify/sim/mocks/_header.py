"""Names, FITS keywords and coordinates of the mock image of a halo."""

from importlib.metadata import version

import numpy as np
from astropy import units as u

from astroclassify.images import SkyImage

from ..physics._projection import axis_name, tan_wcs
from ..physics._telescope import EPIC

__all__ = ["as_sky_image", "group_id", "image_header"]


def group_id(simulation, snapshot, halo_id):
    """Name of a halo for tables and files, as ``"TNG300-1-099-000012"``; what no file name may hold becomes ``_``."""
    name = "".join(letter if letter.isalnum() or letter in "-_+" else "_" for letter in simulation)
    return f"{name or 'unnamed'}-{snapshot:03d}-{halo_id:06d}"


def image_header(halo, observation, *, axis, engine, seed):
    """FITS keywords of a mock image (dict); ``seed`` is the master seed."""
    settings = observation.to_meta()
    offset = observation.pointing_offset.to_value(u.arcmin)
    if observation.response_files is not None:  # soxs:chandra_acisi_cy22
        telescope, _, instrument = observation.response.partition(":")[2].partition("_")
    elif observation.response in EPIC:
        telescope, instrument = "XMM", EPIC[observation.response]
    else:  # acis-i-cycle0
        telescope, instrument = "CHANDRA", observation.response.partition("-cycle")[0]
    header = {
        "OBJECT": group_id(halo.simulation, halo.snapshot, halo.halo_id),
        "TELESCOP": telescope.upper(),
        "INSTRUME": instrument.upper(),
        "EXPOSURE": settings["exposure_s"],
        "REDSHIFT": observation.redshift,
        "E_MIN": settings["energy_range_keV"][0],
        "E_MAX": settings["energy_range_keV"][1],
        "NH": settings["nh_column_cm-2"],
        "WIDTH": settings["width_kpc"],
        "BKGRATE": settings["background_ct_s-1_arcsec-2"],
        "SKYRATE": settings["sky_background_ct_s-1_arcsec-2"],
        "PSFFWHM": settings["psf_fwhm_arcsec"],
        "RESPONSE": observation.response,
        "DETECTOR": observation.detector,
        "OFFSET_X": float(offset[0]),
        "OFFSET_Y": float(offset[1]),
        "ROLL": float(observation.roll.to_value(u.deg)),
        "CENTRE_X": settings["centre_offset_kpc"][0],
        "CENTRE_Y": settings["centre_offset_kpc"][1],
        "SOURCES": settings["source_treatment"],
        "SIMNAME": halo.simulation,
        "SNAPNUM": halo.snapshot,
        "HALO_ID": halo.halo_id,
        "AXIS": axis_name(axis),
        "M500": float(halo.m_500.to_value(u.Msun)),
        "R500": float(halo.r_500.to_value(u.kpc)),
        "ENGINE": engine,
        "SEED": seed,
        "CREATOR": f"astroclassify {version('astroclassify')}",
    }
    if observation.point_sources is not None:
        header["PTSRCMAX"] = float(observation.point_sources.to_value(u.erg / u.s / u.cm**2))
    return header


def as_sky_image(counts, halo, observation, telescope, circles, meta):
    """Counts with the coordinates of the image; mask and exposure map where the detector is not everywhere."""
    mask = circles if observation.source_treatment == "masked" else np.zeros(observation.shape, bool)
    exposure = None
    if observation.exposure_map and (observation.detector != "uniform" or mask.any()):
        exposure = np.where(mask, 0.0, telescope.fraction * observation.exposure.to_value(u.s)).astype(np.float32)
        mask = exposure <= 0
    wcs = tan_wcs(observation.shape, observation.pixel_scale(halo.cosmology))
    mask = mask if mask.any() else None
    return SkyImage(counts, unit=u.ct, wcs=wcs, mask=mask, meta=meta, exposure=exposure)
