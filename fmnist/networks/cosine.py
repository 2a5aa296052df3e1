"""Fixed filters in the place of a first convolution that is learned."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of what each basis function finds in the 60,000 training images, normalised, borders left out: the root of the mean
# square. Row: how often it changes its sign downwards, column: to the right.
RESPONSE_RMS = ((2.746, 0.892, 0.509), (0.680, 0.322, 0.232), (0.382, 0.220, 0.159))
MAX_CHANNELS = 18


class CosineFilters(nn.Module):
    """The whitened cosine transform of the 3x3 patch around each pixel, and the same with the opposite sign.

    The basis functions of the discrete cosine transform are very nearly the principal components of this data set's
    patches. Each is divided by the size of its response, so that all channels are of the same size and hardly
    correlated: a convolution that follows learns sooner (https://arxiv.org/abs/2404.00498, with principal components).
    Both signs are there since what follows, such as GELU, keeps little of what is negative
    (https://arxiv.org/abs/1603.05201). There is nothing to learn, and so nothing to be calculated backwards where the
    maps are largest.

    Args:
        channels: How many come out, even, from 2 to 18: the filters of the greatest response first.
        stride: Pixels from one patch to the next.

    Raises:
        ValueError: The number of channels is out of range.
    """

    weight: Tensor

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        if channels % 2 or not 2 <= channels <= MAX_CHANNELS:
            raise ValueError(f"the number of channels must be even, from 2 to {MAX_CHANNELS}, got {channels}")
        self.stride = stride
        rms = torch.tensor(RESPONSE_RMS).flatten()
        order = rms.argsort(descending=True)[: channels // 2]
        filters = (cosine_basis() / rms[:, None, None])[order]
        self.register_buffer("weight", torch.cat([filters, -filters])[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 1, H, W] to [B, channels, H / stride, W / stride], rounded up."""
        return F.conv2d(images, self.weight, stride=self.stride, padding=1)


def cosine_basis() -> Tensor:
    """The nine two-dimensional basis functions of the discrete cosine transform of type II, orthonormal, [9, 3, 3]."""
    pixel = torch.arange(3) + 0.5
    basis = torch.cos(torch.pi / 3 * torch.arange(3)[:, None] * pixel)  # [frequency, pixel]
    basis = basis / basis.norm(dim=1, keepdim=True)
    return torch.einsum("ij,kl->ikjl", basis, basis).reshape(9, 3, 3)
