"""A small network for cluster images: squeeze-excitation blocks, a feature pyramid, pooling in learned apertures."""

from functools import cache

from astroclassify._checks import require

from ._layers import kaiming_start

__all__ = ["build_attention"]

# Start radii (one standard deviation) of the apertures, in half sides of the image: on 1 Mpc 40, 100, 250 and 1000 kpc.
_APERTURES = (0.08, 0.2, 0.5, 2.0)
# Blocks on the grids of 1/4, 1/8, 1/16 and 1/32 of the image's pixels.
_BLOCKS = (2, 1, 1, 1)
_SQUEEZE = 4
# Start weights of the stem are larger than usual by this factor. Normalisation removes it from the output, but each
# step then changes the filters less; without it a running mean of the weights was useless for the first ten epochs.
_STEM_SCALE = 4.0


@cache
def _block_class():
    nn = require("torch.nn", extra="train")

    class Block(nn.Module):
        """Residual block of two 3x3 convolutions with squeeze-excitation."""

        def __init__(self, channels, filters):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.relu = nn.ReLU(inplace=True)
            # Linear layers, not 1x1 convolutions: their few filters would keep training from channels-last tensors.
            self.squeeze = nn.Linear(filters, max(4, filters // _SQUEEZE))
            self.excite = nn.Linear(max(4, filters // _SQUEEZE), filters)
            self.shortcut = None
            if channels != filters:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels, filters, kernel_size=1, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, maps):
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
            gates = self.excite(self.relu(self.squeeze(out.mean(dim=(2, 3))))).sigmoid()
            shortcut = maps if self.shortcut is None else self.shortcut(maps)
            return self.relu(out * gates[:, :, None, None] + shortcut)

    return Block


@cache
def _attention_class():
    torch = require("torch", extra="train")
    nn = torch.nn

    class AttentionNet(nn.Module):
        """See `build_attention`."""

        def __init__(self, n_bands, n_classes, shape, n_filters, dropout):
            super().__init__()
            block, filters = _block_class(), [n_filters * 2**level for level in range(len(_BLOCKS))]
            self.grids = [tuple(side // (4 * 2**level) for side in shape) for level in range(len(_BLOCKS))]
            self.stem = nn.Sequential(
                nn.Conv2d(n_bands, n_filters, kernel_size=6, stride=2, padding=2, bias=False),
                nn.BatchNorm2d(n_filters),
                nn.ReLU(inplace=True),
            )
            self.pool = nn.Sequential(nn.MaxPool2d(kernel_size=3, stride=1, padding=1), nn.AvgPool2d(2))
            self.stages, self.laterals = nn.ModuleList(), nn.ModuleList()
            channels, depth = n_filters, 2 * n_filters
            for n_blocks, count in zip(_BLOCKS, filters, strict=True):
                blocks = [block(channels if i == 0 else count, count) for i in range(n_blocks)]
                self.stages.append(nn.Sequential(*blocks))
                self.laterals.append(nn.Conv2d(count, depth, kernel_size=1, bias=False))
                channels = count
            self.merge = nn.Sequential(nn.BatchNorm2d(depth), nn.ReLU(inplace=True))
            # Attention starts as the plain apertures: no say of the image, no change of the radii.
            self.score = nn.Parameter(torch.zeros(len(_APERTURES), depth))
            self.log_scale = nn.Parameter(torch.zeros(len(_APERTURES)))
            self.register_buffer("start", _exponents(torch, shape), persistent=False)
            self.dropout = nn.Dropout(dropout) if dropout else None
            self.norm = nn.BatchNorm1d(len(_APERTURES) * depth)
            self.fc = nn.Linear(len(_APERTURES) * depth, n_classes)
            kaiming_start(self)
            with torch.no_grad():
                self.stem[0].weight.mul_(_STEM_SCALE)

        def pyramid(self, images):
            """Feature maps of all scales on the finest grid, ``(n, 2 n_filters, ny/4, nx/4)``."""
            maps, levels = self.stem(images), []
            for stage in self.stages:
                maps = stage(self.pool(maps))
                levels.append(maps)
            merged = self.laterals[-1](levels[-1])
            for level in reversed(range(len(levels) - 1)):
                finer = nn.functional.interpolate(merged, size=self.grids[level], mode="bilinear")
                merged = finer + self.laterals[level](levels[level])
            return self.merge(merged)

        def _attend(self, images):
            """Features at each position ``(n, 2 n_filters, m)`` and their weights in each aperture ``(n, 4, m)``."""
            flat = torch.flatten(self.pyramid(images), 2)
            scores = self.score @ flat + self.start * torch.exp(-2 * self.log_scale)[:, None]
            return flat, torch.softmax(scores, dim=2)

        def _pooled(self, images):
            flat, weights = self._attend(images)
            return flat, weights, self.norm(torch.flatten(weights @ flat.transpose(1, 2), 1))

        def features(self, images):
            """Means of the features in the apertures, normalised, ``(n, 8 n_filters)``."""
            return self._pooled(images)[2]

        def forward(self, images):
            pooled = self.features(images)
            return self.fc(pooled if self.dropout is None else self.dropout(pooled))

        def outputs(self, images):
            """All outputs in one pass."""
            flat, weights, pooled = self._pooled(images)
            n_classes, (n_apertures, m) = self.fc.out_features, self.start.shape
            per_mean = self.fc.weight * (self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps))
            parts = per_mean.reshape(n_classes * n_apertures, -1) @ flat
            parts = parts.reshape(-1, n_classes, n_apertures, m) * weights[:, None]
            class_maps = m * parts.sum(dim=2).reshape(-1, n_classes, *self.grids[0])
            return {"logits": self.fc(pooled), "class_maps": class_maps, "features": pooled}

        def maps(self, images):
            """Logits, and class maps whose mean plus a constant is the logit (in evaluation)."""
            outputs = self.outputs(images)
            return outputs["logits"], outputs["class_maps"]

    return AttentionNet


def _exponents(torch, shape):
    """Logarithm of each aperture at each cell of the finest grid, ``-(r / radius)^2 / 2``, shape (n_apertures, m)."""
    y, x = ((torch.arange(side // 4) + 0.5) * 4 - side / 2 for side in shape)
    radius2 = (y[:, None] ** 2 + x[None, :] ** 2).flatten() / (min(shape) / 2) ** 2
    return -0.5 * radius2[None, :] / torch.tensor(_APERTURES)[:, None] ** 2


def build_attention(n_bands, n_classes, shape, n_filters, dropout):
    """
    The attention network, for images from 32 pixels. Its class maps are exact and have cells of 4 pixels.

    - A cool core shows at r < 40 kpc against the level of the whole cluster; ResNet-18 has cells of 125 kpc. Here maps
      of four scales are merged on cells of 4 pixels (16 kpc of 1 Mpc in 256 pixels; Lin et al. 2017, CVPR, feature
      pyramids), then averaged in four apertures. Weights are a softmax over position of a learned score of the features
      plus ``-(r / radius)^2 / 2``; training starts from the apertures alone (40, 100, 250 kpc and nearly flat, for
      1 Mpc). The average is linear in the features, so ``m sum_h a_h(x, y) sum_k w_hk^c f_k(x, y)`` is exact.
    - Features differ far more between centre and outskirts than between images: the means are normalised over images
      before the last layer. Squeeze-excitation (Hu et al. 2018, CVPR) gives each block the level of the whole image.
    - Subsampling would fold the pixel noise into large scales (Zhang 2019, ICML), and a core can be one bright pixel.
      Maps shrink by means of 2 x 2 cells of a running 3 x 3 maximum, the stem by a 6 x 6 convolution: even sizes are
      symmetric under turns and mirrors.
    """
    return _attention_class()(n_bands, n_classes, shape, n_filters, dropout)
