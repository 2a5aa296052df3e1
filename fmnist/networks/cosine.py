"""Fixed filters that replace a learned first convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Root mean square of each basis function's response to the 60,000 normalised training images, borders left out. Rows:
# sign changes from top to bottom; columns: sign changes from left to right.
RESPONSE_RMS = ((2.746, 0.892, 0.509), (0.680, 0.322, 0.232), (0.382, 0.220, 0.159))
MAX_CHANNELS = 18


class CosineFilters(nn.Module):
    """The whitened cosine transform of the 3x3 patch around each pixel, with both signs.

    The basis functions of the discrete cosine transform are nearly the principal components of this data set's patches.
    Each is divided by the size of its response, so that all channels have the same scale and hardly correlate: the next
    convolution learns faster (https://arxiv.org/abs/2404.00498 does it with principal components). Both signs are
    present because activations such as GELU drop most of what is negative (https://arxiv.org/abs/1603.05201). Nothing
    is learned here, so no backward pass is needed where the feature maps are largest.

    Args:
        channels: Output channels, even, from 2 to 18: the filters with the greatest response first.
        stride: Pixels from one patch to the next.

    Raises:
        ValueError: ``channels`` is out of range.
    """

    weight: Tensor

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        if channels % 2 or not 2 <= channels <= MAX_CHANNELS:
            raise ValueError(f"channels must be even, from 2 to {MAX_CHANNELS}, got {channels}")
        self.stride = stride
        rms = torch.tensor(RESPONSE_RMS).flatten()
        order = rms.argsort(descending=True)[: channels // 2]
        filters = (cosine_basis() / rms[:, None, None])[order]
        self.register_buffer("weight", torch.cat([filters, -filters])[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 1, H, W] to [B, channels, H / stride, W / stride], rounded up."""
        return F.conv2d(images, self.weight, stride=self.stride, padding=1)


def cosine_basis() -> Tensor:
    """The nine orthonormal 2-D basis functions of the discrete cosine transform of type II, [9, 3, 3]."""
    pixel = torch.arange(3) + 0.5
    basis = torch.cos(torch.pi / 3 * torch.arange(3)[:, None] * pixel)  # [frequency, pixel]
    basis = basis / basis.norm(dim=1, keepdim=True)
    return torch.einsum("ij,kl->ikjl", basis, basis).reshape(9, 3, 3)
