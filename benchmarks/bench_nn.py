"""
Inference and training beside plain PyTorch: the same network, images and machine, in the same run.

Parts (all by default but the last; ``--parts`` chooses):

``inference``
    Images per second of ``classify`` (array of counts, CCDData in memory, and FITS files) beside PyTorch eager and
    channels_last, which get preprocessed arrays in batches of 8 and do nothing but run the network; and beside
    ``classify`` on arrays. ResNet-18 of width 64. Contenders take turns; each ratio is the median over the rounds, so
    that a busy machine shifts both.
``reading``
    Processor time to read an image and put it on the grid, relative to that of the network: what files cost
    ``classify``, as all cores are busy.
``options``
    Images per second of ONNX Runtime alone for numbers of threads and images in a call: what ``classify`` chose from.
``training``
    Seconds of an epoch of our loop (with augmentation, running mean, history) beside a bare PyTorch loop without.
``start``
    Seconds from the start of a process to the first answer on a FITS file, ours and torchvision's ResNet-18.
``memory``
    Largest memory of a process that classifies 100 and 1000 FITS files, and 100, 1000 and 10,000 arrays.
``install`` (with ``--install`` alone: it downloads some gigabytes)
    Size of the core installation, and of one with the extra ``train``, in virtual environments made for it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("inference", "reading", "options", "training", "start", "memory")
REDSHIFT = 0.05
EAGER_BATCH = 8


def grid(size):
    """1 Mpc in so many pixels."""
    from astropy import units as u

    from astroclassify.images import Geometry

    return Geometry(1 * u.Mpc, (size, size))


def counts(n, size):
    """Beta models of random core radii with Poisson noise, (n, size, size)."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    cores = rng.uniform(0.02, 0.2, n)
    shapes = [(1 + (x**2 + y**2) / core**2) ** -1.5 for core in cores]
    return np.stack([rng.poisson(1e5 * shape / shape.sum()) for shape in shapes]).astype(np.float32)


def write_files(images, folder):
    """Images as FITS files on the grid of the model."""
    from astropy import units as u
    from astropy.nddata import CCDData
    from astropy.wcs import WCS

    from astroclassify.images import write_image

    size = images.shape[1]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [30.0, 10.0], [(size + 1) / 2] * 2
    pixel = grid(size).pixel_width(REDSHIFT).to_value(u.deg)
    wcs.wcs.cdelt = [-pixel, pixel]
    meta = {"REDSHIFT": REDSHIFT, "EXPOSURE": 1e5}
    return [
        write_image(CCDData(image, unit=u.ct, wcs=wcs, meta=meta), Path(folder) / f"{i:05d}.fits")
        for i, image in enumerate(images)
    ]


def make(size, n_filters):
    """Untrained ResNet-18: the torch network, what ``classify`` needs of it, and its ONNX file."""
    from astroclassify.nn.inputs._preprocess import Preprocessing
    from astroclassify.nn.models._inference import OnnxNetwork, Predictor
    from astroclassify.nn.networks import _build as _networks

    shape = (size, size)
    network = _networks.build("resnet18", n_bands=1, n_classes=3, shape=shape, n_filters=n_filters, seed=0).eval()
    onnx = _networks.export_onnx(network, n_bands=1, shape=shape)
    predictor = Predictor(
        OnnxNetwork(onnx, input_shape=(1, size, size), n_classes=3),
        bands=("xray",), geometry=grid(size), preprocessing=Preprocessing("log", (0.0,), (1.0,)), training={},
    )  # fmt: skip
    return network, predictor, onnx


def take_turns(contenders, n_rounds, clock=time.perf_counter):
    """Seconds of each contender in each round; every one has run once before."""
    for run in contenders.values():
        run()
    seconds = {name: [] for name in contenders}
    for _ in range(n_rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def ratio(seconds, ours, theirs):
    """How many times faster the first is: the median over the rounds."""
    return median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True))


def bench_inference(rows, sizes, n_rounds):
    """Images per second at each size."""
    import torch

    from astroclassify.images import read_image
    from astroclassify.nn.models._inference import classify
    from astroclassify.schemes import COOL_CORE

    for size in sizes:
        n = 24  # batches for every core: a dozen would leave one core idle for a quarter of the time
        images = counts(n, size)
        network, predictor, _ = make(size, 64)
        pixels = torch.from_numpy(predictor.preprocessing(images[:, None]))
        last = make(size, 64)[0].to(memory_format=torch.channels_last)
        last_pixels = pixels.to(memory_format=torch.channels_last)

        def eager(module=network, tensor=pixels):
            with torch.inference_mode():
                parts = [module(tensor[i : i + EAGER_BATCH]) for i in range(0, len(tensor), EAGER_BATCH)]
                return torch.softmax(torch.cat(parts), 1).numpy()

        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(images, folder)
            in_memory = [read_image(path) for path in paths]
            contenders = {
                "eager": eager,
                "channels_last": lambda m=last, t=last_pixels: eager(m, t),
                "classify(arrays)": lambda i=images, p=predictor: classify(p, i, scheme=COOL_CORE),
                "classify(CCDData)": lambda i=in_memory, p=predictor: classify(p, i, scheme=COOL_CORE),
                "classify(FITS)": lambda i=paths, p=predictor: classify(p, i, scheme=COOL_CORE),
            }
            ours, theirs = contenders["classify(FITS)"](), eager()
            assert np.allclose([ours[f"p_{name}"] for name in COOL_CORE.classes], theirs.T, atol=1e-4)
            seconds = take_turns(contenders, n_rounds)
        for name in contenders:
            others = ("eager", "channels_last", "classify(arrays)")
            over = {f"over {other}": ratio(seconds, name, other) for other in others}
            add(rows, "inference", f"{name}, {size} px", n / min(seconds[name]), "images/s", **over)


def bench_reading(rows, sizes, n_rounds):
    """Milliseconds of one core for each image, medians over the rounds."""
    from astroclassify.images import read_image
    from astroclassify.nn.inputs._items import as_items

    for size in sizes:
        images = counts(8, size)
        predictor = make(size, 64)[1]
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(images, folder)
            kinds = {"FITS": paths, "CCDData": list(map(read_image, paths)), "arrays": images}
            bands, shape = predictor.bands, predictor.geometry.shape
            items = {kind: as_items(value, bands=bands, shape=shape)[0] for kind, value in kinds.items()}
            pixels = predictor.preprocessing(images[:4, None])
            contenders = {f"read {kind}": lambda i=i, p=predictor: p.load_batch(i) for kind, i in items.items()}
            contenders["network"] = lambda p=pixels, n=predictor.network: [n.run_batch(p) for _ in range(2)]
            seconds = take_turns(contenders, n_rounds, time.process_time)
        for name in contenders:
            over = {"over network": 1 / ratio(seconds, name, "network")}
            add(rows, "reading", f"{name}, {size} px", 1e3 * median(seconds[name]) / len(images), "ms/image", **over)


def bench_options(rows, sizes, n_rounds):
    """ONNX Runtime alone: threads in a call or calls side by side, and images in a call."""
    from concurrent.futures import ThreadPoolExecutor

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    for size, width in [*((size, 64) for size in sizes), (128, 12)]:
        data = make(size, width)[2]
        n = 256 if width < 64 else 16
        pixels = np.random.default_rng(0).standard_normal((n, 1, size, size)).astype(np.float32)
        sessions = {}
        for threads in (0, 1):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            sessions[threads] = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        contenders = {}
        with ThreadPoolExecutor() as pool:
            for batch in (1, 4, 16):
                parts = [pixels[i : i + batch] for i in range(0, n, batch)]

                def serial(parts=parts, session=sessions[0]):
                    return [session.run(["logits"], {"images": part}) for part in parts]

                def side_by_side(parts=parts, session=sessions[1], pool=pool):
                    return list(pool.map(lambda part: session.run(["logits"], {"images": part}), parts))

                contenders[f"all threads in a call of {batch}"] = serial
                contenders[f"one thread in each call of {batch}"] = side_by_side
            seconds = take_turns(contenders, n_rounds)
        for name in contenders:
            over = {"over default": ratio(seconds, name, "all threads in a call of 1")}
            add(rows, "options", f"{name}, {size} px, width {width}", n / min(seconds[name]), "images/s", **over)


def bench_training(rows, n_rounds):
    """One epoch of our loop and of a bare one, on the same images."""
    import torch

    from astroclassify.nn.networks import _build as _networks
    from astroclassify.nn.training._loop import Settings, train

    n, size, width, batch = 512, 128, 16, 32
    images = counts(n, size)[:, None]
    labels = np.arange(n) % 3

    def rule(array):
        return np.log1p(array)

    def network():
        return _networks.build("resnet18", n_bands=1, n_classes=3, shape=(size, size), n_filters=width, seed=0)

    def bare(memory_format):
        model = network().to(memory_format=memory_format).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        tensor = torch.from_numpy(rule(images)).to(memory_format=memory_format)
        answers = torch.from_numpy(labels)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            for rows_of_batch in torch.randperm(n).split(batch):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(tensor[rows_of_batch]), answers[rows_of_batch])
                loss.backward()
                optimizer.step()
                loss.item()
            seconds.append(time.perf_counter() - start)
        return seconds[-1]

    def ours(augmentation, mean_epochs=0):
        settings = Settings(
            epochs=2, batch_size=batch, learning_rate=1e-3, augmentation=augmentation, mean_epochs=mean_epochs,
            device="cpu",
        )  # fmt: skip
        targets = np.eye(3, dtype=np.float32)[labels]
        return train(network(), images, targets, rule=rule, settings=settings, seed=0)[-1]["seconds"]

    contenders = {
        "bare loop": lambda: bare(torch.contiguous_format),
        "bare loop, channels_last": lambda: bare(torch.channels_last),
        "our loop, no augmentation": lambda: ours(()),
        "our loop": lambda: ours(("flip", "turn", "shift")),
        "our loop and running mean, its statistics renewed": lambda: ours(("flip", "turn", "shift"), 2),
    }
    seconds = {name: [] for name in contenders}
    for _ in range(n_rounds):
        for name, run in contenders.items():
            seconds[name].append(run())  # each run warms up in its first epoch
    for name in contenders:
        over = {f"over {other}": ratio(seconds, name, other) for other in ("bare loop", "bare loop, channels_last")}
        add(rows, "training", f"{name}, {size} px, width {width}", n / min(seconds[name]), "images/s", **over)


OURS = """
from astroclassify.nn import load_classifier
print(load_classifier({model!r}).classify({path!r}, redshift=0.05)["label_pred"][0])
"""
THEIRS = """
import torch, torchvision, numpy as np
from astropy.io import fits
network = torchvision.models.resnet18(num_classes=3)
network.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
network.eval()
pixels = np.log1p(fits.getdata({path!r}).astype(np.float32))
with torch.inference_mode():
    print(int(network(torch.from_numpy(pixels)[None, None]).argmax()))
"""


def bench_start(rows, n_rounds):
    """Whole processes; PyTorch is not even asked to read weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(write_files(counts(1, 256), folder)[0])
        model = "coolcore"
        commands = {
            "load_classifier(...).classify(FITS)": [sys.executable, "-c", OURS.format(model=model, path=path)],
            "astroclassify classify": [
                sys.executable, "-c", "import sys; from astroclassify.cli import main; sys.exit(main())",
                "classify", path, "--model", model, "--redshift", "0.05",
            ],
            "PyTorch, torchvision, astropy": [sys.executable, "-c", THEIRS.format(path=path)],
        }  # fmt: skip
        contenders = {
            name: lambda command=command: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            for name, command in commands.items()
        }
        seconds = take_turns(contenders, n_rounds)
    for name in contenders:
        over = {"over PyTorch": ratio(seconds, name, "PyTorch, torchvision, astropy")}
        add(rows, "start", name, min(seconds[name]), "s", **over)


def memory_worker(kind, n, folder):
    """Classify n images in this process; print its largest memory [MB] and the rate."""
    from astroclassify.nn import load_classifier

    model = load_classifier("coolcore")
    images = sorted(Path(folder).glob("*.fits")) if kind == "FITS files" else list(counts(20, 256))
    start = time.perf_counter()
    table = model.classify((images * (n // len(images) + 1))[:n], redshift=REDSHIFT)
    seconds = time.perf_counter() - start
    assert len(table) == n and not np.any(table["message"] != "")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([peak, n / seconds]))


def bench_memory(rows, numbers):
    """One process for each number of images: the same 20 over and over, from files and from memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(counts(20, 256), folder)
        for kind, most in (("FITS files", 1000), ("arrays", max(numbers))):
            first = None
            for n in (n for n in numbers if n <= most):
                command = [sys.executable, __file__, "--worker", kind, str(n), folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
                peak, rate = json.loads(done.stdout)
                first = first or peak
                what = f"{n} {kind} of 256 px, packaged model"
                add(rows, "memory", what, peak, "MB", **{"over the first": peak / first})
                add(rows, "memory", f"{what}: rate", rate, "images/s")


def bench_install(rows):
    """Folders of site-packages after pip install."""
    for name, what in (("core", str(ROOT)), ("with torch", f"{ROOT}[train]")):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
            subprocess.run([*pip, what], check=True)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
            add(rows, "install", name, size, "MB", **{"over core": size / rows[-1]["value"] if name != "core" else 1.0})


def add(rows, part, what, value, unit, **over):
    """One row: a number, and how it stands to its peers."""
    rows.append({"part": part, "what": what, "value": value, "unit": unit, "ratios": over})
    ratios = ", ".join(f"{number:.2f} x {name.removeprefix('over ')}" for name, number in over.items())
    print(f"{part:10s} {what:60s} {value:8.1f} {unit:9s} {ratios}", flush=True)


def main():
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 356], help="sides of the images in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="how often contenders take turns")
    parser.add_argument("--numbers", nargs="+", type=int, default=[100, 1000, 10_000], help="images, for memory")
    parser.add_argument("--install", action="store_true", help="measure installations, nothing else")
    parser.add_argument("--out", help="table to write (ECSV)")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        memory_worker(arguments.worker[0], int(arguments.worker[1]), arguments.worker[2])
        return
    rows, parts = [], [] if arguments.install else arguments.parts
    if arguments.install:
        bench_install(rows)
    if "inference" in parts:
        bench_inference(rows, arguments.sizes, arguments.rounds)
    if "reading" in parts:
        bench_reading(rows, arguments.sizes, arguments.rounds)
    if "options" in parts:
        bench_options(rows, arguments.sizes, arguments.rounds)
    if "training" in parts:
        bench_training(rows, arguments.rounds)
    if "start" in parts:
        bench_start(rows, arguments.rounds)
    if "memory" in parts:
        bench_memory(rows, arguments.numbers)
    if arguments.out:
        from astropy.table import QTable

        from astroclassify.tables import write

        table = QTable({key: [row[key] for row in rows] for key in ("part", "what", "value", "unit")})
        table["ratios"] = [json.dumps(row["ratios"]) for row in rows]
        write(table, arguments.out, overwrite=True)


if __name__ == "__main__":
    main()
