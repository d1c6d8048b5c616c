"""Numbers beside the image: a small perceptron on them adds to the logits of any network."""

from functools import cache

from astroclassify._checks import require

__all__ = ["add_columns"]

_HIDDEN = 16


@cache
def _class_with_columns(kind):
    """Subclass of a network's class whose last planes are numbers, one in all pixels of a plane."""

    class WithColumns(kind):
        def _images(self, planes):
            return planes[:, : self.n_image_planes]

        def _say(self, planes):
            return self.columns(planes[:, self.n_image_planes :, 0, 0])

        def forward(self, planes):
            return super().forward(self._images(planes)) + self._say(planes)

    def outputs(self, planes):
        found = kind.outputs(self, self._images(planes))
        return found | {"logits": found["logits"] + self._say(planes)}

    def maps(self, planes):
        logits, class_maps = kind.maps(self, self._images(planes))
        return logits + self._say(planes), class_maps

    def features(self, planes):  # it may get the images alone, from the methods of the network itself
        return kind.features(self, self._images(planes))

    if hasattr(kind, "outputs"):  # of which its maps are made
        WithColumns.outputs = outputs
    elif callable(getattr(kind, "maps", None)):
        WithColumns.maps = maps
    if callable(getattr(kind, "features", None)):
        WithColumns.features = features
    return WithColumns


def add_columns(network, n_image_planes, n_columns, n_classes):
    """
    Let a network take ``n_columns`` numbers, as planes after those of the image, in place.

    The logits are those of the image plus those of a perceptron with 16 hidden units on the numbers: what the numbers
    say does not depend on place, so that class maps stay exact (mean plus a constant, which the numbers change). Names
    of the network's parameters stay; those of the perceptron begin with ``columns``.
    """
    nn = require("torch.nn", extra="train")
    if hasattr(network, "columns"):
        raise ValueError("architecture gives a network with an attribute 'columns', which must be free")
    network.columns = nn.Sequential(nn.Linear(n_columns, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, n_classes))
    network.n_image_planes = n_image_planes
    network.__class__ = _class_with_columns(type(network))
    return network
