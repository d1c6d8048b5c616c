"""MobileNet of 2017, which Kosiba et al. 2020 used, and torchvision's MobileNetV2, for which ImageNet weights exist."""

from functools import cache

from astroclassify._checks import require

from ._layers import Pooled, first_convolution, kaiming_start

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

        def __init__(self, n_bands, n_classes, n_filters, dropout):
            super().__init__()
            self.n_bands = n_bands
            self.conv1 = nn.Sequential(*activated(first_convolution(n_bands, n_filters, 3)))
            blocks, channels = [], n_filters
            for factor, stride in _SEPARABLE:
                depthwise = nn.Conv2d(
                    channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False
                )
                pointwise = nn.Conv2d(channels, factor * n_filters, kernel_size=1, bias=False)
                blocks.append(nn.Sequential(*activated(depthwise), *activated(pointwise)))
                channels = factor * n_filters
            self.blocks = nn.Sequential(*blocks)
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(channels, n_classes)
            kaiming_start(self)

        def features(self, images):
            """Last feature maps, ``(n, 32 n_filters, ny/32, nx/32)``."""
            return self.blocks(self.conv1(images))

    return MobileNet


def build_mobilenet(n_bands, n_classes, shape, n_filters, dropout):
    """
    MobileNet, version 1, for images from 32 pixels (224 as published); 32 alpha filters are the width multiplier alpha.

    With 1000 classes it has the 4,231,976 parameters of Howard et al. 2017, arXiv:1704.04861, table 1. Kosiba et al.
    2020 (MNRAS 496, 4141) name "MobileNet" without a version; we read it as version 1, as the rest of their settings
    (Adadelta at rate 1 with rho 0.95) are the defaults of the library whose ``MobileNet`` is version 1. Strided
    convolutions are padded on both sides. Dropout is 0.001 by default.
    """
    return _mobilenet_class()(n_bands, n_classes, n_filters, _DROPOUT if dropout is None else dropout)


@cache
def _mobilenet_v2_class():
    mobilenet = require("torchvision.models.mobilenetv2", extra="train")
    nn = require("torch.nn", extra="train")

    class MobileNetV2(Pooled, mobilenet.MobileNetV2):
        """torchvision's MobileNetV2; weights have torchvision's names, ``features`` gives its last feature maps."""

        first = "features.0.0"

        def __init__(self, n_bands, n_classes, n_filters, dropout):
            super().__init__(num_classes=n_classes, width_mult=n_filters / 32, dropout=dropout)
            self.n_bands = n_bands
            theirs = self.features[0][0]
            first = first_convolution(n_bands, theirs.out_channels, 3)
            if first.in_channels == 3:
                first.weight = theirs.weight
            else:
                nn.init.kaiming_normal_(first.weight, mode="fan_out")
            self.features[0][0] = first

        def head(self):
            """Dropout and last layer, which torchvision keeps together."""
            return tuple(self.classifier)

    return MobileNetV2


def build_mobilenet_v2(n_bands, n_classes, shape, n_filters, dropout):
    """
    torchvision's MobileNetV2 (Sandler et al. 2018, CVPR, table 2), parameter by parameter, with one or three bands.

    torchvision rounds the number of filters (32 as published) to multiples of 8. Dropout is 0.2 by default.
    """
    return _mobilenet_v2_class()(n_bands, n_classes, n_filters, _DROPOUT_V2 if dropout is None else dropout)
