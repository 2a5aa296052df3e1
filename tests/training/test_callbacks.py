"""What callbacks print and log is true."""

import csv
import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from torch.optim import SGD

from fmnist.dashboard import figures
from fmnist.training.callbacks import epoch_report
from fmnist.training.callbacks.epoch_report import EpochReport
from fmnist.training.callbacks.learning_rate import LearningRate
from fmnist.training.callbacks.progress_bar import ProgressBar
from fmnist.training.scheduler import Linear
from tests.helpers import TINY, TrainHere
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["trainer.max_epochs=7"], [1, 7]),
        (["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=4"], [4]),
        (["trainer.max_epochs=4", "trainer.max_steps=14"], [1, 3]),  # the last one; training stops within epoch 4
    ],
)
def test_each_confusion_matrix_names_the_epoch_of_its_counts(
    overrides: list[str], epochs: list[int], train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    draw = figures.confusion_matrix

    def noting_draw(*arguments: Any, title: str) -> Figure:
        titles.append(title)
        return draw(*arguments, title=title)

    monkeypatch.setattr(figures, "confusion_matrix", noting_draw)
    panel = "+dashboard.confusion_matrix._target_=fmnist.dashboard.confusion_matrix.ConfusionMatrix"
    assert train_here(*TINY, panel, *overrides).code == 0
    *validations, test = titles
    assert [int(re.findall(r"epoch (\d+):", title)[0]) for title in validations] == epochs
    assert test.startswith("test set: ")


def rows_of(logger: CSVLogger, name: str) -> list[dict[str, str]]:
    """Rows of metrics.csv that have a value of a metric."""
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize(("interval", "validations"), [(1.0, 1), (0.5, 2)])
def test_seconds_are_those_of_steps_and_validation(
    interval: float,
    validations: int,
    tmp_path: Path,
    loader: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that advances by 1 s in each step, 0.25 s in each validation step, and 100 s after each validation."""
    now = 5.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    def fit(report: EpochReport, max_steps: int) -> Trainer:
        passing_time = LambdaCallback(
            on_train_batch_start=lambda *_: wait(1),
            on_validation_batch_start=lambda *_: wait(0.25),
            on_validation_end=lambda *_: wait(100),  # for drawing and writing
        )
        options = {"max_epochs": 10, "max_steps": max_steps, "val_check_interval": interval, "logger": logger}
        built = trainer(tmp_path, callbacks=[report, passing_time], **options)
        built.fit(classifier(), loader, loader)
        return built

    monkeypatch.setattr(epoch_report, "time", SimpleNamespace(perf_counter=lambda: now))
    caplog.set_level(logging.INFO)
    logger = CSVLogger(tmp_path, version="")
    report = EpochReport()
    assert report.training_seconds == 0
    metrics = {name: value.item() for name, value in fit(report, 20).callback_metrics.items()}
    assert [row["train/images_per_second"] for row in rows_of(logger, "train/images_per_second")] == ["9.5", "9.5"]
    assert caplog.messages[-1] == (
        f"epoch  2/10  train loss {metrics['train/loss']:.4f} acc {metrics['train/acc']:.4f} (10.0 s)  "
        f"val loss {metrics['val/loss']:.4f} acc {metrics['val/acc']:.4f} ({2.5 * validations:.1f} s)"
    )
    wait(1000)
    assert report.state_dict() == {"training_seconds": 20 + 200 * validations}
    report.load_state_dict({"training_seconds": 1000.0})  # as Lightning does before a test
    assert report.training_seconds == 20 + 200 * validations
    resumed = EpochReport()
    resumed.load_state_dict({"training_seconds": 1000.0})
    fit(resumed, 10)
    assert resumed.training_seconds == 1000 + 10 + 100 * validations


@pytest.mark.parametrize(("weight_decay", "accumulated", "every"), [(0.0, 2, 5), (0.1, 1, 1)])
def test_learning_rate_is_one_curve_for_all_parameter_groups(
    accumulated: int, weight_decay: float, every: int, tmp_path: Path, loader: Any
) -> None:
    module = classifier(partial(Linear, warmup=0.0), optimizer=partial(SGD, lr=0.1, weight_decay=weight_decay))
    logger = CSVLogger(tmp_path, version="")
    options = {"logger": logger, "log_every_n_steps": every, "accumulate_grad_batches": accumulated}
    fit = trainer(tmp_path, callbacks=[LearningRate()], **options)
    fit.fit(module, loader, loader)
    assert len(fit.optimizers[0].param_groups) == (2 if weight_decay else 1)
    rows = rows_of(logger, "lr")
    steps = 2 * 10 // accumulated
    expected = {step: 0.1 * (1 - step / steps) for step in range(every - 1, steps, every)}
    assert {int(row["step"]): float(row["lr"]) for row in rows} == pytest.approx(expected)
    assert len(rows) == len(expected)
    assert not any("pg" in name for name in rows[0])


def test_progress_bar_must_be_redrawn_at_times() -> None:
    with pytest.raises(ValueError, match="refresh_rate must be at least 1, got 0"):
        ProgressBar(refresh_rate=0)


@pytest.mark.real_data
def test_progress_bar_is_redrawn_rarely_and_disappears(train_here: TrainHere, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))  # no bar without a size
    output: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(parent, 10_000):
                output.append(part)
        except OSError:
            pass  # the terminal was closed

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(child, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        ended = train_here(*TINY, "trainer.limit_train_batches=50", "callbacks.progress_bar.refresh_rate=20")
    reader.join()
    assert ended.code == 0, ended
    text = b"".join(output).decode()
    assert {"20", "40", "50"} <= set(re.findall(r"(\d+)/50 ", text)) <= {"0", "20", "40", "50"}
    assert "epoch 1: " in text
    for following in ("epoch 1/1  train loss", "Testing", "best epoch"):
        assert re.search(rf"it/s\]\r {{90,}}[\r\n]*{following}", text), f"the bar is not erased before {following}"
