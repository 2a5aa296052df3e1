"""Panels: when they are drawn, and what they show."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from fmnist import build
from fmnist.dashboard.callback import Dashboard
from fmnist.dashboard.embedding import features
from fmnist.dashboard.filters import Filters
from fmnist.dashboard.mistakes import confused_pairs_table
from fmnist.dashboard.panel import Panel, PanelContext, Stage
from fmnist.data.dataset import ImageDataset
from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.metrics import EvaluationMetrics

Composed = Callable[..., DictConfig]


class Recorder(Panel):
    """Records the split and epoch of each drawing."""

    def __init__(self, *stages: Stage) -> None:
        self.stages = frozenset(stages)  # type: ignore[misc]
        self.drawn: list[tuple[str, int | None]] = []

    def draw(self, context: PanelContext) -> None:
        assert len(context.evaluation) == 4
        self.drawn.append((context.split, context.epoch))


def history(panel: Panel, *, epochs: int, final: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls the dashboard's hooks as Lightning does in a run."""
    monkeypatch.setattr("fmnist.dashboard.callback.tensorboards", lambda _trainer: [SimpleNamespace(experiment=None)])
    dataset = ImageDataset(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.zeros(4).long())
    data = SimpleNamespace(part=lambda _split: (dataset, torch.arange(4)))
    metrics = EvaluationMetrics(10)
    metrics.update(torch.tensor(0.0), torch.zeros(4, 10), torch.zeros(4).long())
    module: Any = SimpleNamespace(val_metrics=metrics, test_metrics=metrics, network=CNN())
    dashboard = Dashboard(panels=[panel], final=final)
    for epoch in range(epochs):
        trainer: Any = SimpleNamespace(sanity_checking=False, current_epoch=epoch, global_step=epoch, datamodule=data)
        dashboard.on_validation_end(trainer, module)
    dashboard.on_train_end(trainer, module)
    if final == "test":
        dashboard.on_test_end(trainer, module)


@pytest.mark.parametrize(
    ("stages", "epochs", "final", "drawn"),
    [
        ([Stage.EPOCH], 3, "test", [("val", 1), ("val", 2), ("val", 3)]),
        ([Stage.MILESTONE], 10, "test", [("val", 1), ("val", 10)]),
        ([Stage.MILESTONE], 4, "test", [("val", 1), ("val", 4)]),
        ([Stage.FINAL], 4, "test", [("test", None)]),
        ([Stage.FINAL], 4, "val", [("val", 4)]),
        ([Stage.MILESTONE, Stage.FINAL], 10, "test", [("val", 1), ("val", 10), ("test", None)]),
        ([Stage.MILESTONE, Stage.FINAL], 4, "val", [("val", 1), ("val", 4)]),
        ([Stage.MILESTONE, Stage.FINAL], 10, "val", [("val", 1), ("val", 10)]),
    ],
)
def test_panel_is_drawn_at_its_stages_and_once_where_they_coincide(
    stages: list[Stage], epochs: int, final: str, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = Recorder(*stages)
    history(panel, epochs=epochs, final=final, monkeypatch=monkeypatch)
    assert panel.drawn == drawn


def panels(config: DictConfig, tmp_path: Path) -> list[str]:
    trainer = build.trainer(config, RunDirectory(tmp_path))
    (dashboard,) = (callback for callback in trainer.callbacks if isinstance(callback, Dashboard))  # type: ignore[attr-defined]
    return [type(panel).__name__ for panel in dashboard.panels]


def test_panels_can_be_deleted_one_by_one_or_all_at_once(composed: Composed, tmp_path: Path) -> None:
    everything = panels(composed(), tmp_path)
    assert len(everything) == 8
    for name in composed().dashboard:
        assert len(panels(composed(f"~dashboard.{name}"), tmp_path)) == 7
    assert panels(composed("dashboard=none"), tmp_path) == []


@pytest.mark.parametrize(
    ("network", "title"),
    [
        (CNN(), "conv1: 6 kernels"),
        (ResidualCNN(stem_width=4, widths=[5]), "stem.0: 4 kernels"),
        (ResidualCNN(stem_width=4, widths=[5], fixed_stem=True), "stem.0: 4 kernels"),
        (nn.Linear(2, 2), None),
    ],
    ids=["lesson", "residual", "fixed", "none"],
)
def test_filters_are_those_of_the_first_convolution(network: nn.Module, title: str | None) -> None:
    drawn: list[Any] = []
    writer = SimpleNamespace(add_figure=lambda name, figure, step: drawn.append((name, figure, step)))
    Filters().draw(cast(PanelContext, SimpleNamespace(network=network, writer=writer, step=7)))
    assert [(name, step) for name, _, step in drawn] == [("network/filters", 7)] * (title is not None)
    for _, figure, _ in drawn:
        assert figure.get_suptitle().startswith(title)


def test_features_are_the_input_of_the_last_linear_layer() -> None:
    network = CNN().eval()
    images = torch.randint(256, (300, 1, 28, 28), dtype=torch.uint8)
    seen = features(network, images)
    assert seen.shape == (300, 60)
    torch.testing.assert_close(network.out(seen), network(images))
    assert not network.out._forward_pre_hooks
    with pytest.raises(ValueError, match="no linear layer"):
        features(nn.Conv2d(1, 1, 1), images.float())


def test_compiled_network_has_the_features_of_the_eager_one() -> None:
    network = CNN().eval()
    images = torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8)
    expected = features(network, images)
    network.compile(backend="eager")
    with torch.inference_mode():  # as when testing
        network(images)
    torch.testing.assert_close(features(network, images), expected)


def test_confused_pairs_are_a_markdown_table() -> None:
    lines = confused_pairs_table([(6, 0, 120), (2, 4, 7)], 10_000).splitlines()
    assert lines[0] == "Confused most, of 10,000 images:"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0] == ["is", "taken for", "images"]
    assert cells[2:] == [["Shirt", "T-shirt/top", "120"], ["Pullover", "Coat", "7"]]


@pytest.mark.parametrize("node", ["mistakes.count=0", "embedding.count=2", "training_batch.count=0"])
def test_counts_out_of_range_are_rejected(node: str, composed: Composed, tmp_path: Path) -> None:
    from fmnist.config.errors import UserError

    with pytest.raises(UserError, match=r"dashboard\.\w+\.count must be at least"):
        build.trainer(composed(f"dashboard.{node}"), RunDirectory(tmp_path))
