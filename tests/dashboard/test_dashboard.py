"""When the dashboard draws its panels."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig

from fmnist import build
from fmnist.dashboard import callback
from fmnist.dashboard.callback import Dashboard, is_milestone
from fmnist.dashboard.panel import Panel, PanelContext, Stage
from fmnist.data.dataset import ImageDataset
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.metrics import EvaluationMetrics

Drawn = list[tuple[str, int | None, int]]


class Recorder(Panel):
    """Records split, epoch and step of each drawing."""

    def __init__(self, *stages: Stage) -> None:
        self.stages = frozenset(stages)  # type: ignore[misc]
        self.drawn: Drawn = []

    def draw(self, context: PanelContext) -> None:
        assert len(context.evaluation) == 4
        self.drawn.append((context.split, context.epoch, context.step))


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Stand-ins for the trainer and the module that Lightning passes to the hooks."""
    monkeypatch.setattr(callback, "tensorboards", lambda _trainer: [SimpleNamespace(experiment=None)])
    dataset = ImageDataset(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.zeros(4).long())
    data = SimpleNamespace(part=lambda _split: (dataset, torch.arange(4)))
    metrics = EvaluationMetrics(10)
    metrics.update(torch.tensor(0.0), torch.zeros(4, 10), torch.zeros(4).long())
    trainer = SimpleNamespace(sanity_checking=False, datamodule=data, state=SimpleNamespace(fn=TrainerFn.FITTING))
    return trainer, SimpleNamespace(val_metrics=metrics, test_metrics=metrics, network=None)


def validate(dashboard: Dashboard, trainer: Any, module: Any, epochs: int) -> None:
    """Calls the hooks of epochs of three steps."""
    for epoch in range(epochs):
        trainer.current_epoch, trainer.global_step = epoch, 3 * (epoch + 1)
        dashboard.on_validation_end(trainer, module)


@pytest.mark.parametrize(
    ("stages", "epochs", "final", "drawn"),
    [
        ([Stage.EPOCH], 3, "test", [("val", 1, 2), ("val", 2, 5), ("val", 3, 8)]),
        ([Stage.MILESTONE], 4, "test", [("val", 1, 2), ("val", 4, 12)]),
        ([Stage.FINAL], 1, "val", [("val", 1, 3)]),
        ([Stage.MILESTONE, Stage.FINAL], 10, "test", [("val", 1, 2), ("val", 10, 29), ("test", None, 30)]),
        ([Stage.MILESTONE, Stage.FINAL], 10, "val", [("val", 1, 2), ("val", 10, 29)]),
        ([Stage.MILESTONE, Stage.FINAL], 4, "val", [("val", 1, 2), ("val", 4, 12)]),
    ],
)
def test_panel_is_drawn_at_its_stages_and_once_where_they_coincide(
    stages: list[Stage], epochs: int, final: Any, drawn: Drawn, hooked: tuple[Any, Any]
) -> None:
    panel = Recorder(*stages)
    dashboard = Dashboard(panels=[panel], final=final)
    validate(dashboard, *hooked, epochs)
    dashboard.on_train_end(*hooked)
    dashboard.on_fit_end(*hooked)
    if final == "test":
        dashboard.on_test_end(*hooked)
    assert panel.drawn == drawn


def test_milestones_are_powers_of_ten() -> None:
    assert [epoch for epoch in range(1, 1001) if is_milestone(epoch)] == [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("function", "epochs_left", "drawn"),
    [(TrainerFn.FITTING, False, [("val", 2, 6)]), (TrainerFn.FITTING, True, []), (TrainerFn.TESTING, False, [])],
)
def test_run_killed_after_its_last_epoch_draws_the_last_panels_when_resumed(
    function: TrainerFn, epochs_left: bool, drawn: Drawn, hooked: tuple[Any, Any]
) -> None:
    killed, panel, checkpoint = Dashboard(panels=[], final="val"), Recorder(Stage.FINAL), dict[str, Any]()
    validate(killed, *hooked, 2)
    killed.on_save_checkpoint(*hooked, checkpoint)
    resumed = Dashboard(panels=[panel], final="val")
    hooked[0].state.fn = function
    resumed.on_load_checkpoint(*hooked, checkpoint)
    if epochs_left:
        resumed.on_train_start(*hooked)
    resumed.on_fit_end(*hooked)
    assert panel.drawn == drawn


def test_nothing_is_drawn_without_a_validation_or_with_logits_that_are_not_finite(
    hooked: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    trainer, module = hooked
    panel = Recorder(Stage.EPOCH, Stage.FINAL)
    dashboard = Dashboard(panels=[panel], final="val")
    trainer.sanity_checking = True
    validate(dashboard, trainer, module, 1)
    dashboard.on_train_end(trainer, module)
    checkpoint: dict[str, Any] = {}
    dashboard.on_save_checkpoint(trainer, module, checkpoint)
    dashboard.on_load_checkpoint(trainer, module, checkpoint)
    assert (checkpoint, caplog.text) == ({}, "")
    module.val_metrics.update(torch.tensor(0.0), torch.full((1, 10), torch.nan), torch.zeros(1).long())
    trainer.sanity_checking = False
    validate(dashboard, trainer, module, 1)
    assert panel.drawn == []
    assert "no panels for the val split: some logits are not finite" in caplog.text


def test_panels_can_be_deleted_alone_or_all_at_once(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    def panels(*overrides: str) -> list[str]:
        trainer: Any = build.trainer(composed(*overrides), RunDirectory(tmp_path))
        (dashboard,) = (callback for callback in trainer.callbacks if isinstance(callback, Dashboard))
        return [type(panel).__name__ for panel in dashboard.panels]

    everything = panels()
    assert len(everything) == 8
    assert panels("~dashboard.embedding") == [name for name in everything if name != "Embedding"]
    assert panels("dashboard=none") == []
