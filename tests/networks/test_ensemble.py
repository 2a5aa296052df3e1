"""An ensemble: each network has its part of a batch while training, and all of them answer together."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor, nn

from fmnist import build
from fmnist.inference import export_formats
from fmnist.networks import residual
from fmnist.networks.cnn import CNN
from fmnist.networks.ensemble import Ensemble
from tests.networks.test_residual import images

ResidualCNN = functools.partial(residual.ResidualCNN, pixel_mean=72.94, pixel_std=90.02)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 4), count=st.integers(1, 9))
def test_while_training_each_network_has_its_part_of_the_batch(size: int, count: int) -> None:
    ensemble, batch = Ensemble(CNN() for _ in range(size)), images(count)
    logits = ensemble(batch)
    if count < size:
        torch.testing.assert_close(logits, sum(network(batch) for network in ensemble.networks) / size)
        return
    for network, part in zip(ensemble.networks, np.array_split(np.arange(count), size), strict=True):
        torch.testing.assert_close(logits[part], network(batch[part]))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_each_network_learns_from_each_batch_as_ddp_requires(count: int) -> None:
    """Logits are those of its part alone, so that its gradients are those of its share of the mean loss."""
    ensemble = Ensemble(CNN() for _ in range(3))
    F.cross_entropy(ensemble(images(count)), torch.zeros(count, dtype=torch.long)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in ensemble.parameters())


def test_answer_is_the_log_of_the_mean_probabilities() -> None:
    ensemble = Ensemble(CNN() for _ in range(3)).eval()
    batch = images(20)
    expected = torch.stack([network(batch).softmax(dim=1) for network in ensemble.networks]).mean(dim=0)
    torch.testing.assert_close(ensemble(batch).exp(), expected)


def test_most_certain_logits_stay_finite() -> None:
    class Certain(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([[1e4, 0.0, -1e4]]).expand(len(batch), 3)

    assert Ensemble([Certain(), Certain()]).eval()(images(2)).isfinite().all()


def test_networks_of_a_run_begin_differently(composed: Callable[..., DictConfig]) -> None:
    network = build.classifier(composed("ensemble=3")).network
    assert isinstance(network, Ensemble)
    first = [next(each.parameters()) for each in network.networks]
    assert len({tuple(weight.flatten().tolist()) for weight in first}) == 3
    assert isinstance(build.classifier(composed("ensemble=1")).network, CNN)


@pytest.mark.parametrize("kind", export_formats.FORMATS)
def test_exported_networks_say_the_same_for_any_batch_size(kind: str) -> None:
    """An ensemble of both kinds of residual network: with a learned and with a fixed, quick stem."""
    if kind == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    quick = ResidualCNN(widths=[8], stem_stride=2, fixed_stem=True)
    network = Ensemble([ResidualCNN(widths=[8], dropout=0.2), quick])
    network.to(memory_format=torch.channels_last)
    network(images(50))  # which batch norm learns of
    network.eval()
    file, given = export_formats.FORMATS[kind], images(300)
    with torch.no_grad():
        expected = network(given).softmax(dim=1)
    difference = export_formats.check(
        file.file, file.read(file.write(export_formats.capture(network, (1, 28, 28)), "[]")), given, expected
    )
    assert difference < 1e-5
