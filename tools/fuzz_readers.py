"""
Try readers on damaged files: each must end in what it reads or in one error of the package.

Usage::

    python tools/fuzz_readers.py image --minutes 10 --seed 1 [--faults FOLDER]

Valid inputs are mutated (bits, lengths, numbers, header cards, blocks, lines) and read in a child process, which is
started again when it dies. A fault is a death, more than 20 s, more than 1 GB above what the child had before, or an
error that is not the package's; its input is kept in the folder, with the reason beside it. The last line printed is
the number of inputs by outcome. The same seed gives the same inputs.
"""

import argparse
import collections
import contextlib
import gzip
import hashlib
import importlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

TIME_LIMIT = 20.0  # s of computing
MEMORY_LIMIT = 1 << 30  # bytes above what the child had when it was started
ADDRESS_SPACE = 8 << 30  # bytes: protects the machine, not a rule for readers
NUMBERS = "0 1 -1 2 7 99 999 -999 32768 65536 2147483647 2147483648 -2147483648 4294967296 99999999999999999999".split()
NUMBERS += "0.5 1e400 -1e400 nan inf -inf 1e-400 T F '' 'x' 8 16 32 64 -32 -64".split()
WORDS = "null true [] {} [[]] \"\" , ; : < > </ & \x00 \ufeff 'NaN' 1e999 \ud7ff".split(" ")


# Valid inputs: {name of a file: its bytes}, by the name of the seed.


def _header():
    from astropy.io import fits

    keys = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": 15.5,
        "CRPIX2": 10.5,
    }
    return fits.Header(keys | {"CRVAL1": 194.9, "CRVAL2": 27.9, "CDELT1": -0.001, "CDELT2": 0.001, "BUNIT": "count"})


def _fits(*hdus):
    from astropy.io import fits

    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(file)
    return file.getvalue()


def image_seeds(_):
    """Images: plain, scaled, a cube, with companions, gzipped, and compressed by each algorithm of the standard."""
    from astropy.io import fits

    rng = np.random.default_rng(0)
    counts, header = rng.poisson(20, (20, 30)), _header()
    smooth = rng.normal(100, 3, (20, 30)).astype("f4")
    seeds = {
        "float": _fits(fits.ImageHDU(smooth, header)),
        "scaled": _fits(fits.ImageHDU(counts.astype("u2"), header)),
        "cube": _fits(fits.ImageHDU(counts.astype("i4")[None, None], header)),
        "companions": _fits(
            fits.ImageHDU(smooth, header),
            fits.ImageHDU((counts > 30).astype("u1"), name="MASK"),
            fits.ImageHDU(np.full(counts.shape, 9e3, "f4"), fits.Header({"BUNIT": "s"}), name="EXPMAP"),
        ),
    }
    seeds["packed"] = gzip.compress(seeds["float"], mtime=0)
    kinds = {"RICE_1": {}, "GZIP_1": {}, "GZIP_2": {}, "PLIO_1": {}, "HCOMPRESS_1": {"hcomp_smooth": 1}}
    for kind, more in kinds.items():
        for name, data in {"whole": counts.astype("i2"), "real": smooth}.items():
            if (kind, name) != ("PLIO_1", "real"):
                more = {**more, "quantize_method": 1, "dither_seed": 5} if name == "real" else more
                hdu = fits.CompImageHDU(data, header, compression_type=kind, tile_shape=(10, 15), **more)
                seeds[f"{kind}-{name}"] = _fits(hdu)
    return {name: {"a.fits": data} for name, data in seeds.items()}


def cutout_seeds(folder):
    """A cutout of two bands as the package writes it."""
    from astropy import units as u
    from astropy.nddata import CCDData
    from astropy.wcs import WCS

    from astroclassify.images import Cutout

    data = np.random.default_rng(0).poisson(3, (20, 30)).astype(float)
    bands = {"xray": CCDData(data, unit=u.ct, wcs=WCS(_header()), mask=data > 9), "optical": CCDData(data, unit=u.adu)}
    return {"cutout": {"a.fits": Cutout("a", bands).write(folder / "a.fits").read_bytes()}}


def events_seeds(_):
    """Event lists with coordinates of their columns, good time and energies."""
    from astropy.io import fits
    from astropy.table import Table

    rng, n = np.random.default_rng(0), 200
    columns = {
        "TIME": rng.uniform(0, 1e4, n),
        "X": rng.uniform(1, 99, n).astype("f4"),
        "Y": rng.uniform(1, 99, n).astype("f4"),
    }
    columns |= {"PI": rng.integers(500, 7000, n).astype("i4"), "ENERGY": rng.uniform(500, 7000, n).astype("f4")}
    columns |= {"CCDNR": rng.integers(1, 4, n).astype("i2"), "CCD_ID": rng.integers(0, 4, n).astype("i2")}
    seeds = {}
    for mission, instrument in (("CHANDRA", "ACIS"), ("XMM", "EPN"), ("ROSAT", "PSPCB"), ("SWIFT", "XRT")):
        events = fits.BinTableHDU(Table(columns), name="EVENTS")
        events.header.update(
            TELESCOP=mission, INSTRUME=instrument, EXPOSURE=9e3, TSTART=0.0, TSTOP=1e4, RADECSYS="ICRS"
        )
        for number, kind, value, step in ((2, "RA---TAN", 194.9, -1e-3), (3, "DEC--TAN", 27.9, 1e-3)):
            keys = {
                "TCTYP": kind,
                "TCRVL": value,
                "TCDLT": step,
                "TCRPX": 50.0,
                "TCUNI": "deg",
                "TLMIN": 1,
                "TLMAX": 99,
            }
            events.header.update({f"{key}{number}": entry for key, entry in keys.items()})
        good = fits.BinTableHDU(Table({"START": [0.0, 6e3], "STOP": [4e3, 1e4]}), name="GTI")
        seeds[mission] = {"a.fits": _fits(events, good)}
    return seeds


def _catalogue():
    from astropy import units as u
    from astropy.table import MaskedColumn, QTable

    table = QTable({"Name": ["A 1656", "A 3667", "b"], "RAJ2000": [194.9, 303.1, 1.0] * u.deg})
    table["DEJ2000"], table["z"] = [27.9, -56.8, 2.0] * u.deg, MaskedColumn([0.023, 0.055, 0.1], mask=[0, 0, 1])
    table["R500"], table["n"] = [1.2, 1.3, 0.4] * u.Mpc, [1, 2, 3]
    return table


def _written(formats):
    seeds = {}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        for ending, (file_format, more) in formats.items():
            path = Path(folder) / f"a.{ending.rpartition(':')[2]}"
            _catalogue().write(path, format=file_format, overwrite=True, **more)
            seeds[ending] = {path.name: path.read_bytes()}
    return seeds


def catalogue_seeds(_):
    """A catalogue in each form but VOTable."""
    seeds = _written({"ecsv": ("ascii.ecsv", {}), "fits": ("fits", {})})
    lines = "IAUNAME,SC_RA,SC_DEC,SC_EXTENT", "4XMM J1,194.9,27.9,12.0", "4XMM J2,1.0,-2.0,"
    seeds["csv"] = {"a.csv": "\n".join(lines).encode()}
    return seeds


def votable_seeds(_):
    """A catalogue as VOTable in its three encodings."""
    kinds = ("tabledata", "binary", "binary2")
    return _written({f"{kind}:vot": ("votable", {"tabledata_format": kind}) for kind in kinds})


def model_seeds(_):
    """A packaged model."""
    import astroclassify.data

    folder = astroclassify.data.FOLDER / "models" / "cluster-xmm"
    return {"model": {path.name: path.read_bytes() for path in sorted(folder.iterdir())}}


def votes_seeds(_):
    """Votes as a table, as an export of Zooniverse, and a journal of the page."""
    from astroclassify.people import load_workflow

    lines = ["source_id,voter_id,question,answer,time"]
    journal = [{"record": "astroclassify-votes", "version": 1, "workflow": "hunt"}]
    journal[0]["workflow_version"] = load_workflow("hunt").version
    export = ["classification_id,user_name,user_id,user_ip,workflow_id,workflow_name,workflow_version,created_at,"
              "metadata,annotations,subject_data,subject_ids"]  # fmt: skip
    for number, voter in enumerate(("ann", "bob", "cy") * 4):
        vote = (f"s{number % 5}", voter, "emission", "no", f"2026-01-01T00:00:{number:02d}Z")
        lines.append(",".join(vote))
        journal.append(
            dict(zip(("source_id", "voter_id", "question", "answer", "time"), vote, strict=True), record="vote")
        )
        texts = (
            {"session": "5f"},
            [{"task": "T0", "task_label": "?", "value": "No"}],
            {str(number): {"#source_id": vote[0]}},
        )
        quoted = ('"' + json.dumps(text).replace('"', '""') + '"' for text in texts)
        fields = (number, voter, 7, "8bfd", 8905, "Hunt", "16.53", "2019-06-12 15:00:22 UTC", *quoted, number)
        export.append(",".join(map(str, fields)))
    text = "\n".join(map(json.dumps, journal)) + "\n"
    seeds = {"table": {"a.csv": "\n".join(lines)}, "export": {"a.csv": "\n".join(export)}, "journal": {"a.jsonl": text}}
    return {seed: {name: text.encode() for name, text in files.items()} for seed, files in seeds.items()}


def snapshot_seeds(folder):
    """A snapshot of two groups in TNG's layout."""
    import h5py

    n, keys = (
        12,
        {"BoxSize": 1e4, "HubbleParam": 0.7, "Omega0": 0.3, "OmegaLambda": 0.7, "OmegaBaryon": 0.05, "Redshift": 1.0},
    )
    keys |= {"Time": 0.5, "UnitLength_in_cm": 3.085678e21, "UnitMass_in_g": 1.989e43, "UnitVelocity_in_cm_per_s": 1e5}
    names = "snapdir_033/snap_033.0.hdf5", "groups_033/fof_subhalo_tab_033.0.hdf5"
    names += ("../postprocessing/offsets/offsets_033.hdf5",)
    base = folder / "output"
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
    counts, zero = np.zeros((2, 6), "i4"), np.zeros(6, "u4")
    counts[:, 0] = 7, 5
    total = np.array([n, 0, 0, 0, 0, 0])
    with h5py.File(base / names[0], "w") as file:
        more = {
            "NumFilesPerSnapshot": 1,
            "NumPart_ThisFile": total,
            "NumPart_Total": total,
            "NumPart_Total_HighWord": zero,
        }
        file.create_group("Header").attrs.update(keys | more)
        values = {
            "Masses": 2e-3,
            "Density": 1e-6,
            "InternalEnergy": 1e6,
            "ElectronAbundance": 1.16,
            "GFM_Metallicity": 0.01,
        }
        for name, value in {**values, "StarFormationRate": 0.0}.items():
            file[f"PartType0/{name}"] = np.full(n, value, "f4")
        file["PartType0/Coordinates"], file["PartType0/Velocities"] = np.full((n, 3), 5e3), np.full((n, 3), 9.0, "f4")
    with h5py.File(base / names[1], "w") as file:
        more = {
            "NumFiles": 1,
            "Ngroups_ThisFile": 2,
            "Ngroups_Total": 2,
            "Nsubgroups_ThisFile": 0,
            "Nsubgroups_Total": 0,
        }
        file.create_group("Header").attrs.update(keys | more)
        file["Group/GroupLenType"], file["Group/GroupPos"] = counts, np.full((2, 3), 5e3, "f4")
        file["Group/GroupVel"], file["Group/Group_M_Crit500"] = np.zeros((2, 3), "f4"), np.full(2, 7e3, "f4")
        file["Group/Group_R_Crit500"] = np.full(2, 40.0, "f4")
    with h5py.File(base / names[2], "w") as file:
        file["FileOffsets/SnapByType"], file["FileOffsets/Group"] = np.zeros((1, 6), int), np.zeros(1, int)
        file["FileOffsets/Subhalo"] = np.zeros(1, int)
        file["Group/SnapByType"] = np.vstack([np.zeros(6, int), counts[0]])
    files = {str((base / name).resolve().relative_to(folder.resolve())): (base / name).read_bytes() for name in names}
    return {"snapshot": files}


def kosiba_seeds(_):
    """The layout of the set of Kosiba et al. (2020), with two pictures."""
    from PIL import Image

    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 40, (356, 356, 3)).astype("u1")).save(picture, "PNG")
    files = {}
    for split, label in (("train", "low-z"), ("test", "other")):
        files[f"{split}.csv"] = f"image_id,class\n{split}1,{label}\n{split}2,point\n".encode()
        files[f"{split}_images/{split}1.png"] = picture.getvalue()
    return {"kosiba": files}


# Readers: one function of a folder with the input.


def _only(folder):
    return next(path for path in folder.iterdir() if path.is_file())


def read_journal_or_votes(folder):
    """Votes of a table or an export; of a journal as the page opens it."""
    from astroclassify.people import load_workflow, read_votes
    from astroclassify.people.page._journal import VoteJournal

    path = _only(folder)
    if path.suffix == ".csv":
        return read_votes(path)
    with VoteJournal(path, load_workflow("hunt"), [f"s{k}" for k in range(5)]) as journal:
        return journal.votes()


def read_snapshot(folder):
    """Both halos of a snapshot."""
    from astroclassify.sim import open_snapshot

    snapshot = open_snapshot(folder / "output", snapshot=33)
    return [snapshot.read_halo(int(row["halo_id"])) for row in snapshot.select_halos()]


def read_catalogue(folder):
    """A catalogue; one without units is of a kind that is known."""
    path = _only(folder)
    return _public("survey", "read_catalogue")(path, kind="4xmm" if path.suffix == ".csv" else None)


def _public(room, name):
    return getattr(importlib.import_module(f"astroclassify.{room}"), name)


READERS = {
    "image": (image_seeds, lambda folder: _public("images", "read_image")(_only(folder))),
    "cutout": (cutout_seeds, lambda folder: _public("images", "Cutout").read(_only(folder))),
    "events": (events_seeds, lambda folder: _public("images", "read_events")(_only(folder))),
    "catalogue": (catalogue_seeds, read_catalogue),
    "votable": (votable_seeds, lambda folder: _public("survey", "read_catalogue")(_only(folder))),
    "model": (model_seeds, lambda folder: _public("nn", "load_classifier")(folder)),
    "votes": (votes_seeds, read_journal_or_votes),
    "snapshot": (snapshot_seeds, read_snapshot),
    "kosiba": (kosiba_seeds, lambda folder: _public("samples", "read_kosiba2020")(folder, out=folder / "out")),
}


# Mutations of bytes.


def flip_bits(data, rng):
    for _ in range(rng.choice((1, 1, 4, 32))):
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)


def truncate(data, rng):
    del data[rng.randrange(len(data)) :]


def fill(data, rng):
    place, length = rng.randrange(len(data)), rng.choice((1, 4, 80, 2880))
    data[place : place + length] = bytes([rng.choice((0, 32, 127, 255))]) * min(length, len(data) - place)


def move(data, rng):
    """Delete, repeat or swap blocks."""
    size = rng.choice((4, 80, 2880, 512))
    one, two = (size * rng.randrange(max(1, len(data) // size)) for _ in range(2))
    blocks = bytes(data[one : one + size]), bytes(data[two : two + size])
    data[one : one + size] = rng.choice((b"", blocks[0] * 2, blocks[1], blocks[0] * 300))


def put_number(data, rng):
    """An extreme binary number."""
    place, width = rng.randrange(len(data)), rng.choice((1, 2, 4, 8))
    value = rng.choice((0, 1, -1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1)), rng.randrange(100)))
    data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, rng.choice(("big", "little")))


def put_text_number(data, rng):
    """An extreme number in place of one in the text."""
    found = list(re.finditer(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?", bytes(data[:200_000])))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(NUMBERS).encode()


def edit_text(data, rng):
    """A piece of syntax, a line or a tag deleted, repeated, moved or put in."""
    pieces = re.split(rb"(\n|(?=<)|(?<=>)|,|(?<=[\[{])|(?=[\]}]))", bytes(data))
    one, two = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    kind = rng.randrange(5)
    if kind == 0:
        pieces[one] = b""
    elif kind == 1:
        pieces[one] *= rng.choice((2, 1000))
    elif kind == 2:
        pieces[one], pieces[two] = pieces[two], pieces[one]
    else:
        pieces[one] = rng.choice(WORDS).encode() * rng.choice((1, 1, 1, 5000))
    data[:] = b"".join(pieces)


def edit_card(data, rng):
    """A card of a FITS header with another value or keyword, deleted, repeated, or swapped with another one."""
    places = [k for k in range(0, min(len(data), 60_000), 80) if data[k + 8 : k + 10] == b"= "]
    if not places:
        return flip_bits(data, rng)
    one, two = rng.choice(places), rng.choice(places)
    card, kind = bytes(data[one : one + 80]), rng.randrange(7)
    if kind < 4:
        card = card[:10] + rng.choice(NUMBERS).rjust(20).encode()[:60].ljust(70)
    elif kind == 4:
        card = bytes(data[two : two + 8]) + card[8:]
    elif kind == 5:
        card = rng.choice(
            (b"CONTINUE  'x&'", b"END", b"END     x", b"HIERARCH a = 1", b"\xff" * 80, b"BSCALE  = NaN")
        ).ljust(80)
    else:
        data[two : two + 80] = card
    data[one : one + 80] = card


MUTATIONS = (
    flip_bits,
    truncate,
    fill,
    move,
    put_number,
    put_text_number,
    edit_text,
    edit_card,
    edit_card,
    put_text_number,
)


def mutate(seeds, rng):
    """One damaged input."""
    files = dict(seeds[rng.choice(sorted(seeds))])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(files))
        data = files[name]
        packed = data.startswith(b"\x1f\x8b") and rng.random() < 0.7
        with contextlib.suppress(OSError, EOFError, zlib.error):  # one that is damaged already is taken as it is
            data = gzip.decompress(data) if packed else data
        packed = packed and not data.startswith(b"\x1f\x8b")
        data = bytearray(data)
        if data:
            rng.choice(MUTATIONS)(data, rng)
        files[name] = gzip.compress(bytes(data), 1, mtime=0) if packed else bytes(data)
    if "model.json" in files and rng.random() < 0.8:
        files["model.json"] = _signed(files)
    return files


def _signed(files):
    """``model.json`` with the sizes and digests of the damaged files: a forger can do that."""
    text = files["model.json"]
    try:
        entries = json.loads(text)["files"]
        for name, entry in entries.items():
            entry.update(size=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
        return json.dumps({**json.loads(text), "files": entries}).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text


# The child that reads, and the parent that watches it.


def _peak():
    """Largest resident size since the last call, in bytes."""
    text = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+)", text).group(1)) << 10


def child(reader):
    """Read each folder that a line names; answer with one line."""
    from astroclassify.exceptions import AstroclassifyError

    read = READERS[reader][1]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base, answers = None, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        _peak()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                read(Path(line.rstrip("\n")))
            outcome = "warning" if caught else "read"
        except (AstroclassifyError, FileNotFoundError) as error:
            outcome = "error" if "\n" not in str(error) and str(error) else f"FAULT text of {type(error).__name__}"
        except BaseException as error:
            place = error.__traceback__
            while place.tb_next is not None:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            outcome = f"FAULT {type(error).__name__} at {where}: {' '.join(str(error).split())[:150]}"
        peak = _peak()
        base = min(filter(None, (base, peak)))
        if not outcome.startswith("FAULT") and peak - base > MEMORY_LIMIT:
            outcome = f"FAULT memory: {(peak - base) >> 20} MB"
        print(outcome, file=answers, flush=True)


class Child:
    """A process that reads; it is started when it is needed."""

    def __init__(self, reader, log):
        self.reader, self.log, self.process, self.warm = reader, log, None, False

    def read(self, folder):
        """Outcome of one input."""
        if self.process is None:
            command = [sys.executable, __file__, self.reader, "--child"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
            self.warm = False
            self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        print(folder, file=self.process.stdin, flush=True)
        ready = self._wait(TIME_LIMIT if self.warm else 4 * TIME_LIMIT)  # the first input waits for the imports
        self.warm = True
        answer = self.process.stdout.readline().strip() if ready else ""
        if not answer:
            if not ready:
                self.process.kill()
            answer = f"FAULT death, exit status {self.process.wait()}" if ready else "FAULT more than 20 s"
            with contextlib.suppress(BrokenPipeError):
                self.close()
        return answer

    def _wait(self, limit):
        """Whether there is an answer before the child has computed for so long, or waited for ten times that."""
        begin, used = time.monotonic(), self._computed()
        while time.monotonic() - begin < 10 * limit:
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                return True
            if self._computed() - used > limit:
                break
        return False

    def _computed(self):
        """Seconds of computing so far; a machine that is busy with other things makes no difference."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        """End the process, if there is one."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


def fuzz(reader, *, seconds, seed, faults, most=None):
    """Outcomes (kind -> number) of the inputs of a seed; faults are printed and kept in a folder."""
    rng, outcomes = random.Random(seed), collections.Counter()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        place = Path(scratch)
        (place / "seeds").mkdir()
        seeds = READERS[reader][0](place / "seeds")
        inputs = [*seeds.values()]  # the valid ones come first: they must be read
        process, end, number = Child(reader, log), time.monotonic() + seconds, 0
        while time.monotonic() < end and (most is None or number < most):
            files = inputs[number] if number < len(inputs) else mutate(seeds, rng)
            folder = place / "input"
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            outcome = process.read(folder)
            if number < len(inputs) and outcome == "error":
                outcome = "FAULT a valid input is refused"
            outcomes[re.sub(r"(:|,|=).*", "", outcome)] += 1
            if outcome.startswith("FAULT"):
                kept = faults / f"{reader}-{seed}-{number}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                (faults / f"{kept.name}.txt").write_text(outcome + "\n")
                print(f"{kept.name}: {outcome}", flush=True)
            shutil.rmtree(folder)
            number += 1
        process.close()
    return outcomes


def main(arguments=None):
    """Fuzz one reader and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("reader", choices=sorted(READERS))
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default %(default)s)")
    parser.add_argument("--inputs", type=int, help="how many inputs, if fewer are enough")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default %(default)s)")
    parser.add_argument(
        "--faults", type=Path, default=Path("faults"), help="folder for inputs that fail (default %(default)s)"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.nice(19 - os.nice(0))
    if options.child:
        child(options.reader)
        return 0
    outcomes = fuzz(
        options.reader, seconds=60 * options.minutes, seed=options.seed, faults=options.faults, most=options.inputs
    )
    print(f"{options.reader}: {sum(outcomes.values())} inputs, {dict(sorted(outcomes.items()))}")
    return int(any(name.startswith("FAULT") for name in outcomes))


if __name__ == "__main__":
    sys.exit(main())
