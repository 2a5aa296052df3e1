"""The closest of several names is suggested for a misspelt one."""

import pytest
from omegaconf import OmegaConf

from fmnist.config.suggestion import did_you_mean, keys


@pytest.mark.parametrize(
    ("name", "candidates", "suggestion"),
    [
        ("lr", ["seed", "optimizer.lr"], "optimizer.lr"),
        ("lr", ["lrr", "optimizer.lr", "scheduler.lr"], "optimizer.lr"),
        ("learning_rate", ["seed"], None),
        ("data.bach_size", ["data.batch_size", "data.val_size"], "data.batch_size"),
        ("bach_size", ["data.batch_size", "other.batch_size", "data.val_size"], "data.batch_size"),
        ("epochs", ["trainer.max_epochs", "trainer.min_epochs"], "trainer.max_epochs"),
        ("trainer.epochs", ["x.max_epochs", "trainer.max_epochs", "trainer.min_epochs"], "trainer.max_epochs"),
        ("batch", ["data.val_size", "data.batch_size"], "data.batch_size"),
        ("x", [], None),
    ],
)
def test_closest_name_is_suggested(name: str, candidates: list[str], suggestion: str | None) -> None:
    assert did_you_mean(name, candidates) == (f"; did you mean '{suggestion}'?" if suggestion else "")


def test_keys_are_full_names_without_hydras_own() -> None:
    inner = {"_target_": "x", "b": 1, "c": {"_partial_": True, "d": "${a.b}"}}
    assert keys(OmegaConf.create({"a": inner, "e": [1]})) == ["a.b", "a.c.d", "e"]
