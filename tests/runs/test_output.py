"""What runs print."""

import io
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from fmnist.runs import summary, terminal
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.tables import format_table

METRICS = {"train/acc": 0.5, "train/loss": 1.25, "val/acc": 0.41237, "val/loss": 2, "epochs": 9, "best_epoch": 7}


def test_log_lines_name_the_job_if_jobs_share_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_job", "")
    handler = terminal.ConsoleHandler(io.StringIO())
    for job in ("", "#1"):
        terminal.set_job(job)
        assert terminal.is_shared() == bool(job)
        handler.emit(logging.LogRecord("", logging.INFO, "", 0, "one\ntwo", None, None))
    assert handler.stream.getvalue() == "one\ntwo\n#1  one\n#1  two\n"


def test_table_aligns_words_to_the_left_and_numbers_to_the_right() -> None:
    table = [["name", "count"], ["a|<b>*", "1"], ["c\\", "10"]]
    assert format_table(table, "plain").splitlines() == ["name      count", "a|<b>*        1", "c\\           10"]
    assert format_table(table, "plain", words=2).splitlines()[1] == "a|<b>*  1"


def test_markdown_table_shows_each_cell_as_it_is() -> None:
    _, rule, *rows = format_table([["a", "b"], ["a|<b>*", "1"], ["c\\", "10"]], "pipe").splitlines()
    assert [cell.strip(" -") for cell in rule.split("|")] == ["", ":", ":", ""]
    assert [row.split() for row in rows] == [["|", r"a\|&lt;b>\*", "|", "1", "|"], ["|", r"c\\", "|", "10", "|"]]


def test_summary_and_line_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert summary.format_line(METRICS) == "finished: train/acc 0.5000  val/acc 0.4124  (best epoch 7 of 9)"
    command = f"{sys.executable} -m tensorboard.main --logdir"
    for path in ("runs/a", "b"):
        Path(path).mkdir(parents=True)
        (Path(path) / "events.out.tfevents.1").touch()
    lines = summary.format_summary(RunDirectory(tmp_path / "runs/a"), METRICS).splitlines()
    assert lines == [
        "",
        "best epoch           7 of 9",
        "training accuracy    0.5000  (loss 1.2500)",
        "validation accuracy  0.4124  (loss 2.0000)",
        "run directory        runs/a",
        f"dashboard            {command} runs",
    ]
    assert "dashboard" not in summary.format_summary(RunDirectory("c"), METRICS)  # logger=csv
    monkeypatch.setattr(summary, "ROOT", tmp_path)
    for path, dashboard in (("runs/a", "make tensorboard"), ("b", f"{command} b")):
        assert summary.format_summary(RunDirectory(path), METRICS).endswith(f"dashboard            {dashboard}")


def test_score_is_the_monitored_metric(composed: Callable[..., DictConfig]) -> None:
    assert summary.score(METRICS, composed()) == METRICS["val/acc"]
    assert summary.score(METRICS, composed("data.val_size=0")) == METRICS["train/loss"]
    assert math.isnan(summary.score({}, composed()))
