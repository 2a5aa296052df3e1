"""The only use of a private function of torch, checked with 2.14.1. Its test fails when the function changes."""

import torch
from torch import Generator, Tensor


def sample_beta(alpha: float, count: int, device: torch.device, generator: Generator) -> Tensor:
    """Samples of Beta(alpha, alpha), float32 [count].

    A Beta sample is the first component of a Dirichlet sample of two. ``torch.distributions`` takes no generator.
    """
    concentration = torch.full((count, 2), float(alpha), device=device)
    return torch._sample_dirichlet(concentration, generator)[:, 0]
