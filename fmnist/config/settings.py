"""Checks the top level of a configuration: its groups and its plain settings."""

from typing import Any, Literal

from omegaconf import DictConfig, ListConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.config.signature import check_value
from fmnist.config.suggestion import did_you_mean, keys

GROUPS = ("data", "augmentation", "model", "optimizer", "scheduler", "trainer", "callbacks", "dashboard", "logger")
SETTINGS: dict[str, Any] = {
    "name": str | int | float | None,
    "seed": int,
    "threads": int | None,
    "compile": Literal["default", "reduce-overhead", "max-autotune"] | None,
    "label_smoothing": float,
    "ensemble": int,
    "test": bool,
    "max_jobs": int,
    "resume": type(None),  # fmnist.runs.resume has read it and set it back
    "monitor.metric": Literal["val/acc", "val/loss", "train/acc", "train/loss"],
    "monitor.mode": Literal["max", "min"],
}
KEYS = [*GROUPS, "trust", *dict.fromkeys(key.partition(".")[0] for key in SETTINGS)]
MAX_SEED = 2**32 - 1  # the largest seed that NumPy's global generator takes, which Lightning seeds too


def check(config: DictConfig, *, stored: bool = False) -> None:
    """Checks that the top level is complete and its values are possible.

    Args:
        config: The configuration.
        stored: Whether it was read from a run directory.

    Raises:
        UserError: A key is unknown or missing, or a value is wrong.
    """
    for key in config:
        if key not in KEYS:
            raise UserError(f"unknown configuration key '{key!s}'{did_you_mean(str(key), keys(config))}")
    # Runs of earlier versions have no name, which changes nothing.
    if missing := [key for key in KEYS if key not in config and key != "name"]:
        hint = "; is it from another version of this project?" if stored else ", which can be replaced but not removed"
        raise UserError(f"the configuration lacks {', '.join(missing)}{hint}")
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


def trusted(config: DictConfig) -> list[str]:
    """Packages beyond the allow-list whose classes the user lets the configuration name.

    Raises:
        UserError: The key ``trust`` is not a list of package names.
    """
    names = OmegaConf.to_container(config.trust) if isinstance(config.trust, ListConfig) else config.trust
    if isinstance(names, list) and all(isinstance(name, str) and name.isidentifier() for name in names):
        return [str(name) for name in names]
    raise UserError(f"trust must be a list of names of packages, such as [timm], got {names!r}")
