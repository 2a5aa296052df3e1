"""``python -m fmnist.results``: one table of many runs."""

import dataclasses
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from fmnist import results
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import Measurement, summaries
from tests.helpers import one_line, run_command


def make(recipe: str = "experiment=small", seed: int = 0, acc: float = 0.93, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "recipe": recipe.split(),
        "seed": seed,
        "parameters": 32_918,
        "seconds": 100.0 + seed,
        "metrics": {"val/acc": acc + 0.01, "test/acc": acc},
        "configuration": {"seed": seed, "data": {"seed": seed, "data_dir": None, "batch_size": 100}},
        "manifest": {"commit": "0123456789", "dirty": False},
    }
    return Measurement(**(fields | changes))


def cells(measurements: list[Measurement]) -> list[dict[str, str]]:
    header, *rows = results.table(summaries(measurements))
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_runs_that_differ_only_in_their_seed_make_a_row_with_mean_and_standard_deviation() -> None:
    accuracies = [0.93, 0.94, 0.92]
    (row,) = cells([make(seed=seed, acc=acc) for seed, acc in enumerate(accuracies)])
    sd = 100 * statistics.stdev(accuracies)
    assert row == {
        "recipe": "experiment=small",
        "parameters": "32,918",
        "seconds": "101",
        "validation accuracy": f"94.00 ± {sd:.2f}",
        "test accuracy": f"93.00 ± {sd:.2f}",
        "runs": "3",
        "commit": "0123456",
    }


def test_floor_epochs_are_shown_if_the_floor_was_measured_and_uncommitted_changes_by_a_plus() -> None:
    changed = {"commit": "fedcba9876", "dirty": True}
    (row,) = cells([make(seconds=100.0, floor=2.0), make(seed=1, seconds=100.0, floor=4.0, manifest=changed)])
    assert (row["floor epochs"], row["commit"]) == ("38", "0123456, fedcba9+")  # the mean of 50 and 25


def test_missing_values_are_dashes() -> None:
    (row,) = cells([make(metrics={"val/acc": 0.5}, seconds=None, parameters=None, manifest={})])
    assert (row["validation accuracy"], row["test accuracy"]) == ("50.00", "-")  # one run: no standard deviation
    assert row["parameters"] == row["seconds"] == row["commit"] == "-"
    (row,) = cells([make(), make(seed=1, metrics={"val/acc": 0.9}), make(seed=2, seconds=None)])
    assert row["test accuracy"] == row["seconds"] == "-"


def test_seed_that_was_trained_twice_counts_once() -> None:
    alone = [make(seed=seed, acc=0.9 + seed / 100) for seed in range(3)]
    untested = make(metrics={"val/acc": alone[0].metrics["val/acc"]}, seconds=1.0)
    (summary,) = summaries([untested, *alone, *(dataclasses.replace(run, seconds=1.0) for run in alone)])
    assert (list(summary.runs), summary.uncounted) == (alone, [])


def test_first_run_of_a_seed_counts_and_one_with_different_metrics_is_named() -> None:
    first, second = (make("a=1", acc=acc, manifest={"start": f"2026-11-0{day}"}) for day, acc in ((1, 0.5), (2, 0.6)))
    (summary,) = summaries([second, first, make("a=1", seed=1)])
    assert [run.metrics["test/acc"] for run in summary.runs] == [0.5, 0.93]
    assert results.notes_on_uncounted(summary) == [
        "a=1, seed 0: the run started 2026-11-01 counts; the one started 2026-11-02 has different metrics and does not"
    ]


def test_runs_that_do_not_count_are_named_below_the_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, acc in enumerate((0.5, 0.6)):
        make("a=*", acc=acc).write(tmp_path / f"{number}-seed0.json")
    with caplog.at_level("INFO"):
        results.main(results.Options(runs=(str(tmp_path),), output=tmp_path / "table.md"))
    *_, blank, note = caplog.messages[-1].splitlines()
    assert (blank, note.partition(" counts")[0]) == ("", "a=*, seed 0: the run started at an unknown time")
    *_, last, blank, note = (tmp_path / "table.md").read_text().splitlines()
    assert (last.split("|")[-3].strip(), blank, note.partition(":")[0]) == ("1", "", r"a=\*, seed 0")


def test_recipe_whose_file_has_changed_has_two_rows() -> None:
    for batch_size, runs in ((200, ["1", "1"]), (100, ["2"])):
        other = {"seed": 1, "data": {"seed": 1, "data_dir": "/elsewhere", "batch_size": batch_size}}
        assert [row["runs"] for row in cells([make(), make(seed=1, configuration=other)])] == runs


def test_shortest_training_comes_first_and_shared_overrides_are_left_out() -> None:
    recipes = [make("a=1 b=1", seconds=9.0), make("a=1 c=1", seconds=None), make("a=1", seconds=1.0)]
    assert [row["recipe"] for row in cells(recipes)] == ["the defaults", "b=1", "c=1"]
    assert results.shared(summaries(recipes)) == ["a=1"]
    assert results.shared(summaries(recipes[:1])) == []


def test_every_recipe_is_kept_in_its_own_file_and_read_unchanged(tmp_path: Path) -> None:
    assert results.file_name(make("experiment=small")) == "small-seed0.json"  # as make measure names it
    long = " ".join(f"model.parameter{number}=1" for number in range(20))
    recipes = ["", "experiment=small 'a=[b, c/d]'", "a=b", "a=/b", "a=:b", f"{long} lr=1", f"{long} lr=2"]
    made = [make(recipe, floor=2.5) for recipe in recipes]
    for _ in range(2):  # the second time changes nothing
        results.keep(made, tmp_path / "made/for it")
        paths = list(tmp_path.rglob("*.json"))
        assert all(re.fullmatch(r"[\w+.-]+-seed0\.json", path.name) for path in paths)
        read = [run for path in paths for run in results.read(path)]
        assert sorted(read, key=str) == sorted(results.read(paths[0].parent), key=str) == sorted(made, key=str)


def test_two_runs_cannot_share_a_file(tmp_path: Path) -> None:
    run = make(manifest={"start": "2026-11-01"})
    changed = dataclasses.replace(run, seconds=7.0, manifest={})
    message = r"small-seed0\.json would be the file of two runs, started 2026-11-01 and at an unknown time"
    with pytest.raises(UserError, match=message):
        results.keep([run, changed], tmp_path)
    assert list(tmp_path.iterdir()) == []
    results.keep([run], tmp_path)
    with pytest.raises(UserError, match=message):
        results.keep([changed], tmp_path)
    assert list(results.read(tmp_path)) == [run]


def test_unwritable_file_is_rejected(tmp_path: Path) -> None:
    make().write(tmp_path / "small-seed0.json")
    for option in ("keep", "output"):
        path = tmp_path / "small-seed0.json/below"
        with pytest.raises(UserError, match=f"cannot write {option}={path}: Not a directory"):
            results.main(results.Options(runs=(str(tmp_path),), **{option: path}))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 1}'])
def test_file_without_a_measurement_is_rejected(content: str, tmp_path: Path) -> None:
    (tmp_path / "x-seed0.json").write_text(content)
    with pytest.raises(UserError, match=r"x-seed0\.json holds no measurement"):
        list(results.read(tmp_path))


def test_missing_runs_are_rejected(tmp_path: Path) -> None:
    assert (
        one_line(run_command("-m", "fmnist.results", f"runs={tmp_path}")) == f"error: no finished run in {tmp_path}\n"
    )
    with pytest.raises(UserError, match="there is no nowhere; runs are under runs/train and runs/sweeps"):
        list(results.read(Path("nowhere")))


@pytest.mark.real_data
def test_real_run_is_summarized_kept_and_read_again(trained_run: RunDirectory, tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.results", f"runs={trained_run.path}", f"keep={tmp_path}")
    assert (outcome.code, outcome.err) == (0, "")
    first, _, row = outcome.out.splitlines()
    assert first == f"kept 1 files in {tmp_path}"
    words, metrics = row.split(), trained_run.read_metrics()
    assert words[0] == "32,998"
    assert words[2:5] == [f"{100 * metrics['val/acc']:.2f}", f"{100 * metrics['test/acc']:.2f}", "1"]
    assert words[-2:] == ["experiment=smoke", "trainer.limit_test_batches=null"]
    assert run_command("-m", "fmnist.results", f"runs={tmp_path}").out == outcome.out.partition("\n")[2]
    (kept,) = results.read(tmp_path)
    assert kept.configuration == trained_run.read_configuration()
    assert kept.seconds == (trained_run.read_manifest() or {})["training_seconds"]


@pytest.mark.real_data
def test_run_that_was_resumed_with_more_epochs_says_so(run_copy: RunDirectory) -> None:
    manifest = run_copy.read_manifest() or {}
    run_copy.write_manifest({"sessions": [*manifest["sessions"], {"max_epochs": 3}]})
    (run,) = results.read(run_copy.path)
    assert run.recipe[-1] == "trainer.max_epochs=3 (when resumed)"
    assert run.configuration["trainer"]["max_epochs"] == 3
