"""The floor: the same arithmetic in a bare PyTorch loop, as fast as eager mode goes.

Images in memory as uint8, one indexing operation a batch, channels_last, fused Adam. No Lightning, no metrics, no
logging, no validation. The order of the samples is drawn once an epoch, as in the project.
"""

import time

import torch
import torch.nn.functional as F

from benchmarks.peer import Settings, main
from fmnist.data import ImageDataset
from fmnist.fetch import CACHE
from fmnist.model import CNN


def epochs(settings: Settings) -> list[float]:
    dataset = ImageDataset.read(CACHE, "train")
    images = dataset.images[: settings.images].to(memory_format=torch.channels_last)
    labels = dataset.labels[: settings.images]
    network = CNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    seconds = []
    for _ in range(settings.epochs):
        start = time.perf_counter()
        for indices in torch.randperm(settings.images).split(settings.batch_size):
            loss = F.cross_entropy(network(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main(epochs)
