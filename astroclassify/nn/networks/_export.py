"""Export of torch networks to ONNX, checked against torch. Torch is imported inside: only training needs it."""

import copy
import io
import warnings
from functools import cache

import numpy as np

from astroclassify._checks import first_line, require
from astroclassify.exceptions import ModelError

from ..models._onnx_trial import start_session, trust

__all__ = ["export_onnx", "label_onnx", "network_outputs"]

# Oldest operator set with all that these networks need; every supported onnxruntime reads it.
_OPSET = 17
# Largest difference between ONNX Runtime and torch, for logits of order one; relative for larger ones.
_TOLERANCE = 1e-4


def network_outputs(network, images):
    """
    Outputs of a network for a tensor of preprocessed images (n, n_bands, ny, nx), in evaluation mode, by name.

    ``logits`` (n, n_classes) and, where the network has them, ``class_maps`` (n, n_classes, my, mx) and ``features``
    (n, k). An output of another shape is a ModelError.
    """
    if hasattr(network, "outputs"):
        outputs = network.outputs(images)
    else:
        has_maps = callable(getattr(network, "maps", None))
        values = network.maps(images) if has_maps else (network(images),)
        outputs = dict(zip(("logits", "class_maps"), values, strict=has_maps))
        if callable(getattr(network, "features", None)):
            features = network.features(images)
            outputs["features"] = features.mean(dim=(2, 3)) if features.ndim == 4 else features
    for name, ndim in (("logits", 2), ("class_maps", 4), ("features", 2)):
        if name in outputs and outputs[name].ndim != ndim:
            raise ModelError(f"{name} of a network must have {ndim} dimensions, got {outputs[name].ndim}")
    return outputs


@cache
def _wrapper_class():
    torch = require("torch", extra="train")

    class Wrapper(torch.nn.Module):
        """Network whose forward pass gives the values of all outputs."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return tuple(network_outputs(self.network, images).values())

    return Wrapper


def export_onnx(network, *, n_bands, shape, labels=None):
    """
    A network as ONNX (bytes): input ``images`` (n, n_bands, ny, nx), outputs as in `network_outputs`, and texts by name
    as its ``metadata_props``.

    ModelError if results of ONNX Runtime and torch differ by more than 1e-4.
    """
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):  # a new layer draws start values, which must not touch torch's generator
        network = network.folded() if hasattr(network, "folded") else copy.deepcopy(network)
    network = network.cpu().float().eval().to(memory_format=torch.contiguous_format)
    images = np.random.default_rng(0).normal(size=(3, n_bands, *shape)).astype(np.float32)
    images = torch.from_numpy(images)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter warns that it is deprecated. The newer one needs one package more (onnxscript) and
        # takes seconds where this one takes milliseconds.
        warnings.simplefilter("ignore")
        expected = {name: array.numpy() for name, array in network_outputs(network, images).items()}
        names = {"input_names": ["images"], "output_names": list(expected)}
        torch.onnx.export(
            _wrapper_class()(network).eval(), (images[:1],), buffer, dynamo=False, opset_version=_OPSET, **names,
            dynamic_axes={name: {0: "n"} for name in ["images", *expected]},
        )  # fmt: skip
    data = label_onnx(buffer.getvalue(), labels or {})
    _compare(data, images.numpy(), expected)
    trust(data)
    return data


def label_onnx(data, labels):
    """An ONNX file (bytes) with these texts as its ``metadata_props``, in place of others."""
    onnx = require("onnx", extra="train")
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, labels)
    return model.SerializeToString()


def _compare(data, images, expected):
    """Run the file on more images than it was traced with; it must give what torch gives."""
    try:
        results = start_session(data).run(list(expected), {"images": images})
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise ModelError(f"the exported network cannot be run: {first_line(error)}") from None
    for (name, theirs), ours in zip(expected.items(), results, strict=True):
        scale = max(1.0, float(np.max(np.abs(theirs), initial=0.0)))
        if ours.shape != theirs.shape or not np.max(np.abs(ours - theirs), initial=0.0) <= _TOLERANCE * scale:
            raise ModelError(f"the exported network does not give the {name} that torch gives")
