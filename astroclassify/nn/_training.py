"""The training loop: augmentation, one-cycle AdamW, running mean of the weights, early stopping, best weights kept."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score
from tqdm import tqdm

from ..exceptions import require

__all__ = ["Settings", "augment_batch", "one_cycle", "train"]

log = logging.getLogger(__name__)

# The weights that are evaluated and kept are a running mean over about so many epochs: with the few steps of an epoch
# of a small sample, those of one epoch (and the statistics of batch normalisation) are too noisy to choose by.
_MEAN_EPOCHS = 2


@dataclass(frozen=True)
class Settings:
    """How to train; see `~astroclassify.nn.CutoutClassifier` for the meaning of each."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    monitor: str
    augment: bool
    device: str
    verbose: bool


def augment_batch(images, rng, *, max_shift):
    """
    Turn, mirror and shift images; each keeps exactly its pixel values, so counts and their Poisson noise stay.

    Parameters
    ----------
    images : `~numpy.ndarray`
        Shape (n, n_bands, ny, nx).
    rng : `~numpy.random.Generator`
        Source of the choices.
    max_shift : int
        Largest shift in pixels along each axis. What leaves at one edge comes back at the other.

    Returns
    -------
    `~numpy.ndarray`
        New array of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn._training import augment_batch
    >>> images = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> bool(augment_batch(images, np.random.default_rng(0), max_shift=1).sum() == images.sum())
    True
    """
    square = images.shape[2] == images.shape[3]
    turns = rng.integers(4, size=len(images)) if square else 2 * rng.integers(2, size=len(images))
    mirrors = rng.integers(2, size=len(images))
    shifts = rng.integers(-max_shift, max_shift + 1, size=(len(images), 2))
    out = np.empty_like(images)
    for i, image in enumerate(images):
        image = np.rot90(image, turns[i], axes=(1, 2))
        image = image[:, :, ::-1] if mirrors[i] else image
        out[i] = np.roll(image, tuple(shifts[i]), axis=(1, 2))
    return out


def one_cycle(step, n_steps):
    """
    Learning rate of a step as a fraction of the largest: a cosine up over the first quarter, then a cosine to zero.

    Parameters
    ----------
    step : int
        The step, from 0.
    n_steps : int
        Number of all steps.

    Returns
    -------
    float
        From 1/25 at the start, 1 after a quarter, 0 at the end.

    Examples
    --------
    >>> from astroclassify.nn._training import one_cycle
    >>> [round(one_cycle(step, 100), 3) for step in (0, 25, 100)]
    [0.04, 1.0, 0.0]
    """
    rise = max(1.0, n_steps / 4)
    if step < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, n_steps - rise))) / 2


def _batches(n, batch_size, rng):
    """Random order in batches of nearly equal size: a last batch of one image would break batch normalisation."""
    return np.array_split(rng.permutation(n), max(1, -(-n // batch_size)))


def _evaluate(torch, network, images, labels, weight, settings):
    """Weighted cross-entropy and macro-F1 in evaluation mode."""
    network.eval()
    logits = []
    with torch.no_grad():
        for start in range(0, len(images), settings.batch_size):
            batch = torch.from_numpy(images[start : start + settings.batch_size])
            logits.append(network(batch.to(settings.device)).float().cpu())
    logits = torch.cat(logits)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), weight=weight.cpu()).item()
    f1 = f1_score(labels, logits.argmax(1).numpy(), average="macro", zero_division=0)
    return loss, float(f1)


def _running_mean(torch, network, steps_per_epoch):
    """Network that follows another one as an exponential running mean of its weights and statistics."""
    swa = torch.optim.swa_utils
    memory = _MEAN_EPOCHS * steps_per_epoch
    return swa.AveragedModel(network, multi_avg_fn=swa.get_ema_multi_avg_fn(1 - 1 / max(2, memory)), use_buffers=True)


def _epoch(torch, network, mean, optimizer, scheduler, images, labels, weight, settings, rng):
    """One pass over the training set; returns the mean loss."""
    network.train()
    max_shift = min(images.shape[2:]) // 32
    total = 0.0
    for rows in _batches(len(images), settings.batch_size, rng):
        batch = images[rows]
        if settings.augment:
            batch = augment_batch(batch, rng, max_shift=max_shift)
        batch = torch.from_numpy(batch).to(settings.device)
        target = torch.from_numpy(labels[rows]).to(settings.device)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(batch), target, weight=weight)
        loss.backward()
        optimizer.step()
        scheduler.step()
        mean.update_parameters(network)
        total += loss.item() * len(rows)
    return total / len(images)


def _better(entry, best, monitor):
    if best is None:
        return True
    if monitor == "f1":
        return (entry["validation_f1"], -entry["validation_loss"]) > (best["validation_f1"], -best["validation_loss"])
    return entry["validation_loss"] < best["validation_loss"]


def _memory_format(torch, network):
    """
    Channels last where it is safe.

    It is faster for wide networks, but in torch 2.14.1 (oneDNN, x86, more than one thread) the gradient of a strided
    1x1 convolution writes outside its memory for fewer than 16 input channels: seen with 8, 10 and 12 channels and most
    batch sizes, never with 16, 24 or 64, never with contiguous tensors. Multiples of 16 throughout keep clear of it.
    """
    filters = [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    return torch.channels_last if all(n % 16 == 0 for n in filters) else torch.contiguous_format


def train(network, images, labels, *, class_weight, validation, settings, rng):
    """
    Train a network in place and leave its best weights in it.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network.
    images : `~numpy.ndarray`
        Preprocessed images, float32, shape (n, n_bands, ny, nx).
    labels : `~numpy.ndarray`
        Class indices, int64, shape (n,).
    class_weight : `~numpy.ndarray`
        Weight of each class in the loss.
    validation : tuple of `~numpy.ndarray` or None
        Images and labels on which to choose the epoch; without, the last epoch is kept.
    settings : Settings
        How to train.
    rng : `~numpy.random.Generator`
        Order of the images and augmentation.

    Returns
    -------
    list of dict
        One per epoch: ``epoch``, ``learning_rate``, ``loss``, ``validation_loss``, ``validation_f1``, ``seconds``,
        and ``best`` on the epoch whose weights were kept.

    Raises
    ------
    ValueError
        If the loss stops being a finite number.
    """
    torch = require("torch", extra="train")
    network.to(device=settings.device, memory_format=_memory_format(torch, network))
    weight = torch.tensor(class_weight, dtype=torch.float32, device=settings.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps_per_epoch = len(_batches(len(images), settings.batch_size, np.random.default_rng(0)))
    n_steps = settings.epochs * steps_per_epoch
    mean = _running_mean(torch, network, steps_per_epoch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, n_steps))
    history, best, kept = [], None, None
    with tqdm(total=settings.epochs, desc="training", unit="epoch", disable=not settings.verbose) as bar:
        for epoch in range(1, settings.epochs + 1):
            start = time.perf_counter()
            rate = scheduler.get_last_lr()[0]
            loss = _epoch(torch, network, mean, optimizer, scheduler, images, labels, weight, settings, rng)
            if not np.isfinite(loss):
                raise ValueError(f"learning_rate {settings.learning_rate} is too large: the loss became {loss}")
            entry = {"epoch": epoch, "learning_rate": rate, "loss": loss}
            if validation is not None:
                scores = _evaluate(torch, mean.module, *validation, weight, settings)
                entry["validation_loss"], entry["validation_f1"] = scores
                if _better(entry, best, settings.monitor):
                    best = entry
                    kept = {name: tensor.detach().clone() for name, tensor in mean.module.state_dict().items()}
            entry["seconds"] = time.perf_counter() - start
            history.append(entry)
            log.info("epoch %d/%d: %s", epoch, settings.epochs, entry)
            bar.set_postfix({key: f"{value:.3f}" for key, value in entry.items() if "loss" in key or "f1" in key})
            bar.update()
            if best is not None and settings.patience is not None and epoch - best["epoch"] >= settings.patience:
                log.info("stopped: no better epoch since %d", best["epoch"])
                break
    network.load_state_dict(mean.module.state_dict() if kept is None else kept)
    (best or history[-1])["best"] = True
    network.eval()
    return history
