"""Weight decay is for the weights of convolutions and linear layers alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from fmnist import build
from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN
from fmnist.training.optimizer import OptimizerFactory, make_optimizer

CNN_LAYERS = ("conv1", "conv2", "fc1", "fc2", "out")
DECAYING = {
    CNN: {f"{layer}.weight" for layer in CNN_LAYERS},
    ResidualCNN: {
        "stem.0.weight",
        *(f"blocks.{block}.{layer}.weight" for block in range(3) for layer in ("0", "4.conv")),
        "out.weight",
    },
}
OTHERS = {
    CNN: {f"{layer}.bias" for layer in CNN_LAYERS},
    ResidualCNN: {
        *("stem.1.weight", "stem.1.bias"),
        *(
            f"blocks.{block}.{layer}.{parameter}"
            for block in range(3)
            for layer in ("2", "4.norm")
            for parameter in ("weight", "bias")
        ),
        "out.bias",
    },
}
KINDS: list[Callable[..., Optimizer]] = [SGD, Adam, AdamW]


def names(optimizer: Optimizer, network: nn.Module) -> list[set[str]]:
    """Names of the parameters in each group."""
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return [{name_of[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network_class", [CNN, ResidualCNN])
def test_weights_decay_and_biases_and_normalisations_do_not(
    network_class: type[nn.Module], kind: Callable[..., Optimizer]
) -> None:
    network = network_class()
    optimizer = make_optimizer(partial(kind, lr=0.1, weight_decay=0.3), network)
    assert names(optimizer, network) == [DECAYING[network_class], OTHERS[network_class]]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network_class", [CNN, ResidualCNN])
def test_without_weight_decay_there_is_one_group_in_the_order_of_the_network(
    network_class: type[nn.Module], kind: Callable[..., Optimizer]
) -> None:
    network = network_class()
    (group,) = make_optimizer(partial(kind, lr=0.1, weight_decay=0.0), network).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in network.parameters()]


def test_a_step_without_gradients_shrinks_the_weights_by_the_product_of_rate_and_decay() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(stem_width=2, widths=[3])
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(partial(SGD, lr=0.1, weight_decay=0.5), network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        decays = name in ("stem.0.weight", "blocks.0.0.weight", "blocks.0.4.conv.weight", "out.weight")
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if decays else 1), msg=name)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("network", [nn.Linear(2, 3, bias=False), nn.BatchNorm1d(2)], ids=["no biases", "no weights"])
def test_a_network_with_nothing_in_one_of_the_groups_is_trained(
    network: nn.Module, optimizer: str, composed: Callable[..., DictConfig]
) -> None:
    factory: OptimizerFactory = build.classifier(
        composed(f"optimizer={optimizer}", "optimizer.weight_decay=0.1")
    ).optimizer
    made = make_optimizer(factory, network)
    network(torch.rand(5, 2)).square().sum().backward()
    made.step()
    assert len(made.param_groups) == 2


@pytest.mark.parametrize(("weight_decay", "groups"), [(0.0, 1), (0.1, 2)])
def test_a_run_is_trained_with_these_groups(
    weight_decay: float, groups: int, composed: Callable[..., DictConfig]
) -> None:
    config = composed("model=residual_small", "optimizer=sgd", f"optimizer.weight_decay={weight_decay}")
    assert len(build.classifier(config).make_optimizer().param_groups) == groups
