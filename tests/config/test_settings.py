"""The top level of a configuration: its groups, its plain settings and the monitored metric."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from fmnist.config import settings
from fmnist.config.errors import UserError
from fmnist.config.monitor import monitored, score
from fmnist.config.settings import GROUPS
from tests.helpers import ROOT

METRIC = "monitor.metric must be val/acc or val/loss or train/acc or train/loss"
TRUST = "trust must be a list of names of packages, such as [timm]"


def configuration(**changes: object) -> DictConfig:
    """The top level of conf/train.yaml, with almost empty groups."""
    groups: dict[str, Any] = {group: {} for group in GROUPS} | {
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01}
    }
    defaults: Any = OmegaConf.load(ROOT / "conf/train.yaml")
    del defaults["defaults"], defaults["hydra"]
    return OmegaConf.create({**groups, **defaults, **changes})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", ["a"], "name must be text or a number or null, got ['a']"),
        ("seed", "abc", "seed must be a whole number, got 'abc'"),
        ("seed", -1, "seed must be from 0 to 4294967295, got -1"),
        ("seed", 4294967296, "seed must be from 0 to 4294967295, got 4294967296"),
        ("threads", 1.5, "threads must be a whole number or null, got 1.5"),
        ("threads", 0, "threads must be at least 1, got 0"),
        ("compile", "fast", "compile must be default or reduce-overhead or max-autotune or null, got 'fast'"),
        ("label_smoothing", None, "label_smoothing must be a number, got None"),
        ("label_smoothing", 1, "label_smoothing must be at least 0 and below 1, got 1"),
        ("label_smoothing", -0.1, "label_smoothing must be at least 0 and below 1, got -0.1"),
        ("label_smoothing", float("nan"), "label_smoothing must be at least 0 and below 1, got nan"),
        ("ensemble", 2.5, "ensemble must be a whole number, got 2.5"),
        ("ensemble", 0, "ensemble must be at least 1 network, got 0"),
        ("test", "maybe", "test must be true or false, got 'maybe'"),
        ("max_jobs", None, "max_jobs must be a whole number, got None"),
        ("monitor", {"metric": "acc", "mode": "max"}, f"{METRIC}, got 'acc'; did you mean 'val/acc'?"),
        ("monitor", {"metric": "val/acc", "mode": "up"}, "monitor.mode must be max or min, got 'up'"),
        *(("trust", value, f"{TRUST}, got {value!r}") for value in ("timm", [1], ["timm.models"], {"a": 1}, None)),
        ("lr", 0.1, "unknown configuration key 'lr'; did you mean 'optimizer.lr'?"),
    ],
)
def test_wrong_setting_is_rejected(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        settings.check(configuration(**{key: value}))
    assert str(error.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {
            "seed": 4294967295,
            "threads": 1,
            "compile": "reduce-overhead",
            "label_smoothing": 0.99,
            "ensemble": 9,
        },
        {"trust": ["timm", "mine"], "test": False, "monitor": {"metric": "train/loss", "mode": "min"}},
        {"name": "wider"},
    ],
)
def test_right_settings_are_accepted(changes: dict[str, object]) -> None:
    config = configuration(**changes)
    settings.check(config)
    assert settings.trusted(config) == config.trust


def test_missing_keys_are_named() -> None:
    config = configuration()
    del config["name"]  # a run of an earlier version
    settings.check(config, stored=True)
    del config["ensemble"], config["model"]
    with pytest.raises(UserError, match=r"^the configuration lacks model, ensemble; is it from another version"):
        settings.check(config, stored=True)
    with pytest.raises(
        UserError, match=r"^the configuration lacks model, ensemble, which can be replaced but not remov"
    ):
        settings.check(config)


@pytest.mark.parametrize(
    ("metric", "val_size", "batches", "expected"),
    [("val/acc", 1, None, True), ("val/acc", 0, None, False), ("val/acc", 1, 0, False), ("train/loss", 0, 0, True)],
)
def test_metric_of_a_validation_that_does_not_happen_ranks_no_runs(
    metric: str, val_size: int, batches: int | None, expected: bool
) -> None:
    sizes = {"data": {"val_size": val_size}, "trainer": {"limit_val_batches": batches}}
    config = configuration(monitor={"metric": metric, "mode": "max"}, **sizes)
    assert monitored(config) == (metric if expected else None)
    assert score(config) == ((metric, "max") if expected else ("train/loss", "min"))
