"""A trained network, brought back from its run directory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from fmnist import build
from fmnist.config import settings
from fmnist.config.errors import UserError
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.runs import checkpoint_io
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.classifier import Classifier

Checkpoint = Literal["best", "last"]


def load(run: str | os.PathLike[str], checkpoint: Checkpoint = "best", trust: Sequence[str] = ()) -> nn.Module:
    """The network of a run, trained, in evaluation mode.

    It takes raw pixels, uint8 or float from 0 to 255, [B, 1, 28, 28], and gives logits [B, 10]. Its attribute
    ``class_names`` names the classes. Only weights are read from the checkpoint: one that carries code is refused.

    Args:
        run: The run directory.
        checkpoint: ``best`` by the monitored metric, or ``last``. An unfinished run has a ``last``.
        trust: Packages whose classes the run's configuration may name, besides this project's own and torch's family,
            such as ``("timm",)``. Importing them runs their code.

    Raises:
        UserError: The directory holds no finished run or no such checkpoint, or the weights are not of this network.
    """
    return load_classifier(RunDirectory(run), checkpoint, trust).network


def load_classifier(run: RunDirectory, checkpoint: Checkpoint = "best", trust: Sequence[str] = ()) -> Classifier:
    """The same within its LightningModule."""
    try:
        classifier = build.classifier(configuration(run, checkpoint, trust))
    except OmegaConfBaseException as error:
        raise UserError(f"cannot use the configuration of {run.path}: {' '.join(str(error).split())}") from error
    path = run.best_checkpoint if checkpoint == "best" else run.last_checkpoint
    weights = checkpoint_io.read(path).get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} is no checkpoint: it holds no weights, or more")
    expected = classifier.state_dict()
    wrong = [
        *(f"{name} is missing" for name in expected if name not in weights),
        *(f"{name} is unknown" for name in weights if name not in expected),
        *(
            f"{name} is {list(weights[name].shape)} and should be {list(expected[name].shape)}"
            for name in expected
            if name in weights and weights[name].shape != expected[name].shape
        ),
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise UserError(
            f"the checkpoint in {run.checkpoints} is of another network than the run's configuration: {shown}"
        )
    classifier.load_state_dict(weights)
    classifier.eval()
    classifier.network.class_names = CLASS_NAMES  # type: ignore[assignment]
    return classifier


def configuration(run: RunDirectory, checkpoint: Checkpoint = "best", trust: Sequence[str] = ()) -> DictConfig:
    """What a run was configured with, but for whom to trust: that is the caller's word alone.

    Raises:
        UserError: There is no such run, or it has not finished and its best checkpoint is asked for.
    """
    if checkpoint not in get_args(Checkpoint):
        raise UserError(f"checkpoint must be best or last, got {checkpoint!r}")
    config = run.read_configuration()
    if checkpoint == "best" and not run.finished:
        raise UserError(
            f"{run.shown} has not finished (no metrics.json); checkpoint=last takes what there is, "
            f"and to go on:  {run.resume_command}"
        )
    try:
        config.trust = list(trust)
        settings.check(config)
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"cannot read {run.hydra / 'config.yaml'}: {' '.join(str(error).split())}") from error
    return config


def data(config: DictConfig, split: str, data_dir: Path | None = None) -> FashionMNIST:
    """The data set that a run was configured with, fetched if need be, with what a split is part of read.

    Args:
        config: Of the run.
        split: ``train``, ``val`` or ``test``.
        data_dir: Where the files are now, if not where they were.
    """
    if data_dir is not None:
        config = config.copy()
        config.data.data_dir = str(data_dir)
    module = build.data(config)
    module.prepare_data()
    module.setup("test" if split == "test" else "fit")
    return module


def probabilities(network: nn.Module, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """What the network gives to each class.

    Args:
        network: From raw pixels to logits, in evaluation mode.
        images: uint8 [N, 1, 28, 28].
        batch_size: Images at a time: a matter of memory alone.

    Returns:
        float32 [N, num_classes]; each row sums to 1.
    """
    with torch.inference_mode():
        return torch.cat([network(batch).float().softmax(dim=1) for batch in torch.split(images, batch_size)])
