"""ResNet-18, the network of Su et al. 2020."""

from functools import cache

from astroclassify._checks import require

from ._layers import Pooled, first_convolution, kaiming_start

__all__ = ["build_resnet18"]


@cache
def _resnet_class():
    torch = require("torch", extra="train")
    resnet = require("torchvision.models.resnet", extra="train")
    nn = torch.nn

    class ResNet18(Pooled, resnet.ResNet):
        """ResNet-18 of torchvision with ``n_filters`` filters in its first stage; weights have torchvision's names."""

        def __init__(self, n_bands, n_classes, n_filters, dropout):
            nn.Module.__init__(self)
            self.n_bands = n_bands
            self._norm_layer = nn.BatchNorm2d
            self.inplanes, self.dilation, self.groups, self.base_width = n_filters, 1, 1, 64
            self.conv1 = first_convolution(n_bands, n_filters, 7)
            self.bn1 = nn.BatchNorm2d(n_filters)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = self._make_layer(resnet.BasicBlock, n_filters, 2)
            self.layer2 = self._make_layer(resnet.BasicBlock, 2 * n_filters, 2, stride=2)
            self.layer3 = self._make_layer(resnet.BasicBlock, 4 * n_filters, 2, stride=2)
            self.layer4 = self._make_layer(resnet.BasicBlock, 8 * n_filters, 2, stride=2)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.dropout = nn.Dropout(dropout) if dropout else None
            self.fc = nn.Linear(8 * n_filters, n_classes)
            kaiming_start(self)

        def features(self, images):
            """Last feature maps, ``(n, 8 n_filters, ny/32, nx/32)``."""
            maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
            return self.layer4(self.layer3(self.layer2(self.layer1(maps))))

    return ResNet18


def build_resnet18(n_bands, n_classes, shape, n_filters, dropout):
    """
    ResNet-18: torchvision's, parameter by parameter, with 64 filters in the first stage; for images from 32 pixels.

    He et al. 2016, CVPR, table 1 and section 4.1; Su et al. 2020, MNRAS 498, 5620, section 3. No dropout as published.
    """
    return _resnet_class()(n_bands, n_classes, n_filters, dropout)
