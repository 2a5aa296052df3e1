"""Callbacks that talk: what they say is so."""

import csv
import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from torch.optim import SGD

from fmnist.dashboard import figures
from fmnist.training.callbacks.epoch_report import EpochReport
from fmnist.training.callbacks.learning_rate import LearningRate
from fmnist.training.scheduler import Linear
from tests.conftest import ROOT, Outcome
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture

TrainHere = Callable[..., Outcome]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["trainer.max_epochs=7"], [1, 7]),
        (["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=4"], [4]),
        (["trainer.max_epochs=4", "trainer.max_steps=170"], [1, 3]),  # the last; stopped within epoch 4
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
    assert train_here("experiment=smoke", *overrides).code == 0
    *validations, test = titles
    assert [int(re.findall(r"epoch (\d+):", title)[0]) for title in validations] == epochs
    assert test.startswith("test set: ")


class Slow(Callback):
    """Takes its time after each validation, as drawing and writing do."""

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        time.sleep(0.5)


def test_the_seconds_of_an_epoch_are_those_of_its_steps(
    tmp_path: Path, loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for interval in (1.0, 0.5):
        logger = CSVLogger(tmp_path, name=str(interval), version="")
        callbacks = [EpochReport(), Slow()]
        fit = trainer(tmp_path, max_epochs=1, callbacks=callbacks, val_check_interval=interval, logger=logger)
        fit.fit(classifier(), loader, loader)
        with (tmp_path / str(interval) / "metrics.csv").open(newline="") as file:
            (speed,) = [text for row in csv.DictReader(file) if (text := row["train/images_per_second"])]
        assert float(speed) > 95 / 0.4
        seconds = [float(number) for number in re.findall(r"\((\d+\.\d) s\)", caplog.messages[-1])]
        assert len(seconds) == 2
        assert max(seconds) < 0.4


def test_the_seconds_of_training_have_everything_in_them_but_the_validation(tmp_path: Path, loader: Any) -> None:
    class SlowValidation(Callback):
        def on_validation_batch_start(self, *_arguments: Any) -> None:
            time.sleep(0.1)  # for each of ten batches

    report = EpochReport()
    start = time.perf_counter()
    callbacks = [report, Slow(), SlowValidation()]
    trainer(tmp_path, max_epochs=1, callbacks=callbacks).fit(classifier(), loader, loader)
    whole = time.perf_counter() - start
    assert 0.5 < report.training_seconds < whole - 1
    at_the_end = report.training_seconds
    time.sleep(0.01)
    assert report.training_seconds == at_the_end
    report.load_state_dict({"training_seconds": 1000.0})  # as Lightning does before a test
    assert report.training_seconds == at_the_end
    assert EpochReport().training_seconds == 0
    going_on = EpochReport()
    going_on.load_state_dict({"training_seconds": 1000.0})
    assert going_on.training_seconds == 1000
    trainer(tmp_path, max_epochs=1, callbacks=[going_on]).fit(classifier(), loader, loader)
    assert 1000 < going_on.training_seconds < 1000 + whole


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_learning_rate_is_one_curve_however_many_groups_of_parameters_there_are(
    accumulated: int, weight_decay: float, tmp_path: Path, loader: Any
) -> None:
    module = classifier(partial(Linear, warmup=0.0), optimizer=partial(SGD, lr=0.1, weight_decay=weight_decay))
    logger = CSVLogger(tmp_path, name="csv", version="")
    fit = trainer(
        tmp_path,
        callbacks=[LearningRate()],
        logger=logger,
        log_every_n_steps=5,
        accumulate_grad_batches=accumulated,
    )
    fit.fit(module, loader, loader)
    assert len(fit.optimizers[0].param_groups) == (2 if weight_decay else 1)
    with (tmp_path / "csv/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lr"]]
    steps = 2 * 10 // accumulated
    assert {int(row["step"]): float(row["lr"]) for row in rows} == pytest.approx(
        {step: 0.1 * (1 - step / steps) for step in range(4, steps, 5)}
    )
    assert len(rows) == steps // 5
    assert not any("pg" in name for name in rows[0])


@pytest.mark.real_data
def test_the_bar_is_redrawn_seldom_and_gone_in_the_end(tmp_path: Path) -> None:
    """In a real terminal."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))  # a size, without which there is no bar
    overrides = ["experiment=smoke", "trainer.max_epochs=1", "callbacks.progress_bar.refresh_rate=20"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *overrides],
        cwd=tmp_path,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    output = b""
    try:
        while part := os.read(parent, 10_000):
            output += part
    except OSError:
        pass  # the program has ended and closed the terminal
    assert process.wait(timeout=60) == 0
    text = output.decode()
    drawn = re.findall(r"(\d+)/50 ", text)
    assert {"20", "40", "50"} <= set(drawn) <= {"0", "20", "40", "50"}
    final = screen(text)
    assert not any("it/s" in line for line in final)
    assert any(line.startswith("epoch 1/1  train loss") for line in final)


def screen(text: str) -> list[str]:
    """What a terminal shows in the end: carriage returns, line feeds and 'one line up' are all that a bar uses."""
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
