"""The lesson's loop exactly as taught: torchvision's data set, ToTensor for each image, DataLoader, .item() each step.

As in the deeplizard notebooks ("CNN Training Loop Explained"): the network computes on float images that ToTensor has
brought into [0, 1]; two running sums are read with .item() after every batch.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from benchmarks.peer import Settings, main
from fmnist.data.download import CACHE


class Network(nn.Module):
    """The lesson's network as it is taught: each convolution followed by ReLU, then by pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, t: Tensor) -> Tensor:
        t = F.max_pool2d(F.relu(self.conv1(t)), kernel_size=2, stride=2)
        t = F.max_pool2d(F.relu(self.conv2(t)), kernel_size=2, stride=2)
        t = F.relu(self.fc1(t.reshape(-1, 12 * 4 * 4)))
        t = F.relu(self.fc2(t))
        logits: Tensor = self.out(t)
        return logits


def epochs(settings: Settings) -> list[float]:
    train_set = FashionMNIST(CACHE.parents[1], train=True, transform=transforms.Compose([transforms.ToTensor()]))
    loader = DataLoader(Subset(train_set, range(settings.images)), batch_size=settings.batch_size, shuffle=True)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    seconds = []
    for _ in range(settings.epochs):
        start = time.perf_counter()
        total_loss, total_correct = 0.0, 0
        for batch in loader:
            images, labels = batch
            preds = network(images)
            loss = F.cross_entropy(preds, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_correct += preds.argmax(dim=1).eq(labels).sum().item()
        seconds.append(time.perf_counter() - start)
    test_set = FashionMNIST(CACHE.parents[1], train=False, transform=transforms.Compose([transforms.ToTensor()]))
    with torch.no_grad():
        loader = DataLoader(test_set, batch_size=1000)
        correct = sum(network(images).argmax(dim=1).eq(labels).sum().item() for images, labels in loader)
    print(f"test accuracy {correct / len(test_set):.4f}")
    return seconds


if __name__ == "__main__":
    main(epochs)
