"""Metrics over an epoch, against scikit-learn and a plain mean over the samples."""

import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.training.metrics import EpochMetrics, EvaluationMetrics


@settings(max_examples=50)
@given(size=st.integers(1, 300), batch_size=st.integers(1, 100), seed=st.integers(0, 1000))
def test_batches_of_any_size_give_the_metrics_of_the_whole_set(size: int, batch_size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(size, 10, generator=generator)
    targets = torch.randint(10, (size,), generator=generator)

    metrics = EvaluationMetrics(num_classes=10)
    for part, labels in zip(logits.split(batch_size), targets.split(batch_size), strict=True):
        metrics.update(F.cross_entropy(part, labels), part, labels)

    computed = metrics.compute()
    # The mean over the samples: a short last batch must not weigh as much as a full one.
    loss = sklearn.metrics.log_loss(targets, logits.double().softmax(dim=1), labels=range(10))
    assert computed["loss"].item() == pytest.approx(loss, rel=1e-5)
    # The share of all samples, not the mean over the classes.
    assert computed["acc"].item() == pytest.approx(sklearn.metrics.accuracy_score(targets, logits.argmax(dim=1)))
    assert torch.equal(metrics.logits(), logits)
    assert metrics.count == size


def test_loss_that_is_not_finite_shows() -> None:
    metrics = EpochMetrics(num_classes=2)
    for loss in (1.0, float("nan")):
        metrics.update(torch.tensor(loss), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    assert metrics.compute()["loss"].isnan()


@pytest.mark.parametrize("computed", [True, False])
def test_reset_forgets_everything(computed: bool) -> None:
    metrics = EvaluationMetrics(num_classes=2)
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    metrics.update(torch.tensor(5.0), wrong, torch.tensor([0]))
    if computed:
        metrics.compute()
    metrics.reset()
    metrics.update(torch.tensor(1.0), right, torch.tensor([0]))
    assert {name: value.item() for name, value in metrics.compute().items()} == {"loss": 1.0, "acc": 1.0}
    assert torch.equal(metrics.logits(), right)
    assert metrics.state_dict() == {}  # not in the checkpoints
