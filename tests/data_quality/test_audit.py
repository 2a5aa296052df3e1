"""``python -m fmnist.audit`` on a small part of the official sets with planted duplicates."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fmnist import audit, build
from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.data.split import stratified_split
from fmnist.inference import trained
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import one_line, run_command

pytestmark = pytest.mark.real_data


class Audited(NamedTuple):
    directory: Path
    printed: str


@pytest.fixture(scope="module")
def sets(train_set: ImageDataset, test_set: ImageDataset) -> dict[str, ImageDataset]:
    """The first 300 training and 200 test images; test 5 is train 7 with another label, train 9 mirrors train 8."""
    train = ImageDataset(train_set.images[:300].clone(), train_set.labels[:300].clone())
    test = ImageDataset(test_set.images[:200].clone(), test_set.labels[:200].clone())
    train.images[7], train.labels[7] = test.images[5], (test.labels[5] + 1) % 10
    train.images[9], train.labels[9] = train.images[8].flip(2), train.labels[8]
    return {"train": train, "test": test}


@pytest.fixture(scope="module")
def call(sets: dict[str, ImageDataset], official: Path) -> Callable[..., Audited]:
    """Audits these sets in this process."""

    def call(output: Path, **options: Any) -> Audited:
        printed: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FashionMNIST, "read", lambda _, split: sets[split])
            patch.setattr(audit.log, "info", lambda text, *values: printed.append(text % values))
            audit.main(audit.Options(output=output, data_dir=official, **options))
        return Audited(output, "\n".join(printed))

    return call


@pytest.fixture(scope="module")
def runs(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A trained and an untrained network, with 60 validation images."""
    base = tmp_path_factory.mktemp("runs")
    for name in ("one", "other"):
        shutil.copytree(trained_run.path, base / name)
        config = base / name / ".hydra/config.yaml"
        config.write_text(config.read_text().replace("val_size: 5000", "val_size: 60"))
    other = RunDirectory(base / "other")
    torch.manual_seed(1)
    classifier = build.classifier(trained.configuration(other))
    torch.save({"state_dict": classifier.state_dict(), "data": classifier.data.to_dict()}, other.best_checkpoint)
    return str(base / "one"), str(other.path)


@pytest.fixture(scope="module")
def audited(call: Callable[..., Audited], runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return call(tmp_path_factory.mktemp("audit") / "found", runs=runs)


def test_planted_duplicates_are_found(audited: Audited) -> None:
    table = pd.read_csv(audited.directory / "duplicates.csv").set_index(["set", "index", "other_set", "other_index"])
    assert table.index[table["exact"] == 1].tolist() == [("train", 7, "test", 5)]
    exact, mirrored = table.loc[("train", 7, "test", 5)], table.loc[("train", 8, "train", 9)]  # type: ignore[index]
    assert exact["label"] != exact["other_label"]
    assert exact[["distance", "mirrored", "down", "right"]].tolist() == [0, 0, 0, 0]
    assert mirrored[["distance", "exact", "mirrored"]].tolist() == [0, 0, 1]
    lines = [line.split() for line in audited.printed.splitlines()]
    assert ["train", "and", "test", "1", "2", "1"] in lines  # groups, images, contradicting labels


def test_labels_and_accuracies_match_the_networks_of_the_runs(
    audited: Audited, runs: tuple[str, str], sets: dict[str, ImageDataset]
) -> None:
    images, labels = (torch.cat([getattr(part, name) for part in sets.values()]) for name in ("images", "labels"))
    with torch.no_grad():
        probabilities = np.stack([trained.load(run)(images).softmax(dim=1) for run in runs])
    predicted = probabilities.argmax(axis=2)
    wrong = (predicted != labels.numpy()).all(axis=0)  # more than half of two
    mean = probabilities.mean(axis=0)[range(500), labels]
    seen = np.full(500, False)
    seen[stratified_split(sets["train"].labels, val_size=60, seed=0)[0]] = True

    table = pd.read_csv(audited.directory / "labels.csv")
    table.index = table["index"] + 300 * (table["set"] == "test")
    assert set(table.index) == set(np.flatnonzero(wrong))
    assert table["probability"].is_monotonic_increasing
    np.testing.assert_allclose(table["probability"], mean[table.index], rtol=1e-3)
    assert table["trained_on_by"].tolist() == (2 * seen[table.index]).tolist()
    for run, votes in zip(runs, predicted, strict=True):
        assert table[run].tolist() == [CLASS_NAMES[vote] for vote in votes[table.index]]

    lines = [line.split() for line in audited.printed.splitlines()]
    for name, part in (("no network", ~seen), ("some or all", seen)):
        counts = part.sum(), (part & wrong).sum(), (part & wrong).sum(), (part & wrong & (mean < 0.01)).sum()
        assert ["trained", "on", "by", *name.split(), *map(str, counts)] in lines

    found = pd.read_csv(audited.directory / "duplicates.csv")
    duplicated = found[(found["set"] == "train") & (found["other_set"] == "test")]
    near, searched = ({*duplicated["other_index"][duplicated["distance"] <= limit]} for limit in (0.07, 0.10))
    for run, votes in zip(runs, predicted[:, 300:], strict=True):
        correct = votes == sets["test"].labels.numpy()
        subsets = correct, np.delete(correct, [*near]), correct[[*near]], np.delete(correct, [*searched])
        assert [run, *(f"{subset.mean():.4f}" for subset in subsets)] in lines


def test_report_shows_all_pictures_and_a_later_audit_deletes_outdated_ones(
    audited: Audited, call: Callable[..., Audited], tmp_path: Path
) -> None:
    output = shutil.copytree(audited.directory, tmp_path / "found")
    pictures = {path.name for path in output.glob("*.png")}
    assert pictures > {"labels-seen.png", "labels-unseen.png", "distances.png", "duplicates-train-and-test.png"}
    for name in pictures:
        Image.open(output / name).verify()
        assert f"![{Path(name).stem}]({name})\n" in (output / "report.md").read_text()
    for name in ("labels.txt", "labels-mine.csv", "duplicates-mine.png"):
        (output / name).touch()
    later = call(output)
    assert {path.name for path in output.glob("labels*")} == {"labels.txt", "labels-mine.csv"}
    assert (output / "duplicates-mine.png").exists()
    report = (output / "report.md").read_text()
    assert "labels-" not in report
    for text in (later.printed, report):
        assert "left out: no networks were given" in text
    assert later.printed.endswith(f"report               {output}/report.md")


def test_mistake_is_rejected_before_any_prediction(
    call: Callable[..., Audited], runs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "probabilities", None)
    unfinished = shutil.copytree(runs[1], tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(UserError, match="unfinished has not finished"):
        call(tmp_path, runs=(runs[0], str(unfinished)))
    with pytest.raises(UserError, match=r"^runs: a run is given twice, and its network would count twice$"):
        call(tmp_path, runs=(runs[0], f"{runs[0]}/../one"))
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match=f"^cannot write output={output}: "):
            call(output)
    outcome = run_command("-m", "fmnist.audit", f"data_dir={tmp_path}/nowhere", f"output={tmp_path}")
    assert "nowhere does not exist" in one_line(outcome)


@pytest.mark.slow(minutes=2)
def test_the_official_data_set_has_the_documented_duplicates(tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.audit", f"output={tmp_path}", timeout=1500, OMP_NUM_THREADS="1")
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for line in ("train and test 24 40 0", "within train 66 112 0", "within test 2 4 0"):
        assert line in lines
    assert lines.count("train and test 0 0 0") == 1
    images = {name: FashionMNIST().read(name).images for name in ("train", "test")}
    for row in pd.read_csv(tmp_path / "duplicates.csv").head(50).to_dict("records"):
        first, second = (
            np.pad(images[row[f"{other}set"]][row[f"{other}index"], 0].double(), 1) for other in ("", "other_")
        )
        second = np.roll(second[:, :: -1 if row["mirrored"] else 1], (row["down"], row["right"]), (0, 1))
        distance = np.linalg.norm(first / np.linalg.norm(first) - second / np.linalg.norm(second))
        assert row["distance"] == pytest.approx(distance, abs=1e-4)
