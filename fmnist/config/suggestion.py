"""The nearest thing that exists, for a name that does not."""

import difflib
from collections.abc import Iterable

from omegaconf import DictConfig


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Names the nearest candidate.

    A candidate whose last part is the name comes first, so that 'lr' leads to 'optimizer.lr'.

    Returns:
        "; did you mean '...'?", to be appended to a message, or nothing if no candidate is near.
    """
    candidates = list(candidates)
    near = [candidate for candidate in candidates if candidate.rpartition(".")[2] == name]
    # 'epochs' leads to 'trainer.max_epochs', which comes before 'trainer.min_epochs' and is as near.
    group, _, last = name.rpartition(".")
    words = [candidate for candidate in candidates if last in candidate.rpartition(".")[2].split("_")]
    near += sorted(words, key=lambda candidate: candidate.rpartition(".")[0] != group)
    near += difflib.get_close_matches(name, candidates, n=1)
    last_parts = {candidate.rpartition(".")[2]: candidate for candidate in reversed(candidates)}
    near += [last_parts[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=1)]
    return f"; did you mean '{near[0]}'?" if near else ""


def keys(config: DictConfig, prefix: str = "") -> list[str]:
    """The full name of every value in a configuration that a user may change."""
    names = []
    for key, value in config.items_ex(resolve=False):
        name = f"{prefix}{key!s}"
        if isinstance(value, DictConfig):
            names += keys(value, f"{name}.")
        elif not str(key).startswith("_"):
            names.append(name)
    return names
