"""The same job in Keras, as its own examples write it, on the backend that KERAS_BACKEND in the environment names.

Runs in the environment that ``make bench-peers`` makes, where neither torch nor this project is installed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers


class EpochSeconds(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of each epoch, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def read(directory: Path, stem: str) -> tuple[Any, Any]:
    """Images float32 [N, 28, 28, 1] in [0, 1], and labels."""
    images = np.fromfile(directory / f"{stem}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28, 1)
    return images.astype(np.float32) / 255, np.fromfile(directory / f"{stem}-labels-idx1-ubyte", np.uint8)[8:]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("epochs", "images", "batch-size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="directory of the four official files")
    options = parser.parse_args()
    images, labels = read(options.data, "train")
    split = options.images
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(60, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    assert model.count_params() == 32_998
    clock = EpochSeconds()
    model.fit(
        images[:split],
        labels[:split],
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_data=(images[split : split + split // 11], labels[split : split + split // 11]),
        callbacks=[clock],
    )
    model.evaluate(*read(options.data, "t10k"), batch_size=1000)
    print(f"\n{json.dumps(clock.seconds)}")


if __name__ == "__main__":
    main()
