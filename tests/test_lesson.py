"""The lesson, step by step: data, network, training on one batch, single prediction, confusion matrix.

Each figure is the lesson's or is counted by hand, never taken from the code under test.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.networks.cnn import CNN
from fmnist.training.evaluation import Evaluation

pytestmark = pytest.mark.real_data


@pytest.fixture
def network() -> CNN:
    torch.manual_seed(50)
    return CNN()


@pytest.fixture
def batch(train_set: ImageDataset) -> tuple[Tensor, Tensor]:
    return train_set[torch.arange(100)]


def num_correct(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())


def test_training_set_is_the_lessons(train_set: ImageDataset) -> None:
    assert len(train_set) == 60_000
    assert train_set.labels.bincount().tolist() == [6_000] * 10
    assert train_set.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    image, label = train_set[0]
    assert image.shape == (1, 28, 28)
    assert CLASS_NAMES[int(label)] == "Ankle boot"


def test_shapes_from_the_input_to_the_logits(network: CNN, batch: tuple[Tensor, Tensor]) -> None:
    shapes = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _m, _i, output, name=name: shapes.update({name: tuple(output.shape)}))
    logits = network(batch[0])
    assert shapes == {
        "normalize": (100, 1, 28, 28),
        "conv1": (100, 6, 24, 24),
        "conv2": (100, 12, 8, 8),
        "fc1": (100, 120),
        "fc2": (100, 60),
        "out": (100, 10),
    }
    assert logits.shape == (100, 10)


def test_network_has_32998_parameters(network: CNN) -> None:
    by_hand = (6 * 25 + 6) + (12 * 6 * 25 + 12) + (192 * 120 + 120) + (120 * 60 + 60) + (60 * 10 + 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == 32_998


def test_network_computes_what_the_lesson_writes_by_hand(network: CNN, batch: tuple[Tensor, Tensor]) -> None:
    t = batch[0].float() / 255
    t = F.max_pool2d(F.relu(network.conv1(t)), kernel_size=2, stride=2)
    t = F.max_pool2d(F.relu(network.conv2(t)), kernel_size=2, stride=2)
    t = F.relu(network.fc1(t.reshape(-1, 12 * 4 * 4)))
    t = network.out(F.relu(network.fc2(t)))
    torch.testing.assert_close(network(batch[0]), t)


def test_cross_entropy_matches_the_worked_example() -> None:
    loss = F.cross_entropy(torch.tensor([[3.0, 6.0, 2.0], [1.0, 1.0, 2.0]]), torch.tensor([2, 1]))
    by_hand = (math.log(math.e**3 + math.e**6 + math.e**2) - 2 + math.log(2 * math.e + math.e**2) - 1) / 2
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)
    assert loss.item() == pytest.approx(2.8087, abs=5e-5)


def test_untrained_network_guesses(network: CNN, train_set: ImageDataset) -> None:
    with torch.no_grad():
        images, labels = train_set[torch.arange(10_000)]
        logits = network(images)
    assert F.cross_entropy(logits, labels).item() == pytest.approx(math.log(10), abs=0.02)
    assert 0.05 < num_correct(logits, labels) / 10_000 < 0.2


def test_single_batch_is_learned_by_heart(network: CNN, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert num_correct(network(images), labels) == 100


def test_image_is_predicted_the_same_alone_and_in_a_batch(network: CNN, batch: tuple[Tensor, Tensor]) -> None:
    alone = torch.cat([network(image.unsqueeze(0)) for image in batch[0]])
    torch.testing.assert_close(alone, network(batch[0]))


def test_confusion_matrix_equals_one_counted_by_hand_and_scikit_learns(network: CNN, test_set: ImageDataset) -> None:
    with torch.no_grad():
        logits = torch.cat([network(part) for part in test_set.images.split(1_000)])
    matrix = Evaluation.of(test_set, torch.arange(10_000), logits).confusion_matrix.numpy()
    by_hand = np.zeros((10, 10), dtype=np.int64)
    for true, predicted in zip(test_set.labels.tolist(), logits.argmax(dim=1).tolist(), strict=True):
        by_hand[true, predicted] += 1  # rows true, columns predicted
    np.testing.assert_array_equal(matrix, by_hand)
    np.testing.assert_array_equal(matrix, confusion_matrix(test_set.labels, logits.argmax(dim=1)))
