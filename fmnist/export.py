"""Exports a trained network: ``python -m fmnist.export run=<run directory>``.

For programs that know nothing of this project. Two files go to export/ in the run directory:

  model.onnx            for ONNX Runtime and whatever else reads ONNX
  model.pt2             for torch.export.load

Both take 'images', raw pixels, uint8 [B, 1, 28, 28] for any B, give 'probabilities', float32 [B, 10], and name the
classes, as JSON, under 'class_names'. A file is written only after it has agreed with the network on the test set.
"""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.data.files import CLASS_NAMES
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

log = logging.getLogger(__name__)

OPSET = 18  # the one that torch's exporter is written for, so that nothing has to be converted
TOLERANCE = 1e-4  # of a probability; adding the same numbers in another order makes about 1e-6


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory")
    checkpoint: Literal["best", "last"] = options.option("best or last", default="best")
    format: Literal["onnx", "torch", "both"] = options.option("onnx, torch or both", default="both")
    output: Path | None = options.option("directory to write to, if not export/ in the run directory", default=None)
    data_dir: Path | None = options.option("directory of the data set, if it has moved since", default=None)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


class Kind(NamedTuple):
    """A kind of file: how its content is made of a program, and how that is run again."""

    file: str
    description: str
    write: "Callable[[ExportedProgram], bytes]"
    read: "Callable[[bytes], Callable[[Tensor], Tensor]]"


def export(options: Options) -> Path:
    """Exports, checks, writes the files and returns their directory.

    Raises:
        UserError: There is no such run or checkpoint, a package is missing, an exported network does not agree with the
            original, or the directory cannot be written.
    """
    kinds = list(KINDS.values()) if options.format == "both" else [KINDS[options.format]]
    if options.format != "torch":
        _check_packages()
    run = RunDirectory(options.run)
    directory = options.output or run.export
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; the export needs a directory")
    from fmnist.inference import (
        trained,  # imports torch, which takes seconds: only now, when the arguments have been read
    )

    config = trained.configuration(run, options.checkpoint, options.trust)
    network = trained.load(run.path, options.checkpoint, options.trust)
    images = trained.data(config, "test", options.data_dir).test_set.images
    expected = trained.probabilities(network, images)

    program = capture(network)
    contents = {kind.file: kind.write(program) for kind in kinds}
    differences = [check(kind.file, kind.read(contents[kind.file]), images, expected) for kind in kinds]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            atomic.write(directory / file, content)
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error

    log.info("%-20s on the %s test images, no probability off by more than", "same predictions", f"{len(images):,}")
    for kind, difference in zip(kinds, differences, strict=True):
        log.info("%-20s %.1e  (%s)", kind.file, difference, kind.description)
    log.info("%-20s %s", "written to", directory)
    return directory


def capture(network: "nn.Module") -> "ExportedProgram":
    """The network, with softmax behind it, as a graph of torch's operations.

    Args:
        network: From raw pixels to logits, in evaluation mode; it stays as it is.
    """
    import torch
    from torch import nn

    class Probabilities(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: "Tensor") -> "Tensor":
            logits: Tensor = self.network(images)
            return logits.float().softmax(dim=1)

    # In the plain layout: torch.export.save warns that it may not keep another.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    program = torch.export.export(
        Probabilities(network).eval(),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8),),
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it would carry the paths of this machine into the files
    return program


def check(name: str, exported: "Callable[[Tensor], Tensor]", images: "Tensor", expected: "Tensor") -> float:
    """Runs an exported network on all images, in batches of 1, of 7, and of 250, so that a frozen batch size shows.

    Args:
        name: What to call it in messages.
        exported: From raw pixels to probabilities.
        images: uint8 [N, 1, 28, 28].
        expected: What the network itself gives, float32 [N, C].

    Returns:
        The largest difference between two probabilities.

    Raises:
        UserError: It is above the tolerance, or a prediction differs.
    """
    import torch

    found = torch.cat([exported(batch) for batch in (images[:1], images[1:8], *torch.split(images[8:], 250))])
    difference = (found - expected).abs().max().item()
    changed = int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
    if changed or not difference <= TOLERANCE:  # so written that NaN is refused, too
        raise UserError(
            f"{name} was not written: it differs from the network by up to {difference:.1e} in a probability "
            f"(allowed: {TOLERANCE:.0e}) and in {changed} of {len(images):,} predictions"
        )
    return difference


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "ONNX needs onnx, onnxscript and onnxruntime: make setup-extras, or pip install '.[export]'; "
            "format=torch needs none of them"
        ) from error


def _write_onnx(program: "ExportedProgram") -> bytes:
    import torch

    for name in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they tell each step of theirs
    result = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: "batch"}},  # only for the name
        verbose=False,
    )
    assert result is not None
    result.model.metadata_props["class_names"] = json.dumps(CLASS_NAMES)
    content: bytes = result.model_proto.SerializeToString()
    return content


def _read_onnx(content: bytes) -> "Callable[[Tensor], Tensor]":
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


def _write_torch(program: "ExportedProgram") -> bytes:
    import torch

    content = BytesIO()
    torch.export.save(program, content, extra_files={"class_names": json.dumps(CLASS_NAMES)})
    return content.getvalue()


def _read_torch(content: bytes) -> "Callable[[Tensor], Tensor]":
    import torch

    module = torch.export.load(BytesIO(content)).module()

    def run(images: "Tensor") -> "Tensor":
        with torch.no_grad():
            result: Tensor = module(images)
        return result

    return run


KINDS = {
    "onnx": Kind("model.onnx", f"ONNX, opset {OPSET}", _write_onnx, _read_onnx),
    "torch": Kind("model.pt2", "torch.export", _write_torch, _read_torch),
}


if __name__ == "__main__":
    options.run(export, Options)
