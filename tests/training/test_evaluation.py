"""Metrics of an evaluation, against scikit-learn, NumPy and counts by hand."""

import itertools

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist.data.dataset import ImageDataset
from fmnist.training.evaluation import CALIBRATION_BINS, Evaluation


def random_evaluation(size: int, seed: int, scale: float = 3.0) -> Evaluation:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(10, (size,), generator=generator)
    logits = scale * torch.randn(size, 10, generator=generator)
    logits[torch.arange(size), targets] += 2.0
    images = torch.zeros(size, 1, 28, 28, dtype=torch.uint8)
    return Evaluation(images, targets, logits, torch.arange(size))


evaluations = st.builds(random_evaluation, st.integers(1, 300), st.integers(0, 1000), st.floats(0.1, 10))


@given(evaluations)
def test_confusion_matrix_and_per_class_metrics_match_scikit_learn(evaluation: Evaluation) -> None:
    targets, predicted = evaluation.targets.numpy(), evaluation.logits.numpy().argmax(axis=1)
    labels = range(10)
    np.testing.assert_array_equal(
        evaluation.confusion_matrix, sklearn.metrics.confusion_matrix(targets, predicted, labels=labels)
    )
    reference = sklearn.metrics.precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=0)
    figures = evaluation.per_class()
    for name, expected in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose(figures[name], expected, rtol=1e-6, err_msg=name)


@given(evaluations)
def test_calibration_matches_its_definition_in_numpy(evaluation: Evaluation) -> None:
    probabilities = evaluation.probabilities.numpy()
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == evaluation.targets.numpy()
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1, dtype=np.float32)
    error, bins = 0.0, []
    for lower, upper in itertools.pairwise(edges):
        inside = (confidence > lower) & (confidence <= upper)
        if inside.any():
            bins.append((confidence[inside].mean(), right[inside].mean(), inside.sum()))
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    calibration = evaluation.calibration()
    assert calibration.error == pytest.approx(error, abs=1e-5)
    assert int(calibration.count.sum()) == len(evaluation)
    if calibration.count.tolist() == [count for *_, count in bins]:  # a value on an edge may fall to either side
        np.testing.assert_allclose(calibration.confidence, [bin_[0] for bin_ in bins], rtol=1e-4)
        np.testing.assert_allclose(calibration.accuracy, [bin_[1] for bin_ in bins], rtol=1e-4)


@given(evaluations)
def test_mistakes_are_all_wrong_predictions_the_most_confident_first(evaluation: Evaluation) -> None:
    mistakes = evaluation.mistakes()
    predicted = evaluation.logits.numpy().argmax(axis=1)
    assert set(mistakes.tolist()) == set(np.flatnonzero(predicted != evaluation.targets.numpy()).tolist())
    confidence = evaluation.confidence[mistakes]
    assert (confidence[:-1] >= confidence[1:]).all()


@given(evaluations)
def test_confused_pairs_count_each_mistake_once(evaluation: Evaluation) -> None:
    pairs = evaluation.confused_pairs()
    assert sum(count for *_, count in pairs) == len(evaluation.mistakes())
    assert [count for *_, count in pairs] == sorted((count for *_, count in pairs), reverse=True)
    for true, predicted, count in pairs:
        assert true != predicted
        assert count == int(((evaluation.targets == true) & (evaluation.predicted == predicted)).sum())


def test_fewer_logits_are_aligned_with_the_first_images() -> None:
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 28, 28)
    dataset = ImageDataset(images, torch.arange(10))
    evaluation = Evaluation.of(dataset, torch.tensor([7, 2, 5]), torch.eye(10)[[7, 2]])  # stopped after two
    assert evaluation.targets.tolist() == evaluation.predicted.tolist() == [7, 2]
    assert evaluation.images[:, 0, 0, 0].tolist() == [7, 2]
    assert evaluation.indices.tolist() == [7, 2]
