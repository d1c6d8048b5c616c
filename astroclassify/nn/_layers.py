"""Pieces that several networks share. Torch is imported inside: only training needs it."""

import copy
from functools import cache

from .._checks import require

__all__ = ["Pooled", "band_conv_class"]


@cache
def band_conv_class():
    """
    Class of a first convolution that takes one band as if it came as three equal channels.

    Returns
    -------
    type
        Subclass of `torch.nn.Conv2d`.

    Notes
    -----
    By linearity ``sum_c W_c * x = (sum_c W_c) * x``. The parameter stays the three-channel weight and is summed in
    each forward pass, so start values, gradients (the same for each channel), weight decay and every optimiser step
    are those of a three-channel network on a repeated image, at a third of the arithmetic.
    """
    nn = require("torch.nn", extra="train")

    class BandConv2d(nn.Conv2d):
        def forward(self, images):
            weight = self.weight
            if images.shape[1] == 1 and self.in_channels == 3:
                weight = weight.sum(dim=1, keepdim=True)
            return self._conv_forward(images, weight, self.bias)

    return BandConv2d


class Pooled:
    """
    What networks have in common that end with mean pooling and one linear layer; to be inherited before torch's class.

    They have ``n_bands``, and ``features(images)`` that gives their last feature maps, shape (n, k, my, mx).

    References
    ----------
    Zhou et al. 2016, CVPR, "Learning deep features for discriminative localization", section 2 (class maps).
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
        """
        All outputs in one pass, in evaluation.

        Parameters
        ----------
        images : `torch.Tensor`
            Preprocessed images, shape (n, n_bands, ny, nx).

        Returns
        -------
        dict
            ``logits`` (n, n_classes); ``class_maps`` (n, n_classes, my, mx), ``sum_k w_k^c f_k(x, y)``, whose mean plus
            the bias is the logit; ``features`` (n, k), the pooled ones.
        """
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
        """
        Copy for inference on one band: its first convolution gets the summed weight.

        Returns
        -------
        `torch.nn.Module`
            The copy; for another number of bands, an exact copy.
        """
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
