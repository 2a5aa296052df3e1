"""What stands at the top level of a configuration, beside the groups of its nodes."""

from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.config.instantiate import GROUPS, trusted
from fmnist.config.signature import check_value
from fmnist.config.suggestion import did_you_mean, keys

MAX_SEED = 2**32 - 1  # NumPy's limit, whose generator Lightning seeds, too
SETTINGS: dict[str, Any] = {
    "seed": int,
    "threads": int | None,
    "compile": Literal["default", "reduce-overhead", "max-autotune"] | None,
    "label_smoothing": float,
    "ensemble": int,
    "test": bool,
    "max_jobs": int,
    "resume": None,  # has done its work when a configuration is looked at: see fmnist.runs.resume
    "monitor.metric": Literal["val/acc", "val/loss", "train/acc", "train/loss"],
    "monitor.mode": Literal["max", "min"],
}

KEYS = [*GROUPS, "trust", *dict.fromkeys(key.partition(".")[0] for key in SETTINGS)]  # the top level of a configuration


def check(config: DictConfig) -> None:
    """Makes sure that the top level is complete, and that what it holds is possible.

    Raises:
        UserError: A key is unknown, or a value wrong.
    """
    for key in config:
        if key not in KEYS:
            raise UserError(f"nothing reads the key '{key!s}'{did_you_mean(str(key), keys(config))}")
    if lacking := [key for key in KEYS if key not in config]:
        raise UserError(f"the configuration lacks {', '.join(lacking)}; is it of another version of this project?")
    trusted(config)
    for key, hint in SETTINGS.items():
        check_value(key, OmegaConf.select(config, key), hint)
    if not 0 <= config.seed <= MAX_SEED:
        raise UserError(f"seed must be from 0 to {MAX_SEED}, got {config.seed}")
    if config.threads is not None and config.threads < 1:
        raise UserError(f"threads must be at least 1, got {config.threads}")
    if not 0 <= config.label_smoothing < 1:
        raise UserError(f"label_smoothing must be at least 0 and below 1, got {config.label_smoothing}")
    if config.ensemble < 1:
        raise UserError(f"ensemble must be at least 1 network, got {config.ensemble}")
