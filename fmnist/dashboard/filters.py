"""What the first convolution looks for."""

from torch import nn

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.networks.cosine import CosineFilters


class Filters(Panel):
    """Draws the kernels of the network's first convolution, learned or fixed, after training; of none, nothing."""

    moments = frozenset({Moment.FINAL})

    def draw(self, view: View) -> None:
        for name, module in view.network.named_modules():
            if isinstance(module, nn.Conv2d | CosineFilters):
                kernels = module.weight.detach()[:, 0].float().cpu().contiguous().numpy()
                title = f"{name}: {len(kernels)} kernels"
                view.writer.add_figure("network/filters", figures.kernels(kernels, title=title), view.step)
                return
