"""Verbs of fields: detect and cutouts."""

import logging
import sys
import textwrap
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.schemes import Flag, flag_names

from ._fields import add_field, add_psf, add_select, fields_of, off_axis_limit, psfs_of
from ._tools import (
    add_overwrite,
    add_verb,
    add_workers,
    check_files,
    check_folder,
    check_picture,
    check_tables,
    count,
    executor_of,
    failure_status,
    flag_counts,
    naming,
    show,
)

__all__ = ["add_cutouts", "add_detect"]


def add_detect(verbs):
    """Add the verb ``detect``."""
    parser = add_verb(verbs, "detect", _detect, "sources of X-ray images: positions, extents, likelihoods, classes")
    add_field(parser, "image", "counts image or event list; several cameras on one grid are added")
    add_psf(parser)
    parser.add_argument(
        "--max-off-axis",
        type=off_axis_limit,
        metavar="ARCMIN",
        help="largest angle from the optical axis in arcmin, or none (default: that up to which surveys use the "
        "instrument, none where it is not known and for mosaics)",
    )
    add_select(parser, "sources")
    parser.add_argument("--regions", metavar="FILE", help="also write DS9 regions")
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw the image with the regions (png, pdf, svg; extra 'plots')"
    )
    parser.add_argument("--out", help="candidates table (default: standard output)")
    add_overwrite(parser)


def add_cutouts(verbs):
    """Add the verb ``cutouts``."""
    help_text = "X-ray and optical cutouts of candidates, as a sample folder"
    parser = add_verb(verbs, "cutouts", _cutouts, help_text, resumes=True)
    parser.add_argument("candidates", help="table of candidates: from detect, or any catalogue with positions")
    help_text = "counts image or event list; those on one grid are added, of other fields each candidate gets the "
    add_field(parser, "--image", f"{help_text}deepest", required=True)
    add_select(parser, "candidates")
    optical = parser.add_mutually_exclusive_group()
    optical.add_argument("--optical", nargs="+", metavar="PATH", help="plates on disk: FITS files or folders of them")
    optical.add_argument(
        "--hips",
        metavar="SURVEY",
        help="fetch plates from hips2fits, e.g. CDS/P/DSS2/red, or cut them out of the folder of a HiPS",
    )
    optical.add_argument("--skyview", metavar="SURVEY", help="fetch plates from SkyView, e.g. 'DSS2 Red'")
    parser.add_argument("--cache", help="folder that keeps the fetched plates")
    parser.add_argument("--size", type=float, default=7.0, help="side in arcmin (default: %(default)s)")
    parser.add_argument("--pixels", type=count, default=356, help="side in pixels (default: %(default)s)")
    add_workers(parser)
    parser.add_argument("--out", required=True, help="sample folder; an interrupted run continues there")


def _detect(arguments):
    from astroclassify.survey import detect, select, write_regions

    replace = arguments.overwrite
    check_files(out=arguments.out, regions=arguments.regions, plot=arguments.plot, overwrite=replace)
    check_tables(out=arguments.out, overwrite=replace)
    check_picture(plot=arguments.plot)
    fields = fields_of(arguments, psfs_of(arguments))
    if len(fields) > 1:
        raise ValueError("the images are not on one grid: they must be cameras of one field; run detect for each field")
    (field,) = fields
    logging.getLogger("astroclassify.survey").setLevel(logging.INFO)  # how far the search is
    print(_described(field), file=sys.stderr)
    found = detect(field, max_off_axis=_limit(field, arguments.max_off_axis))
    print(_summary(found), file=sys.stderr)
    candidates = select(found, arguments.select) if arguments.select else found
    if arguments.select:
        print(f"{len(candidates)} of them are {' or '.join(arguments.select)}", file=sys.stderr)
    if arguments.out is None:
        for value in sorted(set(np.asarray(candidates["flags"]).tolist()) - {0}):
            print(f"flags {value}: {', '.join(flag_names(value))}", file=sys.stderr)
    show(candidates, arguments.out, overwrite=replace)
    if arguments.regions:
        write_regions(candidates, arguments.regions, overwrite=replace)
    if arguments.plot:
        _draw(field, candidates, found, arguments.plot, overwrite=replace)
    return failure_status(candidates, "sources")


def _limit(field, given):
    """Largest off-axis angle as a Quantity, or None; of the instrument unless it is given."""
    if given is not None:
        return None if given == np.inf else given * u.arcmin
    angle = field.max_off_axis
    if angle is None:
        print(f"no limit to off-axis angles: {field.instrument} has no default, or this is a mosaic", file=sys.stderr)
        return None
    text = f"sources within {angle:g} arcmin of the optical axis, the default for {field.instrument}"
    print(f"{text} (--max-off-axis none takes all)", file=sys.stderr)
    return angle * u.arcmin


def _described(field):
    """A field in one line: what it is, and what had to be assumed."""
    band = field.energy_range
    energies = "band not known" if band is None else f"{band[0].value:g} to {band[1].value:g} keV"
    flags = ", ".join(flag_names(field.flags)) or "none"
    return (
        f"{field.instrument}, {energies}: {field.shape[1]} x {field.shape[0]} pixels of {field.pixel:.3g} arcsec, "
        f"{field.counts.sum():.0f} counts in {field.livetime / 1e3:.3g} ks; flags: {flags}"
    )


def _summary(found):
    """Classes and flags of candidates in one line."""
    classes = ", ".join(f"{np.sum(found['x_class'] == name)} {name}" for name in ("C1", "C2", "P1"))
    return f"{len(found)} candidates: {classes}; flags: {flag_counts(found)}"


def _draw(field, candidates, found, path, *, overwrite):
    """Write a picture of the field with its candidates; above it what they are, with the flags in words."""
    from astroclassify.plots import plot_field

    lines = [line for text in (_described(field), _summary(found)) for line in textwrap.wrap(text, 95)]
    figure = plot_field(field, candidates, stretch="sqrt", smooth=max(5.0, 1.5 * field.pixel) * u.arcsec)
    figure.suptitle("\n".join(lines), fontsize=8)
    tables.write_beside(path, lambda temporary: figure.savefig(temporary, dpi=150), overwrite=overwrite)


def _cutouts(arguments):
    from astroclassify.survey import GaussianPsf, extract_cutouts, read_catalogue, select

    check_folder(out=arguments.out)
    optical = _optical(arguments)
    with naming(arguments.candidates):
        candidates = read_catalogue(arguments.candidates)
    if arguments.select:
        candidates = select(candidates, arguments.select)
    psf = GaussianPsf(6 * u.arcsec)  # any: cutouts do not depend on it
    fields = fields_of(arguments, [psf] * len(arguments.image))
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
    from astroclassify.survey import HipsOptical, LocalHips, LocalOptical, SkyViewOptical

    if arguments.optical:
        return LocalOptical(arguments.optical)
    if arguments.hips and Path(arguments.hips).is_dir():
        return LocalHips(arguments.hips)
    if arguments.hips:
        return HipsOptical(arguments.hips, cache=arguments.cache)
    if arguments.skyview:
        return SkyViewOptical(arguments.skyview, cache=arguments.cache)
    return None
