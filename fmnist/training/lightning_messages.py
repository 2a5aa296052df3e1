"""Silences advice of Lightning that does not apply to this project."""

import logging
import warnings


def silence() -> None:
    """Filters tips and warnings of this process."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # tips, and lists of devices and processes
    for message in (
        ".*does not have many workers",  # the images are in memory
        ".*LeafSpec",  # Lightning 2.6 calls a function that torch 2.14 deprecates
        ".*Total length of `list`",  # data.val_size=0 means no validation
        ".*exists and is not empty",  # a resumed run finds its own checkpoints
        ".*smaller than the logging interval",  # true of every short trial
        ".*sync_dist=True",  # the metrics of an epoch cover all processes, see training/metrics.py
        ".*srun. command is available",  # and not needed, see distributed/workers.py
    ):
        warnings.filterwarnings("ignore", message=message)
