"""Seeds for each random choice of training, as functions of where it is made.

A random number generator that runs on from epoch to epoch makes a resumed run differ from an uninterrupted one, and
lets a callback that draws a number change the weights. Here each order and each step starts its generator anew, from a
seed that depends on nothing but its arguments.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch


class Stream(IntEnum):
    """What the random numbers are for: different streams never share numbers."""

    ORDER = 0  # the order of the training samples
    TRAINING = 1  # whatever draws from torch's global generator during training, such as dropout
    AUGMENTATION = 2  # what is done to the training images
    HALVES = 3  # which of the training images are mirrored in even epochs, and which in odd ones


@lru_cache(maxsize=8)
def derive_seed(stream: Stream, seed: int, *position: int) -> int:
    """Mixes a seed and a position (epoch, batch, rank ...) into a seed for one generator.

    Args:
        stream: What the random numbers are for.
        seed: The run's seed, at least 0.
        position: Where in the run, each at least 0.

    Returns:
        64 well-mixed bits, by NumPy's ``SeedSequence``.
    """
    sequence = np.random.SeedSequence([seed, *position], spawn_key=(stream,))
    return int(sequence.generate_state(1, np.uint64)[0])


def seed_generators(device: torch.device, seed: int) -> None:
    """Seeds torch's global generators, of the processor and of one device.

    A hundredth of the time of ``torch.manual_seed``, which also calls on every kind of device that torch knows: cheap
    enough for every step.

    Args:
        device: The device that the step runs on.
        seed: 64 bits, of which some generators use the lower 32.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
