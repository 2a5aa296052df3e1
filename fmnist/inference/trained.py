"""Loads the trained network of a run directory, with its configuration and data. Imported without Lightning."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from fmnist import build_network
from fmnist.config import settings
from fmnist.config.errors import UserError, one_line
from fmnist.data.spec import DataSpec
from fmnist.runs import checkpoint_file
from fmnist.runs.run_directory import RunDirectory, locate

if TYPE_CHECKING:
    from fmnist.data.image_data import ImageDataModule, Split

log = logging.getLogger(__name__)

Checkpoint = Literal["best", "last"]


class Trained(NamedTuple):
    """A trained network, in evaluation mode, and what it was trained on."""

    network: nn.Module
    data: DataSpec


def load(run: str | os.PathLike[str], checkpoint: Checkpoint | None = None, trust: Sequence[str] = ()) -> nn.Module:
    """Loads the trained network of a run, in evaluation mode.

    The network maps raw pixels [B, C, H, W], uint8 or float from 0 to 255, to logits [B, num_classes]. Its attribute
    ``class_names`` names the classes. Only weights are read from the checkpoint; one that contains code is rejected.

    Args:
        run: The run directory, or a path in it.
        checkpoint: ``best`` by the monitored metric, or ``last``. An unfinished run has only a ``last``. None takes the
            one that ``run`` names, and otherwise the best.
        trust: Packages, besides this project and torch's family, whose classes the run's configuration may name, such
            as ``("timm",)``. Importing them runs their code.

    Raises:
        UserError: The directory holds no finished run or no such checkpoint, or the weights do not fit the network.
    """
    path, named = locate(run)
    network, spec = load_network(RunDirectory(path), checkpoint or named or "best", trust)
    network.class_names = spec.class_names  # type: ignore[assignment]
    return network


def load_network(run: RunDirectory, checkpoint: str = "best", trust: Sequence[str] = ()) -> Trained:
    """Like ``load``, for the commands."""
    config = configuration(run, checkpoint, trust)
    path = run.best_checkpoint if checkpoint == "best" else run.last_checkpoint
    content = checkpoint_file.read(path)
    weights = content.get("state_dict")
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise UserError(f"{path} is not a checkpoint: it holds no weights, or more than weights")
    try:
        spec = DataSpec.from_dict(content["data"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe its data set: another version's?") from error
    try:
        network = build_network.network(config, spec)
    except OmegaConfBaseException as error:
        raise UserError(f"cannot use the configuration of {run.path}: {one_line(error)}") from error
    try:
        network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
    except RuntimeError as error:
        differences = shorten(str(error).partition("\n")[2], 500)
        raise UserError(f"the weights in {path} do not fit the run's network: {differences}") from error
    return Trained(network.eval(), spec)


def configuration(run: RunDirectory, checkpoint: str = "best", trust: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run. Its ``trust`` is replaced by the caller's: a run directory cannot vouch for itself.

    Raises:
        UserError: There is no such run, or ``checkpoint`` is ``best`` and it has not finished.
    """
    if checkpoint not in get_args(Checkpoint):
        raise UserError(f"checkpoint must be best or last, got {checkpoint!r}")
    config = run.read_configuration()
    if checkpoint == "best" and not run.finished:
        raise UserError(
            f"{run.shown} has not finished (no metrics.json); use checkpoint=last, or finish it:  {run.resume_command}"
        )
    try:
        config.trust = list(trust)
        settings.check(config, stored=True)
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"cannot read {run.hydra / 'config.yaml'}: {one_line(error)}") from error
    return config


def data(config: DictConfig, split: str, data_dir: Path | None = None) -> "ImageDataModule":
    """The data module of a run, after ``setup`` for a split; downloads the data if necessary.

    Args:
        config: The run's configuration.
        split: ``train``, ``val`` or ``test``.
        data_dir: Directory of the files, if they have moved since training.
    """
    if data_dir is not None:
        config = config.copy()
        config.data.data_dir = str(data_dir)
    from fmnist import build  # imports Lightning, which takes seconds

    module = build.data(config)
    module.prepare_data()
    module.setup("test" if split == "test" else "fit")
    return module


def check_same(run: RunDirectory, spec: DataSpec, data: "ImageDataModule", split: str) -> None:
    """Warns if the images of a split have changed since the run.

    Raises:
        UserError: They have other classes or another shape, so that the network is not for them.
    """
    if data.spec != spec:
        raise UserError(f"{run.shown} was trained on another data set: its classes or the shape of its images differ")
    official: Split = "test" if split == "test" else "train"
    before = ((run.read_manifest() or {}).get("data") or {}).get("sha256") or {}
    if before.get(official, data.sha256[official]) != data.sha256[official]:
        log.warning("the %s images have changed since the run, which was trained and tested on others", official)


def probabilities(network: nn.Module, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """Class probabilities, float32 [N, num_classes].

    Args:
        network: From raw pixels to logits, in evaluation mode.
        images: uint8 [N, C, H, W].
        batch_size: Images at a time; affects memory only.
    """
    with torch.inference_mode():
        return torch.cat([network(batch).float().softmax(dim=1) for batch in torch.split(images, batch_size)])


def by_class(trained: Trained, images: Tensor) -> list[dict[str, float]]:
    """Like ``probabilities``: for each image, the probability of each class by its name."""
    rows = probabilities(trained.network, images).tolist()
    return [dict(zip(trained.data.class_names, row, strict=True)) for row in rows]
