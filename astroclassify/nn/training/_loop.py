"""The training loop: augmentation, optimiser, running mean of the weights, early stopping, best weights kept."""

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score
from tqdm import tqdm

from astroclassify import batch
from astroclassify._checks import first_line, require

from ._augment import augment
from ._optimizers import Schedule, make_optimizer

__all__ = ["Settings", "choose_device", "cross_entropy", "macro_f1", "train"]

log = logging.getLogger(__name__)

# Images on which statistics are measured: enough also for a normalisation that sees one number per image.
_STATISTICS = 256


@dataclass(frozen=True)
class Settings:
    """How to train; see `~astroclassify.nn.CutoutClassifier` for the meaning of each."""

    epochs: int = 30
    iterations: int | None = None
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    momentum: float | None = None
    weight_decay: float = 0.01
    schedule: str = "one-cycle"
    decay: float = 0.0
    plateau_patience: int = 10
    plateau_factor: float = 0.5
    least_rate: float = 0.0
    mean_epochs: float = 2
    patience: int | None = 10
    monitor: str = "loss"
    augmentation: tuple = ()
    counts: tuple = (True,)
    frozen: tuple = ()
    thaw_epoch: int | None = None
    device: str = "auto"
    verbose: bool = False


def choose_device(name):
    """The torch device: ``"auto"`` is a GPU (CUDA) if there is one, else the CPU; ValueError if there is none such."""
    torch = require("torch", extra="train")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        text = first_line(error)
        raise ValueError(f"device must be 'auto' or a device that torch finds, got {name!r}: {text}") from None
    return device


def cross_entropy(logits, targets):
    """
    Sum over images of the cross-entropy, and sum of weights: their ratio is the loss.

    ``targets`` (n, n_classes): probability of each class in the label times the weights of class and image.
    """
    return -(targets * logits.log_softmax(dim=1)).sum(), targets.sum()


def macro_f1(logits, labels):
    """Mean over classes of F1, from logits and labels (n, n_classes); absent classes count as 0."""
    return float(f1_score(labels.argmax(axis=1), logits.argmax(axis=1), average="macro", zero_division=0))


def _batches(n, batch_size, rng):
    """Random order in batches of nearly equal size: a last batch of one image would break batch normalisation."""
    return np.array_split(rng.permutation(n), max(1, -(-n // batch_size)))


def _memory_format(torch, network):
    """
    Channels last where it is safe: all numbers of filters multiples of 16.

    In torch 2.14.1 (oneDNN, x86, several threads) the gradient of a strided 1x1 convolution writes outside its memory
    for 8, 10 and 12 input channels (never seen with 16, 24, 64).
    """
    filters = [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    return torch.channels_last if all(n % 16 == 0 for n in filters) else torch.contiguous_format


@contextmanager
def _repeatable(torch):
    """Only algorithms of cuDNN that give the same sums each time; torch's choice is put back afterwards."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _better(entry, best, monitor):
    if best is None:
        return True
    if monitor == "f1":
        return (entry["validation_f1"], -entry["validation_loss"]) > (best["validation_f1"], -best["validation_loss"])
    return entry["validation_loss"] < best["validation_loss"]


class _Frozen:
    """The part of a network that does not learn: parameters, and the statistics of batch normalisation."""

    def __init__(self, network, prefixes):
        self.network, self.prefixes = network, tuple(prefixes)
        names = [name for name, _ in network.named_parameters()]
        for prefix in self.prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(f"frozen must name beginnings of parameter names such as {names[:3]}, got {prefix!r}")
        if self.prefixes and all(name.startswith(self.prefixes) for name in names):
            raise ValueError(f"frozen must leave something to train, got {self.prefixes}")

    def apply(self, frozen):
        """Put the network in training mode, its frozen part excepted."""
        self.network.train()
        if not self.prefixes:
            return
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not (frozen and name.startswith(self.prefixes)))
        for name, module in self.network.named_modules():
            if frozen and hasattr(module, "running_mean") and f"{name}.weight".startswith(self.prefixes):
                module.eval()


class _Trainer:
    """One training: network, data, and all that changes from step to step."""

    def __init__(self, network, counts, targets, *, rule, validation, settings, seed, loss, score):
        self.torch = require("torch", extra="train")
        self.network, self.counts, self.targets, self.rule = network, counts, targets, rule
        self.validation, self.settings, self.seed, self.loss, self.score = validation, settings, seed, loss, score
        self.device = choose_device(settings.device)
        self.format = _memory_format(self.torch, network)
        network.to(device=self.device, memory_format=self.format)
        self.frozen = _Frozen(network, settings.frozen)
        self.steps_per_epoch = len(_batches(len(counts), settings.batch_size, np.random.default_rng(0)))
        self.n_steps = settings.iterations or settings.epochs * self.steps_per_epoch
        self.n_epochs = math.ceil(self.n_steps / self.steps_per_epoch)
        self.optimizer = make_optimizer(
            settings.optimizer, network.parameters(), learning_rate=settings.learning_rate, momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )  # fmt: skip
        self.schedule = Schedule(
            settings.schedule, settings.learning_rate, self.n_steps, decay=settings.decay,
            patience=settings.plateau_patience, factor=settings.plateau_factor, least=settings.least_rate,
        )  # fmt: skip
        self.mean = self._running_mean()
        self.step, self.history, self.best, self.kept, self.finished = 0, [], None, None, False

    def _running_mean(self):
        """Exponential running mean of weights and statistics (single epochs of a small sample are noisy), or None."""
        if not self.settings.mean_epochs:
            return None
        swa = self.torch.optim.swa_utils
        memory = max(2, self.settings.mean_epochs * self.steps_per_epoch)
        return swa.AveragedModel(self.network, multi_avg_fn=swa.get_ema_multi_avg_fn(1 - 1 / memory), use_buffers=True)

    @property
    def evaluated(self):
        """The network that is evaluated and kept."""
        return self.network if self.mean is None else self.mean.module

    def _tensor(self, array):
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _input(self, pixels):
        return self._tensor(pixels).to(memory_format=self.format)

    def _prepare(self, rows, epoch, index):
        """Counts of a batch, changed at random and preprocessed; its own generator makes it the same in any thread."""
        counts = self.counts[rows]
        if self.settings.augmentation:
            rng = batch.derive_rng(self.seed, "augmentation", epoch, index)
            counts = augment(counts, rng, names=self.settings.augmentation, counts=self.settings.counts)
        return self.rule(counts)

    def _prepared(self, epoch):
        """Batches of an epoch; a thread prepares the next one while the network learns from this one."""
        rng = batch.derive_rng(self.seed, "order", epoch)
        parts = _batches(len(self.counts), self.settings.batch_size, rng)[: self.n_steps - self.step]
        with ThreadPoolExecutor(1) as thread:
            jobs = [thread.submit(self._prepare, parts[0], epoch, 0)]
            for index, rows in enumerate(parts):
                if index + 1 < len(parts):
                    jobs.append(thread.submit(self._prepare, parts[index + 1], epoch, index + 1))
                yield jobs.pop(0).result(), rows

    def _learn(self, epoch):
        """One pass over the training set; returns the mean loss."""
        self.frozen.apply(self.settings.thaw_epoch is None or epoch <= self.settings.thaw_epoch)
        self.torch.manual_seed(int(batch.derive_rng(self.seed, "dropout", epoch).integers(2**63)))
        sums = []
        for pixels, rows in self._prepared(epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.rate_of(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            logits = self.network(self._input(pixels))
            total, weight = self.loss(logits, self._tensor(self.targets[rows]))
            (total / weight.clamp_min(1e-30)).backward()
            self.optimizer.step()
            self.step += 1
            if self.mean is not None:
                self.mean.update_parameters(self.network)
            sums.append(self.torch.stack([total.detach(), weight.detach()]).double())
        total, weight = self.torch.stack(sums).sum(dim=0).tolist()  # once an epoch: a GPU need not wait in each step
        return total / max(weight, 1e-30)

    def _renew_statistics(self):
        """
        Measure the statistics of batch normalisation again in the mean network, on some unchanged training images.

        Means of statistics are not the statistics of mean weights (Izmailov et al. 2018, UAI, section 3.2).
        """
        network = self.mean.module.eval()
        norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, self.torch.nn.modules.batchnorm._BatchNorm)
            and module.track_running_stats
            and not (self.frozen.prefixes and f"{name}.weight".startswith(self.frozen.prefixes))
        ]
        if not norms or len(self.counts) < 2:
            return
        momenta = [module.momentum for module in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # plain means over the batches
            module.train()
        rng = batch.derive_rng(self.seed, "statistics", len(self.history))
        rows = rng.permutation(len(self.counts))[:_STATISTICS]
        with self.torch.no_grad():
            for part in np.array_split(rows, max(1, len(rows) // max(2, self.settings.batch_size))):
                network(self._input(self.rule(self.counts[np.sort(part)])))
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        network.eval()

    def _evaluate(self):
        """Loss and score on the validation set, in evaluation mode."""
        counts, targets, labels = self.validation
        network = self.evaluated.eval()
        size = self.settings.batch_size
        with self.torch.no_grad():
            parts = (self.rule(counts[start : start + size]) for start in range(0, len(counts), size))
            logits = self.torch.cat([network(self._input(pixels)).float().cpu() for pixels in parts])
            total, weight = self.loss(logits, self.torch.from_numpy(targets))
        return float(total / weight.clamp_min(1e-30)), self.score(logits.numpy(), labels)

    def _epoch(self):
        settings, epoch, start = self.settings, len(self.history) + 1, time.perf_counter()
        entry = {"epoch": epoch, "learning_rate": self.schedule.rate_of(self.step), "loss": self._learn(epoch)}
        if not np.isfinite(entry["loss"]):
            raise ValueError(f"learning_rate {settings.learning_rate} is too large: the loss became {entry['loss']}")
        if self.mean is not None:
            self._renew_statistics()
        if self.validation is not None:
            entry["validation_loss"], entry["validation_f1"] = self._evaluate()
            if _better(entry, self.best, settings.monitor):
                self.best = entry
                self.kept = {name: tensor.detach().clone() for name, tensor in self.evaluated.state_dict().items()}
        self.schedule.end_epoch(entry.get("validation_loss", entry["loss"]))
        entry["seconds"] = time.perf_counter() - start
        self.history.append(entry)
        log.info("epoch %d/%d: %s", epoch, self.n_epochs, entry)
        self.finished = self.step >= self.n_steps
        if self.best is not None and settings.patience is not None and epoch - self.best["epoch"] >= settings.patience:
            log.info("stopped: no better epoch since %d", self.best["epoch"])
            self.finished = True
        return entry

    def run(self, checkpoint):
        """Train from the start or from the checkpoint to the end; returns the history."""
        if checkpoint is not None:
            checkpoint.restore(self)
        with tqdm(
            total=self.n_epochs, initial=len(self.history), desc="training", unit="epoch",
            disable=not self.settings.verbose,
        ) as bar:  # fmt: skip
            while not self.finished:
                entry = self._epoch()
                if checkpoint is not None:
                    checkpoint.save(self, now=self.finished)
                bar.set_postfix({key: f"{value:.3f}" for key, value in entry.items() if "loss" in key or "f1" in key})
                bar.update()
        self.network.load_state_dict(self.evaluated.state_dict() if self.kept is None else self.kept)
        self.network.requires_grad_(True)
        self.network.eval()
        chosen = (self.best or self.history[-1])["epoch"]
        return [entry | ({"best": True} if entry["epoch"] == chosen else {}) for entry in self.history]


def train(network, counts, targets, *, checkpoint=None, validation=None, loss=cross_entropy, score=macro_f1, **rest):
    """
    Train a network in place, leave its best weights in it, and return the history: one dict per epoch.

    ``counts`` (n, n_planes, ny, nx) are augmented, then preprocessed by ``rule``; ``targets`` (n, ...) are those of
    ``loss``. ``validation`` is (counts, targets, labels for ``score``); without it the last epoch is kept. Each epoch
    has seeds of its own, so that a resumed training equals an uninterrupted one; torch's own generators do not change.
    """
    trainer = _Trainer(network, counts, targets, validation=validation, loss=loss, score=score, **rest)
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    with trainer.torch.random.fork_rng(devices=devices), _repeatable(trainer.torch):
        return trainer.run(checkpoint)
