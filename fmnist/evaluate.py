"""Evaluate a trained network on the test set or another split.

  python -m fmnist.evaluate run=<run directory>
  python -m fmnist.evaluate run=<run directory> split=val checkpoint=last tta=flip

Builds the network from the run's own configuration and loads the weights of a checkpoint. By default this repeats the
test that ended the training. Results go to evaluation/<checkpoint>-<split>/ in the run directory:

  metrics.json          mean loss and accuracy
  per_class.csv         precision, recall, F1 and number of images (support) of each class
  predictions.csv       for each image its index in its set, true and predicted class, class probabilities
  confusion_matrix.csv  counts: true classes as rows, predicted classes as columns; also as a picture
  mistakes.png          the most confident mistakes
  calibration.png       reliability diagram: accuracy against confidence

The metrics of split=train are those of the finished network; metrics.json of the run has those counted during training.

Test-time augmentation (tta) averages the probabilities over variants of each image: the image and its mirror image
(flip), the image and itself moved by one pixel in four directions (shift), or all of these and their mirror images
(flip_shift). Results go to evaluation/<checkpoint>-<split>-<tta>/, and the metrics are called, for example,
test/acc_tta_flip. Choose between them on the validation set, with split=val.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from fmnist.training.evaluation import Evaluation

log = logging.getLogger(__name__)

MISTAKES = 40  # in the picture
FLOAT = "%.7g"  # single precision


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory, or a path in it", positional=True)
    split: Literal["test", "val", "train"] = options.option("test, val or train", default="test")
    checkpoint: Literal["best", "last"] = options.option("best or last", default="best")
    tta: Literal["none", "flip", "shift", "flip_shift"] = options.option(
        "variants of each image to average over: none, flip, shift or flip_shift", default="none"
    )
    data_dir: Path | None = options.option("directory of the data set, if it has moved since training", default=None)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def evaluate(options: Options) -> Path:
    """Evaluates, writes the files and returns their directory.

    Raises:
        UserError: There is no such run, checkpoint or split, or the directory cannot be written.
    """
    # These import torch, which takes seconds: not before the arguments have been read.
    from fmnist import build
    from fmnist.inference import trained, tta
    from fmnist.training.evaluation import Evaluation

    run = RunDirectory(options.run)
    config = trained.configuration(run, options.checkpoint, options.trust)
    build.configure_process(config)
    network, spec = trained.load_network(run, options.checkpoint, options.trust)
    suffix, note = "", ""
    if options.tta != "none":
        network = tta.TestTimeAugmentation(network, options.tta)
        suffix, note = f"_tta_{options.tta}", f", mean over variants of each image (tta={options.tta})"
    data = trained.data(config, options.split, options.data_dir)
    trained.check_same(run, spec, data, options.split)
    dataset, indices = data.part(options.split)
    if len(indices) == 0:
        raise UserError(f"the run has no {options.split} split (data.val_size=0)")
    classifier = build.classifier(config, spec, network)
    (metrics,) = build.evaluator(config, options.split).test(classifier, data.loader(options.split), verbose=False)
    metrics = {name.replace("test/", f"{options.split}/") + suffix: value for name, value in metrics.items()}
    evaluation = Evaluation.of(dataset, indices, classifier.test_metrics.logits())
    if len(evaluation) < len(indices):
        log.warning("only %d of %d images: the run limits the batches", len(evaluation), len(indices))

    names = list(data.spec.class_names)
    directory = run.evaluation(options.checkpoint, options.split, options.tta)
    name = run.path.name if len(run.path.name) <= 40 else f"{run.path.name[:39]}…"  # a sweep's job: all its overrides
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_tables(directory, evaluation, names, data.file_names("test" if options.split == "test" else "train"))
        write_figures(
            directory, evaluation, names, f"{name}, {options.checkpoint} checkpoint, {options.split} set{note}"
        )
        atomic.write_json(directory / "metrics.json", metrics)  # last: if it exists, the other files do as well
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error
    log.info("%s set, %s checkpoint%s: %s images\n", options.split, options.checkpoint, note, f"{len(evaluation):,}")
    log.info(summary(evaluation, names, metrics))
    log.info("%-20s %s", "written to", directory)
    return directory


def write_tables(directory: Path, evaluation: "Evaluation", names: list[str], files: list[str] | None) -> None:
    import pandas as pd

    columns = {name: values.numpy() for name, values in evaluation.per_class().items()}
    per_class = pd.DataFrame(columns, index=names)
    predictions = pd.DataFrame(evaluation.probabilities.numpy(), evaluation.indices.numpy(), names)
    predictions.insert(0, "true", evaluation.targets.numpy())
    predictions.insert(1, "predicted", evaluation.predicted.numpy())
    if files is not None:
        predictions.insert(2, "file", [files[index] for index in evaluation.indices.tolist()])
    counts = pd.DataFrame(evaluation.confusion_matrix.numpy(), names, names)
    for file, table, label in (
        ("per_class.csv", per_class, "class"),
        ("predictions.csv", predictions, "index"),
        ("confusion_matrix.csv", counts, "true"),
    ):
        atomic.write(directory / file, os.fsencode(table.to_csv(index_label=label, float_format=FLOAT)))


def write_figures(directory: Path, evaluation: "Evaluation", names: list[str], subject: str) -> None:
    from fmnist.dashboard import figures, image_grids

    counts = evaluation.confusion_matrix.numpy()
    title = f"{subject}: {counts.trace() / counts.sum():.2%} correct"
    atomic.write_figure(directory / "confusion_matrix.png", figures.confusion_matrix(counts, names, title=title))
    mistakes = image_grids.mistakes(evaluation, names, count=MISTAKES, subject=subject, columns=8)
    atomic.write_figure(directory / "mistakes.png", mistakes)
    atomic.write_figure(directory / "calibration.png", figures.reliability(evaluation.calibration(), title=subject))


def summary(evaluation: "Evaluation", names: list[str], metrics: dict[str, float]) -> str:
    """Figures of each class, the most frequent confusions, and the metrics."""
    from tabulate import tabulate

    columns = zip(*(column.tolist() for column in evaluation.per_class().values()), strict=True)
    rows = [
        [name, *(f"{value:.4f}" for value in values), f"{support:,}"]
        for name, (*values, support) in zip(names, columns, strict=True)
    ]
    headers, colalign = ["class", "precision", "recall", "f1", "images"], ("left", *["right"] * 4)
    table = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True, colalign=colalign)
    confused = [
        f"{names[true]} taken for {names[predicted]} ({count})"
        for true, predicted, count in evaluation.confused_pairs()[:3]
    ]
    lines = [table, "", f"{'confused most':<20} {', '.join(confused) or 'none'}"]
    lines += [f"{name:<20} {value:.4f}" for name, value in metrics.items()]
    lines.append(f"{'balanced accuracy':<20} {evaluation.balanced_accuracy():.4f}")
    return "\n".join([*lines, f"{'calibration error':<20} {evaluation.calibration().error:.4f}"])


if __name__ == "__main__":
    options.run(evaluate, Options)
