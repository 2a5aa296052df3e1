"""The fixtures of all tests: the real data set, finished runs, commands, a browser."""

import logging
import os
import runpy
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from fmnist import build
from fmnist.data.dataset import ImageDataset
from fmnist.data.download import CACHE, fetch
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.helpers import ROOT, Outcome, Start, TrainHere, encode_idx, outcome_of, run_command


@pytest.fixture(scope="session")
def official() -> Path:
    """A directory with the four official files."""
    return fetch(CACHE)


@pytest.fixture(scope="session")
def train_set(official: Path) -> ImageDataset:
    return FashionMNIST(data_dir=str(official)).read("train")


@pytest.fixture(scope="session")
def test_set(official: Path) -> ImageDataset:
    return FashionMNIST(data_dir=str(official)).read("test")


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


EXTRAS = {
    "sweep=search": "optuna",
    "hydra/launcher=ray": "hydra_plugins.hydra_ray_launcher",
    "hydra/launcher=slurm": "hydra_plugins.hydra_submitit_launcher",
    "model=timm": "timm",
}


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Composes the configuration for a list of overrides."""

    def compose_with(*overrides: str) -> DictConfig:
        for override, package in EXTRAS.items():
            if override in overrides:
                pytest.importorskip(package, reason="needs make setup-extras")
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("train", list(overrides))

    return compose_with


@pytest.fixture(scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least that data=folder and data=idx need: two classes, and four files."""
    directory = tmp_path_factory.mktemp("own")
    for name in ("cat", "dog"):
        (directory / name).mkdir()
    for prefix in ("train", "test"):
        (directory / f"{prefix}-images-idx3-ubyte").write_bytes(encode_idx(np.zeros((2, 28, 28), np.uint8)))
        (directory / f"{prefix}-labels-idx1-ubyte").write_bytes(encode_idx(np.arange(2, dtype=np.uint8)))
    return directory


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
        classifier = build.classifier(config)
        torch.save({"state_dict": classifier.state_dict(), "data": classifier.data.to_dict()}, path)
    run.write_manifest({"data": classifier.data.to_dict(), "sessions": []})
    run.write_metrics({"val/acc": 0.5})
    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
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


@pytest.fixture
def train_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[TrainHere]:
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
    """Starts a headless Chromium with its background downloads turned off."""
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
