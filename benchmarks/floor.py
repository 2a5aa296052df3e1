"""The floor: the same arithmetic in a bare PyTorch loop, as fast as we could make eager mode.

Images in memory as uint8, one indexing operation a batch, ReLU after pooling, channels_last, fused Adam, no denormal
numbers, and freed memory kept. No Lightning, no metrics, no logging, no validation, no checkpoints.
"""

import time

import torch
import torch.nn.functional as F

from benchmarks.peer import Settings, main
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.networks.cnn import CNN
from fmnist.training import speed


def epochs(settings: Settings) -> list[float]:
    speed.prepare()
    dataset = FashionMNIST().read("train")
    network = CNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    seconds = []
    for _ in range(settings.epochs):
        start = time.perf_counter()
        for indices in torch.randperm(settings.images).split(settings.batch_size):
            images, labels = dataset[indices]
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main(epochs)
