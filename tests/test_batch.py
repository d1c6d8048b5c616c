"""One function over many items: order, failures, workers, seeds."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from astroclassify import batch

# spawn starts a fresh interpreter: nothing is inherited, as on a cluster.
SPAWN = multiprocessing.get_context("spawn")


def draw(item):
    """Number that depends on the item alone, after a wait that puts the items out of order."""
    time.sleep(0.002 * (7 * item % 5))
    return float(batch.derive_rng(42, "draw", item).random())


def fail_on_three(item):
    if item == 3:
        raise ValueError("item three\nis bad")
    return item


def kill_on_two(item):
    if item == 2:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return item


def note_and_fail_on_two(item):
    folder, number = item
    with open(os.path.join(folder, "calls"), "a") as file:
        file.write(f"{number}\n")
    return fail_on_three(number + 1)


def give_lambda(item):
    return lambda: item


@pytest.fixture
def by_name(monkeypatch):
    """Let a spawned worker import this file by its name."""
    folder = os.path.dirname(__file__)
    monkeypatch.syspath_prepend(folder)
    import test_batch

    return test_batch


@pytest.mark.parametrize("n_items", [0, 1, 150])
def test_results_and_order_are_the_same_everywhere(n_items, by_name):
    items, keys = list(range(n_items)), [f"k{i}" for i in range(n_items)]
    function = by_name.draw
    here = list(batch.run(function, items, keys=keys, progress=False))
    assert [outcome.key for outcome in here] == keys
    with ThreadPoolExecutor(4) as executor:
        assert list(batch.run(function, items, keys=keys, executor=executor, progress=False)) == here
    for workers in (1, 2):
        with ProcessPoolExecutor(workers, mp_context=SPAWN) as executor:
            assert list(batch.run(function, items, keys=keys, executor=executor, progress=False)) == here


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor])
def test_a_failure_is_one_row(executor, caplog):
    def outcomes(pool):
        return list(batch.run(fail_on_three, range(5), keys="abcde", executor=pool, progress=False))

    if executor is None:
        result = outcomes(None)
    else:
        with executor(2) as pool:
            result = outcomes(pool)
    assert [outcome.value for outcome in result] == [0, 1, 2, None, 4]
    assert [outcome.error for outcome in result] == [None, None, None, "ValueError: item three is bad", None]
    assert "d failed" in caplog.text


def test_an_item_or_result_that_cannot_be_sent_is_one_row(by_name):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        items = [1, lambda: None, 2]
        sent = list(batch.run(by_name.fail_on_three, items, keys="abc", executor=executor, progress=False))
        assert [outcome.value for outcome in sent] == [1, None, 2] and "lambda" in sent[1].error
        back = list(batch.run(by_name.give_lambda, [1], keys="a", executor=executor, progress=False))
        assert back[0].value is None and "lambda" in back[0].error


@pytest.mark.slow
def test_dask_runs_every_call_again(by_name, tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    items = [(str(tmp_path), number) for number in range(4)]
    with (
        distributed.LocalCluster(**settings, host="127.0.0.1", local_directory=str(tmp_path)) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor()
        for _ in range(3):
            function = by_name.note_and_fail_on_two
            outcomes = list(batch.run(function, items, keys="abcd", executor=executor, progress=False))
            assert [outcome.value for outcome in outcomes] == [1, 2, None, 4]
            assert outcomes[2].error == "ValueError: item three is bad"
    assert sorted((tmp_path / "calls").read_text().split()) == sorted("0123" * 3)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_worker_is_an_error_and_does_not_hang(by_name):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        outcomes = batch.run(by_name.kill_on_two, range(6), keys="abcdef", executor=executor, progress=False)
        with pytest.raises(BrokenExecutor):
            list(outcomes)


def test_keys_are_checked_at_the_call():
    with pytest.raises(ValueError, match=r"keys must be one per item \(2\), got 1"):
        batch.run(abs, [1, 2], keys=["a"])


def test_stopping_early_cancels_what_waits():
    started = []

    def note(item):
        started.append(item)
        time.sleep(0.01)

    with ThreadPoolExecutor(1) as executor:
        outcomes = batch.run(note, range(1000), keys=range(1000), executor=executor, progress=False)
        next(outcomes)
        outcomes.close()
    assert len(started) < 100


def test_no_more_than_a_bounded_number_of_results_wait():
    done = []
    with ThreadPoolExecutor(2) as executor:
        outcomes = batch.run(done.append, range(1000), keys=range(1000), executor=executor, progress=False)
        next(outcomes)
        time.sleep(0.05)
        assert len(done) <= batch._IN_FLIGHT + 1
        outcomes.close()


def test_progress_goes_to_standard_error(capsys):
    list(batch.run(abs, [1, 2], keys="ab", description="halos", progress=True))
    captured = capsys.readouterr()
    assert captured.out == "" and "halos" in captured.err and "2/2" in captured.err


def test_a_bar_by_default_on_a_terminal_only(capsys, monkeypatch):
    list(batch.run(abs, [1, 2], keys="ab"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(batch.run(abs, [1, 2], keys="ab"))
    assert "2/2" in capsys.readouterr().err


class Bar:
    """What tqdm would show."""

    def __init__(self, **settings):
        self.settings, self.n = settings, settings["initial"]
        Bar.last = self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def update(self):
        self.n += 1


def wait_until(condition, seconds=600):
    """The limit is for a test that hangs, not for a slow machine."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        time.sleep(0.002)


def test_the_bar_counts_what_is_done_though_the_first_item_takes_long(monkeypatch):
    monkeypatch.setattr(batch, "tqdm", Bar)

    def first_waits_for_the_others(item):
        if item == 0:
            wait_until(lambda: Bar.last.n == 299)  # more items than are in flight at a time
        return item

    with ThreadPoolExecutor(2) as executor:
        outcomes = batch.run(first_waits_for_the_others, range(300), keys=range(300), executor=executor)
        assert [outcome.value for outcome in outcomes] == list(range(300))
    assert Bar.last.n == Bar.last.settings["total"] == 300


def test_no_more_than_a_bounded_number_of_results_wait_for_the_first(monkeypatch):
    monkeypatch.setattr(batch, "_IN_FLIGHT", 8)
    monkeypatch.setattr(batch, "_AHEAD", 20)
    done, released = [], threading.Event()

    def first_waits(item):
        if item == 0 and not released.wait(20):
            raise TimeoutError
        done.append(item)

    with ThreadPoolExecutor(2) as executor:
        outcomes = batch.run(first_waits, range(100), keys=range(100), executor=executor, progress=False)
        with ThreadPoolExecutor(1) as consumer:
            rest = consumer.submit(list, outcomes)
            wait_until(lambda: len(done) == 19)
            time.sleep(0.05)
            assert sorted(done) == list(range(1, 20))
            released.set()
            assert [outcome.error for outcome in rest.result()] == [None] * 100


def test_items_of_an_earlier_run_are_on_the_bar_and_not_in_its_rate(monkeypatch, capsys):
    list(batch.run(abs, [1, 2], keys="ab", n_before=1000, progress=True))
    shown = capsys.readouterr().err
    assert "1002/1002" in shown
    monkeypatch.setattr(batch, "tqdm", Bar)
    list(batch.run(abs, [1, 2], keys="ab", n_before=1000, progress=True))
    assert (Bar.last.settings["initial"], Bar.last.settings["total"]) == (1000, 1002)


PINNED_INTEGERS = [2749371714, 4083638694, 1201355999]


def test_derived_seeds_are_pinned():
    # Stored samples were made with these: a change would make them irreproducible.
    assert batch.derive_rng(2020, "halo_12", "x").integers(2**32, size=3).tolist() == PINNED_INTEGERS


def test_derived_seeds_are_the_same_in_another_process():
    code = "from astroclassify.batch import derive_rng; print(derive_rng(7, 'halo', 3).random().hex())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {float(batch.derive_rng(7, "halo", 3).random()).hex()}


def test_derived_generators_differ():
    ids = [(1, "ab", "c"), (1, "a", "bc"), (2, "ab", "c"), (1, "abc"), (1,), (1, "ab", "c", ""), (1, "1:a"), (1, "a")]
    values = {batch.derive_rng(*each).random() for each in ids}
    assert len(values) == len(ids)


def test_derived_generators_are_uniform():
    values = np.array([batch.derive_rng(5, "item", i).random() for i in range(2000)])
    assert abs(values.mean() - 0.5) < 4 / np.sqrt(12 * 2000)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(2000)


def test_master_seed():
    assert batch.master_seed(np.int64(3)) == 3
    assert batch.master_seed(np.random.default_rng(1)) == batch.master_seed(np.random.default_rng(1))
    rng = np.random.default_rng(1)
    assert batch.master_seed(rng) != batch.master_seed(rng)
    with pytest.raises(ValueError, match="from 0"):
        batch.master_seed(-1)
    assert batch.master_seed() != batch.master_seed(), "a fresh one each time"
    for bad in (1.5, "1", True):
        with pytest.raises(TypeError, match="rng must be a seed"):
            batch.master_seed(bad)
