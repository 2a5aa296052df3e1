"""What the tests share: the real data set, the composed configuration, a run in this process or in one of its own."""

import logging
import os
import runpy
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # tests beside each other: one thread each, also for what they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from torch import Tensor, nn

from fmnist import build
from fmnist.config.cores import usable_cores
from fmnist.data.dataset import ImageDataset
from fmnist.data.download import CACHE, fetch
from fmnist.inference import export_formats
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server

ROOT = Path(__file__).resolve().parents[1]


def pytest_xdist_auto_num_workers() -> int:
    return min(4, usable_cores())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that none of them runs alone at the end."""
    items.sort(key=lambda item: -max((mark.kwargs.get("minutes", 0) for mark in item.iter_markers("slow")), default=0))


def pytest_runtest_teardown() -> None:
    torch.set_flush_denormal(False)  # which a run in this process has set, and hypothesis's numbers do not go with


@pytest.fixture(scope="session")
def official() -> Path:
    """A directory with the four official files."""
    return fetch(CACHE)


@pytest.fixture(scope="session")
def train_set(official: Path) -> ImageDataset:
    return ImageDataset.read(official, "train")


@pytest.fixture(scope="session")
def test_set(official: Path) -> ImageDataset:
    return ImageDataset.read(official, "t10k")


# The smallest run: one epoch of four batches.
TINY = (
    *("experiment=smoke", "threads=1", "dashboard=none", "trainer.max_epochs=1", "trainer.limit_train_batches=4"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of two short epochs with all panels, tested on the whole test set. Only for reading."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers share it
    run = RunDirectory(base / "trained")
    with FileLock(base / "trained.lock"):
        if not run.finished:
            overrides = "experiment=smoke", "threads=1", "trainer.limit_test_batches=null", f"hydra.run.dir={run.path}"
            outcome = run_command(ROOT / "train.py", *overrides)
            assert outcome.code == 0, outcome.err
    return run


@pytest.fixture
def run_copy(trained_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of ``trained_run``, to be changed."""
    return RunDirectory(shutil.copytree(trained_run.path, tmp_path / "run"))


PLUGINS = {
    "sweep=search": "hydra_optuna_sweeper",
    "hydra/launcher=ray": "hydra_ray_launcher",
    "hydra/launcher=slurm": "hydra_submitit_launcher",
}


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Composes the configuration for a list of overrides."""

    def compose_with(*overrides: str) -> DictConfig:
        for override, plugin in PLUGINS.items():
            if override in overrides:
                pytest.importorskip(f"hydra_plugins.{plugin}", reason="needs make setup-extras")
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("train", list(overrides))

    return compose_with


@pytest.fixture
def untrained_run(composed: Callable[..., DictConfig], tmp_path: Path) -> RunDirectory:
    """A finished run whose best and last checkpoint differ, without the training."""
    run = RunDirectory(tmp_path / "run")
    run.hydra.mkdir(parents=True)
    run.checkpoints.mkdir()
    config = composed()
    OmegaConf.save(config, run.hydra / "config.yaml")
    for seed, path in enumerate((run.best_checkpoint, run.last_checkpoint)):
        torch.manual_seed(seed)
        torch.save({"state_dict": build.classifier(config).state_dict()}, path)
    run.write_metrics({"val/acc": 0.5})
    return run


@dataclass
class Outcome:
    """How a command ended."""

    code: int | None
    out: str
    err: str


def run_command(
    *arguments: str | Path, cwd: Path = ROOT, timeout: float = 300, cold: bool = False, **environment: str
) -> Outcome:
    """Runs ``python <arguments>`` in its own process.

    Args:
        arguments: Of the interpreter.
        cwd: Working directory.
        timeout: Seconds.
        cold: Starts a fresh interpreter: for interpreter options, and where it matters what is imported when.
        environment: Added to this process's environment variables.
    """
    command, environ = list(map(str, arguments)), {**os.environ, **environment}
    if cold:
        result = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(result.returncode, result.stdout, result.stderr)
    process = fork_server.Popen(command, cwd=cwd, env=environ)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return Outcome(process.returncode, out, err)


def wait_until(true: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., fork_server.Popen]]:
    """Starts ``python train.py <overrides>``, to send it a signal; kills it at the end of the test."""
    processes = []

    def call(*overrides: str, **environment: str) -> fork_server.Popen:
        command = [str(ROOT / "train.py"), *overrides]
        process = fork_server.Popen(command, cwd=tmp_path, env={**os.environ, **environment})
        processes.append((process, threading.Timer(300, process.kill)))
        processes[-1][1].start()
        return process

    yield call
    for process, timer in processes:
        timer.cancel()
        process.kill()
        process.communicate()


def outcome_of(program: Callable[[], object], capture: pytest.CaptureFixture[str]) -> Outcome:
    """Calls a program in this process, and says how it ended as if it had been one of its own."""
    capture.readouterr()
    code: int | str | None = 0
    try:
        program()
    except SystemExit as stop:
        code = stop.code
    captured = capture.readouterr()
    if isinstance(code, str):  # what the interpreter does with a message that sys.exit was given
        return Outcome(1, captured.out, f"{captured.err}{code}\n")
    return Outcome(code, captured.out, captured.err)


@pytest.fixture
def train_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Runs ``python train.py <overrides>`` in this process, with an empty working directory: seconds faster."""

    def call(*overrides: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, overrides)])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        GlobalHydra.instance().clear()
        return outcome_of(lambda: runpy.run_path(str(ROOT / "train.py"), run_name="__main__"), capfd)

    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)
    for logger in (logging.getLogger(), logging.getLogger("fmnist")):  # Hydra's handlers write to a closed capture
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless Chromium, which fetches nothing of its own accord."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    arguments = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --window-size=1500,1300 --enable-unsafe-swiftshader"
    )
    for argument in [*arguments.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})  # what a page fetches
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()


class Hostile:
    """Runs code when it is unpickled: it leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def one_line(outcome: Outcome) -> str:
    """The single line that a refused command prints."""
    assert outcome.code not in (0, None), outcome
    assert outcome.err.startswith("error: "), outcome.err
    assert len(outcome.err.splitlines()) == 1, outcome.err
    return outcome.err


def export_difference(network: nn.Module, kind: str, images: Tensor) -> float:
    """The largest difference between probabilities of a network and of itself, exported, in batches of several sizes.

    Args:
        network: Freshly made; batch norm learns of the first 50 images.
        kind: Of file, see ``export_formats.FORMATS``.
        images: The others are those that it is asked of.
    """
    if kind == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    network.to(memory_format=torch.channels_last)
    network(images[:50])
    network.eval()
    file, given = export_formats.FORMATS[kind], images[50:]
    with torch.no_grad():
        expected = network(given).softmax(dim=1)
    return export_formats.check(file.file, file.read(file.write(export_formats.capture(network))), given, expected)
