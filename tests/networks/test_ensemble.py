"""An ensemble: each network has its part of a batch while training, and all of them answer together."""

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
from fmnist.networks.cnn import CNN
from fmnist.networks.ensemble import Ensemble
from fmnist.networks.residual import ResidualCNN
from tests.conftest import export_difference


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 4), count=st.integers(1, 9))
def test_while_training_each_network_has_its_part_of_the_batch(size: int, count: int) -> None:
    ensemble = Ensemble(CNN() for _ in range(size))
    batch = images(count)
    logits = ensemble(batch)
    if count < size:
        expected = np.mean([network(batch).detach().numpy() for network in ensemble.networks], axis=0)
        np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
        return
    parts = np.array_split(np.arange(count), size)
    for network, part in zip(ensemble.networks, parts, strict=True):
        torch.testing.assert_close(logits[part], network(batch[part]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_each_network_learns_from_each_batch_as_ddp_requires(count: int) -> None:
    ensemble = Ensemble(CNN() for _ in range(3))
    F.cross_entropy(ensemble(images(count)), torch.zeros(count, dtype=torch.long)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in ensemble.parameters())


def test_a_network_gets_the_gradients_of_its_part_alone_by_its_share_of_the_loss() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(CNN() for _ in range(2))
    batch, labels = images(6), torch.arange(6)
    F.cross_entropy(ensemble(batch), labels).backward()
    for network, part in zip(ensemble.networks, [slice(0, 3), slice(3, 6)], strict=True):
        parameters = list(network.parameters())
        loss = F.cross_entropy(network(batch[part]), labels[part]) / 2
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_the_answer_is_the_mean_of_the_probabilities() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(CNN() for _ in range(3)).eval()
    batch = images(20)
    expected = np.mean(
        [network(batch).double().softmax(dim=1).detach().numpy() for network in ensemble.networks], axis=0
    )
    np.testing.assert_allclose(ensemble(batch).softmax(dim=1).detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(ensemble(batch).exp().detach().numpy(), expected, rtol=1e-5)


def test_the_most_certain_logits_stay_finite() -> None:
    class Certain(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([[1e4, 0.0, -1e4]]).expand(len(batch), 3)

    assert Ensemble([Certain(), Certain()]).eval()(images(2)).isfinite().all()


def test_the_networks_of_a_run_begin_differently(composed: Callable[..., DictConfig]) -> None:
    network = build.classifier(composed("ensemble=3")).network
    assert isinstance(network, Ensemble)
    first = [next(each.parameters()) for each in network.networks]
    assert len({tuple(weight.flatten().tolist()) for weight in first}) == 3
    assert isinstance(build.classifier(composed("ensemble=1")).network, CNN)


@pytest.mark.parametrize("kind", export_formats.FORMATS)
def test_an_exported_one_says_the_same_for_any_batch_size(kind: str) -> None:
    torch.manual_seed(0)
    network = Ensemble([ResidualCNN(widths=[8, 8]), ResidualCNN(widths=[8, 8])])
    assert export_difference(network, kind, images(350)) < 1e-5
