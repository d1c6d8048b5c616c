"""Model folders: ``model.json``, ``weights.safetensors``, ``model.onnx``, and the checks before they are trusted."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np

from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import ModelError, OutputError

from ._file_checks import check_safetensors, read_json_limited

__all__ = [
    "FORMAT_VERSION", "find_folder", "packaged", "read_document", "read_folder", "read_json", "read_plain_file",
    "write_folder",
]  # fmt: skip

FORMAT = "astroclassify-model"
FORMAT_VERSION = 2
DOCUMENT, WEIGHTS, NETWORK, CARD = "model.json", "weights.safetensors", "model.onnx", "README.md"
_MAX_DOCUMENT = 16 << 20  # bytes; a real one has some thousands, and more with a long history or a novelty score
_MAX_FILE = 1 << 29  # bytes; the largest packaged network has a hundredth of it, and no file should fill the memory
_PACKAGED = DATA / "models"
_OBJECTS = "parameters scheme geometry preprocessing training doubt card versions files".split()
_KINDS = {"architecture": str, "bands": list, "history": list, **dict.fromkeys(_OBJECTS, dict)}


def packaged():
    """Names of the packaged models."""
    if not _PACKAGED.is_dir():
        return []
    return sorted(path.name for path in _PACKAGED.iterdir() if (path / DOCUMENT).is_file())


def find_folder(name_or_folder):
    """Folder of a packaged model (its name goes first) or of one of the user; ModelError if there is neither."""
    if not isinstance(name_or_folder, (str, os.PathLike)) or not str(name_or_folder):
        raise ModelError(f"model must be a name or a folder, got {name_or_folder!r}")
    if str(name_or_folder) in packaged():
        return _PACKAGED / str(name_or_folder)
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise ModelError(f"model {str(folder)!r} is neither a folder nor a packaged model (there are {packaged()})")
    return folder


def read_plain_file(folder, name, limit):
    """Content of a plain file in a folder; ModelError if it is a link, unreadable, or of more than ``limit`` bytes."""
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FileNotFoundError
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"model folder {str(folder)!r} must hold the plain file {name}") from None
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise ModelError(f"{str(path)!r} must have at most {limit} bytes")
    return data


def read_json(folder, name, limit):
    """A JSON object, at most ``limit`` bytes, from a folder that is not trusted; empty if it is no object."""
    data = read_plain_file(folder, name, limit)
    document = read_json_limited(data, limit=limit, where=repr(str(folder / name)))
    return document if isinstance(document, dict) else {}


def _upgrade(document, version):
    """Rename entries of older formats in place: version 1 had ``augment`` (a switch) and no temperature or novelty."""
    parameters = document.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    if "width" in parameters:
        parameters.setdefault("n_filters", parameters.pop("width"))
    if version == 1:
        document.setdefault("doubt", {"temperature": 1.0, "novelty": None})
        if "augment" in parameters:
            parameters["augmentation"] = ["flip", "turn", "shift"] if parameters.pop("augment") else []


def read_document(folder):
    """The checked content of ``model.json``; ModelError if it is missing, damaged, incomplete or of a newer format."""
    document = read_json(folder, DOCUMENT, _MAX_DOCUMENT)
    where = repr(str(folder / DOCUMENT))
    if document.get("format") != FORMAT:
        raise ModelError(f"{where} does not describe a model of this package (format must be {FORMAT!r})")
    version = document.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"{where}: format_version must be a whole number from 1, got {version!r}")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{where} has format version {version}; this astroclassify reads up to {FORMAT_VERSION}: update it"
        )
    _upgrade(document, version)
    for key, kind in _KINDS.items():
        if not isinstance(document.get(key), kind):
            raise ModelError(f"{where}: {key} must be a {kind.__name__}, got {type(document.get(key)).__name__}")
    if set(document["files"]) != {WEIGHTS, NETWORK}:
        raise ModelError(f"{where}: files must be exactly {WEIGHTS} and {NETWORK}, got {sorted(document['files'])}")
    return document


def read_folder(folder):
    """Document, weights and network of a model folder, size and SHA-256 checked; else ModelError."""
    document = read_document(folder)
    contents = []
    for name in (WEIGHTS, NETWORK):
        entry = document["files"][name]
        size = entry.get("size") if isinstance(entry, dict) else None
        if not isinstance(size, int) or not 0 < size <= _MAX_FILE:
            raise ModelError(
                f"{str(folder / DOCUMENT)!r}: size of {name} must lie between 1 and {_MAX_FILE}, got {size!r}"
            )
        data = read_plain_file(folder, name, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != entry.get("sha256"):
            raise ModelError(f"{str(folder / name)!r} was damaged or altered: its SHA-256 is not that in {DOCUMENT}")
        contents.append(data)
    check_safetensors(contents[0])
    return document, *contents


def write_folder(folder, document, weights, network, *, overwrite=False):
    """
    Write a model folder under a temporary name and rename it, so that it is complete or absent; returns its path.

    ``document`` is without format and files. OutputError if the folder exists (unless ``overwrite`` and it holds
    nothing but a model) or cannot be written.
    """
    folder = Path(folder).resolve()
    _check_target(folder, overwrite)
    files = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in ((WEIGHTS, weights), (NETWORK, network))
    }
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **document, "files": files}
    document = _json_ready(document)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name[:32]}-", dir=folder.parent))
        new = scratch / "new"
        new.mkdir()
        (new / WEIGHTS).write_bytes(weights)
        (new / NETWORK).write_bytes(network)
        (new / DOCUMENT).write_text(text, encoding="utf-8")
        (new / CARD).write_text(_card_text(document), encoding="utf-8")
        if folder.exists():
            folder.rename(scratch / "old")
        try:
            new.rename(folder)
        except OSError:
            if (scratch / "old").exists():
                (scratch / "old").rename(folder)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _check_target(folder, overwrite):
    if not folder.exists():
        return
    if not overwrite:
        raise OutputError(f"{str(folder)!r} exists already; choose another name or ask to overwrite it")
    others = {path.name for path in folder.iterdir()} - {DOCUMENT, WEIGHTS, NETWORK, CARD} if folder.is_dir() else {""}
    if others:
        raise OutputError(f"{str(folder)!r} is not overwritten: besides a model it holds {min(others)!r}")


def _json_ready(value):
    """Plain types for JSON: numpy scalars as numbers, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): _json_ready(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_json_ready(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _plain(value):
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join("/".join(map(_plain, entry)) if isinstance(entry, list) else _plain(entry) for entry in value)
    return str(value)


def _card_text(document):
    """The model card as Markdown: the same facts as in ``model.json``, for people."""
    card, training = document["card"], document["training"]
    classes = zip(document["scheme"]["classes"], document["scheme"]["descriptions"], strict=True)
    geometry, n_filters = document["geometry"], document["parameters"].get("n_filters")
    filters = "" if n_filters is None else f"{n_filters} filters in the first stage, "
    columns = document["parameters"].get("columns")
    lines = [
        # What model hubs read (Hugging Face, "model cards"); whoever shares the model adds its licence.
        "---",
        "library_name: astroclassify",
        *([] if "targets" in document else ["pipeline_tag: image-classification"]),
        "tags: [astronomy, x-ray, galaxy-clusters, onnx]",
        "---",
        "",
        f"# {card.get('name', 'Classifier of cluster images')}",
        "",
        str(card.get("description", "No description was given.")),
        "",
        f"- Network: {document['architecture']}, {filters}{document.get('n_parameters')} parameters",
        f"- Input: {', '.join(document['bands'])}; {geometry['width']:g} {geometry['unit']} across, "
        f"{geometry['shape'][0]} x {geometry['shape'][1]} pixels; {document['preprocessing']['formula']}",
        *([f"- Numbers beside the image: {', '.join(columns)}"] if columns else []),
        *(f"- {label}: {text}" for label, text in classes),
        "",
        "## Training images",
        "",
        *(f"- {key.replace('_', ' ')}: {_plain(value)}" for key, value in training.items() if value not in (None, [])),
    ]
    for key, value in card.items():
        if key in ("name", "description"):
            continue
        lines += ["", f"## {key.replace('_', ' ').capitalize()}", ""]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            names = list(value[0])
            lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
            lines += ["| " + " | ".join(_plain(row.get(name, "")) for name in names) + " |" for row in value]
        elif isinstance(value, list):
            lines += [f"- {_plain(entry)}" for entry in value]
        else:
            lines.append(_plain(value))
    return "\n".join(lines) + "\n"
