"""Look for duplicates and wrong labels in the data set.

  python -m fmnist.audit
  python -m fmnist.audit runs=[<run>,<run>]

Finds exact and near duplicates within the training set, within the test set and between them. Given run directories,
it also finds labels that most of their networks reject, and measures their accuracy on the test images that have no
duplicate in the training set. It takes minutes, and writes:

  report.md                the findings as tables and pictures
  duplicates.csv           all pairs that are at most 0.10 apart: indices of the images in the official files, from 0;
                           distance; what aligns the second image with the first; labels
  duplicates-*.png         near pairs of train and test, within train, within test, and pairs around the threshold
  distances.png            number of pairs up to each distance
  labels.csv               all images whose label most networks reject, the lowest mean probability of the label first
  labels-unseen.png        the first of these that no network was trained on: test and validation images
  labels-seen.png          the first of these that some or all networks were trained on
"""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.data.spec import DataSpec
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory, locate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from fmnist.data.image_data import ImageDataModule

log = logging.getLogger(__name__)

NO_RUNS = "Label issues and test accuracy are left out: no networks were given (runs=[<run>,<run>])."


@dataclass(frozen=True)
class Options:
    runs: tuple[str, ...] = options.option(
        "run directories whose networks vote: runs=[<run>,<run>]", positional=True, default=()
    )
    output: Path = options.option("output directory", default=Path("runs/audit"))
    data_dir: Path | None = options.option("directory of the data set, if not where the runs had it", default=None)
    checkpoint: Literal["best", "last"] = options.option("of each run, best or last", default="best")
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def main(options: Options) -> None:
    """Audits the data set, writes the files and prints the tables.

    Raises:
        UserError: A run does not exist or has not finished, or the output directory cannot be written.
    """
    runs = [RunDirectory(locate(os.path.expanduser(run))[0]) for run in options.runs]  # noqa: PTH111 (as in fmnist.cli.options)
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError("runs: a run is given twice, and its network would count twice")
    for run in runs:
        run.read_configuration()  # reports a mistyped path before torch is imported
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.output).close()
    except OSError as error:
        raise UserError(f"cannot write output={options.output}: {error.strerror}") from error

    import numpy as np
    import pandas as pd
    import torch  # takes seconds

    from fmnist.data_quality import figures, label_issues, pairs, report

    data = _data(runs, options)
    train, test = data.read("train"), data.read("test")
    images, labels = torch.cat([train.images, test.images]), torch.cat([train.labels, test.labels])
    probabilities, trained_on = _predict(runs, images, data.spec, options)  # first, to report a mistake in a run early
    issues = label_issues.find(probabilities, trained_on, labels, data.spec.class_names)  # empty without runs
    in_test = issues.index >= len(train)
    issues.insert(0, "set", np.where(in_test, "test", "train"))
    issues.insert(1, "index", issues.index - len(train) * in_test)
    log.info("looking for duplicates among %s images, which takes minutes", f"{len(images):,}")
    duplicates = pairs.find(train, test, data.spec.class_names)

    tables = report.duplicate_tables(duplicates)
    names = [str(run.shown) for run in runs]
    labels_csv = None
    if runs:
        tables[f"labels that networks reject, of {len(runs)}"] = report.label_table(issues, trained_on.numpy())
        correct = (probabilities.argmax(dim=2) == labels)[:, len(train) :].numpy()
        title = "test accuracy with and without the images that have a duplicate in train"
        tables[title] = report.accuracy_table(duplicates, correct, names)
        votes = pd.DataFrame(issues["votes"].tolist(), issues.index, names)
        labels_csv = pd.concat([issues.drop(columns="votes"), votes], axis=1).to_csv(index=False, float_format="%.7g")
    pictures = figures.draw(images, duplicates, issues)
    note = "" if runs else f"{NO_RUNS}\n\n"
    files = {
        "duplicates.csv": duplicates[pairs.CSV_COLUMNS].to_csv(index=False, float_format="%.5f"),
        "labels.csv": labels_csv,
        **pictures,
        "report.md": report.markdown(tables, note, pictures),
    }
    _write(options.output, files)
    log.info("\n%s\n\n%s%-20s %s", report.render(tables, "plain"), note, "report", options.output / "report.md")


def _data(runs: Sequence[RunDirectory], options: Options) -> "ImageDataModule":
    """The data set of the first run, or Fashion-MNIST; it has been fetched."""
    from fmnist.data.fashion_mnist import FashionMNIST
    from fmnist.inference import trained

    if runs:
        config = trained.configuration(runs[0], options.checkpoint, options.trust)
        return trained.data(config, "test", options.data_dir)
    try:
        data = FashionMNIST(data_dir=None if options.data_dir is None else str(options.data_dir))
    except ValueError as error:
        raise UserError(str(error)) from error
    data.prepare_data()
    return data


def _predict(
    runs: Sequence[RunDirectory], images: "Tensor", spec: DataSpec, options: Options
) -> tuple["Tensor", "Tensor"]:
    """Classifies the images of both sets with the networks of all runs.

    Returns:
        Probabilities, float32 [networks, N, num_classes], and whether a network was trained on an image, bool
        [networks, N].
    """
    import torch

    from fmnist.inference import trained

    networks = [trained.load_network(run, options.checkpoint, options.trust) for run in runs]
    probabilities = torch.zeros(len(runs), len(images), spec.num_classes)
    trained_on = torch.zeros(len(runs), len(images), dtype=torch.bool)
    for i, (run, (network, its_spec)) in enumerate(zip(runs, networks, strict=True)):
        config = trained.configuration(run, options.checkpoint, options.trust)
        if its_spec != spec:
            raise UserError(f"{run.shown} was trained on {its_spec.name}, and {runs[0].shown} on {spec.name}")
        _, indices = trained.data(config, "train", options.data_dir).part("train")
        trained_on[i, indices] = True
        probabilities[i] = trained.probabilities(network, images)
    return probabilities, trained_on


def _write(directory: Path, files: Mapping[str, "str | Figure | None"]) -> None:
    """Writes files by name; deletes those that are None and that an earlier audit wrote."""
    try:
        for name, content in files.items():
            if content is None:
                (directory / name).unlink(missing_ok=True)
            elif isinstance(content, str):
                atomic.write(directory / name, content.encode())
            else:
                atomic.write_figure(directory / name, content)
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error


if __name__ == "__main__":
    options.run(main, Options)
