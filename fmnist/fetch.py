"""Download and verify the data set.

Fashion-MNIST goes to the project's cache. train.py does the same when the data is missing.
"""

import logging
from dataclasses import dataclass

from fmnist.cli import options
from fmnist.data import download


@dataclass(frozen=True)
class Options:
    pass


def main(_options: Options) -> None:
    logging.getLogger(__name__).info("data: %s holds the four verified files", download.fetch())


if __name__ == "__main__":
    options.run(main, Options)
