"""Weight decay applies to the weights of convolutions and linear layers only."""

from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, Rprop

from fmnist import build
from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN
from fmnist.training.optimizer import make_optimizer


def ids(parameters: Iterable[Tensor]) -> set[int]:
    return {id(parameter) for parameter in parameters}


@pytest.mark.parametrize("network", [CNN(), ResidualCNN()], ids=["CNN", "ResidualCNN"])
def test_weights_decay_and_biases_and_normalisations_do_not(network: nn.Module) -> None:
    first, second = make_optimizer(partial(AdamW, lr=0.1, weight_decay=0.3), network).param_groups
    weights = ids(layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert ids(first["params"]) == weights
    assert ids(second["params"]) == ids(network.parameters()) - weights
    assert (first["lr"], first["weight_decay"], second["lr"], second["weight_decay"]) == (0.1, 0.3, 0.1, 0)


@pytest.mark.parametrize("factory", [partial(SGD, lr=0.1), partial(Rprop, lr=0.1)], ids=["no decay", "no such option"])
def test_without_weight_decay_there_is_one_group_in_the_order_of_the_network(
    factory: Callable[..., Optimizer],
) -> None:
    network = CNN()
    (group,) = make_optimizer(factory, network).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in network.parameters()]


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
@pytest.mark.parametrize("network", [nn.Linear(2, 3, bias=False), nn.BatchNorm1d(2)], ids=["no biases", "no weights"])
def test_network_with_nothing_in_one_of_the_groups_is_trained(
    network: nn.Module, kind: Callable[..., Optimizer]
) -> None:
    optimizer = make_optimizer(partial(kind, lr=0.1, weight_decay=0.1), network)
    network(torch.rand(5, 2)).square().sum().backward()
    optimizer.step()
    assert sorted(bool(group["params"]) for group in optimizer.param_groups) == [False, True]


def test_configured_optimizer_has_these_groups(composed: Callable[..., DictConfig]) -> None:
    config = composed("model=residual_small", "optimizer=sgd", "optimizer.weight_decay=0.1")
    assert [group["weight_decay"] for group in build.classifier(config).make_optimizer().param_groups] == [0.1, 0]
