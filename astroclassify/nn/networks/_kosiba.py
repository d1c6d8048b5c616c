"""The custom network of Kosiba et al. 2020."""

from collections import OrderedDict
from functools import cache

from astroclassify._checks import require

__all__ = ["build_kosiba2020"]

_N_CONVOLUTIONS = 6
_DROPOUT = 0.65


@cache
def _kosiba_class():
    torch = require("torch", extra="train")
    nn = torch.nn

    class Kosiba2020(nn.Module):
        """Six convolutions with max pooling and two dense layers."""

        # After the activation of the last convolution, before its pooling: 12 x 12 cells of a 356-pixel image.
        gradcam_layer = "block6.activation"

        def __init__(self, n_bands, n_classes, shape, n_filters, dropout):
            super().__init__()
            channels, (ny, nx) = n_bands, shape
            for number in range(1, _N_CONVOLUTIONS + 1):
                filters = n_filters if number == 1 else max(1, n_filters // 2)
                layers = {
                    "convolution": nn.Conv2d(channels, filters, kernel_size=3, padding="same"),
                    "activation": nn.ReLU(),
                    "pool": nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True),
                }
                self.add_module(f"block{number}", nn.Sequential(OrderedDict(layers)))
                channels, ny, nx = filters, -(-ny // 2), -(-nx // 2)
            self.dense1 = nn.Linear(channels * ny * nx, 4 * n_filters)
            self.dropout = nn.Dropout(dropout)
            self.dense2 = nn.Linear(4 * n_filters, n_classes)
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

        def features(self, images):
            """Activations of the first dense layer, ``(n, 4 n_filters)``."""
            maps = images
            for number in range(1, _N_CONVOLUTIONS + 1):
                maps = self.get_submodule(f"block{number}")(maps)
            return nn.functional.relu(self.dense1(torch.flatten(maps, 1)))

        def forward(self, images):
            return self.dense2(self.dropout(self.features(images)))

        def outputs(self, images):
            """All outputs in one pass."""
            features = self.features(images)
            return {"logits": self.dense2(features), "features": features}

    return Kosiba2020


def build_kosiba2020(n_bands, n_classes, shape, n_filters, dropout):
    """
    The custom network of Kosiba et al. (2020, MNRAS 496, 4141, table of its layers), for 356 x 356 pixels as published.

    The first convolution has ``n_filters`` (64), the others half as many, the dense layer four times; dropout is 0.65.
    The printed input has three channels, one of them empty, which adds nothing to a convolution: 352,930 parameters
    with three channels (as printed), 352,354 with two bands, 351,778 with one. The start values (uniform as in Glorot &
    Bengio 2010, biases zero) are our choice.
    """
    return _kosiba_class()(n_bands, n_classes, shape, n_filters, _DROPOUT if dropout is None else dropout)
