"""Do maps depend on what the network has learned? Weights are replaced by start values, from the last layer down."""

import copy
import warnings

import numpy as np
from astropy.table import QTable
from scipy.stats import spearmanr
from sklearn.base import clone

from astroclassify import batch
from astroclassify._checks import check_integer, require
from astroclassify.exceptions import AstroclassifyWarning
from astroclassify.tables import provenance, readable

from ..networks._build import architecture_name
from ._gradients import torch_maps
from ._maps import load_counts

__all__ = ["randomisation_check", "rank_correlation"]


def rank_correlation(first, second):
    """Spearman's rank correlation of two maps of one shape; 0 if one of the two is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second, axis=None).statistic)


def _own_tensors(module):
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _layers(torch, network, image):
    """Names of the modules with weights, last to run first, each with the normalisations that follow it."""
    modules, order = dict(network.named_modules()), []
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: order.append(name))
        for name, module in modules.items()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    layers, following = [], []
    for name in reversed(list(dict.fromkeys(order))):
        following.append(name)
        if any(parameter.ndim > 1 for parameter in modules[name].parameters(recurse=False)):
            layers.append((name or "(network)", following))
            following = []
    return layers + ([(following[0], following)] if following else [])


def _replace(torch, network, fresh, names):
    """Give the named modules of a network the values that they have in another."""
    with torch.no_grad():
        for name in names:
            source = dict(_own_tensors(fresh.get_submodule(name)))
            for key, tensor in _own_tensors(network.get_submodule(name)):
                tensor.copy_(source[key])


def randomisation_check(classifier, images, rng=None, *, n_draws=5):
    """
    Rank correlation of activation maps before and after the network's weights are replaced, layer by layer.

    Parameters
    ----------
    classifier : CutoutClassifier
        A fitted or loaded classifier.
    images : table, array or list of images
        As for ``CutoutClassifier.classify``; some tens are enough. All are held in memory; those that cannot be used
        are left out with a warning.
    rng : int or `~numpy.random.Generator`, optional
        Seed of the new weights; by default a fresh one. It is recorded in ``meta["seed"]``.
    n_draws : int, optional
        How often the weights are drawn.

    Returns
    -------
    `~astropy.table.QTable`
        A first row ``trained``, then one row per layer from the last one down: ``layer`` (it and all rows above are
        replaced), ``rank_correlation`` (Spearman, mean over images and draws), ``rank_correlation_std`` (over draws),
        ``rank_correlation_abs`` (mean of its absolute value). ``meta`` holds ``n_images``, ``n_draws``, ``n_cells``,
        ``method``, ``abs_by_chance`` (what the last column is for maps that have nothing in common).

    Raises
    ------
    ValueError
        If no image can be used, or ``n_draws`` is not a whole number from 1.
    MissingDependencyError
        If the extra ``train`` is not installed.
    ModelError
        If the network cannot be built anew.

    Notes
    -----
    Maps are of the class that the trained network predicts. New weights are start values of the architecture, the
    normalisations included. A map that does not change does not show what was learned; it may be an edge detector
    (Adebayo et al. 2018). The mean over draws is near zero once the last layer is random, since each map then has a
    random sign; the mean absolute value stays high while the feature maps below have a common pattern. Neighbouring
    cells are correlated, so its chance level is larger than ``abs_by_chance``, which is for independent cells.

    References
    ----------
    Adebayo et al. 2018, NeurIPS, "Sanity checks for saliency maps", section 3 (cascading randomisation).
    """
    n_draws = check_integer("n_draws", n_draws, 1)
    seed = batch.master_seed(rng)
    predictor = classifier._fitted()
    torch = require("torch", extra="train")
    network = classifier.build_network().eval()
    items, _ = predictor.items(images)
    _, counts, failed = load_counts(predictor, items)
    if not len(counts):
        raise ValueError(f"images must hold at least one that can be used, got {failed[0] if failed else 'none'}")
    if failed:
        text = f"{len(failed)} of {len(items)} images could not be used, the first is {failed[0]}"
        warnings.warn(text, AstroclassifyWarning, stacklevel=2)
    pixels = predictor.preprocessing(counts)
    classes = np.argmax(predictor.network.logits(pixels), axis=1)
    _, before, method = torch_maps(network, pixels, classes)
    layers = _layers(torch, network, torch.from_numpy(np.ascontiguousarray(pixels[:1], dtype=np.float32)))
    found = np.zeros((len(layers), n_draws, len(pixels)))
    for draw in range(n_draws):
        new_seed = int(batch.derive_rng(seed, "weights", draw).integers(2**31))
        fresh = clone(classifier).set_params(random_state=new_seed).build_network()
        changed = copy.deepcopy(network)
        for number, (_, names) in enumerate(layers):
            _replace(torch, changed, fresh, names)
            after = torch_maps(changed, pixels, classes)[1]
            found[number, draw] = [rank_correlation(*pair) for pair in zip(before, after, strict=True)]
    table = QTable({"layer": ["trained", *(name for name, _ in layers)]})
    table["rank_correlation"] = [1.0, *found.mean(axis=(1, 2))]
    table["rank_correlation_std"] = [0.0, *found.mean(axis=2).std(axis=1)]
    table["rank_correlation_abs"] = [1.0, *np.abs(found).mean(axis=(1, 2))]
    n_cells = before[0].size
    table.meta = provenance(
        model=str(getattr(classifier, "card_", {}).get("name", architecture_name(classifier.architecture))),
        method=method, n_images=len(pixels), n_draws=n_draws, n_cells=int(n_cells),
        abs_by_chance=float(np.sqrt(2 / (np.pi * max(n_cells - 1, 1)))), seed=seed,
    )  # fmt: skip
    return readable(table)
