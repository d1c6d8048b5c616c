"""Verb that makes mock images: simulate."""

import logging

from astropy import units as u

from ._tools import add_seed, add_verb, add_workers, check_folder, count, executor_of, failure_status

__all__ = ["add_simulate"]


def add_simulate(verbs):
    """Add the verb ``simulate``."""
    help_text = "labelled mock images of the halos of a TNG-like snapshot"
    parser = add_verb(verbs, "simulate", _simulate, help_text, resumes=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--base-path", help="simulation output folder, as illustris_python takes it")
    source.add_argument("--embedded", type=count, metavar="N", help="N synthetic clusters, made in memory")
    parser.add_argument("--snapshot", type=int, default=99, help="snapshot number (default: %(default)s)")
    parser.add_argument("--m500-min", type=float, help="least M500 in Msun (default: 10^13.75, embedded 10^13.5)")
    parser.add_argument("--axes", default="xyz", help="lines of sight (default: %(default)s)")
    parser.add_argument("--redshift", type=float, default=0.05, help="redshift of the halos (default: %(default)s)")
    parser.add_argument("--exposure", type=float, default=100.0, help="exposure in ks (default: %(default)s)")
    parser.add_argument("--response", default="acis-i-cycle0", help="effective area (default: %(default)s)")
    parser.add_argument(
        "--engine",
        choices=("pyxsim", "direct"),
        default="pyxsim",
        help="photons drawn by pyXSIM, or counts drawn from their expectation, much faster (default: %(default)s)",
    )
    parser.add_argument(
        "--acis-i", action="store_true", help="chips, vignetting, growing PSF, ACIS-I background and point sources"
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="draw settings for each image: redshift, exposure (ks) and nh_column (cm-2), log-uniformly, "
        "e.g. redshift=0.03:0.1; offset=R points up to R arcmin away, roll=yes rolls the detector (both with --acis-i)",
    )
    parser.add_argument("--measures", action="store_true", help="also measure entropy, morphology ... of each image")
    parser.add_argument(
        "--max-cells", type=count, default=100_000, help="cells of an embedded cluster (default: %(default)s)"
    )
    add_seed(parser)
    add_workers(parser)
    parser.add_argument("--out", required=True, help="sample folder; an interrupted run continues there")


def _simulate(arguments):
    from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks, open_snapshot

    make = Observation.acis_i if arguments.acis_i else Observation
    observation = make(redshift=arguments.redshift, exposure=arguments.exposure * u.ks, response=arguments.response)
    if arguments.vary:
        observation = _sampler(observation, arguments.vary)
    check_folder(out=arguments.out)
    logging.getLogger("astroclassify.sim").setLevel(logging.INFO)  # the summary at the end
    if arguments.embedded:
        snapshot = EmbeddedPopulation(arguments.embedded, rng=arguments.seed, max_cells=arguments.max_cells)
    else:
        snapshot = open_snapshot(arguments.base_path, snapshot=arguments.snapshot)
    least = {} if arguments.m500_min is None else {"m_500_min": arguments.m500_min * u.Msun}
    halos = snapshot.select_halos(**least)
    with executor_of(arguments.workers) as executor:
        sample = make_mocks(
            snapshot,
            halos,
            observation=observation,
            axes=arguments.axes,
            out=arguments.out,
            engine=arguments.engine,
            executor=executor,
            rng=arguments.seed,
            measures=arguments.measures,
        )
    hint = f"; the rows in {arguments.out} say why, and the same command tries them again"
    return failure_status(sample, "images", hint)


def _sampler(observation, texts):
    """The distributions of ``--vary``, from texts like ``redshift=0.03:0.1``."""
    from astroclassify.sim import ObservationSampler

    units = {"redshift": 1, "exposure": u.ks, "nh_column": u.cm**-2}
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if name in units:
                low, high = (float(part) for part in value.split(":"))
                settings[name] = (low, high) if name == "redshift" else (low, high) * units[name]
            elif name == "offset":
                settings[name] = float(value) * u.arcmin
            elif name == "roll" and value in ("yes", "no"):
                settings[name] = value == "yes"
            else:
                raise ValueError
        except ValueError:
            raise ValueError(
                "--vary takes redshift=LOW:HIGH, exposure=LOW:HIGH, nh_column=LOW:HIGH, offset=R, roll=yes or no, "
                f"got {text!r}"
            ) from None
    return ObservationSampler(observation, **settings)
