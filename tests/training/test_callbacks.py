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
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from torch.optim import SGD

from fmnist.dashboard import figures
from fmnist.training.callbacks.epoch_report import EpochReport
from fmnist.training.callbacks.learning_rate import LearningRate
from fmnist.training.callbacks.progress_bar import ProgressBar
from fmnist.training.scheduler import Linear
from tests.conftest import TINY, Outcome
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture

TrainHere = Callable[..., Outcome]


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


def slow(*, during: float, after: float) -> Callback:
    """Takes its seconds during each validation of ten batches, and after it, as drawing and writing do."""
    return LambdaCallback(
        on_validation_batch_start=lambda *_: time.sleep(during / 10), on_validation_end=lambda *_: time.sleep(after)
    )


def rows_of(logger: CSVLogger, name: str) -> list[dict[str, str]]:
    """Rows of metrics.csv that have a value of a metric."""
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize("interval", [1.0, 0.5])
def test_seconds_of_an_epoch_are_those_of_its_steps(
    interval: float, tmp_path: Path, loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logger = CSVLogger(tmp_path, version="")
    callbacks = [EpochReport(), slow(during=0.3, after=0.5)]
    options = {"max_epochs": 10, "max_steps": 10, "val_check_interval": interval, "logger": logger}
    fit = trainer(tmp_path, callbacks=callbacks, **options)
    fit.fit(classifier(), loader, loader)
    (row,) = rows_of(logger, "train/images_per_second")
    loss, acc, seconds, _, _, val_seconds = map(float, re.findall(r"\d+\.\d+", caplog.messages[-1]))
    assert caplog.messages[-1].startswith("epoch  1/10  train loss ")
    assert loss == pytest.approx(fit.callback_metrics["train/loss"].item(), abs=1e-4)
    assert acc == pytest.approx(fit.callback_metrics["train/acc"].item(), abs=1e-4)
    assert seconds < 0.3
    assert float(row["train/images_per_second"]) > 95 / 0.3
    assert 0.3 / interval <= val_seconds < 0.3 / interval + 0.3


def test_training_seconds_cover_everything_but_the_validation(tmp_path: Path, loader: Any) -> None:
    report = EpochReport()
    start = time.perf_counter()
    trainer(tmp_path, max_epochs=1, callbacks=[report, slow(during=0.5, after=0.3)]).fit(classifier(), loader, loader)
    whole = time.perf_counter() - start
    seconds = report.training_seconds
    assert 0.3 < seconds < whole - 0.5
    time.sleep(0.01)
    assert report.training_seconds == seconds
    report.load_state_dict({"training_seconds": 1000.0})  # as Lightning does before a test
    assert report.training_seconds == seconds
    assert EpochReport().training_seconds == 0
    resumed = EpochReport()
    resumed.load_state_dict({"training_seconds": 1000.0})
    assert resumed.state_dict() == {"training_seconds": 1000}
    trainer(tmp_path, max_epochs=1, callbacks=[resumed]).fit(classifier(), loader, loader)
    assert 1000 < resumed.training_seconds < 1000 + whole


@pytest.mark.parametrize(("weight_decay", "accumulated"), [(0.0, 2), (0.1, 1)])
def test_learning_rate_is_one_curve_for_all_parameter_groups(
    accumulated: int, weight_decay: float, tmp_path: Path, loader: Any
) -> None:
    module = classifier(partial(Linear, warmup=0.0), optimizer=partial(SGD, lr=0.1, weight_decay=weight_decay))
    logger = CSVLogger(tmp_path, version="")
    options = {"logger": logger, "log_every_n_steps": 5, "accumulate_grad_batches": accumulated}
    fit = trainer(tmp_path, callbacks=[LearningRate()], **options)
    fit.fit(module, loader, loader)
    assert len(fit.optimizers[0].param_groups) == (2 if weight_decay else 1)
    rows = rows_of(logger, "lr")
    steps = 2 * 10 // accumulated
    expected = {step: 0.1 * (1 - step / steps) for step in range(4, steps, 5)}
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
    final = screen(text)
    assert not any("it/s" in line for line in final)
    assert any(line.startswith("epoch 1/1  train loss") for line in final)


def screen(text: str) -> list[str]:
    """What a terminal finally shows: a bar uses only carriage return, line feed and 'one line up'."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|.|\n", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[A":
            row -= 1
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
    return lines
