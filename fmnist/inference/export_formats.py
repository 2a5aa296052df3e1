"""File formats of an exported network: how to write a file, how to read it back, and a check that it predicts the same.

An exported network maps ``images``, raw pixels uint8 [B, C, H, W] for any B, to ``probabilities``, float32
[B, num_classes].
"""

import copy
import logging
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from fmnist.config.errors import UserError

OPSET = 18  # the version that torch's exporter targets: no conversion needed
TOLERANCE = 1e-4  # of a probability; another order of summation makes a difference of about 1e-6

Exported = Callable[[Tensor], Tensor]  # raw pixels to probabilities


class Format(NamedTuple):
    file: str
    description: str
    write: Callable[[ExportedProgram, str], bytes]
    read: Callable[[bytes], Exported]


class Probabilities(nn.Module):
    """A network followed by softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits.float().softmax(dim=1)


def capture(network: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """A copy of a network, followed by softmax, as a graph of torch operations.

    Args:
        network: From raw pixels to logits, in evaluation mode.
        shape: Of an image: channels, height, width.
    """
    # In contiguous layout: torch.export.save warns that it may not keep another.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    program = torch.export.export(
        Probabilities(network).eval(),
        (torch.zeros(2, *shape, dtype=torch.uint8),),
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it would write the paths of this machine into the files
    return program


def check(name: str, exported: Exported, images: Tensor, expected: Tensor) -> float:
    """Compares the probabilities of an exported network, in batches of 1, 7 and 250, with those of the original.

    Args:
        name: Name of the file, for the message.
        exported: The exported network.
        images: uint8 [N, C, H, W].
        expected: Probabilities of the original network, float32 [N, num_classes].

    Returns:
        The largest difference of a probability.

    Raises:
        UserError: It exceeds the tolerance, or a prediction differs.
    """
    found = torch.cat([exported(batch) for batch in (images[:1], images[1:8], *torch.split(images[8:], 250))])
    difference = (found - expected).abs().max().item()
    changed = int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
    if changed or not difference <= TOLERANCE:  # also true for NaN
        raise UserError(
            f"{name} was not written: it differs from the network by up to {difference:.1e} in a probability "
            f"(allowed: {TOLERANCE:.0e}) and in {changed} of {len(images):,} predictions"
        )
    return difference


def write_onnx(program: ExportedProgram, class_names: str) -> bytes:
    for name in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they log every step
    result = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: "batch"}},  # names the dimension
        verbose=False,
    )
    assert result is not None
    result.model.metadata_props["class_names"] = class_names
    content: bytes = result.model_proto.SerializeToString()
    return content


def read_onnx(content: bytes) -> Exported:
    import onnxruntime  # optional

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


def write_torch(program: ExportedProgram, class_names: str) -> bytes:
    content = BytesIO()
    torch.export.save(program, content, extra_files={"class_names": class_names})
    return content.getvalue()


def read_torch(content: bytes) -> Exported:
    return torch.no_grad()(torch.export.load(BytesIO(content)).module())


FORMATS = {
    "onnx": Format("model.onnx", f"ONNX, opset {OPSET}", write_onnx, read_onnx),
    "torch": Format("model.pt2", "torch.export", write_torch, read_torch),
}
