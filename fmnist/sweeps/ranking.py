"""Ranks the settings of a sweep. Imported without torch.

A setting is a combination of swept values; its jobs differ only in their seed. It is ranked by the mean of the
monitored metric; the test set is not used.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fmnist.config.monitor import Mode
from fmnist.sweeps.sweep_directory import Job, differing

SEED = "seed"
_DEFAULT: tuple[tuple[str, Mode], int] = ("val/acc", "max"), 0


@dataclass(frozen=True)
class Statistic:
    """Mean and standard deviation over runs."""

    mean: float
    sd: float | None  # sample standard deviation; None for one run
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic | None":
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def standard_error(self, other: "Statistic") -> float:
        """Standard error of the difference of two means; NaN if one of them has a single run."""
        if self.sd is None or other.sd is None:
            return math.nan
        return math.hypot(self.sd / math.sqrt(self.count), other.sd / math.sqrt(other.count))


@dataclass(frozen=True)
class Setting:
    values: tuple[str, ...]  # of the swept parameters
    jobs: list[Job]
    metric: str

    @property
    def finished(self) -> list[Job]:
        return [job for job in self.jobs if job.finished]

    @property
    def figures(self) -> list[float]:
        """The metric of each finished run that has it."""
        return self._metric(self.metric)

    @cached_property
    def score(self) -> Statistic | None:
        """None if the metric of a finished run is missing or not finite: the mean of the rest would flatter."""
        return Statistic.of(self.figures) if len(self.figures) == len(self.finished) else None

    @property
    def test(self) -> Statistic | None:
        """Accuracy on the test set, to be shown for the best setting only."""
        return Statistic.of(self._metric("test/acc"))

    @property
    def seconds(self) -> Statistic | None:
        """Seconds per finished run."""
        return Statistic.of([job.seconds for job in self.finished if job.seconds is not None])

    def _metric(self, metric: str) -> list[float]:
        return [job.metrics[metric] for job in self.finished if metric in job.metrics]


@dataclass(frozen=True)
class Ranking:
    parameters: list[str]  # swept, without the seed
    values: list[list[str]]  # distinct values of each parameter, in the planned order
    seeds: int  # number of seeds; 0 if the seed was not swept
    metric: str
    mode: Mode
    settings: list[Setting]  # best first, those without a score last
    otherwise: int  # settings that monitor another metric

    @property
    def judged(self) -> list[tuple[Setting, Statistic]]:
        """The settings that have a score, best first."""
        return [(setting, setting.score) for setting in self.settings if setting.score]

    @property
    def best(self) -> Setting | None:
        return next((setting for setting, _ in self.judged), None)

    @property
    def tied(self) -> list[Setting]:
        """Settings within two standard errors of the best: other seeds might have ranked one of them first."""
        if not self.judged:
            return []
        (_, best), *others = self.judged
        return [setting for setting, score in others if abs(best.mean - score.mean) <= 2 * best.standard_error(score)]

    @property
    def single(self) -> bool:
        """Whether there are several settings with one run each."""
        return len(self.judged) > 1 and all(score.count == 1 for _, score in self.judged)

    @property
    def runs(self) -> int:
        """Number of runs that have the metric."""
        return sum(len(setting.figures) for setting in self.settings)

    def name(self, parameter: str) -> str:
        """The last part of a parameter's name if it is unambiguous, otherwise the whole name."""
        last = [other.rpartition(".")[2] for other in self.parameters]
        short = parameter.rpartition(".")[2]
        return short if last.count(short) == 1 else parameter


def rank(jobs: Sequence[Job]) -> Ranking:
    swept = differing(job.overrides for job in jobs)
    parameters = [name for name in swept if name != SEED]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.overrides:
            groups.setdefault(tuple(job.overrides.get(name, "") for name in parameters), []).append(job)

    # The seed does not change the monitored metric: one configuration per setting is enough.
    scores = Counter(score for group in groups.values() for score in [_score(group)] if score)
    (metric, mode), most = scores.most_common(1)[0] if scores else _DEFAULT

    def place(setting: Setting) -> float:
        if setting.score is None:
            return math.inf
        return setting.score.mean if mode == "min" else -setting.score.mean

    return Ranking(
        parameters,
        values=[list(dict.fromkeys(column)) for column in zip(*groups, strict=True)],
        seeds=len({job.overrides.get(SEED) for job in jobs if job.overrides}) if SEED in swept else 0,
        metric=metric,
        mode=mode,
        settings=sorted((Setting(values, group, metric) for values, group in groups.items()), key=place),
        otherwise=scores.total() - most,
    )


def _score(jobs: Sequence[Job]) -> tuple[str, Mode] | None:
    return next((score for job in jobs if (score := job.score)), None)


def number(text: str) -> float | None:
    """A parameter's value as a finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def short(text: str) -> str:
    """A parameter's value, shortened."""
    value = number(text)
    if value is not None and len(text) > 8:
        return f"{value:.4g}"
    return text if len(text) <= 20 else f"{text[:17]}..."
