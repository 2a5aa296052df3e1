"""Looks for what is wrong with the data set: ``python -m fmnist.audit``, or ``... runs=[<run>,<run>]``.

Duplicates within the training set, within the test set and between them, exact and near; and, if run directories are
given, labels that most of their networks reject, and their accuracy on the test images that have no duplicate in the
training set. Takes some minutes, and writes:

  report.md                what was found, in tables, with the pictures
  duplicates.csv           every pair that is at most 0.10 apart: numbers of the images in the official files, from 0;
                           distance; what was done to the second to lay it over the first; labels
  duplicates-*.png         the near pairs of train and test, within train, within test; those around the threshold
  distances.png            how many pairs there are up to which distance
  labels.csv               every image whose label most networks reject, the lowest mean probability of the label first
  labels-unseen.png        the first of these that no network was trained on: test and validation images
  labels-seen.png          the first of those that some or all were trained on
"""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.data.files import CLASS_NAMES
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor

    from fmnist.data_quality.audit_report import Findings

log = logging.getLogger(__name__)

SHOWN = 40  # pairs or images in a gallery


@dataclass(frozen=True)
class Options:
    runs: tuple[str, ...] = options.option("run directories; their networks judge: runs=[<run>,<run>]", default=())
    output: Path = options.option("directory for what is found", default=Path("runs/audit"))
    data_dir: Path | None = options.option("directory of the data set, if not the project's cache", default=None)
    checkpoint: Literal["best", "last"] = options.option("of each run, best or last", default="best")
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def audit(options: Options) -> None:
    """Audits, writes the files and prints the tables.

    Raises:
        UserError: There is no such run, or the output directory cannot be written.
    """
    runs = [RunDirectory(os.path.expanduser(run)) for run in options.runs]  # noqa: PTH111 (as in fmnist.cli.options)
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError("runs: a run is given twice, and its network would count twice")
    for run in runs:
        run.read_configuration()  # a mistyped path is told before torch is imported
    _check_writable(options.output)

    import torch  # takes seconds

    from fmnist import fetch
    from fmnist.data.fashion_mnist import ImageDataset
    from fmnist.data_quality import audit_report, label_issues
    from fmnist.data_quality.overlap import Overlap

    directory = fetch.fetch() if options.data_dir is None else options.data_dir
    train, test = (ImageDataset.read(directory, prefix) for prefix in ("train", "t10k"))
    images = torch.cat([train.images, test.images])
    verdicts, doubts = None, []
    if runs:
        verdicts = label_issues.ask(runs, images, directory, checkpoint=options.checkpoint, trust=options.trust)
        doubts = label_issues.doubtful(verdicts, torch.cat([train.labels, test.labels]))
    log.info("looking for duplicates among %s images, which takes minutes", f"{len(images):,}")
    found = audit_report.Findings(Overlap.of(train, test), [str(run.shown) for run in runs], verdicts, doubts)
    try:
        _write(options.output, found, images)
    except OSError as error:
        raise UserError(f"cannot write {options.output}: {error.strerror}") from error
    log.info(audit_report.terminal(found))
    log.info("\n%-20s %s", "report", options.output / "report.md")


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise UserError(f"cannot write output={directory}: {error.strerror}") from error


def _write(directory: Path, found: "Findings", images: "Tensor") -> None:
    from fmnist.data_quality import audit_figures, audit_report
    from fmnist.data_quality.overlap import NEAR, Place

    overlap = found.overlap
    drawn = {"distances.png": (audit_figures.distances(overlap), "How many pairs there are up to which distance")}
    near = [pair for pair in overlap.pairs if pair.distance <= NEAR]
    for place in get_args(Place):
        if pairs := [pair for pair in near if overlap.place(pair) == place]:
            title = f"near duplicates, {place}: {_first(len(pairs))}"
            figure = audit_figures.pairs(images, overlap, pairs[:SHOWN], title=title)
            drawn[_picture(place)] = figure, title
    if border := overlap.pairs[max(0, len(near) - SHOWN // 2) : len(near) + SHOWN // 2]:
        title = f"the pairs around the threshold of {NEAR:.2f}"
        drawn[_picture("threshold")] = audit_figures.pairs(images, overlap, border, title=title), title
    for name, words, doubts in (("unseen", "no network", found.unseen), ("seen", "a network", found.seen)):
        if doubts:
            title = f"labels that most networks reject, of images that {words} was trained on: {_first(len(doubts))}"
            drawn[f"labels-{name}.png"] = audit_figures.labels(images, overlap, doubts[:SHOWN], title=title), title

    sometimes = ["labels.csv", "labels-unseen.png", "labels-seen.png", *map(_picture, (*get_args(Place), "threshold"))]
    for name in sometimes:
        if name not in drawn:
            (directory / name).unlink(missing_ok=True)  # of an earlier audit; other files are none of ours
    _write_duplicates(directory / "duplicates.csv", found)
    if found.verdicts is not None:
        _write_labels(directory / "labels.csv", found)
    for name, (figure, _) in drawn.items():
        atomic.write_figure(directory / name, figure)
    pictures = {name: title for name, (_, title) in drawn.items()}
    atomic.write(directory / "report.md", audit_report.markdown(found, pictures).encode())  # last: the others are there


def _picture(place: str) -> str:
    return f"duplicates-{place.replace(' ', '-')}.png"


def _write_duplicates(path: Path, found: "Findings") -> None:
    overlap = found.overlap
    labels = overlap.labels.tolist()
    exact = {position: number for number, group in enumerate(overlap.groups) for position in group}
    header = ["set", "index", "other_set", "other_index", "distance", "exact", "mirrored", "down", "right"]
    rows = (
        [
            *overlap.image(pair.first),
            *overlap.image(pair.second),
            f"{pair.distance:.5f}",
            int(pair.first in exact and exact[pair.first] == exact.get(pair.second)),
            int(pair.view.mirrored),
            pair.view.down,
            pair.view.right,
            CLASS_NAMES[labels[pair.first]],
            CLASS_NAMES[labels[pair.second]],
        ]
        for pair in overlap.pairs
    )
    atomic.write_csv(path, [*header, "label", "other_label"], rows)


def _write_labels(path: Path, found: "Findings") -> None:
    header = ["set", "index", "label", "probability", "suggestion", "suggestion_probability", "rejected_by"]
    rows = (
        [
            *found.overlap.image(doubt.position),
            CLASS_NAMES[doubt.label],
            f"{doubt.probability:.7g}",
            CLASS_NAMES[doubt.suggestion],
            f"{doubt.suggestion_probability:.7g}",
            doubt.rejected,
            doubt.seen,
            *(CLASS_NAMES[vote] for vote in doubt.votes),
        ]
        for doubt in found.doubts
    )
    atomic.write_csv(path, [*header, "trained_on_by", *found.runs], rows)


def _first(count: int) -> str:
    return f"all {count}" if count <= SHOWN else f"the first {SHOWN} of {count:,}"


if __name__ == "__main__":
    options.run(audit, Options)
