"""State of a training on disk: JSON and safetensors, written whole, from which it goes on bit by bit."""

import hashlib
import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from astroclassify._checks import check_integer, first_line, require
from astroclassify.exceptions import ModelError, OutputError

from ._file_checks import check_safetensors
from ._store import read_json, read_plain_file

__all__ = ["Checkpoint", "fingerprint", "stored_seed"]

FORMAT = "astroclassify-checkpoint"
FORMAT_VERSION = 1
DOCUMENT = "checkpoint.json"
_STATE = re.compile(r"state-\d{1,9}\.safetensors")
_MAX_DOCUMENT = 64 << 20  # bytes; the history of 100,000 epochs has 20 million
_MAX_STATE = 16 << 30
# Between two checkpoints at least: writing them must not slow a training with short epochs.
_SECONDS = 30.0


def fingerprint(settings, *arrays):
    """Digest of what decides a training: settings (without ``device`` and ``verbose``), and arrays, bytes or texts."""
    decisive = {name: value for name, value in asdict(settings).items() if name not in ("device", "verbose")}
    digest = hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16)
    for array in arrays:
        data = array.encode() if isinstance(array, str) else array
        data = memoryview(np.ascontiguousarray(data)).cast("B") if isinstance(data, np.ndarray) else data
        digest.update(str(len(data)).encode())
        digest.update(data)
    return digest.hexdigest()


def _read_document(folder):
    document = read_json(folder, DOCUMENT, _MAX_DOCUMENT)
    where = repr(str(folder / DOCUMENT))
    if document.get("format") != FORMAT or document.get("format_version") != FORMAT_VERSION:
        raise ModelError(f"{where} is not a checkpoint of this version of the package")
    name = document.get("state")
    if not isinstance(name, str) or not _STATE.fullmatch(name):
        raise ModelError(f"{where}: state must be the name of a state file, got {name!r}")
    return document


def stored_seed(folder):
    """Seed of the training in a checkpoint folder; None if there is no checkpoint, ModelError if it is unreadable."""
    if folder is None or not (Path(folder) / DOCUMENT).exists():
        return None
    seed = _read_document(Path(folder)).get("seed")
    return check_integer(f"{str(Path(folder) / DOCUMENT)!r}: seed", seed, 0, error=ModelError)


def _write(path, data):
    """Write a file under another name and rename it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


class Checkpoint:
    """
    A folder with ``checkpoint.json`` and the file ``state-<epoch>.safetensors`` that it names.

    Arrays are written first under a new name, then the JSON replaces the old one, then the old arrays are removed: the
    JSON always names a complete file. A training resumes only from a state with its own ``digest`` (`fingerprint`).
    """

    def __init__(self, folder, digest):
        self.folder, self.digest = Path(folder), digest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"checkpoint folder {str(folder)!r} cannot be made: {error.strerror}") from error
        self._written = time.monotonic()

    def save(self, trainer, *, now=False):
        """Write the state after an epoch; unless ``now``, only if the last one was written 30 s ago or more."""
        if not now and time.monotonic() - self._written < _SECONDS:
            return
        data = require("safetensors.numpy", extra="train").save(_arrays_of(trainer))
        epoch = len(trainer.history)
        name = f"state-{epoch:06d}.safetensors"
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "fingerprint": self.digest,
            "seed": trainer.seed,
            "state": name,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "step": trainer.step,
            "finished": trainer.finished,
            "best_epoch": None if trainer.best is None else trainer.best["epoch"],
            "schedule": trainer.schedule.state(),
            "history": trainer.history,
        }
        _write(self.folder / name, data)
        _write(self.folder / DOCUMENT, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        for path in self.folder.iterdir():
            if _STATE.fullmatch(path.name) and path.name != name:
                path.unlink(missing_ok=True)
        self._written = time.monotonic()

    def restore(self, trainer):
        """Set a training that has not begun to the state in the folder, if any; ModelError if it is of another one."""
        if not (self.folder / DOCUMENT).exists():
            return
        document = _read_document(self.folder)
        where = repr(str(self.folder))
        if document.get("fingerprint") != self.digest:
            raise ModelError(
                f"checkpoint {where} is of another training (parameters, images or labels differ): "
                "remove the folder or choose another"
            )
        size = document.get("size")
        if not isinstance(size, int) or not 0 < size <= _MAX_STATE:
            raise ModelError(f"checkpoint {where}: size must lie between 1 and {_MAX_STATE}, got {size!r}")
        data = read_plain_file(self.folder, document["state"], size)
        if hashlib.sha256(data).hexdigest() != document.get("sha256"):
            raise ModelError(f"checkpoint {where} was damaged or altered: its SHA-256 is not that in {DOCUMENT}")
        check_safetensors(data)
        try:
            _set_arrays(trainer, require("safetensors.numpy", extra="train").load(data))
            trainer.schedule.restore(document["schedule"])
            trainer.step, trainer.finished = int(document["step"]), bool(document["finished"])
            trainer.history = list(document["history"])
            best = document["best_epoch"]
            trainer.best = None if best is None else trainer.history[int(best) - 1]
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            text = f"{type(error).__name__}: {first_line(error)}"
            raise ModelError(f"checkpoint {where} does not hold a usable state: {text}") from None


def _arrays_of(trainer):
    """All tensors of a training by name."""
    states = {"network": trainer.network.state_dict(), "best": trainer.kept or {}}
    if trainer.mean is not None:
        states["mean"] = trainer.mean.state_dict()
    tensors = {f"{kind}/{name}": tensor for kind, state in states.items() for name, tensor in state.items()}
    for index, parameter in enumerate(trainer.network.parameters()):
        for name, tensor in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{index}/{name}"] = tensor
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def _set_arrays(trainer, arrays):
    torch = trainer.torch
    # safetensors gives arrays on memory that may not be written to.
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def part(kind):
        return {name[len(kind) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}/")}

    trainer.network.load_state_dict(part("network"))
    if trainer.mean is not None:
        trainer.mean.load_state_dict(part("mean"))
    trainer.kept = {name: tensor.to(trainer.device) for name, tensor in part("best").items()} or None
    parameters = list(trainer.network.parameters())
    for name, tensor in part("optimizer").items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape and key != "step":
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)  # in the parameter's memory format
        trainer.optimizer.state[parameter][key] = tensor
