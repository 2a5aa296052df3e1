"""``python -m fmnist.report``: which settings of a sweep were best."""

import csv
import json
import re
import shlex
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.sweeps import report, sweep_directory
from tests.conftest import ROOT, one_line, run_command
from tests.sweep_fixtures import Job, make_job, make_sweep

GRID = {"optimizer.lr": ["0.01", "0.001", "0.1"], "seed": ["0", "1", "2"]}
ACCURACY = {
    "0.01": [0.90, 0.91, 0.92],
    "0.001": [0.80, 0.82, 0.87],
    "0.1": [0.11, 0.12, 0.10],
}


def figures(job: Job) -> dict[str, float | None]:
    acc = ACCURACY[job["optimizer.lr"]][int(job["seed"])]
    return {"val/acc": acc, "val/loss": 1 - acc, "test/loss": 0.4321, "test/acc": round(acc - 0.0321, 4), "epochs": 9}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "sweep", GRID, figures, fixed={"trainer.max_epochs": "9"})


def table(text: str) -> list[list[str]]:
    """The rows of the terminal's table, as words."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "val/" in line and "seconds" in line and "ranked" not in line)
    return [line.split() for line in lines[start : lines.index("", start)]]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_is_best_first_with_mean_and_standard_deviation_over_the_seeds(sweep: Path) -> None:
    text = report.write(sweep)
    header, *body = table(text)
    assert header == ["lr", "val/acc", "sd", "runs", "seconds"]
    assert body == [
        [str(place), lr, f"{statistics.mean(ACCURACY[lr]):.4f}", f"{statistics.stdev(ACCURACY[lr]):.4f}", "3", "10.0"]
        for place, lr in enumerate(("0.01", "0.001", "0.1"), start=1)
    ]
    assert "sweep of optimizer.lr, with 3 seeds: 9 of 9 runs finished" in text
    assert "ranked by val/acc, highest first" in text
    assert "to resume" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_test_accuracy_is_shown_for_the_best_setting_only(sweep: Path) -> None:
    text = report.write(sweep)
    best = [round(acc - 0.0321, 4) for acc in ACCURACY["0.01"]]
    assert f"{statistics.mean(best):.4f} (sd {statistics.stdev(best):.4f}, 3 runs), of the best setting only" in text
    written = "".join([text, *((sweep / name).read_text() for name in ("report.md", "report.csv"))])
    for lr in ("0.001", "0.1"):
        for acc in ACCURACY[lr]:
            assert str(round(acc - 0.0321, 4)) not in written
    table = rows(sweep / "report.csv")
    assert {row["optimizer.lr"] for row in table if row["test/acc"] or row["test/loss"]} == {"0.01"}


def test_without_a_test_the_report_does_not_mention_it(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID, lambda job: {"val/acc": figures(job)["val/acc"]})
    text = report.write(path)
    assert "test" not in re.sub(str(tmp_path), "", text)
    assert "test" not in (path / "report.csv").read_text()


def test_ranking_without_validation_has_a_warning(sweep: Path, tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID, lambda job: {"train/loss": figures(job)["val/loss"]}, val_size=0)
    text = report.write(path)
    assert "ranked by train/loss, lowest first" in text
    assert "try data.val_size=5000" in text
    assert "val_size" not in report.write(sweep)


def test_csv_has_a_row_per_run_with_all_its_metrics(sweep: Path) -> None:
    job = {"trainer.max_epochs": "9", "optimizer.lr": "0.5", "seed": "0"}
    make_job(sweep, job, None, state="failed", error="not finite, in epoch 3")
    report.write(sweep)
    table = rows(sweep / "report.csv")
    assert len(table) == 10
    assert [row["optimizer.lr"] for row in table] == ["0.01"] * 3 + ["0.001"] * 3 + ["0.1"] * 3 + ["0.5"]
    assert "trainer.max_epochs" not in table[0]
    for row in table[:9]:
        metrics = json.loads((sweep / row["directory"] / "metrics.json").read_text())
        assert metrics["val/acc"] == float(row["val/acc"]) == ACCURACY[row["optimizer.lr"]][int(row["seed"])]
        assert (row["state"], row["seconds"], row["epochs"]) == ("finished", "10.0", "9")
    assert (table[9]["state"], table[9]["error"], table[9]["val/acc"]) == ("failed", "not finite, in epoch 3", "")


def test_markdown_has_the_same_table_and_the_figure(sweep: Path) -> None:
    text = report.write(sweep)
    lines = (sweep / "report.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[0] == ["", "optimizer.lr", "val/acc", "sd", "runs", "seconds"]
    assert cells[2:] == table(text)[1:]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", "\n".join(lines))
    with Image.open(sweep / picture) as image:
        assert image.width == 640


def test_second_report_is_identical(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> dict[str, bytes]:
        return {name: (sweep / name).read_bytes() for name in ("report.csv", "report.md", "report.png")}

    report.write(sweep)
    before = files()
    monkeypatch.chdir(sweep.parent)
    report.write(Path("sweep"))
    assert files() == before
    assert sorted(path.name for path in sweep.iterdir() if path.is_file()) == sorted(before)


def test_unfinished_jobs_are_listed_with_their_errors(sweep: Path) -> None:
    for lr, seed, state, error in (
        ("0.01", "1", "failed", "the loss is not finite " * 20),
        ("0.01", "2", "interrupted", "KeyboardInterrupt"),
        ("0.001", "0", "running", None),
    ):
        job = {"trainer.max_epochs": "9", "optimizer.lr": lr, "seed": seed}
        shutil.rmtree(make_job(sweep, job, None))
        make_job(sweep, job, None, state=state, error=error)
    shutil.rmtree(make_job(sweep, {"optimizer.lr": "0.1", "seed": "2", "trainer.max_epochs": "9"}, None))
    text = report.write(sweep)
    assert "5 of 9 runs finished, 1 failed, 1 interrupted, 1 killed, 1 not started" in text
    assert re.search(r"^failed +optimizer\.lr=0\.01 seed=1: the loss is not finite .*\.\.\.$", text, re.MULTILINE)
    assert re.search(r"^interrupted +optimizer\.lr=0\.01 seed=2$", text, re.MULTILINE)
    assert re.search(r"^killed +optimizer\.lr=0\.001 seed=0$", text, re.MULTILINE)
    assert [row[:2] + row[-4:-1] for row in table(text)[1:]] == [
        ["1", "0.01", "1", "of", "3"],
        ["2", "0.001", "2", "of", "3"],
        ["3", "0.1", "2", "of", "3"],
    ]
    assert text.count("to resume") == 1
    assert "python train.py -m trainer.max_epochs=9 optimizer.lr=0.01,0.001,0.1 seed=0,1,2 hydra.sweep.dir=" in text
    assert not sweep_directory.read(sweep).complete
    assert "of the best setting only" in text


def test_without_a_plan_the_report_resumes_each_job(sweep: Path) -> None:
    (sweep / ".sweep/hydra.yaml").write_text("")
    job = make_job(sweep, {"optimizer.lr": "0.5", "seed": "0"}, None)
    assert f"to resume            python train.py resume={job}" in report.write(sweep)


def test_setting_with_a_metric_that_is_not_finite_is_last_and_named(tmp_path: Path) -> None:
    path = make_sweep(
        tmp_path / "s",
        GRID,
        lambda job: {"val/acc": None} if job == {"optimizer.lr": "0.01", "seed": "1"} else figures(job),
    )
    text = report.write(path)
    assert [row[:2] for row in table(text)[1:]] == [["1", "0.001"], ["2", "0.1"], ["0.01", "-"]]
    assert "optimizer.lr=0.01: val/acc is missing or not finite in 1 of 3 runs" in text


def test_terminal_shows_the_best_of_many_settings(tmp_path: Path) -> None:
    path = make_sweep(
        tmp_path / "s", {"data.batch_size": list(map(str, range(1, 41)))}, lambda j: {"val/acc": 1 / int(*j.values())}
    )
    text = report.write(path)
    assert [row[1] for row in table(text)[1:-1]] == list(map(str, range(1, 21)))
    assert "and 20 more settings, see report.md" in text
    assert "40 |" in (path / "report.md").read_text()


def test_lowest_loss_comes_first(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID, figures, monitor=("val/loss", "min"))
    text = report.write(path)
    assert "ranked by val/loss, lowest first" in text
    assert [row[1] for row in table(text)[1:]] == ["0.01", "0.001", "0.1"]


def test_sweep_without_a_finished_run_has_a_report(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", GRID, lambda _job: None)
    text = report.write(path)
    assert "0 of 9 runs finished, 9 not started" in text
    assert len(rows(path / "report.csv")) == 9
    assert not (path / "report.png").exists()
    assert "report.png" not in (path / "report.md").read_text()


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_directory_without_a_sweep_is_reported_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert len(report.write(tmp_path / name).splitlines()) == 1
    assert "sweep" in one_line(run_command("-m", "fmnist.report", f"sweep={tmp_path / name}"))
    assert list((tmp_path / "empty").iterdir()) == []


def test_report_is_printed_even_if_its_files_cannot_be_written(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fmnist.runs.atomic.write", refuse)
    text = report.write(sweep)
    assert table(text)[1][:2] == ["1", "0.01"]
    assert f"cannot write the report to {sweep}: No space left on device" in text


def test_values_cannot_break_the_markdown(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", {}, lambda _job: None)
    for value in ("a|b", "<script>", "*x*"):
        make_job(path, {"model": value.replace("/", "")}, {"val/acc": 0.5})
    report.write(path)
    text = (path / "report.md").read_text()
    assert r"| a\|b " in text
    assert "<script>" not in text.partition("```")[0]  # in a block of code it is harmless


def test_commands_repeat_the_best_settings_as_typed(tmp_path: Path) -> None:
    fixed = {"sweep": "mine", "test": "false", "+data.extra": "'a b'", "~callbacks.progress_bar": "", "seed": "7"}
    path = make_sweep(tmp_path / "s", {"lr": ["0.1", "0.2", "0.3", "0.4"]}, lambda job: {"val/acc": float(job["lr"])})
    for job, overrides in ((job.parent, job / "overrides.yaml") for job in path.glob("*/.hydra")):
        overrides.write_text(json.dumps([*(f"{k}={v}" for k, v in fixed.items()), f"lr={job.name.partition('-')[2]}"]))
    text = report.write(path)
    kept = shlex.join(["+data.extra='a b'", "~callbacks.progress_bar="])
    expected = [f"python train.py -m {kept} lr={lr} seed=8,9,10,11,12 test=false" for lr in ("0.4", "0.3", "0.2")]
    assert [line.partition("to repeat")[2].strip() for line in text.splitlines() if "to repeat" in line] == expected
    assert "```sh\n" + "\n".join(expected) + "\n```" in (path / "report.md").read_text()


def test_seed_that_is_not_a_number_is_tolerated(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", {"lr": ["0.1", "0.2"]}, some_acc, fixed={"seed": "${oc.env:SEED}"})
    assert "seed=0,1,2,3,4" in report.write(path)


def some_acc(_job: Job) -> dict[str, float | None]:
    return {"val/acc": 0.5}


def test_report_does_not_import_torch(sweep: Path) -> None:
    code = "import sys; from fmnist.sweeps import report; from pathlib import Path; report.write(Path(sys.argv[1])); "
    outcome = run_command("-c", f"{code} sys.exit('torch' in sys.modules)", sweep, cold=True)
    assert outcome.code == 0, outcome.err


@pytest.mark.real_data
def test_real_sweep_is_ranked(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    small = ["experiment=smoke", "threads=1", "trainer.max_epochs=1", "test=false", "dashboard=none"]
    trained = run_command(ROOT / "train.py", "-m", *small, "optimizer.lr=0.001,0.01", f"hydra.sweep.dir={path}")
    assert trained.code == 0, trained.err
    outcome = run_command("-m", "fmnist.report", f"sweep={path}")
    assert (outcome.code, outcome.err) == (0, "")
    found = {}
    for job in path.glob("*/.hydra"):
        (lr,) = re.findall(r"optimizer\.lr=(\S+)", (job / "overrides.yaml").read_text())
        found[lr] = json.loads((job.parent / "metrics.json").read_text())["val/acc"]
    expected = sorted(found, key=lambda lr: -found[lr])
    assert [row[1:3] for row in table(outcome.out)[1:]] == [[lr, f"{found[lr]:.4f}"] for lr in expected]
    assert "2 of 2 runs finished" in outcome.out
    assert np.asarray(Image.open(path / "report.png")).std() > 0
