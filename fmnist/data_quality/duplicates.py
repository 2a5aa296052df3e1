"""Search for identical images and for pairs of nearly identical ones.

The distance of two images is the Euclidean distance of their pixels after each image was scaled to length 1: from 0,
the same picture at any brightness, to the square root of 2, nothing in common. One of them may be mirrored, and moved
by up to a pixel in each direction: the smallest distance counts. A black margin prevents clipping when an image moves.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

COMPONENTS = 48  # hold 92% of the squared length of Fashion-MNIST's images, which leaves few pairs to measure exactly
ROWS, COLUMNS = 512, 2048  # block of pairs: 4 MB, which fits a CPU cache
CHUNK = 4096  # images converted to float32 at a time: 15 MB
ROUNDING = 1e-5  # upper bound of the float32 rounding error of half a squared distance


class View(NamedTuple):
    """Transformation of an image before the comparison."""

    mirrored: bool
    down: int  # pixels
    right: int  # pixels


# The unchanged view comes first: of equal distances the first one counts.
VIEWS = [View(mirrored, down, right) for mirrored in (False, True) for down in (0, -1, 1) for right in (0, -1, 1)]


class Pair(NamedTuple):
    """Positions of two similar images."""

    first: int
    second: int  # greater than the first
    distance: float
    view: View  # of the second image


def exact(images: Tensor) -> list[list[int]]:
    """Finds groups of images with the same pixels: lists of two or more positions in ascending order.

    Args:
        images: uint8 [N, C, H, W].
    """
    groups: dict[bytes, list[int]] = {}
    for position, image in enumerate(images.numpy()):
        groups.setdefault(image.tobytes(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def near(images: Tensor, *, limit: float) -> list[Pair]:
    """Finds all pairs of images whose distance is at most ``limit``, the closest first.

    The search is exhaustive: a projection to a few orthonormal components never lengthens a distance. Only pairs within
    the limit in the projection are measured exactly. Pairs are processed in blocks: 70,000 images (2.4 billion pairs,
    18 views) take 0.3 GB of additional memory and about two minutes on one core.

    Args:
        images: uint8 [N, C, H, W].
        limit: More than 0, less than 1.

    Raises:
        ValueError: The limit is out of range.
    """
    if not 0 < limit < 1:
        raise ValueError(f"limit must be more than 0 and less than 1, got {limit}")
    basis = _principal_components(images)
    found: dict[tuple[int, int], Pair] = {}
    unchanged = _projections(images, VIEWS[0], basis)
    for view in VIEWS:
        changed = unchanged if view == VIEWS[0] else _projections(images, view, basis)
        for first, second in _candidates(unchanged, changed, limit):
            distances = (_scaled(images[first], VIEWS[0]) - _scaled(images[second], view)).norm(dim=1)
            for i, j, distance in zip(first.tolist(), second.tolist(), distances.tolist(), strict=True):
                if distance <= limit and ((i, j) not in found or distance < found[i, j].distance):
                    found[i, j] = Pair(i, j, distance, view)
    return sorted(found.values(), key=lambda pair: (pair.distance, pair.first, pair.second))


def _scaled(images: Tensor, view: View) -> Tensor:
    """Transforms images [N, C, H, W], adds a margin of one pixel and scales to length 1: float32 [N, pixels]."""
    pixels = F.pad(images.float(), (1, 1, 1, 1))
    if view.mirrored:
        pixels = pixels.flip(3)
    pixels = pixels.roll((view.down, view.right), (2, 3)).flatten(1)
    lengths: Tensor = pixels.norm(dim=1, keepdim=True)
    return pixels / lengths.clamp(min=1)  # black images stay 0; all others have at least length 1


def _principal_components(images: Tensor) -> Tensor:
    """Orthonormal directions with the largest share of the images' squared length: float32 [pixels, components]."""
    parts = (_scaled(chunk, VIEWS[0]) for chunk in torch.split(images, CHUNK))
    moment = functools.reduce(torch.add, (part.T @ part for part in parts))
    _, vectors = torch.linalg.eigh(moment.double())  # ascending eigenvalues
    basis: Tensor = vectors[:, -COMPONENTS:].float()
    return basis


def _projections(images: Tensor, view: View, basis: Tensor) -> Tensor:
    return torch.cat([_scaled(chunk, view) @ basis for chunk in torch.split(images, CHUNK)])


def _candidates(first: Tensor, second: Tensor, limit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields positions of pairs, first < second, that are within the limit in the projection."""
    # p·q - |p|²/2 - |q|²/2 is minus half the squared distance: with two additional columns, it is one matrix product.
    halves, others = (points.square().sum(dim=1, keepdim=True) / 2 for points in (first, second))
    rows = torch.cat([first, -halves, -torch.ones_like(halves)], dim=1)
    columns = torch.cat([second, torch.ones_like(others), others], dim=1)
    threshold = -(limit**2) / 2 - ROUNDING
    for top in range(0, len(rows), ROWS):
        for left in range(top // COLUMNS * COLUMNS, len(columns), COLUMNS):  # the blocks on and above the diagonal
            scores = rows[top : top + ROWS] @ columns[left : left + COLUMNS].T
            if scores.amax() < threshold:  # nearly always, and faster than nonzero
                continue
            i, j = (scores >= threshold).nonzero().T + torch.tensor([[top], [left]])
            if (ordered := i < j).any():
                yield i[ordered], j[ordered]
