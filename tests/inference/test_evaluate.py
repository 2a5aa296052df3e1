"""``python -m fmnist.evaluate``: metrics equal to those of the training's test, and its files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from fmnist.dashboard.precision_recall import THRESHOLDS
from fmnist.data.dataset import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.runs import checkpoint_io
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.evaluation import CALIBRATION_BINS
from tests.conftest import one_line, run_command

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A short run that was tested on the whole test set."""
    path = tmp_path_factory.mktemp("evaluate") / "run"
    outcome = run_command("train.py", "experiment=smoke", "trainer.limit_test_batches=null", f"hydra.run.dir={path}")
    assert outcome.code == 0, outcome.err
    return RunDirectory(path)


@pytest.fixture(scope="module")
def evaluated(run: RunDirectory) -> Path:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    outcome = run_command("-m", "fmnist.evaluate", f"run={run.path}")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert {path: path.read_bytes() for path in before} == before, "an evaluation changes no file of the run"
    directory = run.evaluation("best", "test")
    assert str(directory) in outcome.out
    return directory


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_evaluation_repeats_the_test_of_the_training_to_the_last_digit(evaluated: Path, run: RunDirectory) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert set(metrics) == {"test/loss", "test/acc"}
    assert metrics == {name: value for name, value in run.read_metrics().items() if name.startswith("test/")}


def test_predictions_list_every_image_in_order(evaluated: Path, test_set: ImageDataset) -> None:
    table = rows(evaluated / "predictions.csv")
    assert list(table[0]) == ["index", "true", "predicted", *CLASS_NAMES]
    assert [int(row["index"]) for row in table] == list(range(10_000))
    assert [int(row["true"]) for row in table] == test_set.labels.tolist()
    probabilities = np.array([[float(row[name]) for name in CLASS_NAMES] for row in table])
    assert [int(row["predicted"]) for row in table] == probabilities.argmax(axis=1).tolist()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_tables_match_scikit_learn(evaluated: Path) -> None:
    table = rows(evaluated / "predictions.csv")
    true, predicted = ([int(row[name]) for row in table] for name in ("true", "predicted"))
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["test/acc"] == pytest.approx(sklearn.metrics.accuracy_score(true, predicted))
    probabilities = np.array([[float(row[name]) for name in CLASS_NAMES] for row in table])
    loss = sklearn.metrics.log_loss(true, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(10))
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-4)

    matrix = [[int(row[name]) for name in CLASS_NAMES] for row in rows(evaluated / "confusion_matrix.csv")]
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(true, predicted, labels=range(10)))

    reference = sklearn.metrics.precision_recall_fscore_support(true, predicted, labels=range(10), zero_division=0)
    per_class = rows(evaluated / "per_class.csv")
    assert [row["class"] for row in per_class] == list(CLASS_NAMES)
    for name, expected in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose([float(row[name]) for row in per_class], expected, rtol=1e-5)


def test_pictures_can_be_opened(evaluated: Path) -> None:
    assert {path.name for path in evaluated.glob("*.png")} == {
        "confusion_matrix.png",
        "mistakes.png",
        "calibration.png",
    }
    for path in evaluated.glob("*.png"):
        Image.open(path).verify()


def test_evaluation_in_a_slurm_job_with_several_tasks_is_one_process(run: RunDirectory) -> None:
    job = run_command(
        *("-m", "fmnist.evaluate", f"run={run.path}", "split=val"),
        SLURM_JOB_ID="1",
        SLURM_JOB_NAME="job",
        SLURM_NTASKS="2",
    )
    assert job.code == 0, job


@pytest.fixture(scope="module")
def last_on_val(run: RunDirectory) -> Path:
    outcome = run_command("-m", "fmnist.evaluate", f"run={run.path}", "split=val", "checkpoint=last")
    assert outcome.code == 0, outcome.err
    assert (
        "only 500 of 5000 images: the run limits the batches" in outcome.out
    )  # experiment=smoke validates on two batches
    return run.evaluation("last", "val")


def test_other_splits_and_checkpoints_have_their_own_directories(run: RunDirectory, last_on_val: Path) -> None:
    metrics = json.loads((last_on_val / "metrics.json").read_text())
    seen_in_training = checkpoint_io.read(run.last_checkpoint)["metrics"]
    assert metrics == {name: pytest.approx(seen_in_training[name]) for name in ("val/loss", "val/acc")}
    assert len(rows(last_on_val / "predictions.csv")) == 500


def test_indices_of_validation_images_refer_to_the_official_file(last_on_val: Path, train_set: ImageDataset) -> None:
    table = rows(last_on_val / "predictions.csv")
    labels = train_set.labels[[int(row["index"]) for row in table]]
    assert labels.tolist() == [int(row["true"]) for row in table]


def test_test_time_augmentation_has_its_own_metrics_and_directory(run: RunDirectory, evaluated: Path) -> None:
    plain = {path: path.read_bytes() for path in evaluated.iterdir()}
    outcome = run_command("-m", "fmnist.evaluate", f"run={run.path}", "tta=flip_shift")
    assert (outcome.code, outcome.err) == (0, "")
    assert {path: path.read_bytes() for path in plain} == plain
    directory = run.path / "evaluation/best-test-flip_shift"
    assert {path.name for path in directory.iterdir()} == {path.name for path in plain}
    metrics = json.loads((directory / "metrics.json").read_text())
    assert set(metrics) == {"test/loss_tta_flip_shift", "test/acc_tta_flip_shift"}
    assert "test set, best checkpoint, mean over variants of each image (tta=flip_shift): 10,000 images" in outcome.out
    assert f"test/acc_tta_flip_shift {metrics['test/acc_tta_flip_shift']:.4f}" in outcome.out
    assert str(directory) in outcome.out
    true, probabilities = predictions(directory)
    assert metrics["test/acc_tta_flip_shift"] == pytest.approx((probabilities.argmax(axis=1) == true).mean())
    loss = -np.log(probabilities[range(10_000), true]).mean()
    assert metrics["test/loss_tta_flip_shift"] == pytest.approx(loss, rel=1e-4)
    assert (probabilities != predictions(evaluated)[1]).any()


@pytest.mark.parametrize(("split", "images"), [("test", 10_000), ("val", 50)])
def test_split_that_training_skipped_is_evaluated_completely(
    split: str, images: int, untrained_run: RunDirectory
) -> None:
    path = untrained_run.hydra / "config.yaml"
    config = path.read_text().replace("val_size: 5000", "val_size: 50")
    path.write_text(config.replace(f"limit_{split}_batches: null", f"limit_{split}_batches: 0"))
    outcome = run_command("-m", "fmnist.evaluate", f"run={untrained_run.path}", f"split={split}")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{split} set, best checkpoint: {images:,} images" in outcome.out
    assert len(rows(untrained_run.evaluation("best", split) / "predictions.csv")) == images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=none"], "no directory none"),
        (["run={run}", "tta=flp"], "tta must be none or flip or shift or flip_shift, got 'flp'; did you mean 'flip'?"),
        (["run={run}", "split=tset"], "split must be test or val or train, got 'tset'; did you mean 'test'?"),
        (["run={run}", "data_dir={run}"], "data.data_dir: "),
        ([], "run=<...> is missing: the run directory"),
    ],
)
def test_mistakes_end_with_one_line(run: RunDirectory, arguments: list[str], message: str) -> None:
    outcome = run_command("-m", "fmnist.evaluate", *(argument.format(run=run.path) for argument in arguments))
    assert message in one_line(outcome)


def test_help_lists_files_and_keys() -> None:
    outcome = run_command("-m", "fmnist.evaluate", "--help")
    assert outcome.code == 0
    for text in ("predictions.csv", "split=       test, val or train (default: test)"):
        assert text in outcome.out


def predictions(evaluated: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """True classes [N] and probabilities [N, 10], as written."""
    table = rows(evaluated / "predictions.csv")
    true = np.array([int(row["true"]) for row in table])
    return true, np.array([[float(row[name]) for name in CLASS_NAMES] for row in table])


def events(run: RunDirectory) -> EventAccumulator:
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def test_precision_recall_curves_match_scikit_learn(evaluated: Path, run: RunDirectory) -> None:
    true, probabilities = predictions(evaluated)
    log = events(run)
    thresholds = np.arange(THRESHOLDS) / (THRESHOLDS - 1)
    for index, name in enumerate(CLASS_NAMES):
        (event,) = log.Tensors(f"test/{name.replace('/', ' or ')}")
        *_, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        for threshold, p, r in list(zip(thresholds, precision, recall, strict=True))[::9]:
            predicted = probabilities[:, index] >= threshold
            # A probability is rounded in the file and may fall on the other side of a threshold.
            assert r == pytest.approx(sklearn.metrics.recall_score(true == index, predicted), abs=0.002)
            if predicted.any():
                assert p == pytest.approx(sklearn.metrics.precision_score(true == index, predicted), abs=0.005)


def test_calibration_error_matches_numpy(evaluated: Path, run: RunDirectory) -> None:
    true, probabilities = predictions(evaluated)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    number = np.ceil(confidence * CALIBRATION_BINS).astype(int)
    error = sum(
        (number == n).mean() * abs(right[number == n].mean() - confidence[number == n].mean()) for n in set(number)
    )
    (event,) = events(run).Scalars("test/calibration_error")
    assert event.value == pytest.approx(error, abs=1e-4)
