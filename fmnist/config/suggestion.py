"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

from omegaconf import DictConfig


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Suggests the closest candidate.

    A candidate whose last part equals the name wins: 'lr' suggests 'optimizer.lr'.

    Returns:
        "; did you mean '...'?", to append to a message, or an empty text if no candidate is close.
    """
    candidates = list(candidates)
    group, _, last = name.rpartition(".")
    close = [candidate for candidate in candidates if candidate.rpartition(".")[2] == name]
    # 'epochs' suggests 'trainer.max_epochs', listed before the equally close 'trainer.min_epochs'.
    words = [candidate for candidate in candidates if last in candidate.rpartition(".")[2].split("_")]
    close += sorted(words, key=lambda candidate: candidate.rpartition(".")[0] != group)
    close += difflib.get_close_matches(name, candidates, n=1)
    last_parts = {candidate.rpartition(".")[2]: candidate for candidate in reversed(candidates)}
    close += [last_parts[part] for part in difflib.get_close_matches(last, last_parts, n=1)]
    return f"; did you mean '{close[0]}'?" if close else ""


def keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Full names of all values in a configuration, such as 'optimizer.lr', without ``_target_`` and its like."""
    names = []
    for key, value in config.items_ex(resolve=False):
        name = f"{prefix}{key!s}"
        if isinstance(value, DictConfig):
            names += keys(value, f"{name}.")
        elif not str(key).startswith("_"):
            names.append(name)
    return names
