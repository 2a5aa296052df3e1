"""The settings of a sweep, best first."""

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
from fmnist.sweeps.ranking import Statistic
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


@given(figures)
def test_settings_are_ranked_by_their_mean_over_seeds(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"]))
    for setting, score in found.judged:
        assert set(setting.values) <= set("abcd12")
        runs = [job.metrics["val/acc"] for job in setting.jobs]
        assert math.isclose(score.mean, np.mean(runs), abs_tol=1e-12)
        assert score.sd is not None
        assert math.isclose(score.sd, np.std(runs, ddof=1), abs_tol=1e-12)
        assert score.count == len(runs)
    means = [score.mean for _, score in found.judged]
    assert means == sorted(means, reverse=True)
    assert sum(len(setting.jobs) for setting in found.settings) == sum(map(len, figures.values()))
    assert len(found.settings) == len(figures), "the seed alone is averaged over"


@given(figures)
def test_of_a_loss_the_lowest_is_the_best(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"], Lowest))
    assert (found.metric, found.mode) == ("val/loss", "min")
    assert found.best is not None
    assert found.best.score is not None
    assert math.isclose(found.best.score.mean, min(map(statistics.fmean, figures.values())), abs_tol=1e-12)


def test_equal_means_keep_the_order_in_which_they_were_planned() -> None:
    found = ranking.rank(jobs({("b",): [0.5], ("a",): [0.5], ("c",): [0.6]}, ["optimizer"]))
    assert [setting.values for setting in found.settings] == [("c",), ("b",), ("a",)]
    assert found.values == [["b", "a", "c"]]


def test_what_is_the_same_in_all_jobs_is_not_swept() -> None:
    found = ranking.rank(jobs({("a", "5"): [0.1, 0.3], ("b", "5"): [0.2, 0.2]}, ["optimizer", "epochs"]))
    assert (found.parameters, found.seeds) == (["optimizer"], 2)


def test_only_the_seed_swept_gives_one_row() -> None:
    found = ranking.rank(jobs({("a",): [0.1, 0.3, 0.5]}, ["optimizer"]))
    assert (found.parameters, len(found.settings), found.seeds) == ([], 1, 3)
    assert found.settings[0].score == Statistic(pytest.approx(0.3), pytest.approx(0.2), 3)  # type: ignore[arg-type]


def test_one_run_has_no_standard_deviation() -> None:
    assert Statistic.of([0.7]) == Statistic(0.7, None, 1)
    assert Statistic.of([]) is None


@given(figures)
def test_what_is_not_told_apart_from_the_best_is_within_two_of_welchs_t(figures: Figures) -> None:
    found = ranking.rank(jobs(figures, ["optimizer", "lr"]))
    assert found.best is not None
    best = found.best.figures
    tied = [setting.values for setting in found.tied]
    for setting, score in found.judged[1:]:
        if score.sd is None or len(best) == 1:
            assert setting.values not in tied
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of equal figures
            t = abs(scipy.stats.ttest_ind(best, setting.figures, equal_var=False).statistic)
        if math.isfinite(t) and abs(t - 2) > 1e-6 and max(score.sd, statistics.stdev(best)) > 1e-9:
            assert (setting.values in tied) == (t < 2)


def test_one_run_of_each_setting_is_told_from_several() -> None:
    assert ranking.rank(jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])).single
    assert not ranking.rank(jobs({("a",): [0.5, 0.6], ("b",): [0.4]}, ["optimizer"])).single
    assert not ranking.rank(jobs({("a",): [0.5]}, ["optimizer"])).single


def test_a_setting_with_a_figure_that_is_not_finite_is_ranked_last_however_good_the_others_are() -> None:
    made = jobs({("good",): [0.5, 0.6], ("lucky",): [0.9, 0.95]}, ["optimizer"])
    made.append(Judged({"optimizer": "lucky", "seed": "2"}, state="finished"))  # its metric was null
    found = ranking.rank(made)
    assert [setting.values for setting in found.settings] == [("good",), ("lucky",)]
    assert found.settings[1].score is None
    assert found.runs == 4


def test_jobs_that_did_not_finish_do_not_count() -> None:
    made = jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])
    made += [Judged({"optimizer": "a", "seed": "1"}, state="failed"), Job({"optimizer": "c", "seed": "0"}), Job({})]
    found = ranking.rank(made)
    assert [(s.values, s.score and s.score.mean, len(s.jobs)) for s in found.settings] == [
        (("a",), 0.5, 2),
        (("b",), 0.4, 1),
        (("c",), None, 1),
    ]


def test_what_most_settings_monitor_is_what_all_are_ranked_by() -> None:
    made = jobs({("a",): [0.5], ("b",): [0.4]}, ["optimizer"])
    made += jobs({("c",): [0.1]}, ["optimizer"], Lowest)
    found = ranking.rank(made)
    assert (found.metric, found.otherwise) == ("val/acc", 1)
    assert found.settings[-1].values == ("c",)


def test_nothing_can_be_ranked() -> None:
    assert ranking.rank([]).best is None
    assert ranking.rank([Job({})]).settings == []


def test_names_are_short_where_they_stay_different() -> None:
    values: Figures = {("1", "1", "x"): [0.1], ("2", "2", "y"): [0.2]}
    found = ranking.rank(jobs(values, ["optimizer.lr", "scheduler.lr", "data.batch_size"]))
    assert [found.name(name) for name in found.parameters] == ["optimizer.lr", "scheduler.lr", "batch_size"]


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("-2", -2), ("adam", None), ("nan", None), ("", None)])
def test_numbers_are_told_from_words(text: str, value: float | None) -> None:
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
