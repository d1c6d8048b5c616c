"""The network of profiles: two hidden layers on the rings about a cluster's peak, and what each ring says, exactly."""

from functools import cache

from astroclassify._checks import require

__all__ = ["build_profile"]

# Planes of rings, and after them those of one number.
_RING_PLANES = 3
# Standardised values beyond this are taken as this: no training image is there, and lines would go on for ever.
_FARTHEST = 3.5


@cache
def _profile_class():
    torch = require("torch", extra="train")
    nn = torch.nn

    class ProfileNet(nn.Module):
        """See `build_profile`."""

        def __init__(self, n_planes, n_classes, n_rings, n_filters, dropout):
            super().__init__()
            self.n_rings, self.n_numbers = n_rings, n_planes - _RING_PLANES
            self.norm = nn.BatchNorm1d(_RING_PLANES * n_rings + self.n_numbers, affine=False)
            self.hidden = nn.Linear(self.norm.num_features, n_filters)
            self.second = nn.Linear(n_filters, n_filters)
            self.dropout = nn.Dropout(dropout) if dropout else None
            self.fc = nn.Linear(n_filters, n_classes)

        def _values(self, images):
            """Values of the rings, plane after plane, and the other numbers, standardised: (n, n_values)."""
            rings = torch.flatten(images[:, :_RING_PLANES], 1)
            values = self.norm(torch.cat([rings, images[:, _RING_PLANES:, 0, 0]], dim=1))
            return values.clamp(-_FARTHEST, _FARTHEST)

        def _layers(self, values):
            first = self.hidden(values).relu()
            return first, self.second(first).relu()

        def features(self, images):
            """What the last layer gets, ``(n, n_filters)``."""
            return self._layers(self._values(images))[1]

        def forward(self, images):
            last = self.features(images)
            return self.fc(last if self.dropout is None else self.dropout(last))

        def outputs(self, images):
            """All outputs in one pass."""
            values = self._values(images)
            first, second = self._layers(values)
            # A network of rectifiers is linear where it is: its gradient, whose switches are the signs of its layers.
            gradient = (self.fc.weight * second.sign()[:, None, :]) @ self.second.weight
            gradient = (gradient * first.sign()[:, None, :]) @ self.hidden.weight
            parts = (gradient * values[:, None, :])[:, :, : _RING_PLANES * self.n_rings]
            parts = parts.reshape(-1, self.fc.out_features, _RING_PLANES, self.n_rings).sum(dim=2)
            return {"logits": self.fc(second), "class_maps": self.n_rings * parts[:, :, None, :], "features": second}

        def maps(self, images):
            """Logits, and the part of each ring in them, whose mean plus a number of the image is the logit."""
            outputs = self.outputs(images)
            return outputs["logits"], outputs["class_maps"]

    return ProfileNet


def build_profile(n_bands, n_classes, shape, n_filters, dropout):
    """
    The network of profiles, for images in rings (n, n_bands, 1, n_rings): the stretch "profile".

    - The cooling time of a core is set by its density, and that by the brightness of the innermost rings over what
      lies before and behind them, seen in the outer ones: a function of the profile (deprojection). Some thousand
      clusters teach it to a perceptron of two layers better than to a convolutional network, which has to find the
      peak, the rings and the noise first.
    - Planes are brightness, counts and exposure of the rings, then numbers of the whole image. The gradient is that of
      rectifiers: ``sum_k x_k dz / dx_k`` over the standardised values is the logit but for a number that depends on
      which rectifiers are on, and the part of each ring is exact.
    """
    return _profile_class()(n_bands, n_classes, shape[-1], n_filters, dropout)
