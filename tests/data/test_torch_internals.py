"""Fails when the private function of torch changes."""

import pytest
import torch
from scipy import stats

from fmnist.data.torch_internals import sample_beta


@pytest.mark.parametrize("alpha", [0.2, 8.0])
def test_samples_follow_the_beta_distribution_and_the_generator(alpha: float) -> None:
    samples, again = (
        sample_beta(alpha, 5_000, torch.device("cpu"), torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(samples, again)
    assert stats.kstest(samples.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.001
