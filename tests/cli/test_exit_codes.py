"""What every verb does with bad input, bad outputs, rows that fail, closed streams and Ctrl-C."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.images import Geometry, write_image
from astroclassify.schemes import COOL_CORE, Flag

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and descriptors of POSIX")


def make_image(position, pixel, *, side=64, level=2.0, seed=1, **meta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-pixel, pixel]
    wcs.wcs.crval, wcs.wcs.crpix = [position.ra.deg, position.dec.deg], [(side + 1) / 2] * 2
    counts = np.random.default_rng(seed).poisson(level, (side, side)).astype(float)
    return CCDData(counts, unit=u.ct, wcs=wcs, meta={"EXPOSURE": 1e4, **meta})


HERE = SkyCoord(30.0, 10.0, unit="deg")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A field, a catalogue, a sample with one image that is missing, predictions of it, and votes."""
    folder = tmp_path_factory.mktemp("files")
    write_image(make_image(HERE, 4 / 3600, INSTRUME="EPN", TELESCOP="XMM"), folder / "field.fits")
    off = HERE.spherical_offsets_by([0, 30, 0] * u.arcsec, [0, 0, 600] * u.arcmin)
    tables.write(QTable({"source_id": ["a", "b", "far"], "sky_position": off}), folder / "catalogue.ecsv")
    sample = tables.empty(tables.SAMPLE)
    pixel = Geometry(1 * u.Mpc, (64, 64)).pixel_width(0.05).to_value(u.deg)
    (folder / "sample" / "images").mkdir(parents=True)
    predictions = tables.empty(tables.PREDICTIONS, scheme="cool-core")
    votes = {"source_id": [], "voter_id": [], "question": [], "answer": []}
    for number, label in enumerate((*COOL_CORE.classes, *COOL_CORE.classes)):
        name = f"c{number}"
        if number:
            write_image(make_image(HERE, pixel, seed=number, REDSHIFT=0.05), folder / "sample/images" / f"{name}.fits")
        row = {"source_id": name, "group_id": name, "path": f"images/{name}.fits", "label": label, "redshift": 0.05}
        sample.add_row(row)
        predictions.add_row([name, label, *np.eye(3)[COOL_CORE.classes.index(label)], 0])
        for column, value in zip(votes, (name, "ann", "emission", "No"), strict=True):
            votes[column].append(value)
    sample.meta["scheme"] = COOL_CORE.to_dict()
    tables.write_sample(sample, folder / "sample")
    tables.write(predictions, folder / "predictions.ecsv")
    tables.write(QTable(votes), folder / "votes.ecsv")
    return folder


# How each verb is called; {out} is its output. Verbs that make a folder go on in one that is there.
CALLS = {
    "demo": "demo --out {out} --workers 1",
    "simulate": "simulate --base-path {files}/field.fits --out {out}",
    "simulate, embedded": "simulate --embedded 2 --out {out}",
    "train": "train {files}/sample --out {out}",
    "evaluate": "evaluate {files}/sample --model coolcore --out {out}.ecsv",
    "evaluate, predictions": "evaluate {files}/sample --model coolcore --predictions {out}.ecsv",
    "classify": "classify {files}/field.fits --redshift 0.1 --model coolcore --out {out}.ecsv",
    "detect": "detect {files}/field.fits --out {out}.ecsv",
    "detect, regions": "detect {files}/field.fits --regions {out}.reg",
    "cutouts": "cutouts {files}/catalogue.ecsv --image {files}/field.fits --out {out}",
    "votes": "votes {files}/votes.ecsv --out {out}.ecsv",
    "votes, skill": "votes {files}/votes.ecsv --skill {out}.ecsv",
    "inspect, export": "inspect {files}/sample --export {out}.ecsv",
    "inspect, report": "inspect {files}/sample --predictions {files}/predictions.ecsv --report {out}.html",
    "reproduce": "reproduce su2020 {files}/sample --out {out}",
}
FOLDERS = ("demo", "simulate", "simulate, embedded", "cutouts", "reproduce")


def call(name, files, out):
    return CALLS[name].format(files=files, out=out).split()


def refused(arguments, capsys):
    """The one line of an error; nothing is printed on standard output."""
    try:
        assert main(arguments) == 2
    except SystemExit as stop:
        assert stop.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("error: ") == 1 and "Traceback" not in err
    return err.strip().splitlines()[-1]


def content(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.fixture
def no_work(monkeypatch):
    """Reading an image or a table is work: outputs are to be refused before it."""

    def fail(*args, **kwargs):
        raise AssertionError("work has begun")

    from astroclassify import nn, people, sim, survey, workflows

    monkeypatch.setattr(tables, "read", fail)
    monkeypatch.setattr(tables, "read_sample", fail)
    for room, names in (
        (nn, ("load_classifier",)),
        (people, ("read_votes", "stored_votes", "write_report")),
        (sim, ("open_snapshot", "make_mocks", "EmbeddedPopulation")),
        (survey, ("read_catalogue", "read_field", "detect")),
        (workflows, ("run_demo", "reproduce")),
    ):
        for name in names:
            monkeypatch.setattr(room, name, fail, raising=False)


@pytest.mark.parametrize("kind", ["under a file", "name too long", "cannot be written", "no folder"])
@pytest.mark.parametrize("name", CALLS)
def test_outputs_are_tried_before_work_begins(name, kind, files, tmp_path, no_work, capsys):
    out = {
        "under a file": files / "field.fits" / "out",
        "name too long": tmp_path / ("x" * 300),
        "cannot be written": Path("/proc/out"),  # also for root
        "no folder": tmp_path / "absent" / "out",
    }[kind]
    if kind == "no folder" and name in FOLDERS:
        pytest.skip("such verbs make the folders above theirs")
    if kind == "cannot be written" and not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    before = content(tmp_path)
    option = CALLS[name].split("{out}")[0].split()[-1]
    assert option in refused(call(name, files, out), capsys)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in CALLS if name not in FOLDERS])
def test_files_that_are_there_are_not_replaced(name, files, tmp_path, no_work, capsys):
    out = tmp_path / "out"
    place = Path(next(word for word in call(name, files, out) if word.startswith(str(out))))
    place.write_text("mine")
    assert "exists already" in refused(call(name, files, out), capsys)
    assert place.read_text() == "mine"


@pytest.mark.parametrize("name", ["demo", "simulate, embedded", "cutouts"])
def test_folders_of_something_else_are_not_used(name, files, tmp_path, capsys):
    if name == "simulate, embedded":
        pytest.importorskip("h5py")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    before = content(tmp_path / "out")
    assert "out" in refused(call(name, files, tmp_path / "out"), capsys)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("classify {files}/field.fits --redshift 0.1 --model coolcore --out {new}.txt", "must end in one of"),
        ("evaluate {files}/sample --model coolcore --predictions {new}.txt", "must end in one of"),
        ("detect {files}/field.fits --out {new}.jpg", "must end in one of"),
        ("votes {files}/votes.ecsv --skill {new}", "must end in one of"),
        ("inspect {files}/sample --export {new}.html", "must end in one of"),
        (
            "evaluate {files}/sample --model coolcore --predictions {new}.ecsv --out {new}.ecsv",
            "must be different",
        ),
        ("detect {files}/field.fits --regions {new}.ecsv --out {new}.ecsv", "must be different"),
        ("votes {files}/votes.ecsv --skill {new}.ecsv --report {new}.ecsv", "must be different"),
    ],
)
def test_names_of_outputs_are_checked_before_work_begins(text, reason, files, tmp_path, no_work, capsys):
    assert reason in refused(text.format(files=files, new=tmp_path / "new").split(), capsys)


INPUTS = [
    "simulate --base-path {bad} --out {new}",
    "train {bad} --out {new}",
    "evaluate {bad} --model coolcore",
    "evaluate {files}/sample --model {bad}",
    "classify {bad} --redshift 0.1 --model coolcore",
    "classify {files}/field.fits --redshift 0.1 --model {bad}",
    "classify {files}/field.fits --redshift 0.1 --model coolcore --annotate {bad}",
    "detect {bad}",
    "detect {files}/field.fits --exposure {bad}",
    "cutouts {bad} --image {files}/field.fits --out {new}",
    "cutouts {files}/catalogue.ecsv --image {bad} --out {new}",
    "cutouts {files}/catalogue.ecsv --image {files}/field.fits --optical {bad} --out {new}",
    "votes {bad}",
    "votes {files}/votes.ecsv --gold {bad}",
    "votes {files}/votes.ecsv --workflow {bad}",
    "inspect {bad}",
    "inspect {files}/sample --predictions {bad}",
    "inspect {files}/sample --predictions {bad} --report {new}.html",
    "reproduce su2020 {bad} --out {new}",
]


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty"])
@pytest.mark.parametrize("text", INPUTS)
def test_bad_inputs_end_in_one_line(text, kind, files, tmp_path, capsys):
    bad = tmp_path / "bad.ecsv"
    if kind == "folder":
        if text.startswith("classify {bad}"):
            pytest.skip("a folder without images has no rows, which is a warning")
        bad.mkdir()
    elif kind != "missing":
        bad.write_text("nonsense\n" if kind == "text" else "")
    error = refused(text.format(bad=bad, files=files, new=tmp_path / "new").split(), capsys)
    assert "bad" in error or "path is an empty file" in error
    assert content(tmp_path) == ([str(bad)] if kind != "missing" else [])


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["detect"], ["classify", "x.fits"], ["models", "--out", "x"]])
def test_wrong_arguments(arguments, capsys):
    assert "astroclassify" in refused(arguments, capsys)


PARTLY = {
    "evaluate": "evaluate {files}/sample --model coolcore --predictions {new}.ecsv",
    "classify": "classify {files}/sample --model coolcore --out {new}.ecsv",
    "cutouts": "cutouts {files}/catalogue.ecsv --image {files}/field.fits --pixels 32 --size 2 --out {new}",
    "inspect": "inspect {files}/sample --predictions {files}/predictions.ecsv --report {new}.html",
}


@pytest.mark.filterwarnings("ignore:.*without prediction")
@pytest.mark.parametrize("name", PARTLY)
def test_rows_that_fail_are_counted_and_kept(name, files, tmp_path, capsys):
    if name == "inspect":
        pytest.importorskip("PIL")
        pytest.importorskip("matplotlib")
    assert main(PARTLY[name].format(files=files, new=tmp_path / "new").split()) == 1
    (number, of), error = {"cutouts": (1, 3)}.get(name, (1, 6)), capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("astroclassify: ")]
    assert len(lines) == 1 and f"{number} of {of}" in lines[0]
    if name == "inspect":
        return
    table = tables.read_sample(tmp_path / "new") if name == "cutouts" else tables.read(tmp_path / "new.ecsv")
    failed = (np.asarray(table["flags"]) & Flag.FAILED.value) != 0
    assert len(table) == of and failed.sum() == number and all(table["message"][failed] != "")


# --- the process


# A shell in the background hands Ctrl-C down ignored, which the command would respect.
HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start(*arguments, code=None, **options):
    """The command, or a script, in a process and a group of its own."""
    code = code or "import sys; from astroclassify.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, "-c", HEARD + code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **pipes)


def in_shell(text, *arguments):
    """Status, output and errors of the command in a shell: ``text`` has it as ``"$@"``."""
    code = "import sys; from astroclassify.cli import main; sys.exit(main())"
    command = ["bash", "-c", text, "bash", sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return done.returncode, done.stdout, done.stderr


@posix
@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ('"$@" | head -n 1; exit ${PIPESTATUS[0]}', 0, ""),
        ('"$@" | true; exit ${PIPESTATUS[0]}', 0, ""),
        ('"$@" >&-', 2, "astroclassify: error: standard output is closed: there is no place for the table\n"),
        ('"$@" >/dev/full', 2, "astroclassify: error: cannot write to standard output: No space left on device\n"),
        ('"$@" 2>&- | head -n 1', 0, ""),
    ],
)
@pytest.mark.slow
def test_standard_output_that_is_closed_full_or_not_read(text, status, error):
    if "full" in text and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    found, out, err = in_shell(text, "models")
    assert (found, err) == (status, error)
    assert ("cluster-xmm" in out) == ("head" in text)


@posix
@pytest.mark.slow
def test_work_is_not_lost_where_nobody_reads_the_remarks(files, tmp_path):
    text = '"$@" 2>&1 | true; exit ${PIPESTATUS[0]}'
    arguments = PARTLY["cutouts"].format(files=files, new=tmp_path / "new").split()
    assert in_shell(text, *arguments)[0] == 1
    assert len(tables.read_sample(tmp_path / "new")) == 3


# Sends Ctrl-C while PACKAGE is imported; some packages then swallow the exception, or make another one of it.
INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == PACKAGE:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
            except BaseException:
                if SWALLOW:
                    raise ImportError(name)
                raise
sys.meta_path.insert(0, Finder())
from astroclassify.cli import main
sys.exit(main())
"""


@posix
@pytest.mark.parametrize("swallow", [True, False])
@pytest.mark.parametrize(
    "package", ["argparse", "numpy", "astropy.table", pytest.param("onnxruntime", marks=pytest.mark.slow)]
)
def test_ctrl_c_during_imports(package, swallow, files):
    arguments = ("classify", files / "field.fits", "--redshift", "0.1", "--model", "coolcore")
    code = INTERRUPTED.replace("PACKAGE", repr(package)).replace("SWALLOW", str(swallow))
    child = start(*arguments, code=code)
    out, err = child.communicate(timeout=300)
    assert (child.returncode, out, err) == (130, "", "astroclassify: error: interrupted\n")


# Work in two processes, which are there once a first result is; more is sent to them than a pipe holds.
WORKERS = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import BrokenExecutor
from astroclassify.cli import _process
def end(children):
    if sys.argv[1] == "interrupt":
        os.killpg(0, signal.SIGINT)
    else:
        os.kill(os.getpid() if sys.argv[1] == "kill" else children[0].pid, signal.SIGKILL)
def work(argv):
    from astroclassify.cli._tools import executor_of
    try:
        with executor_of(2) as executor:
            [executor.submit(os.getpid).result() for _ in range(2)]
            futures = [executor.submit(time.sleep, 600) for _ in range(2)]
            futures += [executor.submit(len, bytes(5_000_000)) for _ in range(4)]
            time.sleep(1)
            children = multiprocessing.active_children()
            print(*(child.pid for child in children), flush=True)
            end(children)
            futures[0].result()
    except BrokenExecutor:
        return _process.fail("broken")
if __name__ == "__main__":
    sys.exit(_process.run(work, None))
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status", "error"),
    [("interrupt", 130, "interrupted\n"), ("kill", -9, ""), ("kill a worker", 2, "broken\n")],
)
def test_workers_end_with_the_command(how, status, error):
    child = start(how, code=WORKERS)
    out, err = child.communicate(timeout=300)
    assert child.returncode == status and err == (error and f"astroclassify: error: {error}")
    pids = [int(word) for word in out.split()]
    assert pids
    # They have closed their ends of our pipes, or `communicate` would have waited; all that is left is to be reaped.
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.1)


def test_only_verbs_that_go_on_say_so(monkeypatch, files, tmp_path, capsys):
    from astroclassify import survey

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "read_field", interrupt, raising=False)
    assert main(call("cutouts", files, tmp_path / "out")) == 130
    assert capsys.readouterr().err == "astroclassify: error: interrupted; the same command goes on from there\n"
    assert main(call("detect", files, tmp_path / "out")) == 130
    assert capsys.readouterr().err == "astroclassify: error: interrupted\n"
