"""``python -m fmnist.report``: which settings of a sweep were best."""

import csv
import itertools
import json
import re
import shlex
import shutil
import statistics
from pathlib import Path

import pytest
from PIL import Image

from fmnist.sweeps import report, sweep_directory
from fmnist.sweeps.sweep_directory import Overrides
from tests.helpers import one_line, run_command
from tests.sweep_fixtures import Metrics, make_job, make_sweep

ACCURACY = {"0.01": [0.90, 0.91, 0.92], "0.001": [0.80, 0.82, 0.87], "0.1": [0.11, 0.12, 0.10]}
GRID = {"optimizer.lr": list(ACCURACY), "seed": ["0", "1", "2"]}
FILES = ("report.csv", "report.md", "report.png")


def figures(job: Overrides) -> Metrics:
    acc = ACCURACY[job["optimizer.lr"]][int(job["seed"])]
    return {"val/acc": acc, "val/loss": 1 - acc, "test/loss": 0.4321, "test/acc": round(acc - 0.0321, 4), "epochs": 9}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A complete sweep with its report, and the report's text for the terminal. Only for reading."""
    path = make_sweep(tmp_path_factory.mktemp("s") / "sweep", GRID, figures, fixed={"trainer.max_epochs": "9"})
    return path, report.write(path)


@pytest.fixture
def sweep(reported: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported[0], tmp_path / "sweep"))


def table(text: str) -> list[list[str]]:
    """The rows of the terminal's table, as words."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "/" in line and "seconds" in line and "ranked" not in line)
    return [line.split() for line in lines[start : lines.index("", start)]]


def read_csv(sweep: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((sweep / "report.csv").read_text().splitlines()))


def test_table_is_best_first_with_mean_and_standard_deviation_over_the_seeds(reported: tuple[Path, str]) -> None:
    path, text = reported
    header, *body = table(text)
    assert header == ["lr", "val/acc", "sd", "runs", "seconds"]
    assert body == [
        [str(place), lr, f"{statistics.mean(runs):.4f}", f"{statistics.stdev(runs):.4f}", "3", "10.0"]
        for place, (lr, runs) in enumerate(ACCURACY.items(), start=1)
    ]
    _, subject, order, *_, last = text.splitlines()
    assert subject == "sweep of optimizer.lr, with 3 seeds: 9 of 9 runs finished"
    assert order.startswith("ranked by val/acc, highest first; mean and standard deviation (sd) over the seeds; ")
    assert last == f"report               {path / 'report.md'}"
    assert "to resume" not in text
    assert "val_size" not in text


def test_csv_has_a_row_per_run_and_markdown_the_table_and_the_figure(reported: tuple[Path, str]) -> None:
    path, text = reported
    rows = read_csv(path)
    assert list(rows[0])[:5] == ["optimizer.lr", "seed", "state", "seconds", "val/acc"]  # max_epochs was not swept
    for row, (lr, seed) in zip(rows, itertools.product(ACCURACY, range(3)), strict=True):
        metrics = json.loads((path / row["directory"] / "metrics.json").read_text())
        assert metrics["val/acc"] == float(row["val/acc"]) == ACCURACY[lr][seed]
        assert (row["optimizer.lr"], row["state"], row["seconds"], row["epochs"]) == (lr, "finished", "10.0", "9")

    lines = (path / "report.md").read_text().splitlines()
    assert lines[:3] == ["# Sweep of optimizer.lr, with 3 seeds", "", "9 of 9 runs finished."]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[0] == ["", "optimizer.lr", "val/acc", "sd", "runs", "seconds"]
    assert cells[2:] == table(text)[1:]
    assert lines[-1] == "![The metric over the swept parameters](report.png)"
    with Image.open(path / "report.png") as image:
        assert image.width == 640


def test_test_accuracy_is_shown_for_the_best_setting_only(reported: tuple[Path, str]) -> None:
    path, text = reported
    assert "test accuracy        0.8779 (sd 0.0100, 3 runs), of the best setting only" in text
    written = "".join([text, *((path / name).read_text() for name in FILES[:2])])
    assert not [acc for lr in ("0.001", "0.1") for acc in ACCURACY[lr] if str(round(acc - 0.0321, 4)) in written]
    assert {row["optimizer.lr"] for row in read_csv(path) if row["test/acc"] or row["test/loss"]} == {"0.01"}


def test_second_report_is_identical(reported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = reported
    before = {name: (path / name).read_bytes() for name in FILES}
    monkeypatch.chdir(path.parent)
    assert report.write(Path("sweep")).splitlines()[-1] == "report               sweep/report.md"
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before


def test_unfinished_jobs_are_listed_with_their_errors(sweep: Path) -> None:
    for lr, seed, state, error in (
        ("0.01", "1", "failed", "the loss is not finite " * 20),
        ("0.01", "2", "interrupted", "KeyboardInterrupt"),
        ("0.001", "0", "running", None),
        ("0.1", "2", None, None),  # not started
    ):
        job = {"trainer.max_epochs": "9", "optimizer.lr": lr, "seed": seed}
        shutil.rmtree(make_job(sweep, job, None))
        if state:
            make_job(sweep, job, None, state=state, error=error)
    text = report.write(sweep)
    assert "5 of 9 runs finished, 1 failed, 1 interrupted, 1 killed, 1 not started" in text
    assert re.search(r"^failed +optimizer\.lr=0\.01 seed=1: the loss is not finite .*\.\.\.$", text, re.MULTILINE)
    assert re.search(r"^interrupted +optimizer\.lr=0\.01 seed=2$", text, re.MULTILINE)
    assert re.search(r"^killed +optimizer\.lr=0\.001 seed=0$", text, re.MULTILINE)
    assert max(map(len, text.splitlines()[:-2])) == 120
    assert [" ".join(row[-4:-1]) for row in table(text)[1:]] == ["1 of 3", "2 of 3", "2 of 3"]
    (failed,) = (row for row in read_csv(sweep) if row["state"] == "failed")
    assert (failed["val/acc"], failed["error"][:22]) == ("", "the loss is not finite")
    command = "python train.py -m trainer.max_epochs=9 optimizer.lr=0.01,0.001,0.1 seed=0,1,2 hydra.sweep.dir="
    assert f"to resume            {command}" in text
    assert not sweep_directory.read(sweep).complete
    (sweep / ".sweep/hydra.yaml").write_text("")  # without a plan, each run is resumed
    text = report.write(sweep)
    jobs = [row["directory"] for row in read_csv(sweep) if row["state"] != "finished"]
    assert len(jobs) == text.count("to resume") == 3
    assert all(f"to resume            python train.py resume={sweep / job}\n" in text for job in jobs)


def test_setting_with_a_metric_that_is_not_finite_is_last_and_named(tmp_path: Path) -> None:
    lost = {"optimizer.lr": "0.01", "seed": "1"}
    path = make_sweep(tmp_path / "s", GRID, lambda job: {"val/acc": None if job == lost else figures(job)["val/acc"]})
    text = report.write(path)
    assert [row[:2] for row in table(text)[1:]] == [["1", "0.001"], ["2", "0.1"], ["0.01", "-"]]
    assert "optimizer.lr=0.01: val/acc is missing or not finite in 1 of 3 runs" in text
    assert "test" not in re.sub(str(tmp_path), "", text)  # none was tested
    assert "test" not in (path / "report.csv").read_text()


def test_terminal_shows_the_best_of_many_settings(tmp_path: Path) -> None:
    sizes = list(map(str, range(1, 41)))
    path = make_sweep(tmp_path / "s", {"data.batch_size": sizes}, lambda job: {"val/acc": 1 / int(*job.values())})
    for seed in range(30):
        make_job(path, {"data.batch_size": "1", "seed": f"{seed}"}, None)
    text = report.write(path)
    assert [row[1] for row in table(text)[1:-1]] == sizes[:20]
    assert "and 20 more settings, see report.md" in text
    assert text.count("interrupted  ") == 19  # the first of the 20 lines says that one run proves little
    assert "and 11 more lines, see report.md" in text
    assert "| 40 |" in re.sub(" +", " ", (path / "report.md").read_text())


def test_ranking_without_validation_has_lowest_loss_first_and_a_warning(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID, lambda job: {"train/loss": figures(job)["val/loss"]}, val_size=0)
    text = report.write(path)
    assert "ranked by train/loss, lowest first" in text
    assert [row[1] for row in table(text)[1:]] == list(ACCURACY)
    assert "try data.val_size=5000" in text


def test_ties_and_other_metrics_are_named_and_values_cannot_break_the_markdown(tmp_path: Path) -> None:
    grid = {"model": ["<i>", "a|b", "c"], "seed": ["0", "1"]}
    path = make_sweep(tmp_path / "s", grid, lambda job: {"val/acc": int(job["seed"]) / 2})
    for seed in grid["seed"]:
        make_job(path, {"model": "c", "seed": seed}, {"val/loss": 0.1}, monitor=("val/loss", "min"))
    text = report.write(path)
    assert "tied                 model=a|b: within two standard errors of the best" in text
    assert "1 of 3 settings monitor another metric than val/acc" in text
    written = (path / "report.md").read_text()
    assert r"| a\|b " in written
    assert "<i>" not in written


def test_sweep_without_a_finished_run_has_a_report(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID)
    assert "0 of 9 runs finished, 9 not started" in report.write(path)
    assert len(read_csv(path)) == 9
    assert not (path / "report.png").exists()
    assert "report.png" not in (path / "report.md").read_text()


def test_directory_without_a_sweep_is_reported_in_one_line(tmp_path: Path) -> None:
    message = f"{tmp_path} is not the directory of a sweep: it has no .sweep"
    assert report.write(tmp_path) == f"no report: {message}"
    assert one_line(run_command("-m", "fmnist.report", f"sweep={tmp_path}")) == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_report_is_printed_even_if_its_files_cannot_be_written(sweep: Path) -> None:
    (sweep / "report.csv").unlink()
    (sweep / "report.csv").mkdir()
    *_, last, message = report.write(sweep).splitlines()
    assert last.startswith("report   ")
    assert message == f"cannot write the report to {sweep}: Is a directory"


@pytest.mark.parametrize(("seed", "others"), [("7", "8,9,10,11,12"), ("${oc.env:SEED}", "0,1,2,3,4")])
def test_commands_repeat_the_best_settings_as_typed(seed: str, others: str, tmp_path: Path) -> None:
    fixed = {"sweep": "mine", "test": "false", "+data.extra": "'a b'", "~callbacks.progress_bar": "", "seed": seed}
    rates = {"lr": ["0.1", "0.2", "0.3", "0.4"]}
    path = make_sweep(tmp_path / "s", rates, lambda job: {"val/acc": float(job["lr"])}, fixed=fixed)
    text = report.write(path)
    kept = shlex.join(["+data.extra='a b'", "~callbacks.progress_bar="])
    expected = [f"python train.py -m {kept} lr={lr} seed={others} test=false" for lr in ("0.4", "0.3", "0.2")]
    assert [line.partition("to repeat")[2].strip() for line in text.splitlines() if "to repeat" in line] == expected
    assert "```sh\n" + "\n".join(expected) + "\n```" in (path / "report.md").read_text()


def test_report_does_not_import_torch(sweep: Path) -> None:
    code = "import sys; from fmnist.sweeps import report; from pathlib import Path; report.write(Path(sys.argv[1])); "
    outcome = run_command("-c", f"{code} sys.exit('torch' in sys.modules)", sweep, cold=True)
    assert outcome.code == 0, outcome.err
