"""Torch networks by name or by a function of the user, with start values that depend on the seed alone."""

import math
from dataclasses import dataclass
from typing import Any

from astroclassify._checks import check_number, first_line, require
from astroclassify.exceptions import ModelError

from ._attention import build_attention
from ._columns import add_columns
from ._export import export_onnx
from ._kosiba import build_kosiba2020
from ._mobilenet import build_mobilenet, build_mobilenet_v2
from ._profile import build_profile
from ._resnet import build_resnet18

__all__ = [
    "ARCHITECTURES", "OWN_NETWORK", "Architecture", "architecture_name", "build", "check_architecture", "export_onnx",
    "load_pretrained",
]  # fmt: skip

# How a model folder names a network that the user's own function built.
OWN_NETWORK = "own:"


@dataclass(frozen=True)
class Architecture:
    """
    A network that has a name.

    ``build(n_bands, n_classes, shape, n_filters, dropout)`` gives a module from images ``(n, n_bands, ny, nx)`` to
    logits ``(n, n_classes)``. A module, also one of the user, may have

    - ``maps(images) -> (logits, class_maps)``: exact class maps ``(n, n_classes, my, mx)``, whose mean plus a constant
      is the logit;
    - ``features(images)``: input of the last layer ``(n, k)``, or feature maps ``(n, k, my, mx)``, then averaged;
    - ``gradcam_layer``: dotted name of the layer for gradient maps, where there are no exact ones;
    - ``outputs(images)``: all these in one pass, as a dict with ``logits``, ``class_maps`` and ``features``;
    - ``folded()``: the copy that is exported.
    """

    name: str
    build: Any
    smallest: int
    n_filters: int


ARCHITECTURES = {
    name: Architecture(name, builder, 32, n_filters)
    for name, builder, n_filters in (
        ("resnet18", build_resnet18, 64),  # He et al. 2016; Su et al. 2020
        ("kosiba2020", build_kosiba2020, 64),  # six convolutions, two dense layers
        ("mobilenet", build_mobilenet, 32),  # version 1: Howard et al. 2017; Kosiba et al. 2020
        ("mobilenet_v2", build_mobilenet_v2, 32),  # torchvision's: Sandler et al. 2018
        ("attention", build_attention, 16),
    )
}
ARCHITECTURES["profile"] = Architecture("profile", build_profile, 1, 96)  # of rings, not of pixels


def architecture_name(architecture):
    """Name of a network in a model folder: ``"own:<function>"`` for a function of the user."""
    if isinstance(architecture, str):
        return architecture
    return OWN_NETWORK + getattr(architecture, "__qualname__", type(architecture).__qualname__)


def check_architecture(architecture):
    """The Architecture of a name, or of a function ``f(n_bands, n_classes, shape) -> torch.nn.Module`` of the user."""
    if isinstance(architecture, str) and architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if callable(architecture) and (isinstance(architecture, type) or not hasattr(architecture, "state_dict")):
        name = getattr(architecture, "__qualname__", type(architecture).__qualname__)
        return Architecture(name, _adapt(architecture), smallest=1, n_filters=0)
    allowed = f"one of {sorted(ARCHITECTURES)} or a function that builds one"
    raise ValueError(f"architecture must be {allowed}, got {architecture!r:.200}")


def _adapt(function):
    """Builder for a function of the user, which takes neither number of filters nor dropout."""

    def builder(n_bands, n_classes, shape, n_filters, dropout):
        torch = require("torch", extra="train")
        if dropout is not None:
            raise ValueError("dropout must be None for a network of your own: set it in your function")
        network = function(n_bands, n_classes, shape)
        if not isinstance(network, torch.nn.Module):
            raise TypeError(f"architecture must give a torch.nn.Module, got {type(network).__name__}")
        return network

    return builder


def build(architecture, *, n_bands, n_classes, shape, n_filters=None, seed, dropout=None, n_columns=0):
    """
    An untrained network in training mode; start values depend on ``seed`` alone, torch's own generator is unchanged.

    ``n_columns`` numbers beside the image come as planes after ``n_bands`` others (`add_columns`). ``n_filters`` and
    ``dropout`` are by default as published. A network of the user is tried: ValueError if it does not
    give ``n_classes`` logits or cannot be exported to ONNX.
    """
    known = check_architecture(architecture)
    if min(shape) < known.smallest:
        raise ValueError(f"geometry must have at least {known.smallest} pixels a side for {known.name}, got {shape}")
    if dropout is not None:
        check_number("dropout", dropout, 0, 1, open_high=True)
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n_filters = known.n_filters if n_filters is None else n_filters
        network = known.build(n_bands, n_classes, tuple(shape), n_filters, dropout)
        if callable(architecture):
            _try_out(torch, network, n_bands, n_classes, shape)
        if n_columns:
            add_columns(network, n_bands, n_columns, n_classes)
    return network.train()


def _try_out(torch, network, n_bands, n_classes, shape):
    """Refuse a network of the user before its training, not after."""
    network.eval()
    images = torch.randn(2, n_bands, *shape)
    try:
        with torch.no_grad():
            logits = network(images)
        got = tuple(logits.shape)
        if got == (2, n_classes):
            export_onnx(network, n_bands=n_bands, shape=shape)
    except Exception as error:  # any code of the user may run here
        text = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"architecture gives a network that fails on images of shape {shape}: {text}") from error
    if got != (2, n_classes):
        raise ValueError(f"architecture must give a network with logits (2, {n_classes}) for two images, got {got}")


def load_pretrained(network, path):
    """
    Load weights of the same architecture, such as torchvision's for ImageNet, from a safetensors file.

    If the number of bands is not that of the channels, each band starts with the channels' sum over the number of
    bands: equal bands then give what equal channels gave. Returns the names of tensors that are not used (the last
    layer for other classes). ModelError if the file does not hold weights of that network.
    """
    torch = require("torch", extra="train")
    safetensors = require("safetensors.torch", extra="train")
    try:
        found = safetensors.load_file(path)
    except Exception as error:  # OSError, or safetensors' own type
        raise ModelError(f"{str(path)!r} cannot be read as safetensors: {error}") from None
    own = network.state_dict()
    if set(found) != set(own):
        odd = sorted(set(found) ^ set(own))[0]
        raise ModelError(f"{str(path)!r} does not hold weights of this network: {odd!r} is in one of the two only")
    last = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)][-1:]
    left, state = [], {}
    for name, tensor in own.items():
        new = found[name].to(tensor.dtype)
        if new.shape != tensor.shape and name.rpartition(".")[0] in last:
            left.append(name)
            new = tensor
        elif new.ndim == tensor.ndim == 4 and new.shape[1] != tensor.shape[1] and name == _first_weight(torch, network):
            n_bands = tensor.shape[1]
            new = (new.sum(dim=1, keepdim=True) / n_bands).repeat(1, n_bands, 1, 1)
        if new.shape != tensor.shape or not math.isfinite(float(new.double().sum())):
            raise ModelError(f"{str(path)!r} holds {name!r} of another shape, or with values that are not finite")
        state[name] = new
    network.load_state_dict(state)
    return left


def _first_weight(torch, network):
    names = (name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d))
    return f"{next(names)}.weight"
