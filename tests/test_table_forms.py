"""One table in all its forms: whatever reader has made it, every public function gives the same answer."""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from astroclassify import nn, people, plots, survey, tables
from astroclassify.schemes import COOL_CORE
from astroclassify.sim import label_candidates

N = 24


def sample():
    """SAMPLE with texts, some of them empty, and numbers, some of them missing."""
    table = QTable({"source_id": [f"src {k}" for k in range(N)], "group_id": [f"gruppe-{k // 2}" for k in range(N)]})
    table["path"] = [""] * N
    table["label"] = [*(("CC", "WCC", "NCC")[(k // 2) % 3] for k in range(N - 1)), ""]
    table["projection"] = ["x", ""] * (N // 2)
    table["redshift"] = np.where(np.arange(N) == 3, np.nan, 0.1)
    table["m_500"], table["r_500"] = np.full(N, 3e14) * u.Msun, np.full(N, 900.0) * u.kpc
    table["t_cool"] = np.where(np.arange(N) == 4, np.nan, np.linspace(0.5, 12, N)) * u.Gyr
    table["n_e"] = np.where(np.arange(N) == 5, np.nan, np.geomspace(0.04, 5e-4, N)) * u.cm**-3
    table["c_sb"] = np.where(np.arange(N) == 6, np.nan, np.linspace(0.3, 0.01, N))
    table["flags"] = [16, 0, 4096, *[0] * (N - 3)]
    return table


def predictions():
    table = QTable({"source_id": [f"src {k}" for k in range(N)]})
    table["label_pred"] = [("CC", "WCC", "NCC")[k % 3] if k != 7 else "" for k in range(N)]
    for number, name in enumerate(COOL_CORE.classes):
        table[f"p_{name}"] = [(0.8 if k % 3 == number else 0.1) if k != 7 else np.nan for k in range(N)]
    table["flags"] = [0, 16, *[0] * 5, 4096, *[0] * (N - 8)]
    table["message"] = [""] * 7 + ["no image"] + [""] * (N - 8)
    table["label"], table["group_id"] = sample()["label"], sample()["group_id"]
    table.meta["scheme"] = COOL_CORE.to_dict()
    return table


def candidates():
    table = QTable({"source_id": [f"src {k}" for k in range(N)]})
    table["ext"] = np.where(np.arange(N) == 2, np.nan, np.linspace(0, 30, N)) * u.arcsec
    table["ext_like"] = np.where(np.arange(N) == 3, np.nan, np.linspace(0, 90, N))
    table["det_like"], table["pnt_det_like"] = np.linspace(20, 200, N), np.linspace(10, 100, N)
    table["counts"] = np.full(N, 50.0) * u.ct
    table["x_class"] = ["", "P1", "C1", "C2"] * (N // 4)
    table["flags"] = [4096, 0, 0, 0, *[0] * (N - 4)]
    return table


def votes():
    rows = [(f"src {k % 4}", f"voter {k // 4}", "emission", ("yes", "no", "")[k % 3], "") for k in range(N)]
    return QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))


def positions():
    return SkyCoord(np.linspace(10, 11, N) * u.deg, np.linspace(-5, -4, N) * u.deg)


def in_memory(table, tmp_path):
    return table


def as_table(table, tmp_path):
    return Table(table)


def ecsv(table, tmp_path):
    table.write(tmp_path / "t.ecsv", overwrite=True)
    return QTable.read(tmp_path / "t.ecsv")


def ecsv_as_table(table, tmp_path):
    table.write(tmp_path / "t.ecsv", overwrite=True)
    return Table.read(tmp_path / "t.ecsv")


def of_fits(table, tmp_path):
    meta, table = table.meta, table.copy()
    table.meta = {}
    table.write(tmp_path / "t.fits", overwrite=True)
    back = QTable.read(tmp_path / "t.fits")
    back.meta = meta
    return back


def fits_of_variable_length(table, tmp_path):
    """Strings as TOPCAT writes them: 'PA(n)'."""
    columns = []
    for name in table.colnames:
        values, unit = table[name], getattr(table[name], "unit", None)
        if values.dtype.kind == "U":
            texts = np.array([text or " " for text in values.tolist()], dtype=object)  # blanks at the end mean nothing
            columns.append(fits.Column(name, "PA(32)", array=texts))
        else:
            kind = "K" if values.dtype.kind == "i" else "D"
            columns.append(fits.Column(name, kind, unit and unit.to_string("fits"), array=np.asarray(values)))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "v.fits", overwrite=True)
    back = QTable.read(tmp_path / "v.fits")
    back.meta = table.meta
    return back


def votable(table, tmp_path):
    meta, table = table.meta, table.copy()
    table.meta = {}
    table.write(tmp_path / "t.vot", format="votable", overwrite=True)
    back = QTable.read(tmp_path / "t.vot")
    back.meta = meta
    return back


def of_objects(table, tmp_path):
    """As TAP services, pyvo and pandas have them: texts and whole numbers are objects, gaps are None."""
    table = Table(table)
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            values = [text or None for text in table[name].tolist()]
            table[name] = Column(np.array(values, dtype=object))
        elif table[name].dtype.kind == "i":
            table[name] = Column(np.array([value or None for value in table[name].tolist()], dtype=object))
    return table


def masked(table, tmp_path):
    """Everything that is empty, NaN or no flag is masked, and something else lies behind."""
    table = QTable(table)
    for name in table.colnames:
        values = table[name]
        if isinstance(values, u.Quantity):
            gaps = np.isnan(values)
            table[name] = Masked(np.where(gaps, -999 * values.unit, values), mask=gaps)
        elif values.dtype.kind == "U":
            gaps = values == ""
            table[name] = MaskedColumn(np.where(gaps, "CC", values), mask=gaps)
        else:
            gaps = np.isnan(values) if values.dtype.kind == "f" else values == 0
            table[name] = MaskedColumn(np.where(gaps, 999999, values), mask=gaps)
    return table


def pandas(table, tmp_path):
    pytest.importorskip("pandas")
    units = {name: table[name].unit for name in table.colnames if getattr(table[name], "unit", None) is not None}
    back = Table.from_pandas(Table(table).to_pandas(use_nullable_int=False))
    for name, unit in units.items():
        back[name].unit = unit
    back.meta = table.meta
    return QTable(back)


def pandas_gaps(table, tmp_path):
    """A column of a DataFrame as it is: NaN stands for a text that is not there."""
    table = Table(table)
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            table[name] = np.array([text or np.nan for text in table[name].tolist()], dtype=object)
    return table


def big_endian(table, tmp_path):
    table = QTable(table)
    for name in table.colnames:
        table[name] = table[name].astype(table[name].dtype.newbyteorder(">"))
    return table


FORMS = [in_memory, as_table, ecsv, ecsv_as_table, of_fits, fits_of_variable_length, votable, of_objects, masked]
FORMS += [pandas, pandas_gaps, big_endian]
# Those whose columns differ most from the ones in memory.
QUICK = (as_table, fits_of_variable_length, masked)


def with_sky(table):
    table = table.copy()
    table["sky_position"] = positions()
    return table


def truth(table):
    """What `label_candidates` compares with, of candidates."""
    table = with_sky(table)
    table["kind"], table["label"] = ["cluster"] * N, ["low_z"] * N
    for name, unit in (("core_radius", u.arcsec), ("flux", u.erg / u.s / u.cm**2), ("m_500", u.Msun), ("redshift", 1)):
        table[name] = np.ones(N) * unit
    return table


def labelled(table):
    return table[tables.plain_column(table["label"]) != ""]


def validated(table):
    return nn.cross_validate(labelled(table), nn.ThresholdClassifier("c_sb"), n_folds=3, rng=1)


def read(table):
    return survey.read_catalogue(with_sky(table))["source_id", "ext", "x_class", "flags"]


def split(table):
    parts = nn.split_sample(labelled(table), test_fraction=0.3, rng=1)
    return [tables.plain_column(part["source_id"]).tolist() for part in parts]


def catalogue_of_predictions(table):
    return survey.annotate(QTable({"source_id": tables.plain_column(table["source_id"])}), table)


def catalogue_of_candidates(table):
    made = predictions()
    made.remove_columns(["label", "group_id"])
    return survey.annotate(table, made)["source_id", "flags", "message", "ext", "label_pred"]


def regions_of(table):
    return [
        (region.meta["text"], region.visual["color"], region.radius.value)
        for region in survey.to_regions(with_sky(table))
    ]


def calibrated(table):
    found = survey.calibrate_cuts(table, np.arange(N) > 5, rng=1, ext=1 * u.arcsec, groups=table["source_id"])
    return [found.ext_like, found.n, *found.ext_like_interval]


def cooling_classes(table):
    table = tables.plain_table(table)
    kept = table["source_id", "t_cool", "flags"]
    kept["t_cool_err"] = table["t_cool"] * 0.1
    return nn.classes_from(kept)


def matched(table):
    return survey.cross_match(with_sky(table), positions(), radius=1 * u.arcsec)


def written(table, ending):
    """The table in a file of the package's own."""
    with TemporaryDirectory() as folder:
        return tables.read(tables.write(table, Path(folder) / f"table{ending}"))


def drawn(figure):
    """All texts of a figure, with the numbers of points in its legends."""
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


FUNCTIONS = {
    "validate SAMPLE": (sample, lambda t: tables.validate(t, tables.SAMPLE)),
    "plain_table": (sample, tables.plain_table),
    "ThresholdClassifier": (sample, lambda t: nn.ThresholdClassifier("n_e").fit(t).classify(t)),
    "RankClassifier": (sample, lambda t: nn.RankClassifier("c_sb").fit(t).classify(t)),
    "classify_conventional": (sample, lambda t: list(nn.classify_conventional(t).values())),
    "cross_validate": (
        sample,
        validated,
    ),
    "split_sample": (sample, split),
    "classes_from": (sample, cooling_classes),
    "validate PREDICTIONS": (predictions, lambda t: tables.validate(t, tables.PREDICTIONS)),
    "score": (predictions, lambda t: nn.score(t, n_bootstrap=20, rng=1)),
    "confusion": (predictions, nn.confusion),
    "roc": (predictions, nn.roc),
    "precision_recall": (predictions, nn.precision_recall),
    "one_vs_all": (predictions, nn.one_vs_all),
    "reliability": (predictions, nn.reliability),
    "mcnemar": (predictions, lambda t: str(nn.mcnemar(t, predictions()))),
    "annotate predictions": (predictions, catalogue_of_predictions),
    "annotate catalogue": (candidates, catalogue_of_candidates),
    "classify_extent": (candidates, lambda t: survey.classify_extent(t).tolist()),
    "select": (candidates, lambda t: tables.plain_column(survey.select(t, "C1")["source_id"]).tolist()),
    "calibrate_cuts": (candidates, calibrated),
    "to_regions": (candidates, regions_of),
    "cross_match": (candidates, matched),
    "label_candidates": (candidates, lambda t: label_candidates(with_sky(t), truth(candidates()))["label"].tolist()),
    "read_catalogue": (
        candidates,
        read,
    ),
    "check_votes": (votes, people.check_votes),
    "volunteer_consensus": (votes, people.volunteer_consensus),
    "volunteer_skill": (votes, people.volunteer_skill),
    "expert_decisions": (votes, people.expert_decisions),
    "soft_labels": (votes, lambda t: people.soft_labels(people.volunteer_consensus(t))),
    "fleiss_kappa": (votes, people.fleiss_kappa),
    **{
        f"write {ending}": (sample, partial(written, ending=ending))
        for ending in (".ecsv", ".ecsv.gz", ".fits", ".vot")
    },
    "plot_population": (sample, lambda t: drawn(plots.plot_population(t))),
    "plot_confusion": (predictions, lambda t: drawn(plots.plot_confusion(t))),
    "plot_extent_plane": (candidates, lambda t: drawn(plots.plot_extent_plane(t))),
}


@cache
def answer(name):
    """That for the table in memory."""
    make, function = FUNCTIONS[name]
    return function(make())


def same(got, want):
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            same(one, other)
    elif isinstance(want, Table):
        assert got.colnames == want.colnames and len(got) == len(want)
        for name in want.colnames:
            one, other = got[name], want[name]
            if isinstance(other, SkyCoord):
                assert np.all(one.separation(other) < 1e-6 * u.arcsec)
                continue
            assert getattr(one, "unit", None) == getattr(other, "unit", None), name
            one, other = (tables.plain_column(column) for column in (one, other))
            assert one.dtype.kind == other.dtype.kind, (name, one.dtype, other.dtype)
            if other.dtype.kind == "U":
                assert one.tolist() == other.tolist(), name
            else:
                np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-12, err_msg=name)
    elif isinstance(want, float):
        np.testing.assert_allclose(got, want)
    else:
        assert np.all(np.asarray(got == want))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "form",
    [pytest.param(form, id=form.__name__, marks=[] if form in QUICK else pytest.mark.slow) for form in FORMS],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_form_of_a_table_is_the_same_table(name, form, tmp_path):
    if name.startswith("plot_"):
        pytest.importorskip("matplotlib")
    make, function = FUNCTIONS[name]
    same(function(form(make(), tmp_path)), answer(name))
