"""Training samples from simulated fields: what detection finds there, cut out in two bands, labelled by the truth."""

import dataclasses
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import vstack

from astroclassify import batch, tables
from astroclassify._checks import check_choice, check_integer, check_quantity
from astroclassify._x_classes import MATCH_EXTENDED, MATCH_POINT
from astroclassify.exceptions import ArgumentError, AstroclassifyError, EmptyResultWarning, SchemaError
from astroclassify.images import Geometry
from astroclassify.samples._folders import seed_of
from astroclassify.samples._writer import SampleWriter
from astroclassify.schemes import CANDIDATE
from astroclassify.sim.sky._field import check_cameras, check_density, simulate_field
from astroclassify.sim.sky._population import POPULATION
from astroclassify.survey import CUTS, Cuts, detect, extract_cutouts, select

__all__ = ["label_candidates", "simulate_survey"]

SETTINGS_FILE = "survey.json"
# Raised when the same seed gives other candidates although no number of the population has changed.
RECIPE = 1
_EXTENDED, _POINT, _BLEND = MATCH_EXTENDED, MATCH_POINT, 25.0  # arcsec
_SHARE, _SINGLE = 0.3, 0.7
_NUMBERS = ("flux", "core_radius", "redshift", "m_500")


def label_candidates(candidates, truth):
    """
    Say what candidates found in a simulated field are.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        CANDIDATES table.
    truth : `~astropy.table.QTable`
        Truth of `simulate_field`: ``sky_position``, ``kind``, ``label``, ``counts``, ``core_radius``, ``redshift``,
        ``m_500``, ``flux`` are used.

    Returns
    -------
    `~astropy.table.QTable`
        A copy of the candidates with ``label`` (scheme `~astroclassify.schemes.CANDIDATE`), ``true_id`` (the source
        that explains most of the counts, empty where there is none), ``kind`` (of that source), ``true_counts``,
        ``true_flux``, ``true_core_radius``, ``true_redshift`` and ``true_m_500``.

    Raises
    ------
    SchemaError
        If a column is missing.

    Notes
    -----
    The brightest cluster within 30 arcsec that gives at least 30% of the counts measured makes a candidate a cluster;
    else such a galaxy within 30 arcsec a galaxy; else the sources without extent within 15 arcsec decide: ``point``
    where the brightest gives 70% of what those within 25 arcsec give together, ``other`` (a blend) where it does not.
    What none of them explains is ``other``: artefact, edge, fluctuation.

    Examples
    --------
    >>> from astroclassify.sim import label_candidates, simulate_field
    >>> from astroclassify.survey import detect
    >>> simulated = simulate_field(rng=1, shape=(160, 160))
    >>> candidates = label_candidates(detect(simulated.field), simulated.truth)
    >>> set(candidates["label"]) <= {"low_z", "high_z", "galaxy", "point", "other"}
    True
    """
    for name, table, columns in (
        ("candidates", candidates, ("sky_position", "counts")),
        ("truth", truth, ("source_id", "sky_position", "kind", "label", "counts", *_NUMBERS)),
    ):
        missing = [column for column in columns if column not in table.colnames]
        if missing:
            raise SchemaError(f"{name} must have the columns {columns}, lacks {missing}")
    candidates, truth = tables.plain_table(candidates), tables.plain_table(truth)
    result = candidates.copy()
    explained = [_explain(row, truth) for row in candidates] if len(truth) else [("other", None)] * len(candidates)
    result["label"] = np.array([label for label, _ in explained], dtype="U8")
    rows = [row for _, row in explained]
    for name, source in (("true_id", "source_id"), ("kind", "kind")):
        result[name] = np.array(["" if row is None else str(truth[source][row]) for row in rows], dtype="U24")
    for source in ("counts", *_NUMBERS):
        unit = truth[source].unit or u.dimensionless_unscaled
        known = [np.nan if row is None else u.Quantity(truth[source][row]).value for row in rows]
        values = np.array(known, dtype=float)
        result[f"true_{source}"] = values if unit == u.dimensionless_unscaled else values * unit
    return result


def _explain(candidate, truth):
    """Label of a candidate and the row of its truth, or None."""
    distance = truth["sky_position"].separation(candidate["sky_position"]).to_value(u.arcsec)
    counts, label = truth["counts"].to_value(u.ct), np.asarray(truth["label"], dtype=str)
    enough = _SHARE * np.nan_to_num(candidate["counts"].to_value(u.ct))
    for wanted in (("low_z", "high_z"), ("galaxy",)):
        near = np.flatnonzero(np.isin(label, wanted) & (distance < _EXTENDED) & (counts >= enough))
        if near.size:
            row = near[np.argmax(counts[near])]
            return str(label[row]), row
    points = np.flatnonzero(label == "point")
    near = points[distance[points] < _POINT]
    if near.size:
        row = near[np.argmax(counts[near])]
        together = counts[points[distance[points] < _BLEND]].sum()
        if counts[row] >= enough:
            return ("point" if counts[row] >= _SINGLE * together else "other"), row
    near = np.flatnonzero((label == "other") & (distance < 2 * _EXTENDED))
    return "other", (near[np.argmax(counts[near])] if near.size else None)


def simulate_survey(
    n_fields,
    *,
    out,
    rng=None,
    exposures=(10, 20) * u.ks,
    cameras=("EPN", "EPN+EMOS1+EMOS2"),
    density=None,
    cuts=("C1", "C2"),
    size=7 * u.arcmin,
    shape=(356, 356),
    executor=None,
    progress=None,
):
    """
    Make a labelled sample as a survey makes its candidates: simulate fields, search them, cut out what is found.

    Parameters
    ----------
    n_fields : int
        How many fields.
    out : str or path-like
        Folder to write: ``sample.ecsv`` over ``fields/<number>/``, which hold the candidates of one field each. The
        same call goes on from where a run was ended; more fields add to it.
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn. By default the seed of the sample that ``out`` holds, so that
        the same call resumes it, or else a fresh one. It is in ``survey.json`` and in ``meta["survey"]``. Field i of a
        seed is the same for any number of fields, executor and order of work.
    exposures : `~astropy.units.Quantity`, optional
        Exposure times, taken in turn; by default those to which X-CLASS clips its observations.
    cameras : sequence of str, optional
        Cameras that are added, joined by "+", in turn after every round of exposures; see `simulate_field`.
    density : dict, optional
        Multiples of the sky's densities for kinds of sources, as `simulate_field` takes them: on the sky clusters are
        too few to train on.
    cuts : str, Cuts or sequence of these, optional
        Classes whose candidates are kept: names of published ones or `Cuts`.
    size : `~astropy.units.Quantity`, optional
        Side of the cutouts, an angle.
    shape : tuple of int, optional
        Pixels of the cutouts along y and x.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one field after the other.
    progress : bool, optional
        Whether to show a bar on standard error; by default on a terminal only.

    Returns
    -------
    `~astropy.table.QTable`
        SAMPLE table: the columns of CANDIDATES, those of `label_candidates`, ``group_id`` (the field, which must not be
        both in training and in test), ``cameras``, ``exposure`` (of each of them) and ``message``. Candidates lie
        within 13 arcmin of the optical axis. ``truth/<number>.ecsv`` in the folder has the sources of a field, found or
        not, and in ``meta["area"]`` the solid angle that was searched.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    OutputError
        If the folder cannot be written, holds something else or a sample with other settings.
    AstroclassifyError
        If a field failed; what was made stays, and the same call tries it again.

    Examples
    --------
    >>> from astroclassify.sim import simulate_survey
    >>> sample = simulate_survey(60, rng=1, out="survey", density={"cluster": 20})  # doctest: +SKIP
    """
    n_fields = check_integer("n_fields", n_fields, 1, 100_000)
    seconds = np.atleast_1d(check_quantity("exposures", exposures, u.s, positive=True)).tolist()
    cameras = [cameras] if isinstance(cameras, str) else list(cameras)
    together = tuple(tuple(check_cameras(each.split("+"))) for each in cameras)
    if not together:
        raise ArgumentError("cameras must be one set of cameras or several, got an empty sequence")
    check_quantity("size", size, u.arcmin, positive=True, shape=())
    cuts = (cuts,) if isinstance(cuts, str | Cuts) else tuple(cuts)
    if not cuts:
        raise ArgumentError("cuts must be a class or several, got an empty sequence")
    cuts = tuple(each if isinstance(each, Cuts) else CUTS[check_choice("cuts", each, tuple(CUTS))] for each in cuts)
    seed = seed_of(rng, out, SETTINGS_FILE)
    job = _Job(seed, Path(out), tuple(seconds), together, check_density(density), cuts, Geometry(size, shape))
    job.writer.prepare(what="such a survey")
    names = [f"{number:05d}" for number in range(n_fields)]
    outcomes = list(batch.run(job.field, names, keys=names, executor=executor, progress=progress, description="fields"))
    failed = [f"field {outcome.key}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    if failed:
        raise AstroclassifyError(f"{len(failed)} of {n_fields} fields failed ({failed[0]}); the same call goes on")
    samples = [outcome.value for outcome in outcomes]
    filled = [sample for sample in samples if len(sample)]
    if not filled:
        warnings.warn("no candidate was found in any field", EmptyResultWarning, stacklevel=2)
    sample = vstack(filled, metadata_conflicts="silent") if filled else samples[0]
    sample.meta = {}
    return job.writer.finish(sample, survey=job.writer.settings, scheme=CANDIDATE.to_dict())


@dataclass(frozen=True)
class _Job:
    """What is the same for every field; sent to the workers."""

    seed: int
    folder: Path
    exposures: tuple
    cameras: tuple
    density: dict
    cuts: tuple
    geometry: Geometry

    @functools.cached_property
    def writer(self):
        """Writer of the sample of all fields; its settings decide the content of a field."""
        settings = {
            "seed": self.seed,
            "exposures": list(self.exposures),
            "cameras": ["+".join(each) for each in self.cameras],
            "density": self.density,
            "cuts": {cuts.name: str(cuts.bounds) for cuts in self.cuts},
            "geometry": self.geometry.to_dict(),
            "recipe": RECIPE,
            "population": dataclasses.asdict(POPULATION),
        }
        return SampleWriter(self.folder, settings, SETTINGS_FILE)

    def field(self, name):
        """Candidates of a field, made unless they are there."""
        place = self.folder / "fields" / name
        if not (place / tables.SAMPLE_FILE).is_file():
            self._make(name, place)
        sample = tables.read_sample(place)
        sample["path"] = np.array([f"fields/{name}/{path}" if path else "" for path in sample["path"]], dtype=str)
        sample.meta = {}
        return sample

    def _make(self, name, place):
        turn, number = divmod(int(name), len(self.exposures))
        exposure, cameras = self.exposures[number] * u.s, self.cameras[turn % len(self.cameras)]
        rng = batch.derive_rng(self.seed, "survey", name)
        simulated = simulate_field(rng=rng, exposure=exposure, cameras=cameras, density=self.density, optical=True)
        field, group = simulated.field, f"field-{name}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyResultWarning)  # such a field adds nothing to the sample
            candidates = detect(field, max_off_axis=field.max_off_axis * u.arcmin)
            candidates = label_candidates(select(candidates, self.cuts), simulated.truth)
            numbers = range(len(candidates))
            candidates["source_id"] = np.array([f"{group}-{number:03d}" for number in numbers], dtype="U32")
            candidates["group_id"] = np.full(len(candidates), group)
            candidates["cameras"] = np.full(len(candidates), field.instrument)
            candidates["exposure"] = np.full(len(candidates), exposure.value) * u.s
            candidates["redshift"] = candidates["true_redshift"]
            candidates["m_500"] = candidates["true_m_500"]
            self._write_truth(name, simulated, group)
            extract_cutouts(
                candidates,
                field,
                optical=_Plate(simulated.plate),
                size=self.geometry.width,
                shape=self.geometry.shape,
                out=place,
                progress=False,
            )

    def _write_truth(self, name, simulated, group):
        """Write all sources of a field, and the area in which candidates were looked for."""
        truth, field = simulated.truth.copy(), simulated.field
        rows, columns = np.nonzero(~field.mask & (field.exposure > 0))
        searched = np.count_nonzero(field.off_axis(columns, rows) <= field.max_off_axis)
        truth.meta["area"] = searched * (field.pixel / 3600) ** 2 * u.deg**2
        truth["group_id"] = np.full(len(truth), group)
        (self.folder / "truth").mkdir(exist_ok=True)
        tables.write(truth, self.folder / "truth" / f"{name}.ecsv", overwrite=True)


@dataclass(frozen=True)
class _Plate:
    """The one plate of a simulated field, whatever part of it is asked for."""

    image: object

    def __call__(self, position, size):
        return self.image
