"""The graph for TensorBoard."""

from pathlib import Path
from unittest import mock
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.tensorboard import _pytorch_graph

from fmnist.networks.cnn import CNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.loggers import log_start
from fmnist.training.torch_internals import graph


def test_jobs_with_one_network_trace_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = MagicMock(side_effect=_pytorch_graph.graph)
    monkeypatch.setattr(_pytorch_graph, "graph", tracer)
    images = torch.zeros(1, 1, 28, 28)
    first, same = (graph(CNN(num_classes=13), images) for _ in range(2))
    assert first is same
    assert any("conv1" in node.name for node in first[0].node)
    assert graph(CNN(num_classes=14), images) is not first
    assert tracer.call_count == 2


def test_network_that_cannot_be_traced_trains_without_a_graph(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None)
    trainer = MagicMock(loggers=[logger])
    module = MagicMock(network=nn.Identity(), example_input_array=torch.zeros(1, 5))
    with mock.patch.object(_pytorch_graph, "graph", side_effect=RuntimeError("no trace")):
        log_start(trainer, module, {}, RunDirectory(tmp_path / "run"))
    assert "TensorBoard gets no graph: this network cannot be traced (RuntimeError)" in caplog.text
