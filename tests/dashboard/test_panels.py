"""What each panel hands to TensorBoard's writer."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn

from fmnist.dashboard.calibration import Calibration
from fmnist.dashboard.confusion_matrix import ConfusionMatrix
from fmnist.dashboard.embedding import Embedding, features
from fmnist.dashboard.filters import Filters
from fmnist.dashboard.mistakes import Mistakes, confused_pairs_table
from fmnist.dashboard.panel import Panel, PanelContext
from fmnist.dashboard.per_class import PerClass
from fmnist.dashboard.precision_recall import PrecisionRecall
from fmnist.dashboard.texts import hyperparameters
from fmnist.dashboard.training_batch import TrainingBatch, class_captions
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN
from fmnist.training.evaluation import Evaluation


def images(count: int) -> Tensor:
    return torch.randint(256, (count, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


LOGITS = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
EVALUATION = Evaluation(images(300), torch.arange(300) % 10, LOGITS, torch.arange(300))
TAGS = ["T-shirt or top", *CLASS_NAMES[1:]]  # a slash would open a group


def draw(panel: Panel, *, network: nn.Module | None = None, epoch: int | None = None, data: Any = None) -> MagicMock:
    """The writer after a panel has been drawn at step 7; its calls are recorded."""
    writer = MagicMock()
    split = "test" if epoch is None else "val"
    data = data or SimpleNamespace(spec=FashionMNIST.spec)
    panel.draw(PanelContext(writer, split, epoch, 7, EVALUATION, network or CNN(), data))
    return writer


def titles(writer: MagicMock) -> list[tuple[str, str, int]]:
    """Tag, title and step of each figure."""
    return [
        (tag, figure.get_suptitle() or figure.axes[0].get_title(loc="right"), step)
        for tag, figure, step in (call.args for call in writer.add_figure.call_args_list)
    ]


def test_per_class_logs_the_measures_of_scikit_learn_and_the_layout_once() -> None:
    panel = PerClass()
    writer = draw(panel)
    expected = precision_recall_fscore_support(EVALUATION.targets, LOGITS.argmax(dim=1))
    tags = {f"{m}": [f"val_per_class/{m}/{name}" for name in TAGS] for m in ("precision", "recall", "f1")}
    logged = {call.args[0]: call.args[1] for call in writer.add_scalar.call_args_list}
    for values, names in zip(expected, tags.values(), strict=False):
        np.testing.assert_allclose([logged.pop(name) for name in names], values, rtol=1e-5)
    assert not logged
    layout = {"each class of the validation set": {m: ["Multiline", names] for m, names in tags.items()}}
    writer.add_custom_scalars.assert_called_once_with(layout)
    draw(panel).add_custom_scalars.assert_not_called()


def test_precision_recall_logs_each_class_against_the_others() -> None:
    curves = draw(PrecisionRecall()).add_pr_curve.call_args_list
    assert [call.args[0] for call in curves] == [f"test/{name}" for name in TAGS]
    for number, call in enumerate(curves):
        np.testing.assert_array_equal(call.args[1], EVALUATION.targets == number)
        np.testing.assert_array_equal(call.args[2], LOGITS.softmax(dim=1)[:, number])
        assert (call.args[3], call.kwargs) == (7, {"num_thresholds": 127})


def test_figures_of_an_evaluation_have_titles_with_split_epoch_and_numbers() -> None:
    correct = (LOGITS.argmax(dim=1) == EVALUATION.targets).sum().item()
    matrix = f"validation set after epoch 2: {correct / 300:.2%} of 300 correct"
    assert titles(draw(ConfusionMatrix(), epoch=2)) == [("val/confusion_matrix", matrix, 7)]
    writer = draw(Calibration())
    (name, error, step), _ = writer.add_scalar.call_args
    assert (name, step) == ("test/calibration_error", 7)
    assert titles(writer) == [("test/calibration", f"test set:\nexpected calibration error {error:.2%}", 7)]
    writer = draw(Mistakes(count=5))
    assert titles(writer) == [("test/mistakes", f"test set: the 5 most confident of {300 - correct} mistakes", 7)]
    (name, table, step), _ = writer.add_text.call_args
    assert (name, step, len(table.splitlines())) == ("test/confused_pairs", 7, 2 + 2 + 10)


def test_confused_pairs_are_a_markdown_table() -> None:
    evaluation = MagicMock(confused_pairs=lambda: [(6, 0, 120), (2, 4, 7)], __len__=lambda _: 10_000)
    lines = confused_pairs_table(evaluation, CLASS_NAMES).splitlines()
    assert lines[0] == "Confused most, of 10,000 images:"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0] == ["is", "taken for", "images"]
    assert cells[2:] == [["Shirt", "T-shirt/top", "120"], ["Pullover", "Coat", "7"]]


@pytest.mark.parametrize("kwargs", [{"stem_width": 4}, {"stem_width": 4, "fixed_stem": True}])
def test_filters_are_those_of_the_first_convolution(kwargs: dict[str, Any]) -> None:
    ((name, title, step),) = titles(draw(Filters(), network=ResidualCNN(widths=[5], **kwargs)))
    assert (name, title.partition(" (")[0], step) == ("network/filters", "stem.0: 4 kernels", 7)
    assert titles(draw(Filters(), network=nn.Linear(2, 2))) == []


def test_embedding_has_features_classes_and_images() -> None:
    network = CNN().eval()
    ((logged,), kwargs) = draw(Embedding(count=280), network=network).add_embedding.call_args
    torch.testing.assert_close(network.out(logged), network(images(300)[:280]))
    verdicts = {True: "right", False: "wrong"}
    assert kwargs["metadata"] == [
        [CLASS_NAMES[target], CLASS_NAMES[guess], verdicts[target == guess]]
        for target, guess in zip(EVALUATION.targets[:280].tolist(), LOGITS.argmax(dim=1).tolist(), strict=False)
    ]
    torch.testing.assert_close(kwargs["label_img"], images(300)[:280] / 255)
    assert (kwargs["tag"], kwargs["global_step"]) == ("features", 7)
    assert not network.out._forward_pre_hooks
    with pytest.raises(ValueError, match="no linear layer"):
        features(nn.Conv2d(1, 1, 1), images(3).float())


def test_compiled_network_has_the_features_of_the_eager_one() -> None:
    network = CNN().eval()
    expected = features(network, images(20))
    network.compile(backend="eager")
    with torch.inference_mode():  # as when testing
        network(images(20))
    torch.testing.assert_close(features(network, images(20)), expected)


def test_training_batch_is_shown_beside_its_originals_if_augmentation_changes_it() -> None:
    for after, width in ((images(5), 28), (images(5).flip(3), 58)):
        batch = images(5), after, torch.arange(5)
        data = SimpleNamespace(spec=FashionMNIST.spec, first_batch=lambda batch=batch: batch)
        writer = draw(TrainingBatch(count=4), data=data)
        assert titles(writer) == [("train/batch", "the first 4 images of the first training batch", 7)]
        axes = writer.add_figure.call_args.args[1].axes[0]
        assert axes.texts[3].get_text() == "Dress"
        assert axes.images[3].get_array().shape == (28, width)


def test_captions_of_mixtures_name_the_greater_share_first() -> None:
    assert class_captions(torch.tensor([9, 0]), CLASS_NAMES) == ["Ankle boot", "T-shirt/top"]
    targets = torch.zeros(2, 10)
    targets[0, [8, 6]] = torch.tensor([0.7, 0.3])
    targets[1, 8] = 1
    assert class_captions(targets, CLASS_NAMES) == ["70% Bag\n30% Shirt", "Bag"]


def test_hyperparameters_are_numbers_and_class_names(composed: Callable[..., DictConfig]) -> None:
    found = hyperparameters(composed("optimizer.lr=0.5", "data.batch_size=7"))
    assert list(found) == sorted(found)
    assert [found[name] for name in ("data.batch_size", "model", "optimizer", "optimizer.lr")] == [
        7,
        "CNN",
        "Adam",
        0.5,
    ]


@pytest.mark.parametrize(("panel", "least"), [(Mistakes, 1), (Embedding, 3), (TrainingBatch, 1)])
def test_count_out_of_range_is_rejected(panel: Any, least: int) -> None:
    with pytest.raises(ValueError, match=f"count must be at least {least}, got {least - 1}"):
        panel(count=least - 1)
    assert panel(count=least).count == least
