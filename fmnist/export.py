"""Export a trained network to ONNX and torch.export.

  python -m fmnist.export run=<run directory>

The files serve programs without this project. They go to export/ in the run directory:

  model.onnx            for ONNX Runtime and other readers of ONNX
  model.pt2             for torch.export.load

Both take 'images', raw pixels, uint8 [B, C, H, W] for any B, and return 'probabilities', float32 [B, classes]. The
class names are stored as JSON under 'class_names'. A file is written only after its predictions for the whole test set
have matched those of the network; if the data set is not at hand, those for 1,000 images of random pixels.
"""

import json
import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory, or a path in it", positional=True)
    checkpoint: Literal["best", "last"] = options.option("best or last", default="best")
    format: Literal["onnx", "torch", "both"] = options.option("onnx, torch or both", default="both")
    output: Path | None = options.option("directory to write to, if not export/ in the run directory", default=None)
    data_dir: Path | None = options.option("directory of the data set, if it has moved since training", default=None)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def export(options: Options) -> Path:
    """Exports, checks, writes the files and returns their directory.

    Raises:
        UserError: There is no such run or checkpoint, a package is missing, an exported network predicts differently,
            or the directory cannot be written.
    """
    if options.format != "torch":
        _check_packages()
    run = RunDirectory(options.run)
    directory = options.output or run.export
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; the export needs a directory")
    # These import torch, which takes seconds: not before the arguments have been read.
    import torch

    from fmnist.inference import trained
    from fmnist.inference.export_formats import FORMATS, capture, check

    config = trained.configuration(run, options.checkpoint, options.trust)
    network, spec = trained.load_network(run, options.checkpoint, options.trust)
    try:
        images, kind = trained.data(config, "test", options.data_dir).test_set.images, "test images"
    except UserError as error:
        log.warning("%s", error)
        images, kind = torch.randint(256, (1000, *spec.image_shape), dtype=torch.uint8), "images of random pixels"
    expected = trained.probabilities(network, images)

    formats = list(FORMATS.values()) if options.format == "both" else [FORMATS[options.format]]
    program, class_names = capture(network, spec.image_shape), json.dumps(spec.class_names)
    contents, lines = {}, []
    for file, description, write, read in formats:
        contents[file] = write(program, class_names)
        difference = check(file, read(contents[file]), images, expected)
        lines.append(f"{file:<20} {difference:.1e}  ({description})")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            atomic.write(directory / file, content)
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error

    log.info("%-20s on %s %s; largest difference of a probability:", "same predictions", f"{len(images):,}", kind)
    for line in lines:
        log.info(line)
    log.info("%-20s %s", "written to", directory)
    return directory


def _check_packages() -> None:
    try:
        for package in ("onnx", "onnxruntime", "onnxscript"):
            import_module(package)
    except ImportError as error:
        raise UserError(
            "ONNX needs onnx, onnxscript and onnxruntime: make setup-extras, or pip install '.[export]'; "
            "format=torch needs none of them"
        ) from error


if __name__ == "__main__":
    options.run(export, Options)
