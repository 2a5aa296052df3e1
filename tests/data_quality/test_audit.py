"""``python -m fmnist.audit``: what it writes and says, on a small part of the official sets with planted duplicates."""

import csv
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fmnist
from fmnist import audit
from fmnist.cli import options
from fmnist.data.fashion_mnist import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.fetch import CACHE
from fmnist.inference import trained
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import Outcome, one_line, outcome_of, run_command

pytestmark = pytest.mark.real_data

TEST = 200  # test images looked at


@pytest.fixture
def call(
    train_set: ImageDataset,
    test_set: ImageDataset,
    official: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Outcome]:
    """Runs the audit in this process, on the first 300 training and 200 test images."""
    train = ImageDataset(train_set.images[:300].clone(), train_set.labels[:300].clone())
    test = ImageDataset(test_set.images[:TEST].clone(), test_set.labels[:TEST].clone())
    train.images[7], train.labels[7] = test.images[5], (test.labels[5] + 1) % 10
    train.images[9], train.labels[9] = train.images[8].flip(2), train.labels[8]
    monkeypatch.setattr(ImageDataset, "read", lambda _, prefix: train if prefix == "train" else test)
    monkeypatch.chdir(tmp_path)

    def run(*given: str) -> Outcome:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's, beside which there would be no other
        monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
        monkeypatch.setattr(sys, "argv", ["audit", f"data_dir={official}", *given])
        return outcome_of(lambda: options.run(audit.audit, audit.Options), capfd)

    return run


@pytest.fixture
def runs(untrained_run: RunDirectory, tmp_path: Path) -> str:
    """Two runs that held back 60 images, whose networks differ: the second's best is the first's last."""
    path = untrained_run.hydra / "config.yaml"
    path.write_text(path.read_text().replace("val_size: 5000", "val_size: 60"))
    other = RunDirectory(tmp_path / "other")
    shutil.copytree(untrained_run.path, other.path)
    shutil.copy(other.last_checkpoint, other.best_checkpoint)
    return "runs=[run,other]"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_runs_duplicates_are_told_and_the_rest_is_said_to_be_left_out(
    call: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = call()
    assert (outcome.code, outcome.err) == (0, "")
    assert "left out, since no networks were given" in outcome.out
    directory = tmp_path / "runs/audit"
    assert str(directory.relative_to(tmp_path) / "report.md") in outcome.out
    pairs = rows(directory / "duplicates.csv")
    exact = [row for row in pairs if row["exact"] == "1"]
    assert [(row["set"], row["index"], row["other_set"], row["other_index"]) for row in exact] == [
        ("train", "7", "test", "5")
    ]
    assert exact[0]["label"] != exact[0]["other_label"]
    mirrored = [row for row in pairs if row["set"] == row["other_set"] == "train" and row["mirrored"] == "1"]
    assert ("8", "9") in {(row["index"], row["other_index"]) for row in mirrored}
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["train", "and", "test", "1", "2", "1"] in lines  # exact duplicates: a group of two, contradicting
    assert not (directory / "labels.csv").exists()


def test_with_runs_labels_and_accuracies_are_those_of_their_networks(
    call: Callable[..., Outcome], runs: str, tmp_path: Path, test_set: ImageDataset
) -> None:
    outcome = call(runs, "output=found")
    assert (outcome.code, outcome.err) == (0, "")
    images = test_set.images[:TEST]
    predicted = np.stack([fmnist.load(tmp_path / name)(images).argmax(dim=1) for name in ("run", "other")])
    labels = test_set.labels[:TEST].numpy()
    right = predicted == labels
    kept = np.delete(right, 5, axis=1)  # the only one that has a duplicate in train
    for name, all_of_them, others in zip(("run", "other"), right, kept, strict=True):
        (line,) = [line.split() for line in outcome.out.splitlines() if line.startswith(f"{name} ")]
        assert line[1:3] == [f"{all_of_them.mean():.4f}", f"{others.mean():.4f}"]
    table = [row for row in rows(tmp_path / "found/labels.csv") if row["set"] == "test"]
    assert {int(row["index"]) for row in table} == set(np.flatnonzero(~right.any(axis=0)))
    for row in table:
        said = [CLASS_NAMES[prediction] for prediction in predicted[:, int(row["index"])]]
        assert [row["run"], row["other"], row["trained_on_by"]] == [*said, "0"]
    seen = {row["trained_on_by"] for row in rows(tmp_path / "found/labels.csv") if row["set"] == "train"}
    assert seen == {"0", "2"}


def test_the_report_shows_every_picture_and_a_later_audit_leaves_no_older_one(
    call: Callable[..., Outcome], runs: str, tmp_path: Path
) -> None:
    assert call(runs, "output=found").code == 0
    report = (tmp_path / "found/report.md").read_text()
    pictures = list((tmp_path / "found").glob("*.png"))
    assert {"labels-seen.png", "labels-unseen.png", "distances.png"} < {path.name for path in pictures}
    for path in pictures:
        Image.open(path).verify()
        assert f"]({path.name})" in report
    others = {
        tmp_path / "found" / name for name in ("labels.png", "labels.txt", "labels-mine.csv", "duplicates-mine.png")
    }
    for path in others:
        path.touch()
    assert call("output=found").code == 0
    assert set((tmp_path / "found").glob("labels*")) | set((tmp_path / "found").glob("*-mine.*")) == others
    assert "labels-" not in (tmp_path / "found/report.md").read_text()


@pytest.mark.usefixtures("runs")
def test_one_run_is_enough(call: Callable[..., Outcome]) -> None:
    outcome = call("runs=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "labels that networks reject, of 1" in outcome.out


@pytest.mark.usefixtures("runs")
def test_an_unfinished_run_is_told_before_any_network_looks_at_the_images(
    call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr(trained, "probabilities", lambda *_: looked.append(1))
    RunDirectory(tmp_path / "other").metrics.unlink()
    assert "other has not finished" in one_line(call("runs=[run,other]"))
    assert not looked


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["runs=none"], "no directory none"),
        (["runs=."], "is no run directory"),
        (["runs=[run,run/]"], "a run is given twice"),
        (["runs=unfinished"], "has not finished"),
        (["output=file"], "cannot write output=file: "),
        (["output=file/below"], "cannot write output=file/below: "),
        (["run=run"], "there is no 'run'; did you mean 'runs'?"),
        (["data_dir=nowhere"], "data_dir is given twice"),
    ],
)
def test_mistakes_end_with_one_line(
    call: Callable[..., Outcome], tmp_path: Path, options: list[str], message: str
) -> None:
    shutil.copytree(tmp_path / "run", tmp_path / "unfinished")
    (tmp_path / "unfinished/metrics.json").unlink()
    (tmp_path / "file").touch()
    assert message in one_line(call(*options))
    assert (tmp_path / "file").is_file()


def test_a_data_set_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.audit", f"data_dir={tmp_path}/nowhere", f"output={tmp_path}")
    assert "nowhere does not exist" in one_line(outcome)


def test_help_says_what_is_written() -> None:
    outcome = run_command("-m", "fmnist.audit", "--help")
    assert outcome.code == 0
    for text in ("labels.csv", "duplicates.csv", "(default: runs/audit)"):
        assert text in outcome.out


@pytest.mark.slow
def test_the_official_data_set_has_the_duplicates_that_the_documents_tell(tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.audit", f"output={tmp_path}", timeout=1500, OMP_NUM_THREADS="1")
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for line in ("train and test 24 40 0", "within train 66 112 0", "within test 2 4 0"):
        assert line in lines
    assert lines.count("train and test 0 0 0") == 1
    pairs = rows(tmp_path / "duplicates.csv")
    images = {
        "train": ImageDataset.read(CACHE, "train").images,
        "test": ImageDataset.read(CACHE, "t10k").images,
    }
    for row in pairs[:50]:
        first, second = (
            torch.nn.functional.pad(images[row[f"{o}set"]][int(row[f"{o}index"]), 0].double(), (1, 1, 1, 1))
            for o in ("", "other_")
        )
        second = second.flip(1) if row["mirrored"] == "1" else second
        second = second.roll((int(row["down"]), int(row["right"])), (0, 1))
        distance = (first / first.norm() - second / second.norm()).norm()
        assert float(row["distance"]) == pytest.approx(float(distance), abs=1e-4)
