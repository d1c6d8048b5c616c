"""Verbs of fields: detect and cutouts."""

import sys

from astropy import units as u

from astroclassify import tables

from ._tools import add_verb, add_workers, check_free, count, executor_of, failure_status, show

__all__ = ["add_cutouts", "add_detect"]

# Columns of the candidates that are printed.
_SHOWN = ("source_id", "sky_position", "ext", "ext_like", "det_like", "counts", "x_class", "flags")


def _add_field(parser, flag):
    """Arguments that make a field; ``flag`` is the name of the argument for the images."""
    required = {"required": True} if flag.startswith("--") else {}
    parser.add_argument(
        flag, nargs="+", metavar="IMAGE", help="counts image; several cameras on one grid are added", **required
    )
    parser.add_argument("--exposure", nargs="+", metavar="MAP", help="exposure map of each image, in s")
    parser.add_argument("--background", nargs="+", metavar="MAP", help="expected background of each image, in counts")
    parser.add_argument("--mask", nargs="+", metavar="MAP", help="detector mask of each image, 1 where it sees the sky")


def add_detect(verbs):
    """Add the verb ``detect``."""
    parser = add_verb(verbs, "detect", _detect, "sources of X-ray images: positions, extents, likelihoods, classes")
    _add_field(parser, "image")
    parser.add_argument(
        "--max-off-axis", type=float, help="largest angle from the optical axis in arcmin (default: no limit)"
    )
    parser.add_argument("--select", choices=("C1", "C2", "P1"), help="only sources of this class")
    parser.add_argument("--regions", metavar="FILE", help="also write DS9 regions")
    parser.add_argument("--out", help="candidates table (default: standard output)")


def add_cutouts(verbs):
    """Add the verb ``cutouts``."""
    parser = add_verb(verbs, "cutouts", _cutouts, "X-ray and optical cutouts of candidates, as a sample folder")
    parser.add_argument("candidates", help="table of candidates: from detect, or any catalogue with positions")
    _add_field(parser, "--image")
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


def _field(arguments):
    from astroclassify.survey import combine_fields, read_field

    images = arguments.image
    planes = {}
    for name in ("exposure", "background", "mask"):
        given = getattr(arguments, name)
        if given is not None and len(given) != len(images):
            raise ValueError(f"--{name} takes one file for each of the {len(images)} images, got {len(given)}")
        planes[name] = given or [None] * len(images)
    fields = [
        read_field(image, **{name: files[number] for name, files in planes.items()})
        for number, image in enumerate(images)
    ]
    return fields[0] if len(fields) == 1 else combine_fields(fields)


def _detect(arguments):
    from astroclassify.survey import detect, select, write_regions

    check_free(out=arguments.out, regions=arguments.regions)
    if arguments.out is not None:
        tables.format_of(arguments.out, "--out")
    limit = None if arguments.max_off_axis is None else arguments.max_off_axis * u.arcmin
    candidates = detect(_field(arguments), max_off_axis=limit)
    if arguments.select:
        candidates = select(candidates, arguments.select)
    numbers = ", ".join(f"{sum(candidates['x_class'] == name)} {name}" for name in ("C1", "C2", "P1"))
    print(f"{len(candidates)} sources: {numbers}", file=sys.stderr)
    if arguments.regions:
        write_regions(candidates, arguments.regions)
    show(candidates, arguments.out, _SHOWN)
    return failure_status(candidates, "sources")


def _cutouts(arguments):
    from astroclassify.survey import extract_cutouts, read_catalogue, select

    candidates = read_catalogue(arguments.candidates)
    if arguments.select:
        candidates = select(candidates, arguments.select)
    with executor_of(arguments.workers) as executor:
        sample = extract_cutouts(
            candidates,
            _field(arguments),
            optical=_optical(arguments),
            size=arguments.size * u.arcmin,
            shape=(arguments.pixels, arguments.pixels),
            out=arguments.out,
            executor=executor,
        )
    print(f"{len(sample)} cutouts in {arguments.out}", file=sys.stderr)
    return failure_status(sample, "cutouts", f"; the rows in {arguments.out} say why")


def _optical(arguments):
    from astroclassify.survey import HipsOptical, LocalOptical, SkyViewOptical

    if arguments.optical:
        return LocalOptical(arguments.optical)
    if arguments.hips:
        return HipsOptical(arguments.hips, cache=arguments.cache)
    if arguments.skyview:
        return SkyViewOptical(arguments.skyview, cache=arguments.cache)
    return None
