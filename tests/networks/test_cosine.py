"""The fixed filters, against SciPy's cosine transform and the statistics of the training images."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn

from fmnist.data.dataset import ImageDataset
from fmnist.networks import residual
from fmnist.networks.cosine import RESPONSE_RMS, CosineFilters

ResidualCNN = functools.partial(residual.ResidualCNN, pixel_mean=72.94, pixel_std=90.02)


@pytest.mark.parametrize("channels", [2, 16, 18])
def test_filters_with_the_greatest_response_come_first_and_each_has_its_negative(channels: int) -> None:
    weight = CosineFilters(channels).weight
    assert weight.shape == (channels, 1, 3, 3)
    half = channels // 2
    torch.testing.assert_close(weight[half:], -weight[:half])
    norms = weight[:half].flatten(1).norm(dim=1)  # 1 / the size of the response
    expected = sorted(1 / rms for row in RESPONSE_RMS for rms in row)[:half]
    torch.testing.assert_close(norms, torch.tensor(expected))


@pytest.mark.parametrize("stride", [1, 2])
def test_each_pixel_gets_the_transform_of_its_patch(stride: int) -> None:
    images = torch.randn(2, 1, 8, 8)
    found = CosineFilters(18, stride=stride)(images).numpy()
    padded = np.pad(images[:, 0].numpy(), ((0, 0), (1, 1), (1, 1)))
    order = np.argsort(-np.ravel(RESPONSE_RMS))
    for row in range(0, 8, stride):
        for column in range(0, 8, stride):
            patches = padded[:, row : row + 3, column : column + 3]
            expected = (dctn(patches, axes=(1, 2), norm="ortho") / RESPONSE_RMS).reshape(2, 9)[:, order]
            here = found[:, :, row // stride, column // stride]
            np.testing.assert_allclose(here, np.concatenate([expected, -expected], axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [0, 3, 20])
def test_number_of_channels_out_of_range_is_rejected(channels: int) -> None:
    with pytest.raises(ValueError, match=f"must be even, from 2 to 18, got {channels}"):
        CosineFilters(channels)


@pytest.mark.real_data
def test_channels_of_the_training_images_have_one_size_and_hardly_correlate(train_set: ImageDataset) -> None:
    normalize, moments = ResidualCNN().normalize, torch.zeros(9, 9, dtype=torch.double)
    for images in train_set.images[::3].split(500):  # every third: a third of the time
        patches = F.unfold(normalize(images), 3)  # without the border, [B, 9, 676]
        moments += (patches @ patches.mT).double().sum(dim=0) / (20_000 * 676)
    filters = CosineFilters(18).weight[:9].flatten(1).double()
    responses = filters @ moments @ filters.T
    torch.testing.assert_close(responses.diag().sqrt(), torch.ones(9).double(), atol=0.005, rtol=0)
    assert responses.fill_diagonal_(0).abs().max() < 0.15
