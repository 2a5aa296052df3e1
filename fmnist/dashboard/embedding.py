"""What the network makes of the images before it names them."""

import torch
from torch import Tensor, nn

from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES


class Embedding(Panel):
    """Logs the features of test images for TensorBoard's projector, with the images as sprites.

    The features are what goes into the network's last linear layer; of several networks, into that of the last one.

    Args:
        count: Images, at least 3: the first of the test set. Each costs 1 kB or more of disk.
    """

    moments = frozenset({Moment.FINAL})

    def __init__(self, *, count: int = 2000) -> None:
        if count < 3:
            raise ValueError(f"count must be at least 3, got {count}")
        self.count = count

    def draw(self, view: View) -> None:
        images = view.evaluation.images[: self.count]
        targets = view.evaluation.targets[: self.count].tolist()
        predicted = view.evaluation.predicted[: self.count].tolist()
        view.writer.add_embedding(
            features(view.network, images),
            metadata=[
                [CLASS_NAMES[t], CLASS_NAMES[p], "right" if t == p else "wrong"]
                for t, p in zip(targets, predicted, strict=True)
            ],
            metadata_header=["class", "predicted", "prediction"],
            label_img=images.float() / 255,
            tag="features",
            global_step=view.step,
        )


def features(network: nn.Module, images: Tensor) -> Tensor:
    """What goes into the last linear layer: float32 [N, F].

    Raises:
        ValueError: The network has no linear layer.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the network has no linear layer")
    seen: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].float().cpu()))
    device = next(network.parameters()).device
    try:
        # A network that was compiled before does not call the hook.
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            for batch in torch.split(images, 250):
                network(batch.to(device))
    finally:
        handle.remove()
    return torch.cat(seen)
