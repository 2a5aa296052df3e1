"""Images that are the same, and pairs that are nearly so.

The distance of two images is the Euclidean distance of their pixels after each image was scaled to length 1: from 0,
the same picture however bright, to the square root of 2, nothing in common. One of them may be mirrored, and moved by
up to a pixel in each direction: the smallest distance counts. A black margin keeps what is moved from being cut off.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

COMPONENTS = 48  # they hold 92% of the squared length of Fashion-MNIST's images, so that few pairs are left to measure
ROWS, COLUMNS = 512, 2048  # of a block of pairs: its 4 MB stay in a processor's cache
CHUNK = 4096  # images that are held as floating point numbers at a time: 15 MB
ROUNDING = 1e-5  # what single precision may add to half a squared distance, with a margin


class View(NamedTuple):
    """How an image was changed before it was compared."""

    mirrored: bool
    down: int  # pixels
    right: int  # pixels

    def __str__(self) -> str:
        moved = "moved" if self.down or self.right else ""
        return ", ".join(filter(None, ["mirrored" if self.mirrored else "", moved]))


# As it is comes first, so that of equal distances the simplest is told.
VIEWS = [View(mirrored, down, right) for mirrored in (False, True) for down in (0, -1, 1) for right in (0, -1, 1)]


class Pair(NamedTuple):
    """Two images that are close together, by their positions."""

    first: int
    second: int  # greater than the first
    distance: float
    view: View  # of the second


def exact(images: Tensor) -> list[list[int]]:
    """Groups of images with the same pixels, each of two or more positions in ascending order.

    Args:
        images: uint8 [N, 1, H, W].
    """
    groups: dict[bytes, list[int]] = {}
    for position, image in enumerate(images.numpy()):
        groups.setdefault(image.tobytes(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def near(images: Tensor, *, limit: float) -> list[Pair]:
    """All pairs of images whose distance is at most ``limit``, the closest first.

    No pair is missed: a projection to a few orthonormal components never lengthens a distance, so that what is further
    apart than the limit in the projection is so in the images, and only the others are measured. Pairs are looked at in
    blocks: for 70,000 images, 2.4 billion pairs and 18 views, it takes 0.3 GB beside the images, and some two
    minutes of one core.

    Args:
        images: uint8 [N, 1, H, W].
        limit: More than 0, less than 1. What is near is a choice; see ``fmnist.audit``.
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
    """Images [N, 1, H, W] as a view shows them, of length 1 each, with a margin of a pixel: float32 [N, pixels]."""
    pixels = F.pad(images[:, 0].float(), (1, 1, 1, 1))
    if view.mirrored:
        pixels = pixels.flip(2)
    pixels = pixels.roll((view.down, view.right), (1, 2)).flatten(1)
    lengths: Tensor = pixels.norm(dim=1, keepdim=True)
    return pixels / lengths.clamp(min=1)  # an image is black, or of length 1 at least


def _principal_components(images: Tensor) -> Tensor:
    """The directions that hold most of the images' squared length, orthonormal, float32 [pixels, components]."""
    parts = (_scaled(chunk, VIEWS[0]) for chunk in torch.split(images, CHUNK))
    moment = functools.reduce(torch.add, (part.T @ part for part in parts))
    _, vectors = torch.linalg.eigh(moment.double())  # in the order of their share, the largest last
    basis: Tensor = vectors[:, -COMPONENTS:].float()
    return basis


def _projections(images: Tensor, view: View, basis: Tensor) -> Tensor:
    return torch.cat([_scaled(chunk, view) @ basis for chunk in torch.split(images, CHUNK)])


def _candidates(first: Tensor, second: Tensor, limit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions of pairs, the first before the second, that are no further apart than the limit in the projection."""
    # p·q - |p|²/2 - |q|²/2 is minus half the squared distance: with two columns more, it is one matrix product.
    halves, others = (points.square().sum(dim=1, keepdim=True) / 2 for points in (first, second))
    rows = torch.cat([first, -halves, -torch.ones_like(halves)], dim=1)
    columns = torch.cat([second, torch.ones_like(others), others], dim=1)
    threshold = -(limit**2) / 2 - ROUNDING
    for top in range(0, len(rows), ROWS):
        for left in range(top // COLUMNS * COLUMNS, len(columns), COLUMNS):  # the blocks on and above the diagonal
            scores = rows[top : top + ROWS] @ columns[left : left + COLUMNS].T
            if scores.amax() < threshold:  # nearly always, and quicker to see than which
                continue
            i, j = (scores >= threshold).nonzero().T + torch.tensor([[top], [left]])
            if (ordered := i < j).any():
                yield i[ordered], j[ordered]
