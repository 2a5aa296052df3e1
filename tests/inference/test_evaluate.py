"""``python -m fmnist.evaluate``: metrics equal to those of the training's test, and its files."""

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from fmnist.config.errors import UserError
from fmnist.dashboard.precision_recall import THRESHOLDS
from fmnist.data.dataset import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.evaluate import Options, evaluate
from fmnist.runs import checkpoint_file
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import one_line, run_command

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def run(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A copy, which results are written to."""
    return RunDirectory(shutil.copytree(trained_run.path, tmp_path_factory.mktemp("evaluate") / "run"))


@pytest.fixture(scope="module")
def evaluated(run: RunDirectory) -> Path:
    """The results on the test set."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    outcome = run_command("-m", "fmnist.evaluate", f"run={run.path}")
    assert (outcome.code, outcome.err) == (0, "")
    assert {path: path.read_bytes() for path in before} == before, "an evaluation changes no file of the run"
    directory = run.evaluation("best", "test")
    assert outcome.out.endswith(f"written to           {directory}\n")
    return directory


@pytest.fixture(scope="module")
def predictions(evaluated: Path) -> pd.DataFrame:
    return pd.read_csv(evaluated / "predictions.csv", index_col="index")


def read_metrics(directory: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((directory / "metrics.json").read_text())
    return metrics


def test_evaluation_repeats_the_test_of_the_training_to_the_last_digit(evaluated: Path, run: RunDirectory) -> None:
    expected = {name: value for name, value in run.read_metrics().items() if name.startswith("test/")}
    assert read_metrics(evaluated) == expected
    assert set(expected) == {"test/loss", "test/acc"}


def test_predictions_list_every_image_in_order(predictions: pd.DataFrame, test_set: ImageDataset) -> None:
    assert list(predictions) == ["true", "predicted", *CLASS_NAMES]
    assert predictions.index.tolist() == list(range(10_000))
    assert predictions["true"].tolist() == test_set.labels.tolist()
    probabilities = predictions[[*CLASS_NAMES]].to_numpy()
    np.testing.assert_array_equal(predictions["predicted"], probabilities.argmax(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_tables_match_scikit_learn(evaluated: Path, predictions: pd.DataFrame) -> None:
    true, predicted, probabilities = predictions["true"], predictions["predicted"], predictions[[*CLASS_NAMES]]
    metrics = read_metrics(evaluated)
    assert metrics["test/acc"] == pytest.approx(sklearn.metrics.accuracy_score(true, predicted))
    loss = sklearn.metrics.log_loss(true, probabilities.div(probabilities.sum(axis=1), axis=0), labels=range(10))
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-4)

    matrix = pd.read_csv(evaluated / "confusion_matrix.csv", index_col="true")
    assert list(matrix) == list(matrix.index) == list(CLASS_NAMES)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(true, predicted, labels=range(10)))

    reference = sklearn.metrics.precision_recall_fscore_support(true, predicted, labels=range(10), zero_division=0)
    per_class = pd.read_csv(evaluated / "per_class.csv", index_col="class")
    assert list(per_class.index) == list(CLASS_NAMES)
    assert list(per_class) == ["precision", "recall", "f1", "support"]
    np.testing.assert_allclose(per_class, np.transpose(reference), rtol=1e-5)


def test_pictures_can_be_opened(evaluated: Path) -> None:
    pictures = list(evaluated.glob("*.png"))
    assert {path.stem for path in pictures} == {"confusion_matrix", "mistakes", "calibration"}
    for path in pictures:
        Image.open(path).verify()


def test_last_checkpoint_on_validation_images_repeats_the_validation(
    run: RunDirectory, train_set: ImageDataset
) -> None:
    # In a Slurm job with several tasks it is one process all the same.
    given = "-m", "fmnist.evaluate", f"run={run.path}", "split=val", "checkpoint=last"
    outcome = run_command(*given, SLURM_JOB_ID="1", SLURM_JOB_NAME="job", SLURM_NTASKS="2")
    assert (outcome.code, outcome.err) == (0, "")
    assert "only 500 of 5000 images: the run limits the batches" in outcome.out
    directory = run.evaluation("last", "val")
    seen_in_training = checkpoint_file.read(run.last_checkpoint)["metrics"]
    assert read_metrics(directory) == {name: pytest.approx(seen_in_training[name]) for name in ("val/loss", "val/acc")}
    table = pd.read_csv(directory / "predictions.csv")
    assert len(table) == 500
    assert train_set.labels[table["index"].tolist()].tolist() == table["true"].tolist()  # indices of the official file


def test_test_time_augmentation_has_its_own_metrics_and_directory(run: RunDirectory, evaluated: Path) -> None:
    outcome = run_command("-m", "fmnist.evaluate", f"run={run.path}", "tta=flip_shift", "split=val")
    assert (outcome.code, outcome.err) == (0, "")
    assert "val set, best checkpoint, mean over variants of each image (tta=flip_shift): 500 images" in outcome.out
    directory = run.path / "evaluation/best-val-flip_shift"
    assert {path.name for path in directory.iterdir()} == {path.name for path in evaluated.iterdir()}
    metrics = read_metrics(directory)
    table = pd.read_csv(directory / "predictions.csv")
    assert metrics == {
        "val/acc_tta_flip_shift": pytest.approx((table["predicted"] == table["true"]).mean()),
        "val/loss_tta_flip_shift": pytest.approx(
            -np.log(table[[*CLASS_NAMES]].to_numpy()[range(500), table["true"]]).mean(), rel=1e-4
        ),
    }
    assert f"val/acc_tta_flip_shift {metrics['val/acc_tta_flip_shift']:.4f}" in outcome.out


@pytest.mark.parametrize(("split", "val_size"), [("val", 50), ("train", 59_950)])
def test_split_that_training_skipped_is_evaluated_completely(
    split: Literal["val", "train"], val_size: int, untrained_run: RunDirectory
) -> None:
    path = untrained_run.hydra / "config.yaml"
    config = path.read_text().replace("val_size: 5000", f"val_size: {val_size}")
    path.write_text(config.replace("limit_val_batches: null", "limit_val_batches: 0"))
    directory = evaluate(Options(untrained_run.path, split))
    assert len(pd.read_csv(directory / "predictions.csv")) == 50


def test_mistake_ends_with_one_line(untrained_run: RunDirectory, tmp_path: Path) -> None:
    outcome = run_command("-m", "fmnist.evaluate", f"run={tmp_path}/none", "split=val")
    assert one_line(outcome).startswith(f"error: no directory {tmp_path}/none")
    with pytest.raises(UserError, match=r"^data\.data_dir: "):
        evaluate(Options(untrained_run.path, data_dir=tmp_path))
    path = untrained_run.hydra / "config.yaml"
    path.write_text(path.read_text().replace("val_size: 5000", "val_size: 0"))
    with pytest.raises(UserError, match=r"^the run has no val split \(data\.val_size=0\)$"):
        evaluate(Options(untrained_run.path, "val"))


def test_precision_recall_curves_of_the_test_match_scikit_learn(predictions: pd.DataFrame, run: RunDirectory) -> None:
    log = EventAccumulator(str(run.path), size_guidance={"tensors": 0})
    log.Reload()
    for index, name in enumerate(CLASS_NAMES):
        (event,) = log.Tensors(f"test/{name.replace('/', ' or ')}")
        curves = tensor_util.make_ndarray(event.tensor_proto)
        for threshold, p, r in list(zip(np.linspace(0, 1, THRESHOLDS), *curves[-2:], strict=True))[::21]:
            predicted = predictions[name] >= threshold
            # A probability is rounded in the file and may fall on the other side of a threshold.
            assert r == pytest.approx(sklearn.metrics.recall_score(predictions["true"] == index, predicted), abs=0.002)
            if predicted.any():
                precision = sklearn.metrics.precision_score(predictions["true"] == index, predicted)
                assert p == pytest.approx(precision, abs=0.005)
