"""The graph for TensorBoard."""

from unittest.mock import MagicMock

import pytest
import torch
from torch.utils.tensorboard import _pytorch_graph

from fmnist.networks.cnn import CNN
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
