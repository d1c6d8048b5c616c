"""Optimisers, and the learning rate of each step: one-cycle, and the rules of Keras that Kosiba et al. used."""

import math
from dataclasses import dataclass

from astroclassify._checks import require

__all__ = ["MOMENTUM", "OPTIMIZERS", "SCHEDULES", "Schedule", "make_optimizer", "one_cycle", "time_decay"]

OPTIMIZERS = {
    "adamw": "AdamW (Loshchilov & Hutter 2019), torch's defaults",
    "sgd": "stochastic gradient descent with Nesterov momentum",
    "adadelta": "Adadelta (Zeiler 2012) with Keras's epsilon of 1e-7",
}
SCHEDULES = {
    "one-cycle": "a cosine from 1/25 up to the learning rate over the first quarter, then a cosine to zero",
    "plateau": "the learning rate, lowered when the validation loss has not fallen for some epochs",
    "constant": "the learning rate",
}
# Both as Kosiba et al. (2020, MNRAS 496, 4141) print them: Nesterov momentum 0.90 of CN, rho 0.95 of MN.
MOMENTUM = {"sgd": 0.9, "adadelta": 0.95}
# What Keras's ReduceLROnPlateau takes for a better loss by default.
_LEAST_CHANGE = 1e-4


def one_cycle(step, n_steps):
    """Fraction of the largest rate: a cosine from 1/25 to 1 over a quarter, then to 0 (Smith & Topin 2018)."""
    rise = max(1.0, n_steps / 4)
    if step < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, n_steps - rise))) / 2


def time_decay(step, decay):
    """Fraction of the rate left at a step (counted in batches): the argument ``decay`` of the optimisers of Keras 2."""
    return 1 / (1 + decay * step)


@dataclass
class Schedule:
    """
    Learning rate of every step; ``kind`` is a key of `SCHEDULES`.

    ``"plateau"`` is Keras's ``ReduceLROnPlateau``: after ``patience`` epochs without a validation loss lower by more
    than 1e-4, the rate (before decay) is multiplied by ``factor``, not below ``least``.
    """

    kind: str
    rate: float
    n_steps: int
    decay: float = 0.0
    patience: int = 10
    factor: float = 0.5
    least: float = 0.0
    best: float | None = None
    wait: int = 0

    def rate_of(self, step):
        """Learning rate of a step."""
        if self.kind == "one-cycle":
            return self.rate * one_cycle(step, self.n_steps)
        return self.rate * time_decay(step, self.decay)

    def end_epoch(self, loss):
        """Take the loss of an epoch into account."""
        if self.kind != "plateau":
            return
        if self.best is None or loss < self.best - _LEAST_CHANGE:
            self.best, self.wait = loss, 0
            return
        self.wait += 1
        if self.wait >= self.patience and self.rate > self.least:
            self.rate = max(self.rate * self.factor, self.least)
            self.wait = 0

    def state(self):
        """State of the plateau, in plain types."""
        return {"rate": self.rate, "best": self.best, "wait": self.wait}

    def restore(self, state):
        """Go back to a state."""
        self.rate = float(state["rate"])
        self.best = None if state["best"] is None else float(state["best"])
        self.wait = int(state["wait"])


def make_optimizer(name, parameters, *, learning_rate, momentum=None, weight_decay=0.0):
    """A torch optimiser by a key of `OPTIMIZERS`; ``momentum`` is Nesterov momentum of SGD, rho of Adadelta."""
    torch = require("torch", extra="train")
    settings = {"lr": learning_rate, "weight_decay": weight_decay}
    momentum = MOMENTUM.get(name) if momentum is None else momentum
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **settings)
    if name == "adadelta":
        return torch.optim.Adadelta(parameters, rho=momentum, eps=1e-7, **settings)
    return torch.optim.AdamW(parameters, **settings)
