"""Run one function over many items: any executor, one outcome per item, results that do not depend on workers."""

import hashlib
import logging
import uuid
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

__all__ = ["Outcome", "derive_rng", "master_seed", "run"]

log = logging.getLogger(__name__)

# Enough tasks in flight to keep a cluster busy, few enough that pending results cannot fill the memory.
_IN_FLIGHT = 256
# How far the executor may run ahead of an item that takes long.
_AHEAD = 1024


@dataclass(frozen=True)
class Outcome:
    """What became of one item: ``value``, or ``error`` as one line of text."""

    key: str
    value: Any = None
    error: str | None = None


def master_seed(rng=None):
    """
    Turn a seed or a generator into the one integer from which items derive theirs.

    Parameters
    ----------
    rng : int or `~numpy.random.Generator`, optional
        A whole number from zero, or a generator (from which one number is drawn); by default a fresh seed.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    TypeError, ValueError
        If ``rng`` is neither.

    Examples
    --------
    >>> from astroclassify.batch import master_seed
    >>> master_seed(5)
    5
    """
    if rng is None:
        rng = np.random.default_rng()
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"rng must be a seed from 0 or a numpy Generator, got {rng}")
        return int(rng)
    raise TypeError(f"rng must be a seed from 0 or a numpy Generator, got {type(rng).__name__} {rng!r}")


def derive_rng(seed, *ids):
    """
    Random generator of one item, the same in every process and for any order of the items.

    Parameters
    ----------
    seed : int
        The master seed.
    *ids : str or int
        What names the item.

    Returns
    -------
    `~numpy.random.Generator`
        A generator of its own.

    Examples
    --------
    >>> from astroclassify.batch import derive_rng
    >>> bool(derive_rng(1, "a").random() == derive_rng(1, "a").random())
    True
    """
    # The built-in hash of a string differs between processes. Lengths keep ("ab", "c") apart from ("a", "bc").
    text = "".join(f"{len(str(part))}:{part}" for part in ids)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng([int(seed), int.from_bytes(digest, "big")])


def _one_line(error):
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def _call(function, key, item, run_id=None):
    try:
        return Outcome(key, value=function(item))
    except Exception as error:  # one item's failure becomes its row, never the end of the others
        log.warning("%s failed: %s", key, _one_line(error))
        log.debug("traceback of %s", key, exc_info=True)
        return Outcome(key, error=_one_line(error))


def run(function, items, *, keys, executor=None, progress=None, description="", n_before=0):
    """
    Apply a function to each item and yield the outcomes in the order of the items.

    Parameters
    ----------
    function : callable
        Takes one item. Must be picklable for executors of processes.
    items : sequence
        What it is applied to.
    keys : sequence of str
        One name per item.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; the caller starts it and shuts it down. By default here, one item at a time.
    progress : bool, optional
        Whether to show a bar on standard error: how many items are done, the rate and the time that remains; by default
        on a terminal only. Items count when they are done, even where an earlier one that takes longer holds their
        outcomes back.
    description : str, optional
        Text before the bar.
    n_before : int, optional
        Items that an earlier run has done, for the bar: they count as done and not in the rate.

    Returns
    -------
    iterator of Outcome
        One per item, in order. An exception raised by ``function`` becomes ``Outcome.error``.

    Raises
    ------
    ValueError
        If there are not as many keys as items.
    concurrent.futures.BrokenExecutor
        While iterating, if a worker was killed.

    Notes
    -----
    With an executor up to 256 items are with it at a time, and up to 1024 are ahead of the next outcome to be handed
    out, so that neither items nor outcomes pile up in memory however many there are.

    Examples
    --------
    >>> from astroclassify.batch import run
    >>> [outcome.value for outcome in run(abs, [-1, 2], keys=["a", "b"], progress=False)]
    [1, 2]
    """
    items, keys = list(items), [str(key) for key in keys]
    if len(items) != len(keys):
        raise ValueError(f"keys must be one per item ({len(items)}), got {len(keys)}")
    hidden = None if progress is None else not progress  # None: tqdm shows a bar on a terminal only
    bar = {"total": n_before + len(items), "initial": n_before, "desc": description, "disable": hidden}
    return _outcomes(function, keys, items, executor, bar)


def _outcomes(function, keys, items, executor, bar_settings):
    with tqdm(**bar_settings, unit="item", dynamic_ncols=True) as bar:
        if executor is not None:
            yield from _submit(function, keys, items, executor, bar)
            return
        for key, item in zip(keys, items, strict=True):
            outcome = _call(function, key, item)
            bar.update()
            yield outcome


def _submit(function, keys, items, executor, bar):
    """Keep a bounded number of tasks in flight; hand results back in the order of the items."""
    flying = {}  # future -> number of its item
    landed = {}  # number -> outcome that waits for its turn
    n_sent = n_yielded = 0
    # Dask takes equal calls for one and hands out what it remembers, a failure as well: no call of two runs is equal.
    run_id = uuid.uuid4().hex
    try:
        while n_yielded < len(items):
            while n_sent < len(items) and len(flying) < _IN_FLIGHT and n_sent < n_yielded + _AHEAD:
                flying[executor.submit(_call, function, keys[n_sent], items[n_sent], run_id)] = n_sent
                n_sent += 1
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                number = flying.pop(future)
                landed[number] = _landed(keys[number], future)
                bar.update()
            while n_yielded in landed:
                n_yielded += 1
                yield landed.pop(n_yielded - 1)
    finally:
        for future in flying:
            future.cancel()


def _landed(key, future):
    try:
        return future.result()
    except BrokenExecutor:  # a worker was killed: nothing more can run, and the other items are not at fault
        raise
    except Exception as error:  # the item or its result could not be sent
        return Outcome(key, error=_one_line(error))
