"""Features of the network for TensorBoard's projector."""

import torch
from torch import Tensor, nn

from fmnist.dashboard.panel import Panel, PanelContext, Stage


class Embedding(Panel):
    """Logs the features of test images, with the images as sprites.

    The features are the input of the network's last linear layer; in an ensemble, of its last network.

    Args:
        count: Images, at least 3: the first of the test set. Each takes 1 kB or more on disk.
    """

    stages = frozenset({Stage.FINAL})

    def __init__(self, *, count: int = 2000) -> None:
        if count < 3:
            raise ValueError(f"count must be at least 3, got {count}")
        self.count = count

    def draw(self, context: PanelContext) -> None:
        evaluation = context.evaluation
        images = evaluation.images[: self.count]
        names = context.class_names
        targets, predicted = (classes[: self.count].tolist() for classes in (evaluation.targets, evaluation.predicted))
        context.writer.add_embedding(
            features(context.network, images),
            metadata=[
                [names[t], names[p], "right" if t == p else "wrong"] for t, p in zip(targets, predicted, strict=True)
            ],
            metadata_header=["class", "predicted", "prediction"],
            label_img=images.float() / 255,
            tag="features",
            global_step=context.step,
        )


def features(network: nn.Module, images: Tensor) -> Tensor:
    """Input of the last linear layer: float32 [N, F].

    Raises:
        ValueError: The network has no linear layer.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the network has no linear layer")
    inputs: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _module, args: inputs.append(args[0].float().cpu()))
    device = next(network.parameters()).device
    try:
        # force_eager: a network that has been compiled does not call the hook.
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            for batch in torch.split(images, 250):
                network(batch.to(device))
    finally:
        handle.remove()
    return torch.cat(inputs)
