"""``make bench``: what this project's training costs, beside the floor and beside the usual ways.

Each round runs every contender once, in a process of its own, so that a machine's drift hits all alike; ratios are
formed within a round. Nothing in this project is turned off for it: the run that is timed is ``python train.py``.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
IMPORTS = "import hydra, matplotlib.figure, fmnist.build, torch.utils.tensorboard"  # what a run imports


def run(*arguments: str, code: int = 0) -> tuple[float, int, str]:
    """Runs Python with arguments; returns wall seconds, peak memory in bytes, and what was printed."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode != code:
        raise RuntimeError(f"{arguments} ended with {process.returncode}: {text[-2000:]}")
    return seconds, usage.ru_maxrss * 1024, text


def peer(module: str, *, epochs: int, images: int, batch_size: int, threads: int) -> float:
    """Mean seconds of an epoch of one of the peers, its first left out: it warms up."""
    settings = {"epochs": epochs + 1, "images": images, "batch-size": batch_size, "threads": threads}
    options = [f"--{name}={value}" for name, value in settings.items()]
    _, _, text = run("-W", "ignore", "-m", f"benchmarks.{module}", *options)
    seconds: list[float] = json.loads(text.splitlines()[-1])
    return statistics.mean(seconds[1:])


def project(*overrides: str, epochs: int, threads: int) -> dict[str, float]:
    """One run of ``train.py``: mean seconds of an epoch with all that belongs to it, of the start, and memory."""
    with tempfile.TemporaryDirectory() as directory:
        watch = Path(directory) / "watch.json"
        begin = time.time()
        _, memory, _ = run(
            *("train.py", f"trainer.max_epochs={epochs}", f"threads={threads}", f"hydra.run.dir={directory}/run"),
            f"+callbacks.stopwatch={{_target_: benchmarks.stopwatch.Stopwatch, path: {watch}}}",
            *overrides,
        )
        times = json.loads(watch.read_text())
    return {
        "epoch": (times["end"] - times["first_step"]) / epochs,
        "startup": times["first_step"] - begin,
        "memory": memory,
    }


def measure(*, rounds: int, epochs: int, images: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """All figures, one value for each round. Seconds, bytes, images per second, or ratios within a round."""
    limit = f"trainer.limit_train_batches={images // 100}"
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}

    def note(table: dict[str, list[float]], name: str, value: float) -> float:
        table.setdefault(name, []).append(value)
        print(f"  {name}: {value:.3f}", flush=True)
        return value

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        settings = {"epochs": max(1, epochs // 5), "images": images, "batch_size": 100, "threads": threads}
        floor = note(seconds, "floor", peer("floor", **settings))
        ours = project(limit, epochs=epochs, threads=threads)
        note(seconds, "this project", ours["epoch"])
        note(ratios, "this project / floor", ours["epoch"] / floor)
        for name, module in (("notebook", "notebook"), ("usual Lightning project", "usual")):
            theirs = note(seconds, name, peer(module, **settings))
            note(ratios, f"{name} / this project", theirs / ours["epoch"])

        lightning, _, _ = run("-c", "import lightning.pytorch")
        note(seconds, "import lightning.pytorch", lightning)
        note(seconds, "start-up to first step", ours["startup"])
        note(seconds, "--help", run("train.py", "--help")[0])
        note(seconds, "mistyped override", run("train.py", "lr=0.1", code=1)[0])
        note(seconds, "data files to tensors", _in_process(_load))
        note(ratios, "MB over imports", (ours["memory"] - run("-c", IMPORTS)[1]) / 2**20)

        # With as many images and no validation, so that nothing but the size differs.
        for batch_size in (250, 1000):
            ours = project(f"data.batch_size={batch_size}", _batches(images, batch_size), epochs=2, threads=threads)
            note(seconds, f"this project, batch {batch_size}", ours["epoch"])
        for part in (4, 2, 1):
            size = images // part
            ours = project("data.val_size=0", _batches(size, 100), epochs=2 * part, threads=threads)
            note(seconds, f"this project, {size} images", ours["epoch"])
    return {"seconds": seconds, "ratios": ratios}


def _batches(images: int, batch_size: int) -> str:
    return f"trainer.limit_train_batches={images // batch_size}"


def _in_process(call: Callable[[], object]) -> float:
    """The second of two calls: the first fills the file cache."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _load() -> None:
    from fmnist.data import ImageDataset
    from fmnist.fetch import CACHE

    for prefix in ("train", "t10k"):
        ImageDataset.read(CACHE, prefix)


def machine(threads: int) -> dict[str, Any]:
    """What a figure depends on beside the code."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    packages = ("torch", "lightning", "torchmetrics", "hydra-core", "tensorboard")
    return {
        "processor": processors[0].partition(":")[2].strip() if processors else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "commit": commit,
    }


def table(result: dict[str, Any]) -> str:
    """Median, least and greatest of the rounds, as Markdown."""
    lines = ["| | median | least | greatest |", "|---|---|---|---|"]
    for name, values in {**result["ratios"], **result["seconds"]}.items():
        unit = " s" if name in result["seconds"] else ""
        figures = (statistics.median(values), min(values), max(values))
        lines.append(f"| {name} | " + " | ".join(f"{figure:.2f}{unit}" for figure in figures) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10, help="of this project in a round")
    parser.add_argument("--images", type=int, default=55_000, help="training images per epoch, a multiple of 4,000")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the dated JSON")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("rounds", "epochs", "images", "threads")}
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(options.threads),
        "settings": settings,
        **measure(**settings),
    }
    date = str(result["date"])[:10]
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"bench-{date}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{table(result)}\n\n{path}")


if __name__ == "__main__":
    main()
