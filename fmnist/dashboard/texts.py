"""What TensorBoard is told of a configuration."""

import shlex
import sys

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from omegaconf import DictConfig, OmegaConf

from fmnist.training.classifier import Classifier

_HYPERPARAMETERS = (
    "data.batch_size",
    "data.val_size",
    "model",
    "optimizer",
    "optimizer.lr",
    "optimizer.weight_decay",
    "scheduler",
    "seed",
    "trainer.max_epochs",
)


def hyperparameters(config: DictConfig) -> dict[str, bool | int | float | str]:
    """What tells two runs apart, flat, for TensorBoard's HPARAMS tab.

    These are the same few for every run, since TensorBoard takes its columns from the first run that it finds and shows
    the first five by itself, and whatever else the command line overrides. A group stands for the class that it builds.
    """
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    overridden = [override.lstrip("+~").partition("=")[0] for override in overrides]
    result: dict[str, bool | int | float | str] = {}
    for key in sorted({*_HYPERPARAMETERS, *overridden}):
        value = OmegaConf.select(config, key)
        if isinstance(value, DictConfig) and "_target_" in value:
            result[key] = value._target_.rpartition(".")[2]
        elif isinstance(value, bool | int | float | str):
            result[key] = value
    return result


def texts(config: DictConfig, classifier: Classifier) -> dict[str, str]:
    """Configuration, layers and command line, as Markdown, for TensorBoard's text tab."""
    return {
        "configuration": f"```yaml\n{OmegaConf.to_yaml(config, resolve=True)}\n```",
        "layers": layers(classifier),
        "command_line": f"```sh\n{shlex.join(['python', *sys.argv])}\n```",
    }


def layers(classifier: Classifier) -> str:
    """Each layer of the network: its kind, the shape that it makes of one image, and its parameters."""
    summary = ModelSummary(classifier, max_depth=-1)
    rows = zip(summary.layer_names, summary.layer_types, summary.out_sizes, summary.param_nums, strict=True)
    lines = ["| layer | kind | output for one image | parameters |", "|---|---|---|---|"]
    for name, kind, size, parameters in rows:
        if name.startswith("network."):
            shape = " x ".join(map(str, size[1:])) if isinstance(size, list) else ""
            lines.append(f"| {name.removeprefix('network.')} | {kind} | {shape} | {parameters:,} |")
    return "\n".join([*lines, f"| total | | | {summary.total_parameters:,} |"])
