"""Seeds for the random choices of training, each a function of where in the run it is made.

With a generator that runs on from epoch to epoch, a resumed run would differ from an uninterrupted one, and a callback
that draws a random number would change the weights. Here every order and every step seeds its own generator.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np


class Stream(IntEnum):
    """The purpose of random numbers. Different streams never share numbers."""

    ORDER = 0  # order of the training samples
    TRAINING = 1  # torch's global generator during training, as used by dropout
    AUGMENTATION = 2  # augmentation of the training images
    HALVES = 3  # the half of the training set that Flip mirrors in even epochs


@lru_cache(maxsize=8)
def derive_seed(stream: Stream, seed: int, *position: int) -> int:
    """Mixes a seed and a position (epoch, batch, rank ...) into the seed of one generator.

    Args:
        stream: Purpose of the random numbers.
        seed: The run's seed, at least 0.
        position: Position in the run, each number at least 0.

    Returns:
        64 well-mixed bits from NumPy's ``SeedSequence``.
    """
    sequence = np.random.SeedSequence([seed, *position], spawn_key=(stream,))
    return int(sequence.generate_state(1, np.uint64)[0])
