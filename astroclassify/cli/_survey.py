"""Verbs of fields: detect and cutouts."""

import sys
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify.images._resample import same_grid
from astroclassify.schemes import Flag, flag_names

from ._tools import (
    add_verb,
    add_workers,
    check_folder,
    check_free,
    check_tables,
    count,
    executor_of,
    failure_status,
    naming,
    show,
)

__all__ = ["add_cutouts", "add_detect"]

# Columns of the candidates that are printed.
_SHOWN = ("source_id", "sky_position", "ext", "ext_like", "det_like", "counts", "x_class", "flags")


def _add_field(parser, flag, help_text, **required):
    """Arguments that make a field; ``flag`` is the name of the argument for the images."""
    parser.add_argument(flag, nargs="+", metavar="IMAGE", help=help_text, **required)
    parser.add_argument("--exposure", nargs="+", metavar="MAP", help="exposure map of each image, in s")
    parser.add_argument("--background", nargs="+", metavar="MAP", help="expected background of each image, in counts")
    parser.add_argument("--mask", nargs="+", metavar="MAP", help="detector mask of each image, 1 where it sees the sky")


def add_detect(verbs):
    """Add the verb ``detect``."""
    parser = add_verb(verbs, "detect", _detect, "sources of X-ray images: positions, extents, likelihoods, classes")
    _add_field(parser, "image", "counts image; several cameras on one grid are added")
    parser.add_argument(
        "--max-off-axis", type=float, help="largest angle from the optical axis in arcmin (default: no limit)"
    )
    parser.add_argument("--select", choices=("C1", "C2", "P1"), help="only sources of this class")
    parser.add_argument("--regions", metavar="FILE", help="also write DS9 regions")
    parser.add_argument("--out", help="candidates table (default: standard output)")


def add_cutouts(verbs):
    """Add the verb ``cutouts``."""
    help_text = "X-ray and optical cutouts of candidates, as a sample folder"
    parser = add_verb(verbs, "cutouts", _cutouts, help_text, resumes=True)
    parser.add_argument("candidates", help="table of candidates: from detect, or any catalogue with positions")
    help_text = "counts image; those on one grid are added, of other fields each candidate gets the deepest"
    _add_field(parser, "--image", help_text, required=True)
    parser.add_argument("--select", choices=("C1", "C2", "P1"), help="only candidates of this class")
    optical = parser.add_mutually_exclusive_group()
    optical.add_argument("--optical", nargs="+", metavar="PATH", help="plates on disk: FITS files or folders of them")
    optical.add_argument("--hips", metavar="SURVEY", help="fetch plates from hips2fits, e.g. CDS/P/DSS2/red")
    optical.add_argument("--skyview", metavar="SURVEY", help="fetch plates from SkyView, e.g. 'DSS2 Red'")
    parser.add_argument("--cache", help="folder that keeps the fetched plates")
    parser.add_argument("--size", type=float, default=7.0, help="side in arcmin (default: %(default)s)")
    parser.add_argument("--pixels", type=count, default=356, help="side in pixels (default: %(default)s)")
    add_workers(parser)
    parser.add_argument("--out", required=True, help="sample folder; an interrupted run continues there")


def _fields(arguments, **settings):
    """Fields of the images; those on one grid are cameras and are added."""
    from astroclassify.survey import combine_fields, read_field

    images = arguments.image
    planes = {}
    for name in ("exposure", "background", "mask"):
        given = getattr(arguments, name)
        if given is not None and len(given) != len(images):
            raise ValueError(f"--{name} takes one file for each of the {len(images)} images, got {len(given)}")
        planes[name] = given or [None] * len(images)
    groups = []
    for number, image in enumerate(images):
        if Path(image).is_dir():
            raise ValueError(f"an image must be a file, {image!r} is a folder")
        with naming(image):
            field = read_field(image, **{name: files[number] for name, files in planes.items()}, **settings)
        for group in groups:
            if same_grid(field.wcs, field.shape, group[0].wcs, group[0].shape):
                group.append(field)
                break
        else:
            groups.append([field])
    return [combine_fields(group) for group in groups]


def _detect(arguments):
    from astroclassify.survey import detect, select, write_regions

    check_free(out=arguments.out, regions=arguments.regions)
    check_tables(out=arguments.out)
    limit = None if arguments.max_off_axis is None else arguments.max_off_axis * u.arcmin
    fields = _fields(arguments)
    if len(fields) > 1:
        raise ValueError("the images are not on one grid: they must be cameras of one field; run detect for each field")
    candidates = detect(fields[0], max_off_axis=limit)
    if arguments.select:
        candidates = select(candidates, arguments.select)
    numbers = ", ".join(f"{sum(candidates['x_class'] == name)} {name}" for name in ("C1", "C2", "P1"))
    print(f"{len(candidates)} sources: {numbers}", file=sys.stderr)
    for value in sorted(set(np.asarray(candidates["flags"]).tolist()) - {0}):
        print(f"flags {value}: {', '.join(flag_names(value))}", file=sys.stderr)
    if arguments.regions:
        write_regions(candidates, arguments.regions)
    show(candidates, arguments.out, _SHOWN)
    return failure_status(candidates, "sources")


def _cutouts(arguments):
    from astroclassify.survey import GaussianPsf, extract_cutouts, read_catalogue, select

    check_folder(out=arguments.out)
    optical = _optical(arguments)
    with naming(arguments.candidates):
        candidates = read_catalogue(arguments.candidates)
    if arguments.select:
        candidates = select(candidates, arguments.select)
    fields = _fields(arguments, psf=GaussianPsf(6 * u.arcsec))  # any: cutouts do not depend on it
    with executor_of(arguments.workers) as executor:
        sample = extract_cutouts(
            candidates,
            fields,
            optical=optical,
            size=arguments.size * u.arcmin,
            shape=(arguments.pixels, arguments.pixels),
            out=arguments.out,
            executor=executor,
        )
    failed = (np.asarray(sample["flags"]) & Flag.FAILED.value) != 0
    print(f"{np.sum(~failed)} cutouts in {arguments.out}", file=sys.stderr)
    if arguments.optical or arguments.hips or arguments.skyview:
        without = np.sum((np.asarray(sample["flags"]) & Flag.NO_OPTICAL.value) != 0)
        if without:
            print(f"{without} of them have no optical image; their rows say why", file=sys.stderr)
    hint = f"; the rows in {arguments.out} say why, and the same command tries them again"
    return failure_status(sample, "cutouts", hint)


def _optical(arguments):
    from astroclassify.survey import HipsOptical, LocalOptical, SkyViewOptical

    if arguments.optical:
        return LocalOptical(arguments.optical)
    if arguments.hips:
        return HipsOptical(arguments.hips, cache=arguments.cache)
    if arguments.skyview:
        return SkyViewOptical(arguments.skyview, cache=arguments.cache)
    return None
