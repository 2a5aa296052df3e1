"""Evaluates a trained network: ``python -m fmnist.evaluate run=<run directory>``.

Builds the network from the run's own configuration, loads the weights of a checkpoint, and repeats the test that ended
the training, or evaluates on another split. Everything goes to evaluation/<checkpoint>-<split>/ in the run directory:

  metrics.json          mean loss and accuracy
  per_class.csv         precision, recall, F1 and number of images of each class
  predictions.csv       for each image its index in the official file, true and predicted class, and ten probabilities
  confusion_matrix.csv  counts: true classes as rows, predicted classes as columns; also as a picture
  mistakes.png          the most confident mistakes
  calibration.png       whether the network is right as often as it says

Of 'train' these are the figures of the finished network; the run's metrics.json has those counted while it learnt.

With test-time augmentation, the key tta, probabilities are means over variants of each image: the image and its mirror
image (flip), the image and itself moved by one pixel in four directions (shift), or all of these and their mirror
images (flip_shift). Everything goes to evaluation/<checkpoint>-<split>-<tta>/, and the metrics have names of their own,
such as test/acc_tta_flip. Which one to use, if any, is for the split val to say.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.data.files import CLASS_NAMES
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from fmnist.training.evaluation import Evaluation

log = logging.getLogger(__name__)

SHOWN = 40  # mistakes in the gallery


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory")
    split: Literal["test", "val", "train"] = options.option("test, val or train", default="test")
    checkpoint: Literal["best", "last"] = options.option("best or last", default="best")
    tta: Literal["none", "flip", "shift", "flip_shift"] = options.option(
        "variants of each image to average over: none, flip, shift or flip_shift", default="none"
    )
    data_dir: Path | None = options.option("directory of the data set, if it has moved since", default=None)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def evaluate(options: Options) -> Path:
    """Evaluates, writes the files and returns their directory.

    Raises:
        UserError: There is no such run or checkpoint, or the directory cannot be written.
    """
    # These import torch, which takes seconds: only now, when the arguments have been read.
    from fmnist import build
    from fmnist.inference import trained, tta
    from fmnist.training.evaluation import Evaluation

    run = RunDirectory(options.run)
    config = trained.configuration(run, options.checkpoint, options.trust)
    build.prepare(config)
    classifier = trained.load_classifier(run, options.checkpoint, options.trust)
    if options.tta != "none":
        classifier.network = tta.Averaged(classifier.network, options.tta)
    data = trained.data(config, options.split, options.data_dir)
    dataset, indices = data.part(options.split)
    if len(indices) == 0:
        raise UserError(f"the run has no {options.split} split (data.val_size=0)")
    (metrics,) = build.evaluator(config, options.split).test(classifier, data.loader(options.split), verbose=False)
    suffix = "" if options.tta == "none" else f"_tta_{options.tta}"
    metrics = {name.replace("test/", f"{options.split}/") + suffix: value for name, value in metrics.items()}
    evaluation = Evaluation.of(dataset, indices, classifier.test_metrics.logits())
    if len(evaluation) < len(indices):
        log.warning("only %d of %d images, since the run was limited so", len(evaluation), len(indices))

    directory = run.evaluation(options.checkpoint, options.split, options.tta)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        name = run.path.name if len(run.path.name) <= 40 else f"{run.path.name[:39]}…"  # a job's has all its overrides
        subject = f"{name}, {options.checkpoint} checkpoint, {options.split} set{_variants(options)}"
        _write(directory, evaluation, subject)
        atomic.write_json(directory / "metrics.json", metrics)  # last: the others are there if it is
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error
    log.info(_summary(evaluation, metrics, options))
    log.info("%-20s %s", "written to", directory)
    return directory


def _write(directory: Path, evaluation: "Evaluation", subject: str) -> None:
    from fmnist.dashboard import figures
    from fmnist.dashboard.mistakes import gallery

    columns = evaluation.per_class()
    rows = zip(CLASS_NAMES, *([f"{v:.7g}" for v in values.tolist()] for values in columns.values()), strict=True)
    atomic.write_csv(directory / "per_class.csv", ["class", *columns], rows)

    predictions = zip(
        evaluation.indices.tolist(),
        evaluation.targets.tolist(),
        evaluation.predicted.tolist(),
        evaluation.probabilities.tolist(),
        strict=True,
    )
    header = ["index", "true", "predicted", *CLASS_NAMES]
    rounded = ((*row, *(f"{value:.7g}" for value in values)) for *row, values in predictions)  # single precision
    atomic.write_csv(directory / "predictions.csv", header, rounded)

    counts = evaluation.confusion_matrix.numpy()
    matrix = ((name, *row) for name, row in zip(CLASS_NAMES, counts.tolist(), strict=True))
    atomic.write_csv(directory / "confusion_matrix.csv", ["true", *CLASS_NAMES], matrix)
    title = f"{subject}: {counts.trace() / counts.sum():.2%} correct"
    atomic.write_figure(directory / "confusion_matrix.png", figures.confusion_matrix(counts, CLASS_NAMES, title=title))
    atomic.write_figure(directory / "mistakes.png", gallery(evaluation, SHOWN, subject, columns=8))
    atomic.write_figure(directory / "calibration.png", figures.reliability(evaluation.calibration(), title=subject))


def _variants(options: Options) -> str:
    return "" if options.tta == "none" else f", mean over variants of each image (tta={options.tta})"


def _summary(evaluation: "Evaluation", metrics: dict[str, float], options: Options) -> str:
    columns = evaluation.per_class()
    lines = [
        f"{options.split} set, {options.checkpoint} checkpoint{_variants(options)}: {len(evaluation):,} images",
        "",
        f"{'class':<12} {'precision':>9} {'recall':>9} {'f1':>9} {'images':>9}",
    ]
    for name, *values, support in zip(CLASS_NAMES, *(column.tolist() for column in columns.values()), strict=True):
        lines.append(f"{name:<12} " + " ".join(f"{value:9.4f}" for value in values) + f" {support:9,}")
    lines += ["", f"{'confused most':<20} {_pairs(evaluation)}"]
    lines += [f"{name:<20} {value:.4f}" for name, value in metrics.items()]
    return "\n".join([*lines, f"{'calibration error':<20} {evaluation.calibration().error:.4f}"])


def _pairs(evaluation: "Evaluation") -> str:
    pairs = evaluation.confused_pairs()[:3]
    return ", ".join(f"{CLASS_NAMES[true]} taken for {CLASS_NAMES[taken]} ({n})" for true, taken, n in pairs) or "none"


if __name__ == "__main__":
    options.run(evaluate, Options)
