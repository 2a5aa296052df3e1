"""Labels that most networks reject, against NumPy and against what a run was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fmnist
from fmnist.data.fashion_mnist import ImageDataset
from fmnist.data.split import stratified_split
from fmnist.data_quality.label_issues import Verdicts, ask, doubtful
from fmnist.runs.run_directory import RunDirectory


@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 1000))
def test_they_are_what_numpy_makes_of_the_definition(networks: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(10, 0.2), (networks, count)).astype(np.float32)
    seen = generator.random((networks, count)) < 0.5
    labels = generator.integers(10, size=count)
    doubts = doubtful(Verdicts(torch.from_numpy(probabilities), torch.from_numpy(seen)), torch.from_numpy(labels))

    votes, mean = probabilities.argmax(axis=2), probabilities.mean(axis=0)
    rejected = (votes != labels).sum(axis=0)
    assert {doubt.position for doubt in doubts} == set(np.flatnonzero(rejected > networks / 2))
    order = [doubt.probability for doubt in doubts]
    assert order == sorted(order)
    for doubt in doubts:
        i = doubt.position
        assert doubt.label == labels[i]
        assert doubt.votes == votes[:, i].tolist()
        assert (doubt.rejected, doubt.seen) == (rejected[i], seen[:, i].sum())
        assert doubt.probability == pytest.approx(mean[i, labels[i]], abs=1e-6)
        others = np.delete(mean[i], labels[i])
        assert doubt.suggestion != doubt.label
        assert doubt.suggestion_probability == pytest.approx(others.max(), abs=1e-6)
        assert mean[i, doubt.suggestion] == pytest.approx(others.max(), abs=1e-6)


def test_half_of_the_networks_are_not_most() -> None:
    probabilities = torch.eye(10)[torch.tensor([[3, 3], [4, 4]])]
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert [doubt.position for doubt in doubtful(Verdicts(probabilities, nothing), torch.tensor([3, 5]))] == [1]


@pytest.mark.real_data
def test_a_network_has_seen_all_training_images_but_its_validation_images(
    untrained_run: RunDirectory, official: Path, train_set: ImageDataset, test_set: ImageDataset
) -> None:
    images = torch.cat([train_set.images, test_set.images[:10]])
    verdicts = ask([untrained_run], images, official)
    _, held_back = stratified_split(train_set.labels, val_size=5000, seed=0)
    assert verdicts.seen.shape == (1, 60_010)
    assert not verdicts.seen[0, held_back].any()
    assert not verdicts.seen[0, 60_000:].any()
    assert int(verdicts.seen.sum()) == 55_000
    logits = fmnist.load(untrained_run.path)(images[-10:])
    torch.testing.assert_close(verdicts.probabilities[0, -10:], torch.softmax(logits, 1).detach())
