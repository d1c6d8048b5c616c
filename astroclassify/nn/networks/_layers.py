"""Pieces that several networks share. Torch is imported inside: only training needs it."""

import copy
from functools import cache

from astroclassify._checks import require

__all__ = ["Pooled", "first_convolution", "kaiming_start"]


@cache
def _band_conv_class():
    """
    Class of a first convolution that treats one band as three equal channels: sum_c W_c * x = (sum_c W_c) * x.

    The parameter stays the three-channel weight, so that training is that of a three-channel network on equal channels.
    """
    nn = require("torch.nn", extra="train")

    class BandConv2d(nn.Conv2d):
        def forward(self, images):
            weight = self.weight
            if images.shape[1] == 1 and self.in_channels == 3:
                weight = weight.sum(dim=1, keepdim=True)
            return self._conv_forward(images, weight, self.bias)

    return BandConv2d


def first_convolution(n_bands, n_filters, kernel_size):
    """Convolution of stride 2 on bands; a single band is treated exactly as if it came as three equal channels."""
    shape = {"kernel_size": kernel_size, "stride": 2, "padding": kernel_size // 2}
    return _band_conv_class()(3 if n_bands == 1 else n_bands, n_filters, **shape, bias=False)


def kaiming_start(network):
    """Give all convolutions the start values of torchvision's networks (He et al. 2015, ICCV), in order."""
    nn = require("torch.nn", extra="train")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Pooled:
    """
    Base of networks that end with mean pooling and one linear layer, to be inherited before torch's class.

    They have ``n_bands``, and ``features(images)`` gives their last feature maps, shape (n, k, my, mx).
    """

    #: Dotted name of the first convolution.
    first = "conv1"

    def head(self):
        """Dropout (None for none) and last layer."""
        return self.dropout, self.fc

    def forward(self, images):
        """Logits, shape (n, n_classes)."""
        dropout, linear = self.head()
        pooled = _pool(self.features(images))
        return linear(pooled if dropout is None else dropout(pooled))

    def outputs(self, images):
        """All outputs in one pass, in evaluation; class maps as in Zhou et al. (2016, CVPR, section 2)."""
        functional = require("torch.nn.functional", extra="train")
        maps, linear = self.features(images), self.head()[1]
        pooled = _pool(maps)
        class_maps = functional.conv2d(maps, linear.weight[:, :, None, None])
        return {"logits": linear(pooled), "class_maps": class_maps, "features": pooled}

    def maps(self, images):
        """Logits and exact class maps."""
        outputs = self.outputs(images)
        return outputs["logits"], outputs["class_maps"]

    def folded(self):
        """Copy for inference; for one band, its first convolution is a plain one with the summed weight."""
        torch = require("torch", extra="train")
        folded = copy.deepcopy(self)
        first = self.get_submodule(self.first)
        if first.in_channels == 3 and self.n_bands == 1:
            settings = {"stride": first.stride, "padding": first.padding, "bias": first.bias is not None}
            summed = torch.nn.Conv2d(1, first.out_channels, first.kernel_size, **settings)
            with torch.no_grad():
                summed.weight.copy_(first.weight.sum(dim=1, keepdim=True))
                if first.bias is not None:
                    summed.bias.copy_(first.bias)
            parent, _, leaf = self.first.rpartition(".")
            setattr(folded.get_submodule(parent), leaf, summed)
        return folded


def _pool(maps):
    torch = require("torch", extra="train")
    return torch.flatten(torch.nn.functional.adaptive_avg_pool2d(maps, (1, 1)), 1)
