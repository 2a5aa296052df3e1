"""The measured results in the documents come from kept runs of today's experiments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from benchmarks import accuracy_figure, ladder
from fmnist.config.errors import UserError
from fmnist.sweeps.measurement import IRRELEVANT, Measurement, Summary, summaries


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


@pytest.mark.parametrize(
    ("accuracies", "goal"),
    [
        ([0.92, 0.93, 0.91, 0.92, 0.92], "92 %"),
        ([0.92, 0.93, 0.91, 0.92, 0.9199], "(92 %: not reached)"),
        ([0.93, 0.93, 0.93, 0.93], "(92 %: not reached)"),
    ],
)
def test_record_holds_if_the_mean_of_five_runs_reaches_it(accuracies: list[float], goal: str) -> None:
    runs = (measurement("record_92", seed, acc) for seed, acc in enumerate(accuracies))
    header, row = ladder.records(found(*runs))
    assert row[0] == goal
    cells = dict(zip(header, row, strict=True))
    assert [cells[name] for name in ("seconds", "floor epochs", "runs")] == ["10.0", "5.0", str(len(accuracies))]
    assert [cells[name] for name in ("parameters", "recipe")] == ["1,000", "`experiment=record_92`"]
    assert cells["mean ± sd"] == f"{100 * np.mean(accuracies):.2f} ± {100 * np.std(accuracies, ddof=1):.2f}"


def test_ladder_keeps_its_order_of_experiments() -> None:
    runs = [measurement("strong", 0, 0.94, seconds=1.0), measurement("notebook", 0, 0.87)]
    header, *rows = ladder.ladder(found(*runs))
    assert [row[0].partition(":")[0] for row in rows] == ["`notebook`", "`strong`"]
    assert [dict(zip(header, row, strict=True))["floor epochs"] for row in rows] == ["5", "0"]


def test_new_runs_that_do_not_match_the_kept_ones_are_rejected_and_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed, configuration in (("KEPT", 0, {"data": {}}), ("NEW", 1, {"data": {}, "epochs": 2})):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(ladder, name, tmp_path / name)
        run = measurement("small", seed, 0.93, configuration=configuration)
        run.write(tmp_path / name / f"small-seed{seed}.json")
    message = "the runs of experiment=small have different configurations: seeds 0, and seeds 1"
    with pytest.raises(UserError, match=message):
        ladder.main()
    assert (tmp_path / "KEPT/small-seed0.json").is_file()
    assert (tmp_path / "NEW/small-seed1.json").is_file()


def test_comment_in_an_experiment_file_has_the_measured_results() -> None:
    summary = found(*(measurement("small", seed, 0.93, metrics={"test/acc": 0.93, "val/acc": 0.94}) for seed in (0, 1)))
    assert ladder.header_line(summary["small"]) == (
        "# measured: test accuracy 93.00 ± 0.00 % (validation 94.00 ± 0.00), 2 seeds, mean ± sd;\n"
        "#   10 s of training on 2 cores (P); 1,000 parameters\n"
    )


def test_documents_match_the_kept_runs() -> None:
    for path, text in ladder.documents(ladder.measured()).items():
        assert path.read_text() == text, f"{path.name} differs from the kept runs: make ladder"


def renamed(configuration: dict[str, Any]) -> dict[str, Any]:
    """A kept configuration with today's keys: what follows from Fashion-MNIST was a setting of the network before."""
    model = {key: value for key, value in configuration["model"].items() if key not in ("in_channels", "num_classes")}
    if (model["pixel_mean"], model["pixel_std"]) == (72.94, 90.02):
        model |= {"pixel_mean": None, "pixel_std": None}
    return {**configuration, "model": model, "data": {"class_weights": None, **configuration["data"]}}


@pytest.mark.parametrize("summary", ladder.measured().values(), ids=lambda summary: summary.recipe[0])
def test_kept_runs_have_the_configuration_of_their_experiment(
    summary: Summary, composed: Callable[..., DictConfig]
) -> None:
    """All seeds without a gap, from clean commits."""
    config = composed(*summary.recipe)
    ignored = dict.fromkeys(IRRELEVANT)
    for seed, run in enumerate(summary.runs):
        config.seed = seed
        assert run.seed == seed
        now: Any = OmegaConf.to_container(config, resolve=True)
        assert renamed(run.configuration) | ignored == now | ignored
        assert not run.manifest["dirty"]


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
