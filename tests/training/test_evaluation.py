"""Metrics of an evaluation, against scikit-learn, NumPy and counts by hand."""

import itertools

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.data.dataset import ImageDataset
from fmnist.training.evaluation import Evaluation


def random_evaluation(size: int, seed: int, scale: float) -> Evaluation:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(10, (size,), generator=generator)
    logits = scale * torch.randn(size, 10, generator=generator) + 2 * torch.eye(10)[targets]
    return Evaluation(torch.zeros(size, 1, 28, 28, dtype=torch.uint8), targets, logits, torch.arange(size))


evaluations = st.builds(random_evaluation, st.integers(1, 300), st.integers(0, 1000), st.floats(0.1, 10))


@settings(max_examples=50)
@given(evaluations)
def test_confusion_matrix_and_per_class_metrics_match_scikit_learn(evaluation: Evaluation) -> None:
    targets, predicted = evaluation.targets.numpy(), evaluation.logits.numpy().argmax(axis=1)
    labels = range(10)
    matrix = sklearn.metrics.confusion_matrix(targets, predicted, labels=labels)
    np.testing.assert_array_equal(evaluation.confusion_matrix, matrix)
    reference = sklearn.metrics.precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=0)
    per_class = evaluation.per_class()
    for name, expected in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose(per_class[name], expected, rtol=1e-6, err_msg=name)

    np.fill_diagonal(matrix, 0)
    pairs = evaluation.confused_pairs()
    assert sorted(pairs) == [(*place, matrix[place]) for place in zip(*matrix.nonzero(), strict=True)]
    counts = [count for *_, count in pairs]
    assert counts == sorted(counts, reverse=True)


@settings(max_examples=50)
@given(evaluations)
def test_calibration_matches_its_definition_in_numpy(evaluation: Evaluation) -> None:
    probabilities = evaluation.probabilities.numpy()
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == evaluation.targets.numpy()
    error, bins = 0.0, []
    for number, (lower, upper) in enumerate(itertools.pairwise(np.linspace(0, 1, 15 + 1, dtype=np.float32))):
        inside = (confidence > lower) & (confidence <= upper)
        if inside.any():
            bins.append((number, confidence[inside].mean(), right[inside].mean(), inside.sum()))
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    calibration = evaluation.calibration()
    assert calibration.error == pytest.approx(error, abs=1e-5)
    assert int(calibration.count.sum()) == len(evaluation)
    if calibration.count.tolist() == [count for *_, count in bins]:  # a value on an edge may fall to either side
        for i, found in enumerate((calibration.number, calibration.confidence, calibration.accuracy)):
            np.testing.assert_allclose(found, [bin_[i] for bin_ in bins], rtol=1e-4)


@given(evaluations)
def test_mistakes_are_all_wrong_predictions_the_most_confident_first(evaluation: Evaluation) -> None:
    mistakes = evaluation.mistakes()
    predicted = evaluation.logits.numpy().argmax(axis=1)
    assert sorted(mistakes.tolist()) == np.flatnonzero(predicted != evaluation.targets.numpy()).tolist()
    confidence = evaluation.confidence[mistakes]
    assert (confidence[:-1] >= confidence[1:]).all()


def test_fewer_logits_are_aligned_with_the_first_images() -> None:
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 28, 28)
    dataset = ImageDataset(images, torch.arange(10))
    evaluation = Evaluation.of(dataset, torch.tensor([7, 2, 5]), torch.eye(10)[[7, 2]])  # stopped after two
    assert evaluation.targets.tolist() == evaluation.predicted.tolist() == evaluation.indices.tolist() == [7, 2]
    assert evaluation.images[:, 0, 0, 0].tolist() == [7, 2]
