"""The graph that TensorBoard shows, by a private function of torch, checked with 2.14.1."""

import warnings
from typing import Any

import torch
from torch.utils.tensorboard import _pytorch_graph

_last: dict[str, Any] = {}


def graph(network: Any, images: Any) -> Any:
    """A network as TensorBoard's ``FileWriter.add_graph`` takes it.

    The last graph is kept for the next job of a sweep: torch never frees the types of a trace, 1 MB each.

    Args:
        network: The network.
        images: An example of its input, which a trace needs.
    """
    key = f"{type(network)} {network} {tuple(images.shape)}"
    if key not in _last:
        _last.clear()
        with warnings.catch_warnings():
            # Tracing is deprecated, and still the only way to TensorBoard's graph.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            _last[key] = _pytorch_graph.graph(network, images)  # type: ignore[no-untyped-call]
    return _last[key]
