"""The training loop: learning rates, losses, checkpoints, what is frozen. Tiny networks on tiny images."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import r2_score

from astroclassify.exceptions import ModelError, OutputError
from astroclassify.nn import load_recipe
from astroclassify.nn.estimators._classes import ClassTask, class_weights
from astroclassify.nn.estimators._targets import gaussian_loss, moments, r2
from astroclassify.nn.inputs._dataset import TrainingSet
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.nn.models import _checkpoints
from astroclassify.nn.models._checkpoints import Checkpoint, fingerprint, stored_seed
from astroclassify.nn.training._loop import Settings, _batches, choose_device, cross_entropy, macro_f1, train
from astroclassify.nn.training._optimizers import Schedule, make_optimizer, one_cycle, time_decay
from astroclassify.schemes import COOL_CORE

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

RULE = Preprocessing("sqrt", (1.0,), (0.7,))
QUICK = Settings(epochs=3, batch_size=8, learning_rate=0.01, augmentation=("flip", "rotate", "thin"), device="cpu")


def small_network(seed=0, dropout=0.3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(dropout), torch.nn.Linear(16, 3),
        )  # fmt: skip


def data(n=37, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    counts = rng.poisson(1 + 2 * labels[:, None, None, None], (n, 1, 16, 16)).astype(np.float32)
    return counts, np.eye(3, dtype=np.float32)[labels]


def run(settings=QUICK, *, seed=3, network=None, validation=True, checkpoint=None, targets=None, **options):
    counts, hard = data()
    network = network or small_network()
    held = (*data(12, 1), data(12, 1)[1]) if validation else None
    history = train(
        network, counts, hard if targets is None else targets, rule=RULE, settings=settings, seed=seed,
        validation=held, checkpoint=checkpoint, **options,
    )  # fmt: skip
    return network, history


def same(a, b):
    a, b = (one.state_dict() for one in (a, b))
    return all(torch.equal(a[name], b[name]) for name in a)


def losses(history):
    return [[entry.get(key) for key in ("loss", "validation_loss", "learning_rate")] for entry in history]


# Learning rates


def test_one_cycle():
    rates = [one_cycle(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.04) and rates[250] == 1 and rates[1000] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:251]) > 0) and np.all(np.diff(rates[250:]) < 0)
    schedule = Schedule("one-cycle", 2e-3, 1000)
    assert [schedule.rate_of(step) for step in (0, 125, 250, 625)] == pytest.approx([8e-5, 1.04e-3, 2e-3, 1e-3])


def keras(rates, losses, *, decay, patience, factor, least, steps_per_epoch):
    """Rate of each step by the text of Keras 2: the optimiser's decay, and ReduceLROnPlateau at the end of epochs."""
    (rate, best, wait, iterations), out = (rates, np.inf, 0, 0), []
    for loss in losses:
        for _ in range(steps_per_epoch):
            out.append(rate * (1.0 / (1.0 + decay * iterations)))
            iterations += 1
        if np.less(loss, best - 1e-4):
            best, wait = loss, 0
        else:
            wait += 1
            if wait >= patience and rate > least:
                rate = max(rate * factor, least)
                wait = 0
    return out


def ours(rate, losses, *, steps_per_epoch, **rules):
    schedule, step, out = Schedule("plateau", rate, 10**6, **rules), 0, []
    for loss in losses:
        for _ in range(steps_per_epoch):
            out.append(schedule.rate_of(step))
            step += 1
        schedule.end_epoch(loss)
    return out


@pytest.mark.parametrize(
    ("rate", "rules"),
    [
        (1e-4, {"decay": 1e-6, "patience": 14, "factor": 0.75, "least": 1e-4}),  # CN, as printed
        (1e-4, {"decay": 1e-6, "patience": 14, "factor": 0.75, "least": 1e-6}),
        (1.0, {"decay": 0.95, "patience": 4, "factor": 0.85, "least": 0.01}),  # MN, as printed
        (1.0, {"decay": 0.0, "patience": 4, "factor": 0.85, "least": 0.01}),
    ],
)
def test_rates_are_those_of_keras(rate, rules):
    history = np.random.default_rng(0).uniform(0.3, 0.31, 120) + 0.5 * np.exp(-np.arange(120) / 5)
    rules = {**rules, "steps_per_epoch": 7}
    assert ours(rate, history, **rules) == keras(rate, history, **rules)


def test_printed_rates_of_kosiba():
    """CN: 153,000 steps of batches of 10; the least rate equals the first, so that the plateau cannot lower it."""
    rules = {"decay": 1e-6, "patience": 14, "factor": 0.75, "least": 1e-4}
    rates = ours(1e-4, [1.0] * 1234, steps_per_epoch=124, **rules)
    assert rates[0] == 1e-4 and rates[1000] == pytest.approx(9.99001e-5, rel=1e-6)
    assert rates[152_999] == pytest.approx(8.673034e-5, rel=1e-6)
    rates = ours(1.0, [1.0] * 62, steps_per_epoch=62, decay=0.0, patience=4, factor=0.85, least=0.01)
    assert [rates[62 * epoch] for epoch in (0, 4, 5, 9, 13)] == pytest.approx([1, 1, 0.85, 0.85**2, 0.85**3])
    # The decay printed for MN as one of the rate: all 3825 steps are worth nine at the first rate.
    assert time_decay(1, 0.95) == pytest.approx(0.512821, rel=1e-5)
    assert sum(time_decay(step, 0.95) for step in range(3825)) == pytest.approx(9.2, abs=0.05)


def test_a_plateau_stops_at_the_least_rate():
    rates = ours(1.0, [1.0] * 40, steps_per_epoch=1, patience=1, factor=0.5, least=0.1)
    assert rates[:6] == [1, 1, 0.5, 0.25, 0.125, 0.1] and set(rates[6:]) == {0.1}


def test_training_uses_these_rates():
    settings = replace(QUICK, schedule="plateau", decay=0.01, plateau_patience=1, least_rate=1e-3, epochs=4)
    _, history = run(settings)
    expected = keras(
        0.01, [entry["validation_loss"] for entry in history], decay=0.01, patience=1, factor=0.5, least=1e-3,
        steps_per_epoch=5,
    )  # fmt: skip
    assert [entry["learning_rate"] for entry in history] == expected[::5]


# Optimisers


def steps_of(name, gradients, **settings):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = make_optimizer(name, [weight], **settings)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weight.detach().numpy()


def test_sgd_is_that_of_keras():
    gradients = np.random.default_rng(0).normal(size=(20, 2))
    weight, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for gradient in gradients:
        velocity = 0.9 * velocity - 0.01 * gradient
        weight = weight + 0.9 * velocity - 0.01 * gradient
    assert steps_of("sgd", gradients, learning_rate=0.01) == pytest.approx(weight, rel=1e-12)


def test_adadelta_is_that_of_keras():
    gradients = np.random.default_rng(0).normal(size=(20, 2))
    weight, square, change = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for gradient in gradients:
        square = 0.95 * square + 0.05 * gradient**2
        update = gradient * np.sqrt(change + 1e-7) / np.sqrt(square + 1e-7)
        weight = weight - 1.0 * update
        change = 0.95 * change + 0.05 * update**2
    assert steps_of("adadelta", gradients, learning_rate=1.0) == pytest.approx(weight, rel=1e-12)


# Loss


def test_one_hot_labels_are_hard_labels():
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(9) % 3
    weight = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    total, norm = cross_entropy(logits, torch.eye(3, dtype=torch.float64)[labels] * weight)
    assert float(total / norm) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels, weight=weight)), rel=1e-12
    )
    soft = torch.softmax(torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 1)
    total, norm = cross_entropy(logits, soft)
    assert float(total / norm) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, soft)), rel=1e-12)


def make_set(soft, weights):
    n = len(soft)
    groups, totals = np.arange(n).astype(str), np.zeros((n, 1))
    return TrainingSet(np.zeros((n, 1, 2, 2), np.float32), soft, weights, groups, (), (), totals, np.zeros((n, 0)), 0)


@pytest.mark.parametrize("rule", [None, "balanced", {"CC": 3.0}])
def test_weight_two_is_the_row_twice(rule):
    rng = np.random.default_rng(0)
    soft, logits = rng.dirichlet([1, 1, 1], 6), torch.from_numpy(rng.normal(size=(6, 3)))
    rows = [0, 1, 1, 2, 3, 4, 4, 5]
    weighted, repeated = make_set(soft, np.array([1, 2, 1, 1, 2, 1.0])), make_set(soft[rows], np.ones(8))
    values = []
    for one, some in ((weighted, logits), (repeated, logits[rows])):
        weight = class_weights(rule, one.answers, one.weights, COOL_CORE)
        total, norm = cross_entropy(some, torch.from_numpy(one.answers * weight * one.weights[:, None]))
        values.append((*weight, float(total / norm)))
        task = ClassTask(COOL_CORE, rule)
        task.learn(one)
        assert task.targets(one).dtype == np.float32
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2] * 3)
    weights = class_weights("balanced", np.eye(3)[labels], np.ones(12), COOL_CORE)
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    only = class_weights("balanced", np.eye(3)[labels[:9]], np.ones(9), COOL_CORE)
    assert only[:2] == pytest.approx([9 / 14, 9 / 4])


def test_images_of_weight_zero_do_not_count():
    counts, hard = data()
    settings = replace(QUICK, augmentation=(), batch_size=4, epochs=1)
    weights = np.ones((37, 1), np.float32)
    weights[:20] = 0
    network, history = run(settings, targets=hard * weights, network=small_network(dropout=0))
    assert np.isfinite(history[0]["loss"]) and not same(network, small_network())


def test_macro_f1():
    assert macro_f1(np.eye(3), np.array([[0.6, 0.4, 0], [0, 1, 0], [0, 0, 1]])) == 1


# Loop


def test_same_seed_same_weights_and_torch_is_left_alone():
    state = torch.random.get_rng_state()
    (a, one), (b, two) = run(), run()
    assert same(a, b) and losses(one) == losses(two)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same(a, run(seed=4)[0])


@pytest.mark.parametrize("n_steps", [3, 5, 12])
def test_length_in_steps(n_steps):
    """37 images in batches of 8 are 5 steps."""
    seen = []

    def loss(logits, targets):
        seen.append(len(logits))
        return cross_entropy(logits, targets)

    _, history = run(replace(QUICK, iterations=n_steps), validation=False, loss=loss)
    assert len(seen) == n_steps and len(history) == -(-n_steps // 5)


def test_without_a_running_mean_the_weights_are_kept():
    settings = replace(QUICK, mean_epochs=0, epochs=1, augmentation=())
    network, _ = run(settings, validation=False, network=small_network(dropout=0))
    reference = small_network(dropout=0)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.01)
    from astroclassify import batch

    counts, hard = data()
    for step, rows in enumerate(_batches(37, 8, batch.derive_rng(3, "order", 1))):
        optimizer.param_groups[0]["lr"] = 0.01 * one_cycle(step, 5)
        optimizer.zero_grad()
        logits = reference(torch.from_numpy(RULE(counts[rows])))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(hard[rows].argmax(1))).backward()
        optimizer.step()
    ours, theirs = network.state_dict(), reference.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6) for name in ours)


def test_early_stopping_keeps_the_best():
    _, history = run(replace(QUICK, epochs=60, patience=2, learning_rate=0.3))
    values = [entry["validation_loss"] for entry in history]
    best = next(i for i, entry in enumerate(history) if "best" in entry)
    assert values[best] == min(values) and len(history) == best + 3 < 60


def test_frozen_weights_and_statistics_do_not_change():
    start = small_network().state_dict()
    settings = replace(QUICK, frozen=("0.", "1."), epochs=4)
    network, _ = run(settings, network=small_network())
    after = network.state_dict()
    for name, tensor in start.items():
        assert torch.equal(after[name], tensor) == name.startswith(("0.", "1.")), name
    assert all(parameter.requires_grad for parameter in network.parameters())
    network, _ = run(replace(settings, thaw_epoch=2), network=small_network(), validation=False)
    assert not any(torch.equal(tensor, start[name]) for name, tensor in network.state_dict().items())


def test_wrong_frozen_parts_are_named():
    with pytest.raises(ValueError, match="'layer9'"):
        run(replace(QUICK, frozen=("layer9",)))
    with pytest.raises(ValueError, match="leave something to train"):
        run(replace(QUICK, frozen=("0", "1", "6")))


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99", 3.5):
        with pytest.raises(ValueError, match="device must be"):
            choose_device(name)


def test_gpu_algorithms_are_repeatable_for_as_long_as_a_training_runs():
    seen = []

    def loss(logits, targets):
        seen.append(torch.backends.cudnn.deterministic)
        return cross_entropy(logits, targets)

    assert not torch.backends.cudnn.deterministic
    run(replace(QUICK, epochs=1), loss=loss)
    assert seen and all(seen) and not torch.backends.cudnn.deterministic
    with pytest.raises(ValueError, match="learning_rate"):
        run(replace(QUICK, epochs=1), loss=lambda logits, targets: (logits.sum() * np.nan, targets.sum()))
    assert not torch.backends.cudnn.deterministic


# Checkpoints


class Killed(Exception):
    pass


def killed_after(n_epochs, folder, settings, monkeypatch):
    """Train with a checkpoint each epoch until an epoch after the n-th begins to be saved."""
    monkeypatch.setattr(_checkpoints, "_SECONDS", 0.0)
    saved = Checkpoint(folder, "abc")
    save = saved.save

    def saving(trainer, *, now=False):
        save(trainer, now=now)
        if len(trainer.history) == n_epochs:
            raise Killed

    saved.save = saving
    with pytest.raises(Killed):
        run(settings, checkpoint=saved)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "schedule": "plateau", "decay": 1e-3, "plateau_patience": 1, "patience": 3},
        {"optimizer": "adadelta", "learning_rate": 1.0, "schedule": "constant", "mean_epochs": 0},
        {"frozen": ("0.",), "thaw_epoch": 3, "iterations": 23},
    ],
)
@pytest.mark.parametrize("n_epochs", [1, 4])
def test_a_resumed_training_is_the_uninterrupted_one(changes, n_epochs, tmp_path, monkeypatch):
    settings = replace(QUICK, epochs=6, **changes)
    whole, history = run(settings)
    killed_after(n_epochs, tmp_path, settings, monkeypatch)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["checkpoint.json", f"state-{n_epochs:06d}.safetensors"]
    assert json.loads((tmp_path / "checkpoint.json").read_text())["seed"] == 3 == stored_seed(tmp_path)
    resumed, again = run(settings, checkpoint=Checkpoint(tmp_path, "abc"))
    assert same(whole, resumed) and losses(history) == losses(again)
    assert [e.get("best") for e in history] == [e.get("best") for e in again]
    # Once finished, nothing is left to do.
    done, again = run(settings, checkpoint=Checkpoint(tmp_path, "abc"))
    assert same(whole, done) and losses(history) == losses(again)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_whole_checkpoint(tmp_path):
    """SIGKILL at any moment, again and again: the result is bit for bit that of one run."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, numpy as np
            from astroclassify.images import Geometry
            from astropy import units as u
            from astroclassify.nn import CutoutClassifier
            from astroclassify.nn.models import _checkpoints
            _checkpoints._SECONDS = 0.0
            rng = np.random.default_rng(0)
            labels = np.array(["CC", "WCC", "NCC"])[np.arange(24) % 3]
            images = rng.poisson(1 + np.arange(24) % 3, (32, 32, 24)).transpose(2, 0, 1).astype(float)
            grid = Geometry(1 * u.Mpc, (32, 32))
            model = CutoutClassifier(geometry=grid, n_filters=2, epochs=25, batch_size=8, random_state=1, patience=None,
                                     augmentation=("rotate", "thin"), device="cpu")
            model.fit(images, labels, checkpoint=sys.argv[1] or None)
            sys.stdout.buffer.write(model.weights_)
            """
        )
    )

    def start(folder):
        return subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE)

    whole = start("").communicate()[0]
    kills, seen = 0, set()
    for _ in range(3):
        process = start(str(tmp_path / "state"))
        while process.poll() is None:
            names = {path.name for path in (tmp_path / "state").glob("state-*")} - seen
            if len(names) >= 1 and kills < 2:
                seen |= names
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
        output = process.communicate()[0]
    assert kills == 2 and len(whole) > 1000 and output == whole


def test_checkpoints_of_another_training_are_refused(tmp_path, monkeypatch):
    killed_after(1, tmp_path, QUICK, monkeypatch)
    with pytest.raises(ModelError, match="is of another training"):
        run(checkpoint=Checkpoint(tmp_path, "other"))
    counts, hard = data()
    mine = fingerprint(QUICK, counts, hard)
    assert mine == fingerprint(replace(QUICK, device="cuda", verbose=True), counts.copy(), hard)
    others = [
        fingerprint(replace(QUICK, learning_rate=0.1), counts, hard),
        fingerprint(QUICK, counts + 1, hard),
        fingerprint(QUICK, counts, hard[::-1]),
        fingerprint(QUICK, counts),
    ]
    assert len({mine, *others}) == 5


def _edit(folder, **changes):
    path = folder / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _flip(folder):
    path = next(folder.glob("state-*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "checkpoint.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "checkpoint.json").write_text("[]"), "is not a checkpoint of this version"),
        (lambda f: _edit(f, format_version=2), "is not a checkpoint of this version"),
        (lambda f: _edit(f, state="../../etc/passwd"), "state must be the name"),
        (lambda f: _edit(f, size=1 << 60), "size must lie between"),
        (lambda f: _edit(f, size=8), "must have at most 8 bytes"),
        (lambda f: _edit(f, best_epoch=99), "does not hold a usable state"),
        (lambda f: _edit(f, schedule={}), "does not hold a usable state"),
        (lambda f: next(f.glob("state-*")).unlink(), "plain file state-000001"),
        (_flip, "damaged or altered"),
    ],
)
def test_damaged_checkpoints_are_refused(damage, message, tmp_path, monkeypatch):
    killed_after(1, tmp_path, QUICK, monkeypatch)
    damage(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        run(checkpoint=Checkpoint(tmp_path, "abc"))
    assert "\n" not in str(caught.value)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        Checkpoint(tmp_path / "file", "abc")
    saved = Checkpoint(tmp_path / "folder", "abc")
    (tmp_path / "folder").rmdir()
    with pytest.raises(OutputError, match="cannot write"):
        run(checkpoint=saved)
    assert stored_seed(None) is None and stored_seed(tmp_path) is None


def test_checkpoints_are_not_written_after_every_short_epoch(tmp_path):
    written = []
    saved = Checkpoint(tmp_path, "abc")
    save = saved.save
    saved.save = lambda trainer, now: (save(trainer, now=now), written.append(len(list(tmp_path.iterdir()))))
    run(checkpoint=saved)
    assert written == [0, 0, 2]
    assert SimpleNamespace(**json.loads((tmp_path / "checkpoint.json").read_text())).finished


def test_mean_network_is_kept_with_the_statistics_of_its_own_weights():
    """Not with means of the statistics, which belong to other weights."""
    network, _ = run(replace(QUICK, mean_epochs=2, augmentation=()), validation=False)
    counts, _ = data()  # fewer images than statistics are measured on: all of them
    with torch.no_grad():
        maps = network[0](torch.from_numpy(RULE(counts)))
    parts = np.array_split(np.arange(len(counts)), len(counts) // QUICK.batch_size)
    assert {len(part) for part in parts} == {9, 10}
    torch.testing.assert_close(network[1].running_mean, maps.mean(dim=(0, 2, 3)), rtol=0.02, atol=1e-3)
    torch.testing.assert_close(network[1].running_var, maps.var(dim=(0, 2, 3)), rtol=0.1, atol=1e-3)
    assert network[1].momentum == 0.1


def test_statistics_of_a_frozen_part_stay_as_they_were():
    network = small_network()
    before = [network[1].running_mean.clone(), network[1].running_var.clone()]
    run(replace(QUICK, mean_epochs=2, frozen=("0.", "1.")), network=network)
    assert torch.equal(network[1].running_mean, before[0]) and torch.equal(network[1].running_var, before[1])


# The recipes of Kosiba et al.


def values(name):
    return {key: entry["value"] for key, entry in load_recipe(name)["parameters"].items()}


def schedule_of(name):
    v = values(name)
    return Schedule(
        v["schedule"],
        v["learning_rate"],
        v["iterations"],
        decay=v["decay"],
        patience=v["plateau_patience"],
        factor=v["plateau_factor"],
        least=v["least_rate"],
    )


def test_rates_of_the_custom_network():
    """1e-4 / (1 + 1e-6 n) after n iterations; the bound equals the first rate, so no plateau lowers it."""
    schedule = schedule_of("kosiba2020-cn")
    for n, rate in ((0, 1e-4), (1000, 1e-4 / 1.001), (100_000, 1e-4 / 1.1), (153_000, 8.67303e-5)):
        assert schedule.rate_of(n) == pytest.approx(rate, rel=1e-5)
    for _ in range(100):
        schedule.end_epoch(1.0)
    assert schedule.rate == 1e-4


def test_rates_of_mobilenet():
    schedule = schedule_of("kosiba2020-mn")
    assert [schedule.rate_of(n) for n in (0, 100, 3825)] == [1.0, 1.0, 1.0]  # as long as the validation loss falls
    rates = []
    for _ in range(1 + 4 * 30):
        schedule.end_epoch(1.0)
        rates.append(schedule.rate)
    # The first epoch is the best; then each four epochs lower the rate by 0.85, 28 times, until 0.01 bounds it.
    assert rates == pytest.approx([max(0.85 ** (epoch // 4), 0.01) for epoch in range(len(rates))])
    assert rates[-1] == 0.01 and 0.85**28 > 0.01 > 0.85**29


@pytest.mark.parametrize("name", ["kosiba2020-cn", "kosiba2020-mn"])
def test_the_plateau_rule_is_that_of_torch(name):
    """torch's own scheduler, which lowers the rate one epoch later than Keras for the same patience."""
    schedule, v = schedule_of(name), values(name)
    schedule.least = v["least_rate"] / 10  # else that of the custom network has nothing to do
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=v["learning_rate"])
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=v["plateau_factor"],
        patience=v["plateau_patience"] - 1,
        threshold=1e-4,
        threshold_mode="abs",
        min_lr=schedule.least,
        eps=0,
    )
    losses = 1 / np.arange(1, 301) + 0.02 * np.random.default_rng(5).normal(size=300)
    ours = []
    for loss in losses:
        schedule.end_epoch(loss)
        theirs.step(loss)
        ours.append(schedule.rate)
        assert schedule.rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert len(set(ours)) > 5


def optimiser_of(name, parameter):
    v = values(name)
    return make_optimizer(
        v["optimizer"],
        [parameter],
        learning_rate=v["learning_rate"],
        momentum=v["momentum"],
        weight_decay=v["weight_decay"],
    )


def test_the_custom_network_learns_by_nesterov_momentum():
    """Keras's rule written out: v = 0.9 v - rate g, w = w + 0.9 v - rate g."""
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = optimiser_of("kosiba2020-cn", parameter)
    weight, velocity, rate = 2.0, 0.0, 1e-4
    for _ in range(20):
        optimizer.zero_grad()
        (parameter**3).sum().backward()
        optimizer.step()
        gradient = 3 * weight**2
        velocity = 0.9 * velocity - rate * gradient
        weight += 0.9 * velocity - rate * gradient
    assert weight < 1.9 and parameter.item() == pytest.approx(weight, rel=1e-12)


def test_mobilenet_learns_by_adadelta():
    """Zeiler 2012, algorithm 1, with rho 0.95, and Keras's rate of 1 and constant of 1e-7."""
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = optimiser_of("kosiba2020-mn", parameter)
    weight, squares, steps, rho, epsilon = 2.0, 0.0, 0.0, 0.95, 1e-7
    for _ in range(50):
        optimizer.zero_grad()
        (parameter**3).sum().backward()
        optimizer.step()
        gradient = 3 * weight**2
        squares = rho * squares + (1 - rho) * gradient**2
        step = -np.sqrt(steps + epsilon) / np.sqrt(squares + epsilon) * gradient
        steps = rho * steps + (1 - rho) * step**2
        weight += step
    assert weight < 1.99 and parameter.item() == pytest.approx(weight, rel=1e-9)


# The loss of a regression


def test_loss_is_the_normal_log_density():
    rng = np.random.default_rng(8)
    outputs, values = rng.normal(size=(7, 4)), rng.normal(size=(7, 2))
    weights = np.ones((7, 2))
    weights[2, 1], weights[3] = 0, 2
    total, weight = gaussian_loss(torch.from_numpy(outputs), torch.from_numpy(np.stack([values, weights], axis=1)))
    mean, sigma = moments(outputs)
    expected = -norm.logpdf(values, mean, sigma) - 0.5 * np.log(2 * np.pi)
    assert float(total) == pytest.approx((weights * expected).sum())
    assert float(weight) == weights.sum()
    # Bounds hold for any output.
    _, extreme = moments([[0.0, 1e6], [0.0, -1e6]])
    np.testing.assert_allclose(extreme[:, 0], [np.exp(4), np.exp(-4)])


def test_r2_is_scikit_learns():
    rng = np.random.default_rng(9)
    outputs, values = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    assert r2(outputs, values) == pytest.approx(r2_score(values, outputs[:, :2]))
    values[::3, 0] = np.nan
    known = ~np.isnan(values[:, 0])
    scores = [r2_score(values[known, 0], outputs[known, 0]), r2_score(values[:, 1], outputs[:, 1])]
    assert r2(outputs, values) == pytest.approx(np.mean(scores))
    assert np.isnan(r2(outputs, np.full((50, 2), np.nan)))
