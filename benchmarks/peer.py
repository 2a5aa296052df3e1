"""Settings of every peer, and the form of its answer."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Settings:
    """The same for every peer."""

    epochs: int
    images: int  # training images per epoch
    batch_size: int
    threads: int


def main(epochs: Callable[[Settings], list[float]]) -> None:
    """Runs a peer for the settings on the command line; its last line of output is the seconds of each epoch."""
    parser = argparse.ArgumentParser()
    for field in Settings.__dataclass_fields__:
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, required=True)
    settings = Settings(**vars(parser.parse_args()))
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    seconds = epochs(settings)
    print(f"\n{json.dumps(seconds)}")  # a line of its own, whatever a progress bar has left
