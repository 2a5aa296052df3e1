"""A progress bar that costs next to nothing."""

import sys

from lightning.pytorch.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, redrawn seldom, and absent when the output is not a terminal.

    Args:
        refresh_rate: Steps between two redraws, at least 1.
    """

    def __init__(self, *, refresh_rate: int) -> None:
        if refresh_rate < 1:
            raise ValueError(f"refresh_rate must be at least 1, got {refresh_rate}")
        super().__init__(refresh_rate=refresh_rate if sys.stdout.isatty() else 0)
