"""ResNet-18, the network of Su et al. 2020."""

from functools import cache

from .._checks import require
from ._layers import Pooled, band_conv_class

__all__ = ["build_resnet18"]


@cache
def _resnet_class():
    torch = require("torch", extra="train")
    resnet = require("torchvision.models.resnet", extra="train")
    nn = torch.nn

    class ResNet18(Pooled, resnet.ResNet):
        """ResNet-18 of torchvision with ``width`` filters in its first stage; weights have torchvision's names."""

        def __init__(self, n_bands, n_classes, width, dropout):
            nn.Module.__init__(self)
            self.n_bands = n_bands
            self._norm_layer = nn.BatchNorm2d
            self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
            channels = 3 if n_bands == 1 else n_bands
            self.conv1 = band_conv_class()(channels, width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = self._make_layer(resnet.BasicBlock, width, 2)
            self.layer2 = self._make_layer(resnet.BasicBlock, 2 * width, 2, stride=2)
            self.layer3 = self._make_layer(resnet.BasicBlock, 4 * width, 2, stride=2)
            self.layer4 = self._make_layer(resnet.BasicBlock, 8 * width, 2, stride=2)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.dropout = nn.Dropout(dropout) if dropout else None
            self.fc = nn.Linear(8 * width, n_classes)
            # torchvision's start values, in torchvision's order.
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.constant_(module.weight, 1)
                    nn.init.constant_(module.bias, 0)

        def features(self, images):
            """Last feature maps, ``(n, 8 width, ny/32, nx/32)``."""
            maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
            return self.layer4(self.layer3(self.layer2(self.layer1(maps))))

    return ResNet18


def build_resnet18(n_bands, n_classes, shape, width, dropout):
    """
    Build ResNet-18.

    Parameters
    ----------
    n_bands, n_classes : int
        Number of bands and classes. One band is treated exactly as if it came as three equal channels.
    shape : tuple of int
        Image shape; any from 32 pixels.
    width : int
        Filters of the first stage, 64 as published.
    dropout : float or None
        Share of the pooled features that are dropped in training; as published, none.

    Returns
    -------
    `torch.nn.Module`
        The network: torchvision's, parameter by parameter, at width 64.

    References
    ----------
    He et al. 2016, CVPR, table 1 and section 4.1; Su et al. 2020, MNRAS 498, 5620, section 3.
    """
    return _resnet_class()(n_bands, n_classes, width, dropout)
