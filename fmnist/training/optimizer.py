"""Which parameters an optimizer gets, and which of them decay."""

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer


class OptimizerFactory(Protocol):
    """An optimizer that lacks only its parameters, or groups of them with settings of their own."""

    def __call__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], /) -> Optimizer: ...


def make_optimizer(factory: OptimizerFactory, network: nn.Module, *, decay_all: bool = False) -> Optimizer:
    """The optimizer of a network.

    Weight decay, where the optimizer has one, is for the weights of convolutions and linear layers alone
    (https://arxiv.org/abs/1812.01187, section 3.1). Biases, and what scales and shifts after a normalisation, are the
    parameters of less than two dimensions: they are the second group.

    Args:
        factory: Makes the optimizer.
        network: All its parameters are optimized.
        decay_all: Whether all of them decay.
    """
    optimizer = factory(network.parameters())
    if decay_all or not optimizer.defaults.get("weight_decay"):
        return optimizer
    weights: dict[str, Any] = {"params": [parameter for parameter in network.parameters() if parameter.ndim >= 2]}
    others: dict[str, Any] = {"params": [parameter for parameter in network.parameters() if parameter.ndim < 2]}
    return factory([weights, others | {"weight_decay": 0.0}])
