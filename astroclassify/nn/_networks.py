"""Torch networks by name, and their export to ONNX. Torch is imported inside: only training needs it."""

import copy
import io
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..exceptions import require

__all__ = ["ARCHITECTURES", "Architecture", "build", "check_architecture", "export_onnx"]

# Oldest operator set with all that these networks need; every supported onnxruntime reads it.
_OPSET = 17


@dataclass(frozen=True)
class Architecture:
    """
    A network that can be asked for by name.

    ``build(n_bands, n_classes, shape, width)`` gives a module that takes images ``(n, n_bands, ny, nx)`` and gives
    logits ``(n, n_classes)``. If the module has ``maps(images) -> (logits, class_maps)``, its class maps become the
    second output of the ONNX file; if it has ``folded()``, that copy is what is exported.
    """

    name: str
    description: str
    build: Any
    smallest: int


@cache
def _resnet_class():
    torch = require("torch", extra="train")
    resnet = require("torchvision.models.resnet", extra="train")
    nn = torch.nn

    class BandConv2d(nn.Conv2d):
        """
        First convolution, which takes one band as if it came as three equal channels.

        By linearity ``sum_c W_c * x = (sum_c W_c) * x``. The parameter stays the three-channel weight and is summed in
        each forward pass, so start values, gradients (the same for each channel), weight decay and every optimiser
        step are those of a three-channel network on a repeated image, at a third of the arithmetic.
        """

        def forward(self, images):
            weight = self.weight
            if images.shape[1] == 1 and self.in_channels == 3:
                weight = weight.sum(dim=1, keepdim=True)
            return self._conv_forward(images, weight, self.bias)

    class ResNet18(resnet.ResNet):
        """ResNet-18 of torchvision with ``width`` filters in its first stage; weights have torchvision's names."""

        def __init__(self, n_bands, n_classes, width):
            nn.Module.__init__(self)
            self._norm_layer = nn.BatchNorm2d
            self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
            channels = 3 if n_bands == 1 else n_bands
            self.conv1 = BandConv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = self._make_layer(resnet.BasicBlock, width, 2)
            self.layer2 = self._make_layer(resnet.BasicBlock, 2 * width, 2, stride=2)
            self.layer3 = self._make_layer(resnet.BasicBlock, 4 * width, 2, stride=2)
            self.layer4 = self._make_layer(resnet.BasicBlock, 8 * width, 2, stride=2)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(8 * width, n_classes)
            # torchvision's start values, in torchvision's order.
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.constant_(module.weight, 1)
                    nn.init.constant_(module.bias, 0)

        def features(self, images):
            """Last feature maps, ``(n, 8 width, ny/32, nx/32)``."""
            maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
            return self.layer4(self.layer3(self.layer2(self.layer1(maps))))

        def maps(self, images):
            """Logits, and the class maps ``sum_k w_k^c f_k(x, y)``, whose mean plus the bias is the logit."""
            features = self.features(images)
            logits = self.fc(torch.flatten(self.avgpool(features), 1))
            return logits, nn.functional.conv2d(features, self.fc.weight[:, :, None, None])

        def folded(self):
            """Copy for inference on one band: the first convolution has the summed weight."""
            network = copy.deepcopy(self)
            first = self.conv1
            if first.in_channels == 3 and getattr(self, "n_bands", 3) == 1:
                summed = nn.Conv2d(1, first.out_channels, 7, stride=2, padding=3, bias=False)
                with torch.no_grad():
                    summed.weight.copy_(first.weight.sum(dim=1, keepdim=True))
                network.conv1 = summed
            return network

    return ResNet18


def _build_resnet18(n_bands, n_classes, shape, width):
    network = _resnet_class()(n_bands, n_classes, width)
    network.n_bands = n_bands
    return network


ARCHITECTURES = {
    "resnet18": Architecture(
        "resnet18",
        "ResNet-18 (He et al. 2016), the network of Su et al. 2020; width 64 is the original",
        _build_resnet18,
        32,
    ),
}


def check_architecture(name):
    """
    Look up an architecture.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    Architecture
        What is known of it.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    try:
        return ARCHITECTURES[name]
    except (KeyError, TypeError):
        raise ValueError(f"architecture must be one of {sorted(ARCHITECTURES)}, got {name!r}") from None


def build(name, *, n_bands, n_classes, shape, width, seed):
    """
    Build an untrained network whose start values depend on ``seed`` alone.

    Parameters
    ----------
    name : str
        Name of the architecture.
    n_bands, n_classes : int
        Number of image bands and of classes.
    shape : tuple of int
        Image shape ``(ny, nx)`` in pixels.
    width : int
        Number of filters in the first stage.
    seed : int
        Seed of the start values; torch's own generator is left as it was.

    Returns
    -------
    `torch.nn.Module`
        The network, in training mode.

    Raises
    ------
    ValueError
        If an argument is out of range.
    MissingDependencyError
        If torch or torchvision is not installed.
    """
    architecture = check_architecture(name)
    if min(shape) < architecture.smallest:
        raise ValueError(f"geometry must have at least {architecture.smallest} pixels a side for {name}, got {shape}")
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(n_bands, n_classes, tuple(shape), width)


def export_onnx(network, *, n_bands, shape):
    """
    Write a network in evaluation mode as ONNX.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network; left as it is.
    n_bands : int
        Number of image bands.
    shape : tuple of int
        Image shape ``(ny, nx)``.

    Returns
    -------
    bytes
        The ONNX file: input ``images`` (n, n_bands, ny, nx), outputs ``logits`` (n, n_classes) and, where the network
        has them, ``class_maps`` (n, n_classes, my, mx). Batch normalisation is folded into the convolutions.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    """
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):  # a new layer draws start values, which must not touch torch's generator
        network = network.folded() if hasattr(network, "folded") else copy.deepcopy(network)
    network = network.cpu().float().eval().to(memory_format=torch.contiguous_format)
    names = ["logits"]
    if hasattr(network, "maps"):
        network.forward = network.maps
        names.append("class_maps")
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter warns that it is deprecated. The newer one needs one package more (onnxscript) and
        # takes seconds where this one takes milliseconds.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, n_bands, *shape),),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["images"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ["images", *names]},
        )
    return buffer.getvalue()
