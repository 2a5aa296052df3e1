"""Kernels of the first convolution."""

from torch import nn

from fmnist.dashboard import image_grids
from fmnist.dashboard.panel import Panel, PanelContext, Stage
from fmnist.networks.cosine import CosineFilters


class Filters(Panel):
    """Draws the kernels of the network's first convolution, learned or fixed; in colour, the mean of the channels.

    A network without a convolution gets no figure.
    """

    stages = frozenset({Stage.FINAL})

    def draw(self, context: PanelContext) -> None:
        for name, module in context.network.named_modules():
            if isinstance(module, nn.Conv2d | CosineFilters):
                kernels = module.weight.detach().float().mean(dim=1).cpu().contiguous().numpy()
                figure = image_grids.kernels(kernels, title=f"{name}: {len(kernels)} kernels")
                context.writer.add_figure("network/filters", figure, context.step)
                return
