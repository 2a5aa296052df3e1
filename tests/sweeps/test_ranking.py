"""Ranking the settings of a sweep."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fmnist.config.monitor import Mode
from fmnist.sweeps import ranking
from fmnist.sweeps.ranking import Ranking, rank
from fmnist.sweeps.sweep_directory import Job
from tests.sweep_fixtures import make_jobs

Figures = dict[tuple[str, ...], list[float]]  # of each setting, its runs' by seed


def jobs(figures: Figures, *names: str, score: tuple[str, Mode] = ("val/acc", "max")) -> list[Job]:
    return make_jobs(figures, names or ["optimizer"], score)


figures = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2"])),
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
    min_size=1,
)


def means(found: Ranking) -> dict[tuple[str, ...], float]:
    """Mean of each ranked setting, best first."""
    return {row.values: row.mean for row in found.ranked}


@given(figures, st.sampled_from([("val/acc", "max"), ("val/loss", "min")]))
def test_settings_are_ranked_by_their_mean_over_seeds(figures: Figures, score: tuple[str, Mode]) -> None:
    found = rank(jobs(figures, "optimizer", "lr", score=score))
    assert (found.metric, found.mode) == score
    assert len(found.ranked) == len(found.settings) == len(figures)
    for row in found.ranked:
        runs = [job.metrics[score[0]] for job in row.jobs]
        assert math.isclose(row.mean, np.mean(runs), abs_tol=1e-12)
        assert math.isclose(row.sd, np.std(runs, ddof=1), abs_tol=1e-12)
        assert math.isclose(row.seconds, 10 + (len(runs) - 1) / 2)
        assert row.scored == row.finished == len(runs)
    ordered = list(means(found).values())
    assert ordered == sorted(ordered, reverse=score[1] == "max")
    assert sum(row.scored for row in found.settings) == sum(map(len, figures.values()))


def test_equal_means_keep_the_planned_order() -> None:
    found = rank(jobs({("b",): [0.5], ("a",): [0.5], ("c",): [0.6]}))
    assert list(means(found)) == [("c",), ("b",), ("a",)]
    assert found.values == [["b", "a", "c"]]


def test_override_that_is_the_same_in_all_jobs_is_not_swept() -> None:
    found = rank(jobs({("a", "5"): [0.1, 0.3], ("b", "5"): [0.2, 0.2]}, "optimizer", "epochs"))
    assert (found.parameters, found.seeds) == (["optimizer"], 2)


def test_sweep_over_seeds_only_has_one_row() -> None:
    found = rank(jobs({("a",): [0.1, 0.3, 0.5]}))
    assert (found.parameters, len(found.settings), found.seeds) == ([], 1, 3)
    assert found.best
    assert (found.best.mean, found.best.sd) == pytest.approx((0.3, 0.2))


@given(figures)
def test_setting_is_tied_with_the_best_if_welchs_t_is_below_two(figures: Figures) -> None:
    found = rank(jobs(figures, "optimizer", "lr"))
    best, *others = found.ranked
    for row in others:
        runs, best_runs = ([job.metrics["val/acc"] for job in setting.jobs] for setting in (row, best))
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # equal values
            t = abs(scipy.stats.ttest_ind(best_runs, runs, equal_var=False).statistic)
        if math.isfinite(t) and abs(t - 2) > 1e-6 and max(row.sd, best.sd) > 1e-9:
            assert (row in found.tied) == (t < 2)


def test_setting_with_one_run_has_no_standard_deviation_and_is_never_tied() -> None:
    for runs in ([0.5, 0.6], [0.5, 0.4]):
        found = rank(jobs({("a",): runs, ("b",): [0.55]}))
        assert found.tied == []
        assert sorted(math.isnan(row.sd) for row in found.ranked) == [False, True]
        assert not found.single
    assert rank(jobs({("a",): [0.5], ("b",): [0.4]})).single
    assert not rank(jobs({("a",): [0.5]})).single


def test_setting_with_a_value_that_is_not_finite_is_last_however_good_its_other_runs_are() -> None:
    made = jobs({("lucky",): [0.9, 0.95], ("good",): [0.5, 0.6]})
    made.append(Job({"optimizer": "lucky", "seed": "2"}, state="finished"))  # its metric was null
    found = rank(made)
    assert [(row.values, row.scored, row.finished) for row in found.settings] == [(("good",), 2, 2), (("lucky",), 2, 3)]
    assert list(means(found)) == [("good",)]
    assert math.isnan(found.settings[1].sd)


def test_unfinished_jobs_do_not_count() -> None:
    made = jobs({("a",): [0.5], ("b",): [0.4]})
    made += [Job({"optimizer": "a", "seed": "1"}, state="failed", seconds=99.0)]
    made += [Job({"optimizer": "c", "seed": "0"}), Job({})]
    found = rank(made)
    assert means(found) == {("a",): 0.5, ("b",): 0.4}
    rows = [(row.values, len(row.jobs), row.finished) for row in found.settings]
    assert rows == [(("a",), 2, 1), (("b",), 1, 1), (("c",), 1, 0)]
    assert found.settings[0].seconds == 10


def test_metric_that_most_settings_monitor_ranks_all() -> None:
    made = jobs({("c",): [0.1]}, score=("val/loss", "min")) + jobs({("a",): [0.5], ("b",): [0.4]})
    found = rank(made)
    assert (found.metric, found.mode, found.other_metric) == ("val/acc", "max", 1)
    assert found.settings[-1].values == ("c",)


def test_sweep_without_jobs_has_no_best_setting() -> None:
    for made in ([], [Job({})]):
        found = rank(made)
        assert (found.best, found.settings, found.tied, found.single, found.seeds) == (None, [], [], False, 0)
        assert (found.metric, found.mode, found.other_metric) == ("val/acc", "max", 0)


def test_names_are_short_where_they_stay_different() -> None:
    values: Figures = {("1", "1", "x"): [0.1], ("2", "2", "y"): [0.2]}
    found = rank(jobs(values, "optimizer.lr", "scheduler.lr", "data.batch_size"))
    assert [found.name(name) for name in found.parameters] == ["optimizer.lr", "scheduler.lr", "batch_size"]


def test_text_is_read_as_a_number() -> None:
    numbers = {
        "1e-3": 0.001,
        "-2": -2,
        "adam": None,
        "nan": None,
        "1e100": None,
        "-1e300": None,
        "1e99": 1e99,
        "": None,
    }
    assert {text: ranking.number(text) for text in numbers} == numbers


def test_long_values_are_shortened() -> None:
    shown = {"0.0005823808382847407": "0.0005824", "0.00123456": "0.001235", "0.123456": "0.123456", "32": "32"}
    shown |= {"a" * 20: "a" * 20, "b" * 21: "b" * 17 + "..."}
    assert {text: ranking.short(text) for text in shown} == shown
