"""``python -m fmnist.audit`` on a small part of the official sets with planted duplicates."""

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
from fmnist.data.dataset import ImageDataset
from fmnist.data.download import CACHE
from fmnist.data.files import CLASS_NAMES
from fmnist.data.split import stratified_split
from fmnist.inference import trained
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import Outcome, one_line, outcome_of, run_command

pytestmark = pytest.mark.real_data

TEST = 200  # test images


@pytest.fixture
def call(
    train_set: ImageDataset,
    test_set: ImageDataset,
    official: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Outcome]:
    """Runs the audit in this process on the first 300 training and 200 test images."""
    train = ImageDataset(train_set.images[:300].clone(), train_set.labels[:300].clone())
    test = ImageDataset(test_set.images[:TEST].clone(), test_set.labels[:TEST].clone())
    train.images[7], train.labels[7] = test.images[5], (test.labels[5] + 1) % 10
    train.images[9], train.labels[9] = train.images[8].flip(2), train.labels[8]
    monkeypatch.setattr(ImageDataset, "read", lambda _, prefix: train if prefix == "train" else test)
    monkeypatch.chdir(tmp_path)

    def run(*given: str) -> Outcome:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # otherwise basicConfig keeps pytest's
        monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
        monkeypatch.setattr(sys, "argv", ["audit", f"data_dir={official}", *given])
        return outcome_of(lambda: options.run(audit.main, audit.Options), capfd)

    return run


@pytest.fixture
def runs(untrained_run: RunDirectory, tmp_path: Path) -> str:
    """Two runs with different networks and 60 validation images."""
    path = untrained_run.hydra / "config.yaml"
    path.write_text(path.read_text().replace("val_size: 5000", "val_size: 60"))
    other = RunDirectory(tmp_path / "other")
    shutil.copytree(untrained_run.path, other.path)
    shutil.copy(other.last_checkpoint, other.best_checkpoint)
    return "runs=[run,other]"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_duplicates_are_found_without_runs(call: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = call()
    assert (outcome.code, outcome.err) == (0, "")
    assert "left out: no networks were given" in outcome.out
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
    assert ["train", "and", "test", "1", "2", "1"] in lines  # groups, images, contradicting labels
    assert not (directory / "labels.csv").exists()


def test_labels_and_accuracies_match_the_networks_of_the_runs(
    call: Callable[..., Outcome], runs: str, tmp_path: Path, test_set: ImageDataset
) -> None:
    outcome = call(runs, "output=found")
    assert (outcome.code, outcome.err) == (0, "")
    images = test_set.images[:TEST]
    predicted = np.stack([fmnist.load(tmp_path / name)(images).argmax(dim=1) for name in ("run", "other")])
    labels = test_set.labels[:TEST].numpy()
    correct = predicted == labels
    kept = np.delete(correct, 5, axis=1)  # the test image with a duplicate in train
    for name, all_of_them, others in zip(("run", "other"), correct, kept, strict=True):
        (line,) = [line.split() for line in outcome.out.splitlines() if line.startswith(f"{name} ")]
        assert line[1:3] == [f"{all_of_them.mean():.4f}", f"{others.mean():.4f}"]
    table = [row for row in rows(tmp_path / "found/labels.csv") if row["set"] == "test"]
    assert {int(row["index"]) for row in table} == set(np.flatnonzero(~correct.any(axis=0)))
    for row in table:
        votes = [CLASS_NAMES[prediction] for prediction in predicted[:, int(row["index"])]]
        assert [row["run"], row["other"], row["trained_on_by"]] == [*votes, "0"]
    seen = {row["trained_on_by"] for row in rows(tmp_path / "found/labels.csv") if row["set"] == "train"}
    assert seen == {"0", "2"}


def test_the_report_shows_all_pictures_and_a_later_audit_deletes_outdated_ones(
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


def test_networks_are_trained_on_all_training_images_except_validation_images(
    untrained_run: RunDirectory, official: Path, train_set: ImageDataset, test_set: ImageDataset
) -> None:
    images = torch.cat([train_set.images, test_set.images[:10]])
    probabilities, trained_on = audit._predict([untrained_run], images, official, audit.Options())
    _, validation = stratified_split(train_set.labels, val_size=5000, seed=0)
    assert trained_on.shape == (1, 60_010)
    assert not trained_on[0, validation].any()
    assert not trained_on[0, 60_000:].any()
    assert int(trained_on.sum()) == 55_000
    logits = fmnist.load(untrained_run.path)(images[-10:])
    torch.testing.assert_close(probabilities[0, -10:], torch.softmax(logits, 1).detach())


@pytest.mark.usefixtures("runs")
def test_an_unfinished_run_is_reported_before_any_prediction(
    call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = []
    monkeypatch.setattr(trained, "probabilities", lambda *_: predictions.append(1))
    RunDirectory(tmp_path / "other").metrics.unlink()
    assert "other has not finished" in one_line(call("runs=[run,other]"))
    assert not predictions


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["runs=none"], "no directory none"),
        (["runs=."], "is not a run directory"),
        (["runs=[run,run/]"], "a run is given twice"),
        (["runs=unfinished"], "has not finished"),
        (["output=file"], "cannot write output=file: "),
        (["output=file/below"], "cannot write output=file/below: "),
        (["run=run"], "unknown key 'run'; did you mean 'runs'?"),
        (["data_dir=nowhere"], "data_dir is given twice"),
    ],
)
def test_user_errors_are_one_line(
    call: Callable[..., Outcome], tmp_path: Path, options: list[str], message: str
) -> None:
    shutil.copytree(tmp_path / "run", tmp_path / "unfinished")
    (tmp_path / "unfinished/metrics.json").unlink()
    (tmp_path / "file").touch()
    assert message in one_line(call(*options))
    assert (tmp_path / "file").is_file()


def test_a_missing_data_set_is_one_line(tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.audit", f"data_dir={tmp_path}/nowhere", f"output={tmp_path}")
    assert "nowhere does not exist" in one_line(outcome)


def test_help_lists_the_output_files() -> None:
    outcome = run_command("-m", "fmnist.audit", "--help")
    assert outcome.code == 0
    for text in ("labels.csv", "duplicates.csv", "(default: runs/audit)"):
        assert text in outcome.out


@pytest.mark.slow
def test_the_official_data_set_has_the_documented_duplicates(tmp_path: Path) -> None:
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
