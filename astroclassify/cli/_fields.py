"""Options that describe observed fields, and the fields that they describe."""

import argparse
import re
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify.exceptions import GeometryError
from astroclassify.images._resample import same_grid

from ._tools import naming

__all__ = ["add_field", "add_psf", "add_select", "fields_of", "off_axis_limit", "psfs_of"]

_MAPS = ("exposure", "background", "mask")
_INSTRUMENT = re.compile(r"([A-Za-z]+\d?)(?::([\d.eE+-]+)\s*(?:keV)?)?")
# What --psf can be, in the words of its help and of its errors.
_PSF_FORMS = (
    "INSTRUMENT or INSTRUMENT:ENERGY (such as EPN:1.5keV), the full width at half maximum of a Gaussian (15arcsec), or "
    "a FITS image of it (psf.fits)"
)


def add_field(parser, flag, help_text, **required):
    """Arguments that make a field; ``flag`` is the name of the argument for the images."""
    parser.add_argument(flag, nargs="+", metavar="IMAGE", help=help_text, **required)
    parser.add_argument("--exposure", nargs="+", metavar="MAP", help="exposure map of each image, in s")
    parser.add_argument("--background", nargs="+", metavar="MAP", help="expected background of each image, in counts")
    parser.add_argument("--mask", nargs="+", metavar="MAP", help="detector mask of each image, 1 where it sees the sky")
    parser.add_argument(
        "--energy",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="band in keV that event lists are read in (default: all their energies), and that of images whose header "
        "names none",
    )


def add_select(parser, what):
    """The option --select."""
    parser.add_argument(
        "--select",
        action="append",
        choices=("C1", "C2", "P1"),
        help=f"only {what} of this class; given again, of these classes",
    )


def add_psf(parser):
    """The option --psf."""
    parser.add_argument(
        "--psf",
        action="append",
        metavar="PSF",
        help=f"point spread function: {_PSF_FORMS}; once for all images, or once for each (default: that of the "
        "instrument in the header, at the middle of the band)",
    )


def _band(arguments):
    """Ends of the band of ``--energy`` as a Quantity, or None."""
    if arguments.energy is None:
        return None
    low, high = arguments.energy
    if not 0 <= low < high < np.inf:
        raise ValueError(f"--energy must be two energies in keV that rise from zero or more, got {low:g} {high:g}")
    return arguments.energy * u.keV


def psfs_of(arguments):
    """Point spread function of each image, None where the header is to decide."""
    texts = arguments.psf or []
    n = len(arguments.image)
    if len(texts) not in (0, 1, n):
        raise ValueError(f"--psf goes once for all images or once for each of the {n}, got {len(texts)}")
    psfs = [_psf_of(text) for text in texts] or [None]
    return psfs * n if len(psfs) == 1 else psfs


def _psf_of(text):
    from astroclassify.images import read_image
    from astroclassify.survey import GaussianPsf, ImagePsf, default_psf

    found = _INSTRUMENT.fullmatch(text)
    if found and not Path(text).is_file():
        with naming(f"--psf {text}"):
            energy = {} if found[2] is None else {"energy": float(found[2]) * u.keV}
            return default_psf(found[1].upper(), **energy)
    try:
        width = u.Quantity(text)
    except (TypeError, ValueError):
        if not Path(text).is_file():
            raise ValueError(f"--psf must be {_PSF_FORMS}; {text!r} is none of them, and no file") from None
        with naming(f"--psf {text}"):
            return ImagePsf(read_image(text))
    with naming(f"--psf {text}"):
        return GaussianPsf(width)


def off_axis_limit(text):
    """Angle in arcmin above zero, or infinity for ``none``; for argparse."""
    if text.lower() == "none":
        return np.inf
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"must be an angle in arcmin above zero, or none, got {text!r}")
    return value


def fields_of(arguments, psfs):
    """Fields of the images, whose point spread functions are given; those on one grid are cameras and are added."""
    from astroclassify.survey import combine_fields

    images, maps = arguments.image, {}
    for name in _MAPS:
        given = getattr(arguments, name)
        if given is not None and len(given) != len(images):
            raise ValueError(f"--{name} takes one file for each of the {len(images)} images, got {len(given)}")
        maps[name] = given or [None] * len(images)
    band, groups = _band(arguments), []
    for number, path in enumerate(images):
        if Path(path).is_dir():
            raise ValueError(f"an image must be a file, {path!r} is a folder")
        with naming(path):
            field = _read(path, band, psfs[number], {name: files[number] for name, files in maps.items()})
        for group in groups:
            if same_grid(field.wcs, field.shape, group[0].wcs, group[0].shape):
                group.append(field)
                break
        else:
            groups.append([field])
    return [combine_fields(group) for group in groups]


def _read(path, band, psf, maps):
    from astroclassify.fields._exposure import instrument_name
    from astroclassify.images import read_header, read_image
    from astroclassify.survey import read_field

    image = read_image(path, energy=band)
    image.meta["FILENAME"] = Path(path).name  # as `read_field` does for a path
    header = read_header(image.meta, image.wcs)
    if band is not None and header.energy_range is not None:
        (low, high), stated = band.to_value(u.keV), header.energy_range
        if stated[0] < 0.95 * low or stated[1] > 1.05 * high:  # an event list has less than was asked for, never more
            raise ValueError(
                f"--energy {low:g} {high:g}: the image holds {stated[0]:g} to {stated[1]:g} keV, says its header, and "
                "no part of that can be taken from it: give the event list, or leave out --energy"
            )
        band = None
    try:
        return read_field(image, psf=psf, energy_range=band, **maps)
    except GeometryError:
        raise
    except ValueError as error:
        if psf is not None or instrument_name(header) != "UNKNOWN":
            raise
        named = [f"{key} {image.meta[key]}" for key in ("TELESCOP", "INSTRUME") if image.meta.get(key)]
        raise ValueError(
            "its header names no instrument whose PSF is known "
            f"({', '.join(named) or 'no TELESCOP, no INSTRUME'}): give --psf, as {_PSF_FORMS}"
        ) from error
