"""``python -m fmnist.results``: one table of many runs."""

import dataclasses
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmnist import results
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import Measurement, summaries
from tests.conftest import ROOT, one_line, run_command

Make = Callable[..., Measurement]


@pytest.fixture
def make() -> Make:
    def measurement(recipe: str = "experiment=small", seed: int = 0, acc: float = 0.93, **changes: Any) -> Measurement:
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

    return measurement


def cells(measurements: list[Measurement]) -> list[dict[str, str]]:
    header, *rows = results.table(summaries(measurements))
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_runs_that_differ_only_in_their_seed_make_a_row_with_mean_and_standard_deviation(make: Make) -> None:
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


def test_one_run_has_no_standard_deviation_and_missing_values_are_dashes(make: Make) -> None:
    (row,) = cells([make(metrics={"val/acc": 0.5}, seconds=None, parameters=None, manifest={})])
    assert (row["validation accuracy"], row["test accuracy"]) == ("50.00", "-")
    assert row["parameters"] == row["seconds"] == row["commit"] == "-"


def test_seed_that_was_trained_twice_counts_once(make: Make) -> None:
    alone = [make(seed=seed, acc=0.9 + seed / 100) for seed in range(3)]
    (summary,) = summaries([*alone, *(dataclasses.replace(run, seconds=1.0) for run in alone)])
    assert (list(summary.runs), list(summary.uncounted)) == (alone, [])


def test_first_run_of_a_seed_counts_and_one_with_different_metrics_is_named(make: Make) -> None:
    first, second = (make("a=1", acc=acc, manifest={"start": f"2026-11-0{day}"}) for day, acc in ((1, 0.5), (2, 0.6)))
    (summary,) = summaries([second, first, make("a=1", seed=1)])
    assert [run.metrics["test/acc"] for run in summary.runs] == [0.5, 0.93]
    assert results.notes_on_uncounted(summary) == [
        "a=1, seed 0: the run started 2026-11-01 counts; the one started 2026-11-02 has different metrics and does not"
    ]


def test_runs_that_do_not_count_are_named_below_the_table(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, acc in enumerate((0.5, 0.6)):
        make("a=*", acc=acc, configuration={"data": {}}).write(tmp_path / f"{number}-seed0.json")
    with caplog.at_level("INFO"):
        results.main(results.Options(runs=(str(tmp_path),), output=tmp_path / "table.md"))
    assert caplog.messages[-1].splitlines()[-2] == ""
    assert caplog.messages[-1].splitlines()[-1].startswith("a=*, seed 0: the run started at an unknown time counts")
    *_, last, blank, note = (tmp_path / "table.md").read_text().splitlines()
    assert (last.split("|")[-3].strip(), blank, note.partition(":")[0]) == ("1", "", r"a=\*, seed 0")


def test_tested_run_counts_rather_than_an_untested_one(make: Make) -> None:
    tested = make()
    (summary,) = summaries([make(metrics={"val/acc": tested.metrics["val/acc"]}, seconds=1.0), tested])
    assert (list(summary.runs), list(summary.uncounted)) == ([tested], [])


def test_mean_is_missing_if_a_run_lacks_the_value(make: Make) -> None:
    (row,) = cells([make(), make(seed=1, metrics={"val/acc": 0.9}), make(seed=2, seconds=None)])
    assert row["test accuracy"] == row["seconds"] == "-"


def test_recipe_whose_file_has_changed_has_two_rows(make: Make) -> None:
    changed = {"seed": 1, "data": {"seed": 1, "data_dir": "/elsewhere", "batch_size": 200}}
    assert [row["runs"] for row in cells([make(), make(seed=1, configuration=changed)])] == ["1", "1"]
    elsewhere = {"seed": 1, "data": {"seed": 1, "data_dir": "/elsewhere", "batch_size": 100}}
    assert [row["runs"] for row in cells([make(), make(seed=1, configuration=elsewhere)])] == ["2"]


def test_shortest_training_comes_first_and_shared_overrides_are_left_out(make: Make) -> None:
    slow, fast = make("a=1 b=1", seconds=9.0), make("a=1", seconds=1.0)
    assert [row["recipe"] for row in cells([slow, fast])] == ["the defaults", "b=1"]
    assert results.shared(summaries([slow, fast])) == ["a=1"]
    assert results.shared(summaries([slow])) == []


def test_floor_epochs_are_shown_if_the_floor_was_measured(make: Make) -> None:
    (row,) = cells([make(seconds=100.0, floor=2.0), make(seed=1, seconds=100.0, floor=4.0)])
    assert row["floor epochs"] == "38"  # the mean of 50 and 25
    assert all("floor epochs" not in row for row in cells([make()]))


def test_commit_with_uncommitted_changes_has_a_plus(make: Make) -> None:
    (row,) = cells([make(), make(seed=1, manifest={"commit": "fedcba9876", "dirty": True})])
    assert row["commit"] == "0123456, fedcba9+"


def test_kept_run_is_read_unchanged(make: Make, tmp_path: Path) -> None:
    kept = make("experiment=small 'a=[b, c/d]'", floor=2.5, configuration={"data": {"batch_size": 100}})
    for _ in range(2):
        results.keep([kept], tmp_path / "made/for it")
        (path,) = (tmp_path / "made/for it").iterdir()
        assert re.fullmatch(r"small[\w+.-]+-seed0\.json", path.name)
        assert Measurement.read(path) == kept
    assert list(results.read(path.parent)) == list(results.read(path)) == [kept]


def test_every_recipe_has_its_own_file(make: Make, tmp_path: Path) -> None:
    assert results.file_name(make("experiment=small")) == "small-seed0.json"  # as make measure names it
    long = " ".join(f"model.parameter{number}=1" for number in range(20))
    recipes = ["", "experiment=small", "a=b", "a=/b", "a=:b", f"{long} lr=1", f"{long} lr=2"]
    made = [make(recipe, configuration={"data": {}}) for recipe in recipes]
    results.keep(made, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(recipes)
    assert sorted(results.read(tmp_path), key=str) == sorted(made, key=str)


def test_two_runs_cannot_share_a_file(make: Make, tmp_path: Path) -> None:
    run = make(manifest={"start": "2026-11-01"}, configuration={"data": {}})
    changed = dataclasses.replace(run, configuration={"data": {"batch_size": 7}}, manifest={})
    message = r"small-seed0\.json would be the file of two runs, started 2026-11-01 and at an unknown time"
    with pytest.raises(UserError, match=message):
        results.keep([run, changed], tmp_path)
    assert list(tmp_path.iterdir()) == []
    results.keep([run], tmp_path)
    with pytest.raises(UserError, match=message):
        results.keep([changed], tmp_path)
    assert list(results.read(tmp_path)) == [run]


@pytest.mark.parametrize("option", ["keep={path}/file", "keep={path}/file/below", "output={path}/none/table.md"])
def test_unwritable_file_is_one_line(option: str, make: Make, tmp_path: Path) -> None:
    make(configuration={"data": {}}).write(tmp_path / "small-seed0.json")
    (tmp_path / "file").touch()
    option = option.format(path=tmp_path)
    outcome = run_command("-m", "fmnist.results", f"runs={tmp_path}", option)
    assert f"error: cannot write {option}: " in one_line(outcome)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 1}', "{"])
def test_file_without_a_measurement_is_rejected(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x-seed0.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"x-seed0\.json holds no measurement"):
        list(results.read(tmp_path))


def test_missing_runs_are_one_line(tmp_path: Path) -> None:
    assert "error: no finished run in" in one_line(run_command("-m", "fmnist.results", f"runs={tmp_path}"))
    assert "error: there is no nowhere" in one_line(run_command("-m", "fmnist.results", "runs=nowhere"))


@pytest.mark.real_data
def test_real_runs_are_summarized_kept_and_read_again(tmp_path: Path) -> None:
    sweep = [f"hydra.sweep.dir={tmp_path}/runs", "experiment=smoke", "trainer.max_epochs=1", "threads=1"]
    trained = run_command(ROOT / "train.py", "-m", *sweep, "seed=0,1", "dashboard=none")
    assert trained.code == 0, trained.err
    files = [f"keep={tmp_path}/kept", f"output={tmp_path}/table.md"]
    outcome = run_command("-m", "fmnist.results", f"runs={tmp_path}/runs", *files)
    assert (outcome.code, outcome.err) == (0, "")
    found = [json.loads(path.read_text())["test/acc"] for path in tmp_path.glob("runs/*/metrics.json")]
    expected = f"{100 * statistics.mean(found):.2f} ± {100 * statistics.stdev(found):.2f}"
    assert last_row(outcome.out)[-2:] == ["experiment=smoke", "trainer.max_epochs=1"]
    assert expected in outcome.out
    assert expected in (tmp_path / "table.md").read_text()
    again = run_command("-m", "fmnist.results", f"runs={tmp_path}/kept")
    assert again.out == outcome.out.partition("\n")[2]
    for run in map(RunDirectory, tmp_path.glob("runs/*-*")):
        manifest = json.loads(run.manifest.read_text())
        assert manifest["parameters"] == 32_998
        assert 0 < manifest["training_seconds"] < manifest["seconds"]


@pytest.mark.real_data
def test_run_that_was_resumed_with_more_epochs_says_so(tmp_path: Path) -> None:
    first = ["experiment=smoke", "trainer.max_epochs=2", f"hydra.run.dir={tmp_path}/run"]
    for overrides in (first, [f"resume={tmp_path}/run", "trainer.max_epochs=3"]):
        trained = run_command(ROOT / "train.py", *overrides)
        assert trained.code == 0, trained.err
    (run,) = results.read(tmp_path)
    assert run.recipe[-1] == "trainer.max_epochs=3 (when resumed)"
    assert run.configuration["trainer"]["max_epochs"] == 3


def last_row(text: str) -> list[str]:
    return text.splitlines()[-1].split()
