"""Seeds for each random choice of training, as functions of where it is made.

A random number generator that runs on from epoch to epoch makes a resumed run differ from an uninterrupted one. Here
each epoch starts its generators anew, from a seed that depends on nothing but its arguments.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the random numbers are for: different streams never share numbers."""

    ORDER = 0  # the order of the training samples
    TRAINING = 1  # whatever draws from torch's global generator during training, such as dropout


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
