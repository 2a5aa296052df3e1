"""The residual network: sizes counted by hand, the same calculation with torch's functions, and bf16."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor, nn

from fmnist import build
from fmnist.data.dataset import ImageDataset
from fmnist.networks import residual
from fmnist.training.speed import has_bf16

ResidualCNN = functools.partial(residual.ResidualCNN, pixel_mean=72.94, pixel_std=90.02)


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)


def size(stem: int, widths: Sequence[int], *, fixed_stem: bool = False) -> int:
    """Parameters, counted by hand: 9 for each pair of channels, 2 for each channel that is normalised."""
    count = 0 if fixed_stem else 9 * stem + 2 * stem
    for before, width in itertools.pairwise([stem, *widths]):
        count += 9 * before * width + 2 * width  # the one that widens
        count += 9 * width * width + 2 * width  # the residual one
    return count + (widths[-1] + 1) * 10


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("model", "stated"), [("residual", 292_666), ("residual_small", 32_375)])
def test_configurations_have_as_many_parameters_as_they_say(
    model: str, stated: int, composed: Callable[..., DictConfig]
) -> None:
    assert parameters(build.classifier(composed(f"model={model}")).network) == stated


@settings(deadline=None, max_examples=20)
@given(
    half_stem=st.integers(1, 9),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    stem_stride=st.sampled_from([1, 2]),
    fixed_stem=st.booleans(),
)
def test_any_widths_make_logits_and_every_parameter_learns(
    half_stem: int, widths: list[int], stem_stride: int, fixed_stem: bool
) -> None:
    stem = 2 * half_stem if fixed_stem else half_stem
    network = ResidualCNN(stem_width=stem, widths=widths, stem_stride=stem_stride, fixed_stem=fixed_stem)
    logits = network(images(2))
    assert logits.shape == (2, 10)
    assert parameters(network) == size(stem, widths, fixed_stem=fixed_stem)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("stride", "fixed", "stem"), [(1, True, 28), (2, False, 14), (2, True, 14)])
def test_each_block_halves_the_image_unless_the_stem_has(stride: int, fixed: bool, stem: int) -> None:
    network = ResidualCNN(stem_stride=stride, fixed_stem=fixed)
    t = network.stem(network.normalize(images(2)))
    assert t.shape == (2, 16, stem, stem)
    for block, width, side in zip(network.blocks, [32, 64, 128], [14, 7, 3], strict=True):
        t = block(t)
        assert t.shape == (2, width, side, side)


@pytest.mark.parametrize(("activation", "function"), [("gelu", F.gelu), ("silu", F.silu), ("relu", F.relu)])
def test_it_computes_what_the_functions_of_torch_make_of_its_weights(
    activation: str, function: Callable[[Tensor], Tensor]
) -> None:
    """In evaluation mode, with statistics that are not those of the start."""
    torch.manual_seed(0)
    network = ResidualCNN(stem_width=3, widths=[4, 5], activation=activation)
    network(images(50))  # moves the statistics
    network.eval()
    weights = network.state_dict()

    def layer(t: Tensor, conv: str, norm: str, pool: bool = False) -> Tensor:
        t = F.conv2d(t, weights[f"{conv}.weight"], padding=1)
        t = F.max_pool2d(t, 2) if pool else t
        statistics = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return function(F.batch_norm(t, *statistics, weights[f"{norm}.weight"], weights[f"{norm}.bias"]))

    given = images(7, seed=1)
    t = layer((given.float() - 72.94) / 90.02, "stem.0", "stem.1")
    for block in ("blocks.0", "blocks.1"):
        t = layer(t, f"{block}.0", f"{block}.2", pool=True)
        t = t + layer(t, f"{block}.4.conv", f"{block}.4.norm")
    logits = t.flatten(2).max(dim=2).values @ weights["out.weight"].T + weights["out.bias"]
    torch.testing.assert_close(network(given), logits)


@pytest.mark.real_data
def test_pixels_are_normalised_by_the_statistics_of_the_training_set(train_set: ImageDataset) -> None:
    values, counts = np.arange(256), train_set.images.flatten().bincount().numpy()
    mean = np.average(values, weights=counts)
    std = np.average((values - mean) ** 2, weights=counts) ** 0.5
    normalize = ResidualCNN().normalize
    assert normalize.mean.item() == pytest.approx(mean, abs=0.005)
    assert normalize.std.item() == pytest.approx(std, abs=0.005)


def test_dropout_is_for_training_alone() -> None:
    network = ResidualCNN(stem_width=2, widths=[3], dropout=0.5)
    given = images(8)
    assert not torch.equal(network(given), network(given))
    network.eval()
    assert torch.equal(network(given), network(given))
    assert ResidualCNN().dropout.p == 0


@pytest.mark.skipif(not has_bf16(), reason="the processor does not calculate in bf16")
def test_bf16_gives_nearly_the_same_logits() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(fixed_stem=True).to(memory_format=torch.channels_last).eval()
    given = images(50)
    exact = network(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(given)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem_width": 0}, "stem_width must be at least 1, got 0"),
        ({"stem_stride": 3}, "stem_stride must be 1 or 2, got 3"),
        ({"fixed_stem": True, "stem_width": 5}, "stem_width must be even and at most 18 with fixed_stem, got 5"),
        ({"fixed_stem": True, "stem_width": 20}, "stem_width must be even and at most 18 with fixed_stem, got 20"),
        ({"fixed_stem": True, "in_channels": 3}, "in_channels must be 1 with fixed_stem, got 3"),
        ({"activation": "tanh"}, "activation must be one of gelu, silu, relu, got tanh"),
        ({"widths": []}, r"widths must name 1 to 4 blocks, as each halves 28 pixels, got \[\]"),
        ({"widths": [8] * 5}, r"widths must name 1 to 4 blocks, .* got \[8, 8, 8, 8, 8\]"),
        ({"widths": [8, 0]}, r"widths must be whole numbers of at least 1, got \[8, 0\]"),
        ({"widths": [True]}, r"widths must be whole numbers of at least 1, got \[True\]"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1, got nan"),
    ],
)
def test_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualCNN(**arguments)
