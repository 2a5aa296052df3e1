"""Ranking the settings of a sweep."""

import math
import statistics
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fmnist.sweeps import ranking
from fmnist.sweeps.ranking import Ranking
from fmnist.sweeps.sweep_directory import Job

Figures = dict[tuple[str, ...], list[float]]  # of each setting, its runs' by seed


class Judged(Job):
    """A job whose configuration is known without a file."""

    score = ("val/acc", "max")


class Lowest(Job):
    score = ("val/loss", "min")


def jobs(figures: Figures, names: Sequence[str], kind: type[Job] = Judged) -> list[Job]:
    metric = kind.score[0]  # type: ignore[index]
    return [
        kind(
            {**dict(zip(names, values, strict=True)), "seed": str(seed)},
            state="finished",
            seconds=10.0 + seed,
            metrics={metric: figure, "test/acc": figure / 2},
        )
        for values, runs in figures.items()
        for seed, figure in enumerate(runs)
    ]


figures = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2"])),
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
    min_size=1,
)


def means(found: Ranking) -> dict[tuple[str, ...], float]:
    """Mean of each ranked setting, best first."""
    return {row.values: row.mean for row in found.ranked}


@given(figures)
def test_settings_are_ranked_by_their_mean_over_seeds(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"]))
    assert len(found.settings) == len(figures)
    for row in found.ranked:
        runs = [job.metrics["val/acc"] for job in row.jobs]
        assert math.isclose(row.mean, np.mean(runs), abs_tol=1e-12)
        assert math.isclose(row.sd, np.std(runs, ddof=1), abs_tol=1e-12)
        assert row.scored == row.finished == len(row.jobs) == len(runs)
    ordered = list(means(found).values())
    assert ordered == sorted(ordered, reverse=True)
    assert sum(len(row.jobs) for row in found.settings) == sum(map(len, figures.values()))


@given(figures)
def test_lowest_loss_is_best(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"], Lowest))
    assert (found.metric, found.mode) == ("val/loss", "min")
    assert found.best
    assert math.isclose(found.best.mean, min(map(statistics.fmean, figures.values())), abs_tol=1e-12)


def test_equal_means_keep_the_planned_order() -> None:
    found = ranking.rank(jobs({("b",): [0.5], ("a",): [0.5], ("c",): [0.6]}, ["optimizer"]))
    assert list(means(found)) == [("c",), ("b",), ("a",)]
    assert found.values == [["b", "a", "c"]]


def test_override_that_is_the_same_in_all_jobs_is_not_swept() -> None:
    found = ranking.rank(jobs({("a", "5"): [0.1, 0.3], ("b", "5"): [0.2, 0.2]}, ["optimizer", "epochs"]))
    assert (found.parameters, found.seeds) == (["optimizer"], 2)


def test_sweep_over_seeds_only_has_one_row() -> None:
    found = ranking.rank(jobs({("a",): [0.1, 0.3, 0.5]}, ["optimizer"]))
    assert (found.parameters, len(found.settings), found.seeds) == ([], 1, 3)
    assert found.best
    assert (found.best.mean, found.best.sd) == pytest.approx((0.3, 0.2))
    assert found.best.scored == 3


def test_one_run_has_no_standard_deviation() -> None:
    found = ranking.rank(jobs({("a",): [0.7]}, ["optimizer"]))
    assert found.best
    assert found.best.mean == 0.7
    assert math.isnan(found.best.sd)


@given(figures)
def test_setting_is_tied_with_the_best_if_welchs_t_is_below_two(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"]))
    assert found.best
    tied = [setting.values for setting in found.tied]
    best = [job.metrics["val/acc"] for job in found.best.jobs]
    for row in found.ranked[1:]:
        runs = [job.metrics["val/acc"] for job in row.jobs]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # equal values
            t = abs(scipy.stats.ttest_ind(best, runs, equal_var=False).statistic)
        if math.isfinite(t) and abs(t - 2) > 1e-6 and max(row.sd, found.best.sd) > 1e-9:
            assert (row.values in tied) == (t < 2)


def test_setting_with_one_run_is_never_tied() -> None:
    assert ranking.rank(jobs({("a",): [0.5, 0.6], ("b",): [0.55]}, ["optimizer"])).tied == []
    assert ranking.rank(jobs({("a",): [0.5, 0.4], ("b",): [0.55]}, ["optimizer"])).tied == []


def test_sweep_is_single_if_each_of_several_settings_has_one_run() -> None:
    assert ranking.rank(jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])).single
    assert not ranking.rank(jobs({("a",): [0.5, 0.6], ("b",): [0.4]}, ["optimizer"])).single
    assert not ranking.rank(jobs({("a",): [0.5]}, ["optimizer"])).single


def test_setting_with_a_value_that_is_not_finite_is_last_however_good_its_other_runs_are() -> None:
    made = jobs({("good",): [0.5, 0.6], ("lucky",): [0.9, 0.95]}, ["optimizer"])
    made.append(Judged({"optimizer": "lucky", "seed": "2"}, state="finished"))  # its metric was null
    found = ranking.rank(made)
    assert [row.values for row in found.settings] == [("good",), ("lucky",)]
    assert [row.scored for row in found.settings] == [2, 2]
    assert list(means(found)) == [("good",)]


def test_unfinished_jobs_do_not_count() -> None:
    made = jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])
    made += [Judged({"optimizer": "a", "seed": "1"}, state="failed", seconds=99.0)]
    made += [Job({"optimizer": "c", "seed": "0"}), Job({})]
    found = ranking.rank(made)
    assert means(found) == {("a",): 0.5, ("b",): 0.4}
    assert [row.values for row in found.settings] == [("a",), ("b",), ("c",)]
    assert [len(row.jobs) for row in found.settings] == [2, 1, 1]
    assert [row.finished for row in found.settings] == [1, 1, 0]
    assert found.best
    assert found.best.seconds == 10


def test_metric_that_most_settings_monitor_ranks_all() -> None:
    made = jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])
    made += jobs({("c",): [0.1]}, ["optimizer"], Lowest)
    found = ranking.rank(made)
    assert (found.metric, found.other_metric) == ("val/acc", 1)
    assert found.settings[-1].values == ("c",)


def test_sweep_without_jobs_has_no_best_setting() -> None:
    for made in ([], [Job({})]):
        found = ranking.rank(made)
        assert (found.best, len(found.settings), len(found.tied), found.single) == (None, 0, 0, False)


def test_names_are_short_where_they_stay_different() -> None:
    values: Figures = {("1", "1", "x"): [0.1], ("2", "2", "y"): [0.2]}
    found = ranking.rank(jobs(values, ["optimizer.lr", "scheduler.lr", "data.batch_size"]))
    assert [found.name(name) for name in found.parameters] == ["optimizer.lr", "scheduler.lr", "batch_size"]


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("-2", -2), ("adam", None), ("nan", None), ("1e300", None), ("", None)]
)
def test_text_is_read_as_a_number(text: str, value: float | None) -> None:
    assert ranking.number(text) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.0005823808382847407", "0.0005824"),
        ("0.001", "0.001"),
        ("32", "32"),
        ("a_name_of_many_characters", "a_name_of_many_ch..."),
    ],
)
def test_long_values_are_shortened(text: str, shown: str) -> None:
    assert ranking.short(text) == shown
