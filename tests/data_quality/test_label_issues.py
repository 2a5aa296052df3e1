"""Labels that most networks reject, compared with NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.data_quality import label_issues

CLASSES = [f"class {number}" for number in range(10)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 1000))
def test_issues_match_the_definition_in_numpy(networks: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(10, 0.2), (networks, count)).astype(np.float32)
    trained_on = generator.random((networks, count)) < 0.5
    labels = generator.integers(10, size=count)
    tensors = [torch.from_numpy(each) for each in (probabilities, trained_on, labels)]
    issues = label_issues.find(tensors[0], tensors[1], tensors[2], CLASSES)

    votes, mean = probabilities.argmax(axis=2), probabilities.mean(axis=0)
    rejected = (votes != labels).sum(axis=0)
    assert set(issues.index) == set(np.flatnonzero(rejected > networks / 2))
    assert issues["probability"].is_monotonic_increasing
    for i, issue in zip(issues.index.tolist(), issues.to_dict("records"), strict=True):
        others = np.where(np.arange(10) == labels[i], -1, mean[i])
        assert issue == {
            "label": CLASSES[labels[i]],
            "probability": pytest.approx(mean[i, labels[i]], abs=1e-6),
            "suggestion": CLASSES[int(others.argmax())],
            "suggestion_probability": pytest.approx(others.max(), abs=1e-6),
            "rejected_by": rejected[i],
            "trained_on_by": trained_on[:, i].sum(),
            "votes": [CLASSES[vote] for vote in votes[:, i]],
        }


def test_half_of_the_networks_are_not_a_majority() -> None:
    probabilities = torch.eye(10)[torch.tensor([[3, 3], [4, 4]])]
    issues = label_issues.find(probabilities, torch.zeros(2, 2, dtype=torch.bool), torch.tensor([3, 5]), CLASSES)
    assert list(issues.index) == [1]
