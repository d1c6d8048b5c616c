"""Optimisers, and the learning rate of each step: one-cycle, and the rules of Keras that Kosiba et al. used."""

import math
from dataclasses import dataclass

from .._checks import require

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

    References
    ----------
    Smith & Topin 2018, arXiv:1708.07120 (the idea).

    Examples
    --------
    >>> from astroclassify.nn._optimizers import one_cycle
    >>> [round(one_cycle(step, 100), 3) for step in (0, 25, 100)]
    [0.04, 1.0, 0.0]
    """
    rise = max(1.0, n_steps / 4)
    if step < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, n_steps - rise))) / 2


def time_decay(step, decay):
    """
    Fraction of the learning rate that is left at a step: ``1 / (1 + decay * step)``.

    The argument ``decay`` of the optimisers of Keras 2 means this; the step counts batches, not epochs.

    Parameters
    ----------
    step : int
        The step, from 0.
    decay : float
        Decay per step.

    Returns
    -------
    float
        The fraction.

    Examples
    --------
    >>> from astroclassify.nn._optimizers import time_decay
    >>> round(1e-4 * time_decay(153_000, 1e-6), 10)
    8.67303e-05
    """
    return 1 / (1 + decay * step)


@dataclass
class Schedule:
    """
    Learning rate of every step.

    Parameters
    ----------
    kind : str
        Key of `SCHEDULES`.
    rate : float
        The learning rate. A plateau lowers it.
    n_steps : int
        Number of all steps, for ``"one-cycle"``.
    decay : float
        See `time_decay`; acts on top of a plateau, as in Keras.
    patience, factor, least : int, float, float
        Plateau: after ``patience`` epochs without a validation loss that is lower by more than 1e-4, the rate is
        multiplied by ``factor`` but not brought below ``least``.
    best, wait : float, int
        State of the plateau.

    Notes
    -----
    ``"plateau"`` is Keras's ``ReduceLROnPlateau`` with its defaults: the rate before decay is what is lowered and
    bounded.

    Examples
    --------
    >>> from astroclassify.nn._optimizers import Schedule
    >>> schedule = Schedule("plateau", 1.0, 100, patience=1, factor=0.85, least=0.8)
    >>> for loss in (0.5, 0.6, 0.6):
    ...     schedule.end_epoch(loss)
    >>> schedule.rate_of(0)
    0.8
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
    """
    Make a torch optimiser.

    Parameters
    ----------
    name : str
        Key of `OPTIMIZERS`.
    parameters : iterable of `torch.nn.Parameter`
        What is trained.
    learning_rate : float
        Rate of the first step.
    momentum : float, optional
        Nesterov momentum of ``"sgd"`` (by default 0.9), rho of ``"adadelta"`` (0.95).
    weight_decay : float, optional
        Decoupled from the gradient in AdamW, added to it (as L2 penalty) in the others.

    Returns
    -------
    `torch.optim.Optimizer`
        The optimiser.
    """
    torch = require("torch", extra="train")
    settings = {"lr": learning_rate, "weight_decay": weight_decay}
    momentum = MOMENTUM.get(name) if momentum is None else momentum
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **settings)
    if name == "adadelta":
        return torch.optim.Adadelta(parameters, rho=momentum, eps=1e-7, **settings)
    return torch.optim.AdamW(parameters, **settings)
