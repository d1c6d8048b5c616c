"""Class weights of the loss are taken back from the probabilities."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from astroclassify.nn._training import undo_class_weight  # noqa: E402  (torch first: this file is skipped without it)


def test_probabilities_return_to_the_frequencies_of_the_training_set():
    rng = np.random.default_rng(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    x = torch.from_numpy(rng.normal(size=(20, 4)).astype(np.float32))
    weight = np.array([4.0, 1.0, 0.5])
    with torch.no_grad():
        weighted = torch.softmax(network(x), 1).numpy()
        undo_class_weight(network, weight)
        plain = torch.softmax(network(x), 1).numpy()
    expected = weighted / weight
    np.testing.assert_allclose(plain, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)


def test_weighted_loss_is_least_at_the_weighted_posterior():
    # One input, classes seen 60, 30 and 10 times: the posterior is known, whatever the weights.
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    weight = np.array([1 / 1.8, 1 / 0.9, 1 / 0.3])
    network = torch.nn.Linear(1, 3)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=200)
    x = torch.zeros(100, 1)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), labels, weight=torch.tensor(weight, dtype=torch.float32))
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        np.testing.assert_allclose(torch.softmax(network(x[:1]), 1).numpy()[0], [1 / 3] * 3, atol=1e-3)
        undo_class_weight(network, weight)
        np.testing.assert_allclose(torch.softmax(network(x[:1]), 1).numpy()[0], [0.6, 0.3, 0.1], atol=1e-3)


def test_a_class_of_weight_zero_stays():
    network = torch.nn.Linear(2, 2)
    before = network.bias.detach().clone()
    undo_class_weight(network, np.array([0.0, 1.0]))
    torch.testing.assert_close(network.bias, before)
