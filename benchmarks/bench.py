"""``make bench``: times this project's training, the floor and the usual ways.

Each round runs every contender once, each in a process and a terminal of its own, so that a machine's drift hits all
alike; ratios are formed within a round. Nothing in this project is turned off for it: the run that is timed is
``python train.py``.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.process import ROOT, python
from fmnist.config.cores import usable_cores
from fmnist.data.download import CACHE
from fmnist.runs.provenance import processor

IMPORTS = "import hydra, matplotlib.figure, fmnist.build, torch.utils.tensorboard"  # what a run imports
LOAD = """
import timeit
from fmnist.data.fashion_mnist import FashionMNIST
print(timeit.timeit(lambda: [FashionMNIST().read(split) for split in ("train", "test")], number=1))
"""  # by now the files are in the system's cache
SWEEP = "seed=range(0,8)"  # the test of this module sweeps over fewer
PEERS = ROOT / ".venv-peers/bin/python"  # where `make bench-peers` installs them
KERAS = {"Keras on TensorFlow": "tensorflow", "Keras on JAX": "jax"}
PICTURE = "docs/dashboard.png"  # any will do
VAL_SHARE = 12  # one image in twelve is for validation: 5,000 of 60,000


class Notes:
    """Figures by name, one value for each round."""

    def __init__(self) -> None:
        self.figures: dict[str, report.Figure] = {}

    def add(self, name: str, value: float, unit: str) -> float:
        self.figures.setdefault(name, {"unit": unit, "values": []})["values"].append(round(value, 4))
        print(f"  {name}: {value:.2f} {unit}", flush=True)
        return value


def peer(module: str, *, epochs: int, images: int, threads: int) -> float:
    """Mean seconds of an epoch of one of the peers, its first left out: it warms up."""
    settings = {"epochs": epochs + 1, "images": images, "batch-size": 100, "threads": threads}
    options = [f"--{name}={value}" for name, value in settings.items()]
    outcome = python("-W", "ignore", "-m", f"benchmarks.{module}", *options)
    seconds: list[float] = json.loads(outcome.text.splitlines()[-1])
    return statistics.mean(seconds[1:])


def project(*overrides: str, epochs: int, threads: int) -> dict[str, float]:
    """One run of ``train.py``: seconds of an epoch (mean), of start and test; peak memory."""
    with tempfile.TemporaryDirectory() as directory:
        watch = Path(directory) / "watch.json"
        begin = time.time()
        outcome = python(
            *("train.py", f"trainer.max_epochs={epochs}", f"threads={threads}", f"hydra.run.dir={directory}/run"),
            f"+callbacks.stopwatch={{_target_: benchmarks.stopwatch.Stopwatch, path: {watch}}}",
            "trust=[benchmarks]",
            *overrides,
        )
        moments = json.loads(watch.read_text())
    return {
        "epoch": (moments["trained"] - moments["first_step"]) / epochs,
        "start": moments["first_step"] - begin,
        "test": moments["tested"] - moments["test_start"],
        "memory": outcome.peak_memory,
    }


def measure(*, rounds: int, epochs: int, images: int, threads: int) -> dict[str, report.Figure]:
    notes = Notes()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        _compare(notes, epochs=epochs, images=images, threads=threads)
        _grow(notes, images=images * VAL_SHARE // (VAL_SHARE - 1), threads=threads)
        _start(notes)
        _whole(notes, images=images, threads=threads)
    _sweep(notes, epochs=max(1, epochs // 2), images=images)  # once: it takes minutes
    return notes.figures


def _compare(notes: Notes, *, epochs: int, images: int, threads: int) -> None:
    few = max(1, epochs // 5)
    floor = notes.add("floor", peer("floor", epochs=few, images=images, threads=threads), "s")
    ours = project(f"trainer.limit_train_batches={images // 100}", epochs=epochs, threads=threads)
    notes.add("this project", ours["epoch"], "s")
    notes.add("this project / floor", ours["epoch"] / floor, "")
    for name, module in (("notebook", "notebook"), ("usual Lightning project", "usual")):
        theirs = notes.add(name, peer(module, epochs=few, images=images, threads=threads), "s")
        notes.add(f"{name} / this project", theirs / ours["epoch"], "")
    notes.add("start-up to first step", ours["start"], "s")
    lightning = python("-c", "import lightning.pytorch").seconds
    notes.add("import lightning.pytorch", lightning, "s")
    notes.add("start-up beyond that import", ours["start"] - lightning, "s")
    notes.add("test set", 10_000 / ours["test"], "images/s")
    notes.add("memory beyond the imports", (ours["memory"] - python("-c", IMPORTS).peak_memory) / 2**20, "MB")


def _grow(notes: Notes, *, images: int, threads: int) -> None:
    """How the time of an epoch grows, on all images: nothing but the size differs."""
    everything = "data.val_size=0"
    epoch = {}
    for part in (4, 2, 1):
        size = images // part
        limit = f"trainer.limit_train_batches={size // 100}"
        epoch[part] = project(everything, limit, epochs=2 * part, threads=threads)["epoch"]
        notes.add(f"{size:,} images", epoch[part], "s")
    notes.add(f"{images:,} images / 4 times {images // 4:,}", epoch[1] / epoch[4] / 4, "")
    for batch_size in (250, 1000):
        sizes = (f"data.batch_size={batch_size}", f"trainer.limit_train_batches={images // batch_size}")
        notes.add(f"batches of {batch_size}", project(everything, *sizes, epochs=2, threads=threads)["epoch"], "s")


def _sweep(notes: Notes, *, epochs: int, images: int) -> None:
    """Eight jobs with torch's own choice of threads, one after the other and as many at once as there are cores."""
    seconds = {}
    for launcher in ("basic", "joblib"):
        with tempfile.TemporaryDirectory() as directory:
            overrides = [f"trainer.max_epochs={epochs}", f"trainer.limit_train_batches={images // 100}", "test=false"]
            places = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}/sweep"]
            seconds[launcher] = python("train.py", "-m", SWEEP, *overrides, *places).seconds
    notes.add("eight jobs one after the other", seconds["basic"], "s")
    notes.add("eight jobs beside each other", seconds["joblib"], "s")
    notes.add("one after the other / beside each other", seconds["basic"] / seconds["joblib"], "")
    # What a processor has to give: the same of the bare loop, which has no start-up and nothing but training.
    cores = usable_cores()
    alone = peer("floor", epochs=epochs, images=images, threads=cores)
    with ThreadPoolExecutor(cores) as pool:
        beside = pool.map(lambda _: peer("floor", epochs=epochs, images=images, threads=1), range(cores))
    notes.add("the same of the floor", cores * alone / max(beside), "")


def _start(notes: Notes) -> None:
    notes.add("--help", python("train.py", "--help").seconds, "s")
    notes.add("--cfg job", python("train.py", "--cfg", "job").seconds, "s")
    notes.add("mistyped override", python("train.py", "lr=0.1", code=1).seconds, "s")
    notes.add("verified files to tensors", float(python("-c", LOAD).text), "s")


def _whole(notes: Notes, *, images: int, threads: int) -> None:
    """Whole commands, from the shell's prompt to its next, for training until the test result and for what follows."""
    with tempfile.TemporaryDirectory() as directory:
        for epochs in (1, 5):
            run = Path(directory, str(epochs))
            name = f"whole command, {epochs} epochs".replace("1 epochs", "1 epoch")
            sizes = (f"trainer.max_epochs={epochs}", f"trainer.limit_train_batches={images // 100}")
            ours = notes.add(name, python("train.py", *sizes, f"hydra.run.dir={run}").seconds, "s")
            if epochs == 1:
                training: float = json.loads((run / "manifest.json").read_text())["training_seconds"]
                notes.add(f"{name}, without the training", ours - training, "s")
            settings = (f"--epochs={epochs}", f"--images={images}", "--batch-size=100")
            for peer_name, module in (("notebook", "notebook"), ("usual Lightning project", "usual")):
                theirs = python("-W", "ignore", "-m", f"benchmarks.{module}", *settings, f"--threads={threads}")
                notes.add(f"{name}: {peer_name} / this project", theirs.seconds / ours, "")
            for peer_name, backend in KERAS.items() if PEERS.exists() else ():
                script = ("benchmarks/keras_peer.py", *settings, f"--data={CACHE}")
                theirs = python(*script, interpreter=str(PEERS), KERAS_BACKEND=backend)
                notes.add(f"{name}: {peer_name} / this project", theirs.seconds / ours, "")
                if epochs == 5:
                    notes.add(peer_name, statistics.mean(json.loads(theirs.text.splitlines()[-1])[1:]), "s")
        notes.add("evaluate", python("-m", "fmnist.evaluate", str(run)).seconds, "s")
        notes.add("predict one picture", python("-m", "fmnist.predict", str(run), PICTURE).seconds, "s")
        smoke = python("train.py", "experiment=smoke", f"hydra.run.dir={directory}/smoke")
        notes.add("experiment=smoke", smoke.seconds, "s")
        notes.add("its peak memory", smoke.peak_memory / 2**20, "MB")
        for name, launcher in (("one after the other", "basic"), ("beside each other", "joblib")):
            places = (f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}/{launcher}")
            seconds = python("train.py", "-m", SWEEP, "experiment=smoke", *places).seconds
            notes.add(f"eight smoke jobs {name}", seconds, "s")


def machine(threads: int) -> dict[str, Any]:
    """What a figure depends on beside the code."""
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    packages = ("torch", "lightning", "torchmetrics", "hydra-core", "tensorboard")
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "threads": threads,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of this project in a round")
    parser.add_argument("--images", type=int, default=55_000, help="training images per epoch, a multiple of 11,000")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="directory for the dated JSON")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("rounds", "epochs", "images", "threads")}
    if options.images % 11_000:
        parser.error(f"--images must be a multiple of 11,000, got {options.images}")
    result: report.Result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(options.threads),
        "settings": settings,
        "figures": measure(**settings),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"bench-{result['date'][:10]}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report.table(result)}\n\n{path}")


if __name__ == "__main__":
    main()
