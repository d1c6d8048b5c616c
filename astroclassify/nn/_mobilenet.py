"""MobileNet of 2017, which Kosiba et al. 2020 used, and torchvision's MobileNetV2, for which ImageNet weights exist."""

from functools import cache

from .._checks import require
from ._layers import Pooled, band_conv_class

__all__ = ["build_mobilenet", "build_mobilenet_v2"]

# (filters in units of the first layer's, stride) of the 13 separable convolutions: Howard et al. 2017, table 1.
_SEPARABLE = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *5 * ((16, 1),), (32, 2), (32, 1))
# The normalisation's constant in the original implementation; torch's own is 1e-5.
_EPSILON = 1e-3
# Howard et al. say little or no dropout; torchvision trains version 2 with 0.2.
_DROPOUT, _DROPOUT_V2 = 1e-3, 0.2


@cache
def _mobilenet_class():
    nn = require("torch.nn", extra="train")

    def activated(convolution):
        return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=_EPSILON), nn.ReLU6(inplace=True)]

    class MobileNet(Pooled, nn.Module):
        """MobileNet: depthwise 3x3 convolutions, each followed by a 1x1 convolution."""

        first = "conv1.0"

        def __init__(self, n_bands, n_classes, width, dropout):
            super().__init__()
            self.n_bands = n_bands
            channels = 3 if n_bands == 1 else n_bands
            self.conv1 = nn.Sequential(
                *activated(band_conv_class()(channels, width, kernel_size=3, stride=2, padding=1, bias=False))
            )
            blocks, channels = [], width
            for factor, stride in _SEPARABLE:
                depthwise = nn.Conv2d(
                    channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False
                )
                pointwise = nn.Conv2d(channels, factor * width, kernel_size=1, bias=False)
                blocks.append(nn.Sequential(*activated(depthwise), *activated(pointwise)))
                channels = factor * width
            self.blocks = nn.Sequential(*blocks)
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(channels, n_classes)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

        def features(self, images):
            """Last feature maps, ``(n, 32 width, ny/32, nx/32)``."""
            return self.blocks(self.conv1(images))

    return MobileNet


def build_mobilenet(n_bands, n_classes, shape, width, dropout):
    """
    Build MobileNet (version 1).

    Parameters
    ----------
    n_bands, n_classes : int
        Number of bands and classes. One band is treated exactly as if it came as three equal channels.
    shape : tuple of int
        Image shape; any from 32 pixels, 224 x 224 as published.
    width : int
        Filters of the first convolution, 32 as published; a width of 32 alpha is the paper's width multiplier alpha.
    dropout : float or None
        Share of the pooled features that are dropped in training; None is 0.001.

    Returns
    -------
    `torch.nn.Module`
        The network. With 1000 classes it has the 4,231,976 parameters of the original.

    Notes
    -----
    Kosiba et al. name "MobileNet" at 224 x 224 pixels without a version. We read it as version 1: the rest of their
    settings (Adadelta at rate 1 with rho 0.95) are the defaults of the library whose ``MobileNet`` is version 1 and
    whose version 2 has another name. Strided convolutions are padded on both sides.

    References
    ----------
    Howard et al. 2017, arXiv:1704.04861, table 1; Kosiba et al. 2020, MNRAS 496, 4141.
    """
    return _mobilenet_class()(n_bands, n_classes, width, _DROPOUT if dropout is None else dropout)


@cache
def _mobilenet_v2_class():
    mobilenet = require("torchvision.models.mobilenetv2", extra="train")
    nn = require("torch.nn", extra="train")

    class MobileNetV2(Pooled, mobilenet.MobileNetV2):
        """torchvision's MobileNetV2; weights have torchvision's names, ``features`` gives its last feature maps."""

        first = "features.0.0"

        def __init__(self, n_bands, n_classes, width, dropout):
            super().__init__(num_classes=n_classes, width_mult=width / 32, dropout=dropout)
            self.n_bands = n_bands
            theirs = self.features[0][0]
            channels = 3 if n_bands == 1 else n_bands
            first = band_conv_class()(channels, theirs.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
            if channels == 3:
                first.weight = theirs.weight
            else:
                nn.init.kaiming_normal_(first.weight, mode="fan_out")
            self.features[0][0] = first

        def head(self):
            """Dropout and last layer, which torchvision keeps together."""
            return tuple(self.classifier)

    return MobileNetV2


def build_mobilenet_v2(n_bands, n_classes, shape, width, dropout):
    """
    Build torchvision's MobileNetV2.

    Parameters
    ----------
    n_bands, n_classes : int
        Number of bands and classes. One band is treated exactly as if it came as three equal channels.
    shape : tuple of int
        Image shape; any from 32 pixels.
    width : int
        Filters of the first convolution, 32 as published (torchvision rounds to multiples of 8).
    dropout : float or None
        Share of the pooled features that are dropped in training; None is 0.2, as in torchvision.

    Returns
    -------
    `torch.nn.Module`
        The network: torchvision's, parameter by parameter, with one or three bands.

    References
    ----------
    Sandler et al. 2018, CVPR, table 2.
    """
    return _mobilenet_v2_class()(n_bands, n_classes, width, _DROPOUT_V2 if dropout is None else dropout)
