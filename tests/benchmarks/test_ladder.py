"""The measured results in the documents come from kept runs of today's experiments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from benchmarks import accuracy_figure, ladder
from benchmarks.measure import KEPT
from fmnist.config.errors import UserError
from fmnist.sweeps.measurement import Measurement, Summary, summaries

Composed = Callable[..., DictConfig]
KEPT_RUNS = [Measurement.read(path) for path in sorted(KEPT.glob("*.json"))]


def measurement(name: str, seed: int, acc: float, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "recipe": [f"experiment={name}"],
        "seed": seed,
        "parameters": 1000,
        "seconds": 10.0,
        "metrics": {"test/acc": acc},
        "configuration": {"data": {}},
        "manifest": {"processor": "P", "threads": 2},
        "floor": 2.0,
    }
    return Measurement(**(fields | changes))


def found(*measurements: Measurement) -> dict[str, Summary]:
    return {summary.recipe[0].partition("=")[2]: summary for summary in summaries(measurements)}


def test_record_holds_if_the_mean_of_five_runs_reaches_it() -> None:
    def first_cell(*accuracies: float) -> str:
        runs = (measurement("record_92", seed, acc) for seed, acc in enumerate(accuracies))
        _, row = ladder.records(found(*runs))
        return row[0]

    assert first_cell(0.92, 0.93, 0.91, 0.92, 0.92) == "92 %"
    assert first_cell(0.92, 0.93, 0.91, 0.92, 0.9199) == "(92 %: not reached)"
    assert first_cell(0.93, 0.93, 0.93, 0.93) == "(92 %: not reached)"


def test_record_has_seconds_floor_epochs_and_recipe() -> None:
    header, row = ladder.records(found(*(measurement("record_90", seed, 0.9) for seed in range(5))))
    assert dict(zip(header, row, strict=True)) == {
        "test accuracy": "90 %",
        "seconds": "10.0",
        "floor epochs": "5.0",
        "mean ± sd": "90.00 ± 0.00",
        "runs": "5",
        "parameters": "1,000",
        "recipe": "`experiment=record_90`",
    }


def test_ladder_keeps_its_order_of_experiments() -> None:
    runs = [measurement("strong", 0, 0.94, seconds=1.0), measurement("notebook", 0, 0.87)]
    header, *rows = ladder.ladder(found(*runs))
    assert [row[0].partition(":")[0] for row in rows] == ["`notebook`", "`strong`"]
    assert [dict(zip(header, row, strict=True))["floor epochs"] for row in rows] == ["5", "0"]


def test_runs_of_two_versions_of_an_experiment_are_rejected(tmp_path: Path) -> None:
    measurement("small", 0, 0.93).write(tmp_path / "small-seed0.json")
    measurement("small", 1, 0.93, configuration={"data": {}, "epochs": 2}).write(tmp_path / "small-seed1.json")
    message = "the runs of experiment=small have different configurations: seeds 0, and seeds 1"
    with pytest.raises(UserError, match=message):
        ladder.measured([tmp_path])


def test_new_runs_that_do_not_match_the_kept_ones_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    for name, path in (("KEPT", kept), ("NEW", new)):
        path.mkdir()
        monkeypatch.setattr(ladder, name, path)
    measurement("small", 0, 0.93).write(kept / "small-seed0.json")
    measurement("small", 1, 0.93, configuration={"data": {}, "epochs": 2}).write(new / "small-seed1.json")
    with pytest.raises(UserError, match="have different configurations"):
        ladder.main()
    assert [path.name for path in kept.iterdir()] == ["small-seed0.json"]
    assert [path.name for path in new.iterdir()] == ["small-seed1.json"]


def test_comment_in_an_experiment_file_has_the_measured_results() -> None:
    summary = found(*(measurement("small", seed, 0.93, metrics={"test/acc": 0.93, "val/acc": 0.94}) for seed in (0, 1)))
    assert ladder.header_line(summary["small"]) == (
        "# measured: test accuracy 93.00 ± 0.00 % (validation 94.00 ± 0.00), 2 seeds, mean ± sd;\n"
        "#   10 s of training on 2 cores (P); 1,000 parameters\n"
    )


def test_documents_match_the_kept_runs() -> None:
    for path, text in ladder.documents(ladder.measured()).items():
        assert path.read_text() == text, f"{path.name} differs from the kept runs: make ladder"


@pytest.mark.parametrize("run", KEPT_RUNS, ids=lambda run: f"{run.recipe[0]}-{run.seed}")
def test_kept_run_has_the_configuration_of_its_experiment(run: Measurement, composed: Composed) -> None:
    assert run.configuration == OmegaConf.to_container(composed(*run.recipe, f"seed={run.seed}"), resolve=True)


def test_kept_runs_come_from_clean_commits_and_no_seed_is_missing() -> None:
    assert not any(run.manifest["dirty"] for run in KEPT_RUNS)
    for summary in ladder.measured().values():
        assert [run.seed for run in summary.runs] == list(range(len(summary.runs)))


def test_figure_shows_every_experiment_and_every_published_result() -> None:
    ours = ladder.points(found(measurement("small", 0, 0.93), measurement("strong", 0, 0.94)))
    assert [(point.name, point.sd, point.seconds) for point in ours] == [("small", None, 10.0), ("strong", None, 10.0)]
    assert [point.accuracy for point in ours] == pytest.approx([93, 94])
    theirs = accuracy_figure.published()
    assert [point.name for point in theirs] == [row[0] for row in accuracy_figure.table()[1:]]
    drawn = {text.get_text() for text in accuracy_figure.draw(ours, theirs).axes[0].texts}
    assert drawn == {point.name for point in [*ours, *theirs]}


def test_published_result_is_comparable_only_if_it_says_that_the_test_set_selected_nothing(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    header, *_ = accuracy_figure.PUBLISHED.read_text().splitlines()
    choices = [("no", "today's"), ("yes", "today's"), ("not reported", "today's"), ("no", "before August 2017")]
    path.write_text("\n".join([header, *(f"x,90,,1,,,,{chosen},{data},2020,y" for chosen, data in choices)]))
    marks = [(point.mark, point.hollow) for point in accuracy_figure.published(path)]
    assert marks == [("s", False), ("D", True), ("s", True), ("s", True)]
