"""Torch networks by name or by a function of the user, with start values that depend on the seed alone."""

import math
import numbers
from dataclasses import dataclass
from typing import Any

from .._checks import require
from ..exceptions import ModelError
from ._attention import build_attention
from ._export import export_onnx
from ._kosiba import build_kosiba2020
from ._mobilenet import build_mobilenet, build_mobilenet_v2
from ._resnet import build_resnet18

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "build",
    "check_architecture",
    "export_onnx",
    "load_pretrained",
]


@dataclass(frozen=True)
class Architecture:
    """
    A network that can be asked for by name.

    ``build(n_bands, n_classes, shape, width, dropout)`` gives a module that takes images ``(n, n_bands, ny, nx)`` and
    gives logits ``(n, n_classes)``. A module, also one of the user, may have besides

    - ``maps(images) -> (logits, class_maps)``: exact class maps ``(n, n_classes, my, mx)``, whose mean plus a constant
      is the logit;
    - ``features(images)``: what the last layer sees ``(n, k)``, or feature maps ``(n, k, my, mx)``, then averaged;
    - ``gradcam_layer``: dotted name of the layer for gradient maps, where there are no exact ones;
    - ``outputs(images)``: all these in one pass, as a dict with ``logits``, ``class_maps`` and ``features``;
    - ``folded()``: the copy that is exported.
    """

    name: str
    description: str
    build: Any
    smallest: int
    width: int


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "resnet18",
            "ResNet-18 (He et al. 2016), the network of Su et al. 2020; width 64 is the original",
            build_resnet18,
            smallest=32,
            width=64,
        ),
        Architecture(
            "kosiba2020",
            "custom network of Kosiba et al. 2020: six convolutions, two dense layers; width 64 is the original",
            build_kosiba2020,
            smallest=32,
            width=64,
        ),
        Architecture(
            "mobilenet",
            "MobileNet, version 1 (Howard et al. 2017), as Kosiba et al. 2020 used it; width 32 is the original",
            build_mobilenet,
            smallest=32,
            width=32,
        ),
        Architecture(
            "mobilenet_v2",
            "MobileNetV2 of torchvision (Sandler et al. 2018); width 32 is the original",
            build_mobilenet_v2,
            smallest=32,
            width=32,
        ),
        Architecture(
            "attention",
            "small residual network with squeeze-excitation, feature pyramid and pooling in learned apertures",
            build_attention,
            smallest=32,
            width=16,
        ),
    )
}


def check_architecture(architecture):
    """
    Look up an architecture.

    Parameters
    ----------
    architecture : str or callable
        A name, or a function ``f(n_bands, n_classes, shape) -> torch.nn.Module``.

    Returns
    -------
    Architecture
        What is known of it.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> from astroclassify.nn._networks import check_architecture
    >>> check_architecture("kosiba2020").width
    64
    """
    if isinstance(architecture, str) and architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if callable(architecture) and (isinstance(architecture, type) or not hasattr(architecture, "state_dict")):
        name = getattr(architecture, "__qualname__", type(architecture).__qualname__)
        return Architecture(name, "network of the user", _adapt(architecture), smallest=1, width=0)
    raise ValueError(
        f"architecture must be one of {sorted(ARCHITECTURES)} or a function that builds one, got {architecture!r:.200}"
    )


def _adapt(function):
    """Builder for a function of the user, which knows nothing of width and dropout."""

    def builder(n_bands, n_classes, shape, width, dropout):
        torch = require("torch", extra="train")
        if dropout is not None:
            raise ValueError("dropout must be None for a network of your own: set it in your function")
        network = function(n_bands, n_classes, shape)
        if not isinstance(network, torch.nn.Module):
            raise TypeError(f"architecture must give a torch.nn.Module, got {type(network).__name__}")
        return network

    return builder


def build(architecture, *, n_bands, n_classes, shape, n_filters=None, seed, dropout=None):
    """
    Build an untrained network whose start values depend on ``seed`` alone.

    Parameters
    ----------
    architecture : str or callable
        Name of the architecture, or a function ``f(n_bands, n_classes, shape) -> torch.nn.Module``.
    n_bands, n_classes : int
        Number of image bands and of classes.
    shape : tuple of int
        Image shape ``(ny, nx)`` in pixels.
    n_filters : int, optional
        Number of filters in the first stage; by default as published. A function is not told.
    seed : int
        Seed of the start values; torch's own generator is left as it was.
    dropout : float, optional
        Share of the last features that are dropped in training; by default as published.

    Returns
    -------
    `torch.nn.Module`
        The network, in training mode.

    Raises
    ------
    ValueError
        If an argument is out of range, or a function's network does not give ``n_classes`` logits an image or cannot
        be exported to ONNX.
    TypeError
        If a function does not give a network.
    MissingDependencyError
        If torch or torchvision is not installed.
    """
    known = check_architecture(architecture)
    if min(shape) < known.smallest:
        raise ValueError(f"geometry must have at least {known.smallest} pixels a side for {known.name}, got {shape}")
    if dropout is not None and not (isinstance(dropout, numbers.Real) and 0 <= dropout < 1):
        raise ValueError(f"dropout must be None or lie from 0 to below 1, got {dropout!r}")
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        filters = known.width if n_filters is None else n_filters
        network = known.build(n_bands, n_classes, tuple(shape), filters, dropout)
        if callable(architecture):
            _try_out(torch, network, n_bands, n_classes, shape)
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
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ValueError(f"architecture gives a network that fails on images of shape {shape}: {text}") from error
    if got != (2, n_classes):
        raise ValueError(f"architecture must give a network with logits (2, {n_classes}) for two images, got {got}")


def load_pretrained(network, path):
    """
    Start from weights of the same architecture, such as torchvision's for ImageNet.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network; its weights are replaced.
    path : str or path-like
        A safetensors file with the network's own names, which for ``"resnet18"`` and ``"mobilenet_v2"`` are those of
        torchvision; nothing is downloaded. From torchvision's weights one is written by
        ``safetensors.torch.save_file(torchvision.models.resnet18(weights="DEFAULT").state_dict(), path)``.

    Returns
    -------
    list of str
        Names of the tensors that were not taken because they are for other classes: those of the last layer.

    Raises
    ------
    ModelError
        If the file cannot be read or does not hold weights of that network.

    Notes
    -----
    Where the network has another number of bands than the file has channels, each band starts with the channels' sum
    over the number of bands: equal bands then give what equal channels gave.
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
