"""Kills training runs at random moments, resumes them, and compares with an uninterrupted run: ``make torture``.

Each case trains a small network with everything that has a state (dropout, batch norm, augmentation, a schedule, early
stopping, Adam), in a process of its own, and injects one fault:

  kill      SIGKILL at a random time
  operation SIGKILL just before a random file operation of the run, such as making, renaming or syncing a file
  fetch     the same, while the data set is fetched into an empty cache
  signal    SIGTERM or SIGINT at a random time
  full      the disk takes no file beyond a random size
  readonly  the run directory cannot be written any more from a random time on

Then the run is resumed, or started again if it had no directory yet; one run in three gets a second fault. In the end
weights, optimizer, metrics, curves and configuration must
equal those of the uninterrupted run to the last bit, and the manifest must be complete.
"""

import csv
import ctypes
import dataclasses
import json
import logging
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import fmnist.runs.session  # noqa: F401 (with all that a run imports, once, before the processes part)
from fmnist.cli import options
from fmnist.data import download, files
from fmnist.runs.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("kill", "operation", "fetch", "signal", "full", "readonly")
OPERATIONS = {"operation": 150, "fetch": 40}  # so many file operations are there to be killed before
DEADLINE = 120  # seconds after which a process counts as hung

TRUST = "trust=[tests]"
SETTINGS = [
    "model._target_=tests.torture.Network",
    "~model.pixel_mean",
    "~model.pixel_std",
    "augmentation=[flip,shift,erase,mixup,cutmix]",
    "augmentation.flip.alternating=true",
    "optimizer=adamw",
    "scheduler=cosine",
    "callbacks=early_stopping",
    "callbacks.early_stopping.patience=2",
    "trainer.max_epochs=5",
    "trainer.limit_train_batches=12",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "trainer.log_every_n_steps=1",
    "~dashboard.embedding",
    "~dashboard.mistakes",
    "~dashboard.precision_recall",
    "~dashboard.training_batch",
    "threads=1",
    TRUST,
]
VARIANTS = [
    [],
    ["data.val_size=0", "~callbacks.early_stopping"],
    ["trainer.max_steps=31"],
    ["trainer.val_check_interval=0.5"],
    ["trainer.check_val_every_n_epoch=2"],
    ["trainer.accumulate_grad_batches=5"],
    ["optimizer=sgd", "scheduler=onecycle", "test=false"],
    ["callbacks.early_stopping.patience=1", "optimizer.lr=0.3"],  # stops early
    ["logger=csv", "monitor.metric=val/loss", "monitor.mode=min"],
    [
        "+callbacks.ema={_target_:fmnist.training.callbacks.ema.EMA,decay:0.8}",
        "scheduler=linear",
        "label_smoothing=0.1",
    ],
    ["ensemble=3", "data.batch_size=7"],  # parts of 3, 2 and 2 images
]


class Network(nn.Module):
    """Has what remembers: batch norm in its buffers, dropout in the random number generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * 12 * 12, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.float() / 255)
        return logits


@dataclasses.dataclass(frozen=True)
class Process:
    """``python train.py <overrides>`` in a fork of this process, which saves the seconds of the imports."""

    pid: int
    output: Path

    @classmethod
    def start(cls, overrides: list[str], cwd: Path, prepare: Callable[[], None] = lambda: None) -> "Process":
        output = cwd / "output.txt"
        pid = os.fork()
        if pid:
            return cls(pid, output)
        code: Any = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(cwd)
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.argv = ["train.py", *overrides]
            prepare()
            try:
                runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
                code = 0
            except SystemExit as stop:
                code = stop.code
                if isinstance(code, str):
                    print(code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def wait(self) -> int:
        """Exit code; minus the signal's number if one has killed it."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"hung: {self.output.read_text()[-2000:]}")


def kill_before_operation(number: int, below: Path) -> None:
    """Makes this process kill itself before its n-th file operation below a directory."""
    count = 0
    below = below.absolute()

    def note(path: object) -> None:
        nonlocal count
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if text and str(Path(text).absolute()).startswith(str(below)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"):
            note(arguments[0])

    sync = os.fsync

    def noting_sync(descriptor: int) -> None:
        note(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    sys.addaudithook(hook)
    os.fsync = noting_sync  # type: ignore[assignment]


class Case:
    """One run and its faults."""

    def __init__(self, directory: Path, kind: str, settings: list[str], chance: random.Random, seconds: float) -> None:
        self.cwd = directory
        self.kind = kind
        self.settings = [*SETTINGS, *settings]
        self.chance = chance
        self.seconds = seconds  # that an uninterrupted run takes
        self.run = RunDirectory(directory / "run")
        self.told: list[str] = []
        self.cwd.mkdir(parents=True)

    def survive(self) -> None:
        """Runs until the run is finished."""
        faults = 0
        for _ in range(20):
            claimed = (self.run.hydra / "config.yaml").exists()
            overrides = ["resume=run", TRUST] if claimed else [*self.settings, "hydra.run.dir=run"]
            before = {path: path.read_bytes() for path in self.run.hydra.rglob("*") if path.is_file()}
            if faults == 0 or (faults == 1 and self.chance.random() < 1 / 3):
                faults += 1
                self.told.append(("" if not self.told else "resumed: ") + self._misfortune(overrides))
            else:
                code = Process.start(overrides, self.cwd, self._prepare).wait()
                assert code == 0, f"{overrides} ended with {code}: {self._output()}"
            assert all(path.read_bytes() == content for path, content in before.items()), "the configuration changed"
            if self.run.finished:
                return
        raise AssertionError("it never came to its end")

    def _prepare(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        if self.kind == "fetch":
            download.SYSTEM, download.CACHE = download.CACHE, self.cwd / "cache"

    def _misfortune(self, overrides: list[str]) -> str:
        if self.kind in ("operation", "fetch"):
            number = self.chance.randrange(1, OPERATIONS[self.kind])
            below = self.cwd / "cache" if self.kind == "fetch" else self.run.path

            def prepare() -> None:
                self._prepare()
                kill_before_operation(number, below)

            code = Process.start(overrides, self.cwd, prepare).wait()
            assert code in (-signal.SIGKILL, 0), self._output()
            return f"killed before operation {number}" if code else "not reached"
        if self.kind == "full":
            size = int(10 ** self.chance.uniform(3.5, 5.2))

            def limit() -> None:
                self._prepare()
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

            code = Process.start(overrides, self.cwd, limit).wait()
            assert code in (0, 1), self._output()
            return f"no file beyond {size} bytes: {self._last_line()}"
        delay = self.chance.uniform(0, self.seconds)
        if self.kind == "readonly":
            process = Process.start(overrides, self.cwd, self._obey_permissions)
            time.sleep(delay)
            self._chmod(0o555)
            code = process.wait()
            self._chmod(0o755)
            assert code in (0, 1), self._output()
            return f"read-only after {delay:.2f} s: {self._last_line()}"
        number = signal.SIGKILL if self.kind == "kill" else self.chance.choice([signal.SIGTERM, signal.SIGINT])
        process = Process.start(overrides, self.cwd, self._prepare)
        time.sleep(delay)
        os.kill(process.pid, number)
        code = process.wait()
        assert code in (0, -number, 128 + number), f"{code}: {self._output()}"
        return f"{number.name} after {delay:.2f} s: {code}"

    def _obey_permissions(self) -> None:
        """Gives up root's right to write where the permissions forbid it, CAP_DAC_OVERRIDE."""
        self._prepare()
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of the lower 32, of the upper 32
        assert libc.capget(header, sets) == 0
        sets[0] &= ~(1 << 1)
        assert libc.capset(header, sets) == 0

    def _chmod(self, mode: int) -> None:
        for path in [self.cwd, self.run.path, *self.run.path.rglob("*")]:
            if path.is_dir():
                path.chmod(mode)

    def _output(self) -> str:
        return (self.cwd / "output.txt").read_text()[-3000:]

    def _last_line(self) -> str:
        return (self._output().splitlines() or [""])[-1][:150]


def outcome(run: RunDirectory) -> dict[str, Any]:
    """All that must be the same, flat."""
    result: dict[str, Any] = {"metrics": run.metrics.read_text()}
    for path in (run.best_checkpoint, run.last_checkpoint):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["callbacks"]["EpochReport"].pop("training_seconds") > 0  # never twice the same
        result |= {f"{path.name}: {name}": value for name, value in flat(checkpoint).items()}
    for path in (run.path / "csv").glob("metrics.csv"):
        with path.open(newline="") as file:
            rows = [row | {"train/images_per_second": ""} for row in csv.DictReader(file)]
        result["csv"] = sorted(json.dumps(row, sort_keys=True) for row in rows if "".join(row.values()))
    if not any(run.path.glob("events.out.tfevents.*")):
        return result
    events = EventAccumulator(str(run.path), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    for tag in tags["scalars"]:
        if tag != "train/images_per_second":
            result[f"curve {tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in tags["images"]:
        result[f"images {tag}"] = [event.step for event in events.Images(tag)]
    return result


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


def different(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of what two runs do not have in common, to the last bit."""

    def equal(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)

    return sorted(
        name
        for name in first.keys() | second.keys()
        if name not in first or name not in second or not equal(first[name], second[name])
    )


def check_manifest(run: RunDirectory) -> None:
    manifest = json.loads(run.manifest.read_text())
    assert manifest["state"] == manifest["sessions"][-1]["state"] == "finished"
    assert manifest["error"] is None
    assert manifest["end"] > manifest["start"]
    assert manifest["seconds"] > 0
    for session in manifest["sessions"][:-1]:
        assert session["state"] in ("killed", "interrupted", "failed"), session
    missing = [
        name
        for name in ("commit", "config_sha256", "packages", "processor", "data", "parameters", "training_seconds")
        if name not in manifest
    ]
    assert not missing
    assert manifest["data"]["sha256"]["train"] == files.SHA256["train-images-idx3-ubyte"]
    assert not list(run.path.rglob("*.tmp")), "leftovers"


def torture(kills: int, seed: int, directory: Path, kinds: tuple[str, ...] = KINDS) -> Counter[str]:
    """Runs the cases; returns how many of each kind survived.

    Raises:
        AssertionError: One did not.
    """
    chance = random.Random(seed)
    undisturbed: dict[int, tuple[dict[str, Any], float]] = {}
    survived: Counter[str] = Counter()
    for number in range(kills):
        kind, variant = kinds[number % len(kinds)], chance.randrange(len(VARIANTS))
        if variant not in undisturbed:
            undisturbed[variant] = _undisturbed(directory / f"variant-{variant}", VARIANTS[variant])
        expected, seconds = undisturbed[variant]
        case = Case(directory / f"case-{number}", kind, VARIANTS[variant], chance, seconds)
        case.survive()
        reached = outcome(case.run)
        wrong = {name: (reached.get(name), expected.get(name)) for name in different(reached, expected)}
        assert not wrong, f"case {number}, {VARIANTS[variant]}, {case.told}: not as undisturbed: {str(wrong)[:3000]}"
        check_manifest(case.run)
        survived[kind] += 1
        print(f"{number + 1:4} of {kills}  {kind:<9} {variant}  {'; '.join(case.told)}", flush=True)
        shutil.rmtree(case.cwd)
    return survived


def _undisturbed(directory: Path, settings: list[str]) -> tuple[dict[str, Any], float]:
    """Outcome of an undisturbed run, and its seconds."""
    start = time.monotonic()
    case = Case(directory, "kill", settings, random.Random(), 0)
    code = Process.start([*case.settings, "hydra.run.dir=run"], case.cwd, case._prepare).wait()
    assert code == 0, case._output()
    return outcome(case.run), time.monotonic() - start


@dataclasses.dataclass(frozen=True)
class Options:
    kills: int = options.option("number of cases", default=200)
    seed: int = options.option("of the choice of moments", default=0)


def main(options: Options) -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each file that it reads
    download.fetch()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        survived = torture(options.kills, options.seed, Path(directory))
    kinds = ", ".join(f"{count} {kind}" for kind, count in survived.items())
    print(f"{survived.total()} of {options.kills} survived ({kinds}) in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    options.run(main, Options)
