"""Makes the optimizer, with weight decay for weights only."""

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer


class OptimizerFactory(Protocol):
    """Makes an optimizer from parameters, or from groups of parameters with their own settings."""

    def __call__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], /) -> Optimizer: ...


def make_optimizer(factory: OptimizerFactory, network: nn.Module) -> Optimizer:
    """The optimizer of a network.

    Weight decay, if the optimizer has any, applies to the weights of convolutions and linear layers only
    (https://arxiv.org/abs/1812.01187, section 3.1). Biases and the parameters of normalisation layers have fewer than
    two dimensions; they form the second group.

    Args:
        factory: Makes the optimizer.
        network: All its parameters are optimized.
    """
    optimizer = factory(network.parameters())
    if not optimizer.defaults.get("weight_decay"):
        return optimizer
    weights: dict[str, Any] = {"params": [parameter for parameter in network.parameters() if parameter.ndim >= 2]}
    others: dict[str, Any] = {"params": [parameter for parameter in network.parameters() if parameter.ndim < 2]}
    return factory([weights, others | {"weight_decay": 0.0}])
