"""The residual network: sizes counted by hand, and that it learns, is exported, and calculates in bf16."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor

from fmnist import build
from fmnist.data.dataset import ImageDataset
from fmnist.inference import export_formats
from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN
from fmnist.training.speed import has_bf16
from tests.conftest import export_difference


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)


def size(stem: int, widths: list[int], *, fixed_stem: bool = False) -> int:
    """Parameters, counted by hand: 9 for each pair of channels, 2 for each channel that is normalised."""
    count = 0 if fixed_stem else 9 * stem + 2 * stem
    for before, width in itertools.pairwise([stem, *widths]):
        count += 9 * before * width + 2 * width  # the one that widens
        count += 9 * width * width + 2 * width  # the residual one
    return count + (widths[-1] + 1) * 10


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("model", "expected"), [("residual", size(16, [32, 64, 128])), ("residual_small", size(16, [20, 26, 29]))]
)
def test_the_configurations_have_as_many_parameters_as_they_say(
    model: str, expected: int, composed: Callable[..., DictConfig]
) -> None:
    network = build.classifier(composed(f"model={model}")).network
    assert parameters(network) == expected == {"residual": 292_666, "residual_small": 32_375}[model]


def test_the_small_one_is_no_larger_than_the_lessons_network(composed: Callable[..., DictConfig]) -> None:
    assert parameters(build.classifier(composed("model=residual_small")).network) <= parameters(CNN())


@settings(deadline=None, max_examples=20)
@given(
    stem_width=st.integers(1, 9),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    stem_stride=st.sampled_from([1, 2]),
)
def test_any_widths_make_logits_and_the_expected_number_of_parameters(
    stem_width: int, widths: list[int], stem_stride: int
) -> None:
    network = ResidualCNN(stem_width=stem_width, widths=widths, stem_stride=stem_stride)
    assert network(images(2)).shape == (2, 10)
    assert parameters(network) == size(stem_width, widths)


@settings(deadline=None, max_examples=20)
@given(
    stem_width=st.integers(1, 9).map(lambda half: 2 * half),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    stem_stride=st.sampled_from([1, 2]),
)
def test_a_fixed_stem_has_no_parameters(stem_width: int, widths: list[int], stem_stride: int) -> None:
    network = ResidualCNN(stem_width=stem_width, widths=widths, stem_stride=stem_stride, fixed_stem=True)
    assert network(images(2)).shape == (2, 10)
    assert parameters(network) == size(stem_width, widths, fixed_stem=True)
    network(images(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("stride", "stem", "blocks"), [(1, 28, [14, 7, 3]), (2, 14, [14, 7, 3])], ids=["slow stem", "quick stem"]
)
def test_each_block_halves_the_image_unless_the_stem_has(
    stride: int, stem: int, blocks: list[int], fixed: bool
) -> None:
    network = ResidualCNN(stem_stride=stride, fixed_stem=fixed)
    t = network.stem(network.normalize(images(2)))
    assert t.shape == (2, 16, stem, stem)
    for block, width, side in zip(network.blocks, [32, 64, 128], blocks, strict=True):
        t = block(t)
        assert t.shape == (2, width, side, side)


@pytest.mark.parametrize(("activation", "function"), [("gelu", F.gelu), ("silu", F.silu), ("relu", F.relu)])
def test_it_is_what_the_functions_of_torch_make_of_its_weights(
    activation: str, function: Callable[[Tensor], Tensor]
) -> None:
    """Written out with torch's functions, in evaluation mode, with statistics that are not those of the start."""
    torch.manual_seed(0)
    network = ResidualCNN(stem_width=3, widths=[4, 5], activation=activation)
    network(images(50))  # moves the statistics
    network.eval()
    weights = network.state_dict()

    def layer(t: Tensor, conv: str, norm: str, pool: bool = False) -> Tensor:
        t = F.conv2d(t, weights[f"{conv}.weight"], padding=1)
        if pool:
            t = F.max_pool2d(t, 2)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        t = (t - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return function(t * weights[f"{norm}.weight"][:, None, None] + weights[f"{norm}.bias"][:, None, None])

    given = images(7, seed=1)
    t = layer((given.float() - 72.94) / 90.02, "stem.0", "stem.1")
    for block in ("blocks.0", "blocks.1"):
        t = layer(t, f"{block}.0", f"{block}.2", pool=True)
        t = t + layer(t, f"{block}.4.conv", f"{block}.4.norm")
    logits = t.flatten(2).max(dim=2).values @ weights["out.weight"].T + weights["out.bias"]
    torch.testing.assert_close(network(given), logits)


@pytest.mark.real_data
def test_pixels_are_normalised_by_the_figures_of_the_training_set(train_set: ImageDataset) -> None:
    pixels = train_set.images.double()
    normalize = ResidualCNN().normalize
    assert normalize.mean.item() == pytest.approx(pixels.mean().item(), abs=0.005)
    assert normalize.std.item() == pytest.approx(pixels.std().item(), abs=0.005)
    normalised = normalize(train_set.images)
    assert normalised.mean().item() == pytest.approx(0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_it_learns_a_few_images_by_heart(stem_stride: int) -> None:
    torch.manual_seed(0)
    network = ResidualCNN(stem_width=8, widths=[16, 32], stem_stride=stem_stride)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    given, labels = images(20), torch.arange(20) % 10
    for _ in range(60):
        loss = F.cross_entropy(network(given), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dropout_is_for_training_alone() -> None:
    network = ResidualCNN(stem_width=2, widths=[3], dropout=0.5)
    given = images(8)
    assert not torch.equal(network(given), network(given))
    network.eval()
    assert torch.equal(network(given), network(given))


@pytest.mark.parametrize("stem", [{}, {"stem_stride": 2}, {"fixed_stem": True}], ids=["plain", "quick", "fixed"])
@pytest.mark.parametrize("kind", export_formats.FORMATS)
def test_an_exported_one_says_the_same_for_any_batch_size(kind: str, stem: dict[str, Any]) -> None:
    torch.manual_seed(0)
    assert export_difference(ResidualCNN(dropout=0.2, **stem), kind, images(350)) < 1e-5


@pytest.mark.skipif(not has_bf16(), reason="the processor does not calculate in bf16")
@pytest.mark.parametrize("fixed_stem", [False, True])
def test_in_bf16_it_says_nearly_the_same(fixed_stem: bool) -> None:
    torch.manual_seed(0)
    network = ResidualCNN(fixed_stem=fixed_stem).to(memory_format=torch.channels_last).eval()
    given = images(50)
    with torch.no_grad():
        exact = network(given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(given)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"pixel_std": 0.0}, "pixel_std must be above 0, got 0.0"),
        ({"stem_width": 0}, "stem_width must be at least 1, got 0"),
        ({"stem_stride": 3}, "stem_stride must be 1 or 2, got 3"),
        ({"fixed_stem": True, "stem_width": 5}, "stem_width must be even and at most 18 with fixed_stem, got 5"),
        ({"fixed_stem": True, "stem_width": 20}, "stem_width must be even and at most 18 with fixed_stem, got 20"),
        ({"fixed_stem": True, "in_channels": 3}, "in_channels must be 1 with fixed_stem, got 3"),
        ({"activation": "tanh"}, "activation must be one of gelu, silu, relu, got tanh"),
        ({"widths": []}, r"widths must name 1 to 4 blocks, as each halves 28 pixels, got \[\]"),
        ({"widths": [8] * 5}, r"widths must name 1 to 4 blocks, .* got \[8, 8, 8, 8, 8\]"),
        ({"widths": [8, 0]}, r"widths must be whole numbers of at least 1, got \[8, 0\]"),
        ({"widths": [8, 1.5]}, r"widths must be whole numbers of at least 1, got \[8, 1\.5\]"),
        ({"widths": [True]}, r"widths must be whole numbers of at least 1, got \[True\]"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1, got nan"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualCNN(**arguments)
