"""Class maps of a torch network: exact where it has them, else weighted by gradients."""

import numpy as np

from astroclassify._checks import require
from astroclassify.exceptions import ModelError

from ..networks._export import network_outputs

__all__ = ["torch_maps"]

_CHUNK = 8


def _find_layer(torch, network, image):
    """Name of the last module whose output is maps of more than one cell."""
    last = []

    def hook(name):
        def note(module, inputs, output):
            if torch.is_tensor(output) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                last[:] = [name]

        return note

    leaves = ((name, module) for name, module in network.named_modules() if not list(module.children()))
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ModelError("this network has no activation map: none of its layers gives maps of more than one cell")
    return last[0]


def _gradient_maps(torch, network, layer, images, classes):
    """Logits, and maps of one class per image."""
    captured = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: captured.append(output))
    try:
        with torch.enable_grad():
            logits = network(images.requires_grad_())
            # Images do not see each other in evaluation mode, so the gradient of the sum is that of each.
            chosen = logits.gather(1, classes[:, None]).sum()
            features = captured[-1]
            (gradient,) = torch.autograd.grad(chosen, features)
    finally:
        handle.remove()
    return logits.detach(), (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1).detach()


def torch_maps(network, pixels, classes):
    """
    Logits (n, n_classes), maps of one class per image (n, my, mx), and the method: ``"exact"`` or ``"gradient"``.

    The network is in evaluation mode on the CPU; ``gradcam_layer`` names the layer whose output is weighted by
    gradients, by default the last that gives maps of more than one cell. See `CutoutClassifier.activation_map`.
    """
    torch = require("torch", extra="train")
    exact = callable(getattr(network, "maps", None)) or hasattr(network, "outputs")
    layer, logits, maps = None, [], []
    for start in range(0, len(pixels), _CHUNK):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _CHUNK], dtype=np.float32))
        wanted = torch.as_tensor([int(index) for index in classes[start : start + _CHUNK]])
        if exact:
            with torch.no_grad():
                outputs = network_outputs(network, images)
            exact = "class_maps" in outputs
        if exact:
            logits.append(outputs["logits"].numpy())
            maps.append(outputs["class_maps"][torch.arange(len(wanted)), wanted].numpy())
            continue
        layer = layer or getattr(network, "gradcam_layer", None) or _find_layer(torch, network, images[:1])
        parts = _gradient_maps(torch, network, layer, images, wanted)
        logits.append(parts[0].numpy())
        maps.append(parts[1].numpy())
    return np.concatenate(logits), np.concatenate(maps), "exact" if exact else "gradient"
