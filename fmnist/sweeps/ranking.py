"""Ranks the settings of a sweep by the mean of the monitored metric. Imported without torch.

A setting is a combination of swept values; its runs differ only in their seed. The test set is not used.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from fmnist.config.monitor import Mode
from fmnist.sweeps.sweep_directory import Job, differing

SEED = "seed"
_DEFAULT: tuple[tuple[str, Mode], int] = ("val/acc", "max"), 0


class Setting(NamedTuple):
    """A combination of swept values.

    Attributes:
        values: Of the swept parameters.
        jobs: Its runs, planned ones included.
        finished: Number of runs that have finished.
        scored: Number of runs that have the metric.
        mean: Mean of the metric; NaN without a run, or if a finished run lacks it.
        sd: Sample standard deviation; NaN for one run.
        seconds: Mean seconds of the finished runs.
    """

    values: tuple[str, ...]
    jobs: list[Job]
    finished: int
    scored: int
    mean: float
    sd: float
    seconds: float


@dataclass(frozen=True)
class Ranking:
    parameters: list[str]  # names of the swept parameters, without the seed
    values: list[list[str]]  # distinct values of each parameter, in the planned order
    seeds: int  # number of seeds; 0 if the seed was not swept
    metric: str  # that most settings monitor
    mode: Mode
    settings: list[Setting]  # best first, those without a mean last
    other_metric: int  # number of settings that monitor another metric

    @property
    def ranked(self) -> list[Setting]:
        """The settings that have a mean, best first."""
        return [setting for setting in self.settings if not math.isnan(setting.mean)]

    @property
    def best(self) -> Setting | None:
        return next(iter(self.ranked), None)

    @property
    def tied(self) -> list[Setting]:
        """Settings within two standard errors of the best: other seeds might have ranked one of them first."""
        if not self.ranked:
            return []
        best, *others = self.ranked
        return [setting for setting in others if abs(best.mean - setting.mean) <= 2 * _standard_error(best, setting)]

    @property
    def single(self) -> bool:
        """Whether there are several settings with one run each."""
        return len(self.ranked) > 1 and all(setting.scored == 1 for setting in self.ranked)

    def name(self, parameter: str) -> str:
        """The last part of a parameter's name if it is unambiguous, otherwise the whole name."""
        last = [other.rpartition(".")[2] for other in self.parameters]
        short = parameter.rpartition(".")[2]
        return short if last.count(short) == 1 else parameter


def rank(jobs: Sequence[Job]) -> Ranking:
    jobs = [job for job in jobs if job.overrides]  # a search has yet to choose those of the others
    swept = differing(job.overrides for job in jobs)
    parameters = [name for name in swept if name != SEED]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(name, "") for name in parameters), []).append(job)

    # The seed does not change the monitored metric: one configuration per setting is enough.
    scores = Counter(score for group in groups.values() for score in [_score(group)] if score)
    (metric, mode), most = scores.most_common(1)[0] if scores else _DEFAULT

    runs = pd.DataFrame(
        [
            (number, job.finished, job.metrics.get(metric), job.seconds if job.finished else None)
            for number, group in enumerate(groups.values())
            for job in group
        ],
        columns=["setting", "finished", "metric", "seconds"],
    ).astype({"finished": bool, "metric": float, "seconds": float})
    table = runs.groupby("setting").agg(
        finished=("finished", "sum"),
        scored=("metric", "count"),
        mean=("metric", "mean"),
        sd=("metric", "std"),
        seconds=("seconds", "mean"),
    )
    # A finished run whose metric is missing or not finite: the mean of the others would flatter.
    table.loc[table["scored"] < table["finished"], ["mean", "sd"]] = math.nan
    table = table.sort_values("mean", ascending=mode == "min", kind="stable")
    planned = list(groups.items())
    return Ranking(
        parameters,
        values=[list(dict.fromkeys(column)) for column in zip(*groups, strict=True)],
        seeds=len({job.overrides.get(SEED) for job in jobs}) if SEED in swept else 0,
        metric=metric,
        mode=mode,
        settings=[Setting(*planned[number], *row) for number, *row in table.itertuples()],
        other_metric=scores.total() - most,
    )


def _standard_error(first: Setting, second: Setting) -> float:
    """Standard error of the difference of two means; NaN if one of them has a single run."""
    return math.hypot(first.sd / math.sqrt(first.scored), second.sd / math.sqrt(second.scored))


def _score(jobs: Sequence[Job]) -> tuple[str, Mode] | None:
    return next((score for job in jobs if (score := job.score)), None)


def number(text: str) -> float | None:
    """A parameter's value as a number that can be drawn, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e100 else None  # NaN is not


def short(text: str) -> str:
    """A parameter's value, shortened."""
    value = number(text)
    if value is not None and len(text) > 8:
        return f"{value:.4g}"
    return text if len(text) <= 20 else f"{text[:17]}..."
