"""The networks: printed shapes and numbers of parameters, exact class maps, and their export to ONNX."""

import numpy as np
import pytest

from astroclassify.exceptions import ModelError
from astroclassify.nn.networks import _build as _networks
from astroclassify.nn.networks._build import ARCHITECTURES, build, check_architecture, load_pretrained
from astroclassify.nn.networks._export import export_onnx, network_outputs

# That of rings, "profile", has tests with its stretch.
OF_PIXELS = sorted(set(ARCHITECTURES) - {"profile"})

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
onnxruntime = pytest.importorskip("onnxruntime")

POOLED = ("resnet18", "mobilenet", "mobilenet_v2", "attention")


def make(name, *, n_bands=1, n_classes=3, shape=(64, 64), **changes):
    return build(name, n_bands=n_bands, n_classes=n_classes, shape=shape, seed=3, **changes)


def count(network, trained=True):
    tensors = network.parameters() if trained else network.state_dict().values()
    return sum(tensor.numel() for tensor in tensors if tensor.ndim)


def lively(network, n_bands=1, shape=(64, 64)):
    """Statistics of batch normalisation as after some training, so that no output is trivial."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    for module in network.modules():
        if hasattr(module, "running_mean"):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(16, n_bands, *shape, generator=generator))
    return network.eval()


def random_images(n, n_bands=1, shape=(64, 64)):
    return torch.randn(n, n_bands, *shape, generator=torch.Generator().manual_seed(1))


def run_onnx(data, images):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))


# Kosiba et al. 2020


def test_kosiba2020_has_the_printed_layers():
    """Shapes 356-178-89-45-23-12-6, filters 64 and five times 32, flatten 1152, dense 256, dense 2."""
    network = make("kosiba2020", n_bands=3, n_classes=2, shape=(356, 356)).eval()
    shapes = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: shapes.update({name: (i[0].shape[1:], o.shape[1:])}))
    with torch.no_grad():
        network(torch.zeros(1, 3, 356, 356))
    sides = [356, 178, 89, 45, 23, 12, 6]
    filters = [64, 32, 32, 32, 32, 32]
    for number, (side, pooled, n) in enumerate(zip(sides[:-1], sides[1:], filters, strict=True), start=1):
        assert shapes[f"block{number}.convolution"][1] == (n, side, side)
        assert shapes[f"block{number}.pool"][1] == (n, pooled, pooled)
    assert shapes["dense1"] == ((1152,), (256,)) and shapes["dense2"] == ((256,), (2,))
    assert network.dropout.p == 0.65


def test_kosiba2020_has_352930_parameters():
    convolutions = (3 * 9 * 64 + 64) + (64 * 9 * 32 + 32) + 4 * (32 * 9 * 32 + 32)
    printed = convolutions + (1152 * 256 + 256) + (256 * 2 + 2)
    assert printed == 352_930
    counts = [count(make("kosiba2020", n_bands=n, n_classes=2, shape=(356, 356))) for n in (3, 2, 1)]
    assert counts == [printed, printed - 576, printed - 1152]


def test_an_empty_channel_adds_nothing():
    three = make("kosiba2020", n_bands=3, n_classes=2).eval()
    two = make("kosiba2020", n_bands=2, n_classes=2).eval()
    state = three.state_dict()
    state["block1.convolution.weight"] = state["block1.convolution.weight"][:, 1:]
    two.load_state_dict(state)
    images = random_images(3, 2)
    with torch.no_grad():
        assert torch.allclose(three(torch.nn.functional.pad(images, (0, 0, 0, 0, 1, 0))), two(images), atol=1e-6)


def test_the_layer_for_gradient_maps_exists():
    network = make("kosiba2020", shape=(356, 356)).eval()
    seen = []
    network.get_submodule(network.gradcam_layer).register_forward_hook(lambda m, i, o: seen.append(o.shape))
    with torch.no_grad():
        network(torch.zeros(1, 1, 356, 356))
    assert seen == [(1, 32, 12, 12)]
    assert not hasattr(network, "maps")


# Published numbers of parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", 11_689_512),  # torchvision's documentation
        ("mobilenet", 4_231_976),  # Keras, trainable; Howard et al. 2017, table 8: 4.2 million
        ("mobilenet_v2", 3_504_872),  # torchvision's documentation
    ],
)
def test_published_numbers_of_parameters(name, expected):
    assert count(make(name, n_bands=3, n_classes=1000)) == expected
    assert count(make(name, n_bands=1, n_classes=1000)) == expected  # as three equal channels


def test_numbers_of_parameters_with_three_classes():
    assert count(make("resnet18", n_bands=3)) == 11_689_512 - 1000 * 513 + 3 * 513
    # Keras counts the statistics of batch normalisation in its total.
    assert count(make("mobilenet", n_bands=3, n_classes=1000), trained=False) == 4_253_864
    assert count(make("attention")) < 400_000


def test_mobilenet_has_the_published_shapes():
    """Howard et al. 2017, table 1: 224 to 112 by the first convolution, then 112, 56, 56, 28, 28, 14 ... 7."""
    network = make("mobilenet", n_bands=3, n_classes=2, shape=(224, 224)).eval()
    shapes = []
    for block in (network.conv1, *network.blocks):
        block.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:3])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    published = [(32, 112), (64, 112), (128, 56), (128, 56), (256, 28), (256, 28), *6 * [(512, 14)], *2 * [(1024, 7)]]
    assert shapes == published


def test_a_half_wide_mobilenet_is_that_of_the_paper():
    """Howard et al. 2017, table 6: width multipliers 0.5 and 0.25 have 1.3 and 0.5 million parameters."""
    assert count(make("mobilenet", n_bands=3, n_classes=1000, n_filters=16)) == pytest.approx(1.3e6, abs=0.05e6)
    assert count(make("mobilenet", n_bands=3, n_classes=1000, n_filters=8)) == pytest.approx(0.5e6, abs=0.05e6)


@pytest.mark.parametrize("n_bands", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvision_gives_the_same_network(name, n_bands):
    """Same seed: the same names and start values, and the same answer to the image in three channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = getattr(torchvision.models, name)(weights=None, num_classes=3).eval()
    ours = make(name, n_bands=n_bands).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    images = random_images(2, n_bands)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images.expand(-1, 3, -1, -1)), atol=1e-5)


# Class maps


@pytest.mark.parametrize("n_bands", [1, 2])
@pytest.mark.parametrize("name", POOLED)
def test_class_maps_add_up_to_the_logits(name, n_bands):
    """Their mean is the logit up to a constant: one number per class, the same for all images."""
    network = lively(make(name, n_bands=n_bands, shape=(96, 64)), n_bands, (96, 64))
    with torch.no_grad():
        logits, maps = network.maps(random_images(5, n_bands, (96, 64)))
        assert torch.equal(logits, network(random_images(5, n_bands, (96, 64))))
    constant = logits - maps.mean(dim=(2, 3))
    assert torch.allclose(constant, constant[:1].expand_as(constant), atol=1e-4)
    assert logits.std(dim=0).min() > 10 * constant.std(dim=0).max()
    assert maps.shape[2:] == ((24, 16) if name == "attention" else (3, 2))


def test_attention_starts_as_aperture_photometry():
    """Pooled weights are Gaussians about the centre: 40, 100 and 250 kpc on 1 Mpc, and all but flat."""
    network = make("attention", shape=(256, 256)).eval()
    with torch.no_grad():
        flat, weights = network._attend(random_images(2, 1, (256, 256)))
    assert flat.shape == (2, 32, 64 * 64)
    y, x = (np.mgrid[:64, :64] + 0.5) * 4 * (1000 / 256) - 500
    for row, radius in zip(weights[0].numpy(), (40.0, 100.0, 250.0, 1000.0), strict=True):
        expected = np.exp(-0.5 * (x**2 + y**2) / radius**2)
        assert row.reshape(64, 64) == pytest.approx(expected / expected.sum(), rel=1e-3, abs=1e-9)


def test_attention_turns_with_the_image():
    """Nothing but learned filters tells directions apart: with filters made symmetric, so are the class maps."""
    network = lively(make("attention"))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            weight = module.weight.data
            for axes in ((2,), (3,)):
                weight = (weight + weight.flip(axes)) / 2
            module.weight.data = (weight + weight.transpose(2, 3)) / 2
    images = random_images(2)
    with torch.no_grad():
        logits, maps = network.maps(images)
        turned_logits, turned_maps = network.maps(torch.rot90(images, 1, dims=(2, 3)))
    assert torch.allclose(logits, turned_logits, atol=1e-4)
    assert torch.allclose(torch.rot90(maps, 1, dims=(2, 3)), turned_maps, atol=1e-3)


def test_attention_multiplies_less_than_a_narrow_resnet():
    from torch.utils.flop_counter import FlopCounterMode

    flops = {}
    for name in ("attention", "resnet18"):
        network = make(name, shape=(256, 256), n_filters=16).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 1, 256, 256))
        flops[name] = counter.get_total_flops()
    assert flops["attention"] <= flops["resnet18"]


@pytest.mark.parametrize("name", POOLED[:3])
def test_one_band_is_three_equal_channels(name):
    one, three = lively(make(name)), make(name, n_bands=3).eval()
    three.load_state_dict(one.state_dict())
    images = random_images(2)
    with torch.no_grad():
        expected = three(images.expand(-1, 3, -1, -1))
        assert torch.allclose(one(images), expected, atol=1e-4)
        assert torch.allclose(one.folded()(images), expected, atol=1e-4)
    first = next(module for module in one.folded().modules() if isinstance(module, torch.nn.Conv2d))
    assert first.in_channels == 1


# Export


@pytest.mark.parametrize("shape", [(64, 64), (75, 61)])
@pytest.mark.parametrize("n_bands", [1, 2])
@pytest.mark.parametrize("name", OF_PIXELS)
def test_onnx_is_torch(name, n_bands, shape):
    network = lively(make(name, n_bands=n_bands, shape=shape), n_bands, shape)
    images = random_images(5, n_bands, shape)
    results = run_onnx(export_onnx(network, n_bands=n_bands, shape=shape), images)
    with torch.no_grad():
        expected = network_outputs(network, images)
        assert torch.allclose(network(images), expected["logits"], atol=1e-5)
    assert list(results) == list(expected)
    assert ("class_maps" in results) == (name in POOLED) and results["features"].ndim == 2
    for output, values in results.items():
        tolerance = 1e-4 * max(1.0, float(expected[output].abs().max()))
        assert values == pytest.approx(expected[output].numpy(), abs=tolerance)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_nothing_is_computed_twice(name):
    onnx = pytest.importorskip("onnx")
    network = make(name)
    graph = onnx.load_from_string(export_onnx(network, n_bands=1, shape=(64, 64))).graph
    n_convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    has_class_maps = name in POOLED and name != "attention"  # made by one more convolution
    assert sum(node.op_type == "Conv" for node in graph.node) == n_convolutions + has_class_maps


def test_the_export_leaves_the_network_alone():
    network = make("attention")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    export_onnx(network, n_bands=1, shape=(64, 64))
    assert network.training and torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


# Building


@pytest.mark.parametrize("name", OF_PIXELS)
def test_start_values_depend_on_the_seed_alone(name):
    state = torch.random.get_rng_state()
    a, b = make(name), make(name)
    assert torch.equal(state, torch.random.get_rng_state()) and a.training
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    other = build(name, n_bands=1, n_classes=3, shape=(64, 64), seed=4)
    assert not all(torch.equal(x, y) for x, y in zip(a.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", OF_PIXELS)
def test_all_parameters_learn(name):
    network = make(name, dropout=0.0)
    torch.nn.functional.cross_entropy(network(random_images(6)), torch.arange(6) % 3).backward()
    still = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert still == []


@pytest.mark.parametrize("name", OF_PIXELS)
def test_published_widths_suit_channels_last(name):
    """The training loop uses channels-last tensors only where all filters are multiples of 16."""
    filters = [m.out_channels for m in make(name).modules() if isinstance(m, torch.nn.Conv2d)]
    assert name == "mobilenet_v2" or all(n % 16 == 0 for n in filters)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_dropout_is_set(name):
    rates = [m.p for m in make(name, dropout=0.3).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.3]


def test_bad_arguments():
    for bad in ("resnet", None, 3, torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="architecture must be one of"):
            check_architecture(bad)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        make("attention", shape=(31, 64))
    for bad in (1.0, -0.1, "0.5", float("nan")):
        with pytest.raises(ValueError, match="dropout must be"):
            make("resnet18", dropout=bad)


# Networks of the user


class Own(torch.nn.Module):
    def __init__(self, n_bands, n_classes, shape):
        super().__init__()
        self.convolution = torch.nn.Conv2d(n_bands, 4, 3, stride=4)
        self.last = torch.nn.Linear(4, n_classes)

    def features(self, images):
        return torch.relu(self.convolution(images))

    def forward(self, images):
        return self.last(self.features(images).mean(dim=(2, 3)))


def test_a_network_of_the_user():
    assert check_architecture(Own).name == "Own"
    network, again = make(Own, n_bands=2), make(Own, n_bands=2)
    assert network.training and torch.equal(network.last.weight, again.last.weight)
    results = run_onnx(export_onnx(network, n_bands=2, shape=(64, 64)), random_images(3, 2))
    assert list(results) == ["logits", "features"] and results["features"].shape == (3, 4)
    with pytest.raises(ValueError, match="dropout must be None"):
        make(Own, dropout=0.5)


def test_a_network_of_torchvision():
    network = make(lambda n_bands, n_classes, shape: torchvision.models.squeezenet1_1(num_classes=n_classes), n_bands=3)
    results = run_onnx(export_onnx(network, n_bands=3, shape=(64, 64)), random_images(2, 3))
    assert results["logits"].shape == (2, 3) and results["features"].shape == (2, 512)


class OneImage(Own):
    """Written for one image at a time."""

    def forward(self, images):
        return self.last(self.features(images).mean(dim=(0, 2, 3)))


class Fixed(Own):
    """What it does was decided when it was traced: the export would always do the same."""

    def forward(self, images):
        logits = super().forward(images)
        return logits * 2 if images.mean() > float(images[0].mean()) + 1e-12 else logits


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda n_bands, n_classes, shape: Own(n_bands, 7, shape), ValueError, r"logits \(2, 3\)"),
        (OneImage, ValueError, r"logits \(2, 3\)"),
        (Fixed, ValueError, "does not give the logits"),
        (lambda n_bands, n_classes, shape: Own(5, n_classes, shape), ValueError, "fails on images"),
        (lambda n_bands, n_classes, shape: "network", TypeError, "torch.nn.Module"),
    ],
)
def test_unusable_networks_are_refused_before_training(function, error, text):
    with pytest.raises(error, match=text):
        make(function)


# Start from other weights


def test_pretrained_weights(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    source = make("resnet18", n_bands=3, n_classes=10)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    same = make("resnet18", n_bands=3, n_classes=10, shape=(32, 32))
    assert load_pretrained(same, path) == []
    one, two = (make("resnet18", n_bands=n) for n in (1, 2))
    for network in (one, two):
        head = network.fc.weight.clone()
        assert load_pretrained(network, path) == ["fc.weight", "fc.bias"] and torch.equal(network.fc.weight, head)
        assert torch.equal(network.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    images = random_images(2)
    with torch.no_grad():
        expected = source.eval().features(images.expand(-1, 3, -1, -1))
        assert torch.allclose(one.eval().features(images), expected, atol=1e-4)
        assert torch.allclose(two.eval().features(images.expand(-1, 2, -1, -1)), expected, atol=1e-4)


def test_unusable_pretrained_weights(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ModelError, match="cannot be read"):
        load_pretrained(make("resnet18"), path)
    state = make("resnet18", n_filters=8).state_dict()
    for change, text in (
        ({"conv1.weight": torch.zeros(3, 3, 7, 7)}, "another shape"),
        ({"bn1.bias": torch.full((8,), float("nan"))}, "not finite"),
        ({"more": torch.zeros(1)}, "'more'"),
    ):
        save_file({**state, **change}, path)
        network = make("resnet18", n_filters=8, shape=(32, 32))
        with pytest.raises(ModelError, match=text):
            load_pretrained(network, path)
        assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_every_network_is_described():
    for name, architecture in _networks.ARCHITECTURES.items():
        assert architecture.name == name and architecture.smallest == (1 if name == "profile" else 32)
