"""Loggers of a resumed run."""

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.runs.run_directory import RunDirectory
from fmnist.training.loggers import log_start
from tests.training.test_classifier import classifier, trainer


def test_resuming_removes_what_was_logged_after_the_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    for session, steps in enumerate(((2, 3, 4, 5), (4,), (4, 6))):  # the last two resume after step 3
        loggers: Any = [CSVLogger(tmp_path, "csv", version=""), TensorBoardLogger(tmp_path, "events", version="")]
        log_start(trainer(tmp_path, logger=loggers), classifier(), {}, run)
        for logger in loggers:
            for step in steps:
                logger.log_metrics({"value": session}, step)
            logger.finalize("success")
        torch.save({"epoch": 0, "global_step": 4, "state_dict": {}}, run.last_checkpoint)
    expected = [(2, 0.0), (3, 0.0), (4, 2.0), (6, 2.0)]
    with (tmp_path / "csv/metrics.csv").open(newline="") as file:
        assert [(int(row["step"]), float(row["value"])) for row in csv.DictReader(file)] == expected
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("value")] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "csv", "events"]
