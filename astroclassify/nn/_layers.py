"""Pieces that several networks share. Torch is imported inside: only training needs it."""

import copy
from functools import cache

from ..exceptions import require

__all__ = ["band_conv_class", "fold_first", "pooled_logits", "pooled_outputs"]


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


def fold_first(network, name):
    """
    Copy a network for inference on one band: its first convolution gets the summed weight.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network; left as it is. Its attribute ``n_bands`` says how many bands it is for.
    name : str
        Dotted name of its first convolution.

    Returns
    -------
    `torch.nn.Module`
        The copy; with another number of bands, an exact copy.
    """
    torch = require("torch", extra="train")
    folded = copy.deepcopy(network)
    first = network.get_submodule(name)
    if first.in_channels == 3 and network.n_bands == 1:
        settings = {"stride": first.stride, "padding": first.padding, "bias": first.bias is not None}
        summed = torch.nn.Conv2d(1, first.out_channels, first.kernel_size, **settings)
        with torch.no_grad():
            summed.weight.copy_(first.weight.sum(dim=1, keepdim=True))
            if first.bias is not None:
                summed.bias.copy_(first.bias)
        parent, _, leaf = name.rpartition(".")
        setattr(folded.get_submodule(parent), leaf, summed)
    return folded


def pooled_logits(maps, linear, dropout=None):
    """
    Logits of a network that ends with mean pooling and one linear layer.

    Parameters
    ----------
    maps : `torch.Tensor`
        Last feature maps, shape (n, k, my, mx).
    linear : `torch.nn.Linear`
        The last layer.
    dropout : callable, optional
        What is done to the pooled features in training.

    Returns
    -------
    `torch.Tensor`
        Shape (n, n_classes).
    """
    pooled = _pool(maps)
    return linear(pooled if dropout is None else dropout(pooled))


def pooled_outputs(maps, linear):
    """
    All outputs of such a network in evaluation.

    Parameters
    ----------
    maps : `torch.Tensor`
        Last feature maps, shape (n, k, my, mx).
    linear : `torch.nn.Linear`
        The last layer.

    Returns
    -------
    dict
        ``logits`` (n, n_classes); ``class_maps`` (n, n_classes, my, mx), ``sum_k w_k^c f_k(x, y)``, whose mean plus the
        bias is the logit; ``features`` (n, k), the pooled ones.

    References
    ----------
    Zhou et al. 2016, CVPR, "Learning deep features for discriminative localization", section 2.
    """
    functional = require("torch.nn.functional", extra="train")
    pooled = _pool(maps)
    class_maps = functional.conv2d(maps, linear.weight[:, :, None, None])
    return {"logits": linear(pooled), "class_maps": class_maps, "features": pooled}


def _pool(maps):
    torch = require("torch", extra="train")
    return torch.flatten(torch.nn.functional.adaptive_avg_pool2d(maps, (1, 1)), 1)
