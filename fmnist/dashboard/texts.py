"""Texts and hyper-parameters of a run for TensorBoard."""

import shlex
import sys

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate

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
    """Hyper-parameters for TensorBoard's HPARAMS tab: a fixed selection, and all that the command line overrides.

    TensorBoard takes its columns from the first run that it finds and shows five of them by default, so every run logs
    the same selection. A config group is logged as the class that it builds.
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


def run_description(config: DictConfig, classifier: Classifier) -> dict[str, str]:
    """Configuration, layers and command line, as Markdown, for TensorBoard's text tab."""
    return {
        "configuration": f"```yaml\n{OmegaConf.to_yaml(config, resolve=True)}\n```",
        "layers": layer_table(classifier),
        "command_line": f"```sh\n{shlex.join(['python', *sys.argv])}\n```",
    }


def layer_table(classifier: Classifier) -> str:
    """Name, kind, output shape for one image and number of parameters of each layer, as Markdown."""
    summary = ModelSummary(classifier, max_depth=-1)
    columns = summary.layer_names, summary.layer_types, summary.out_sizes, summary.param_nums
    rows = []
    for name, kind, size, parameters in zip(*columns, strict=True):
        if name.startswith("network."):
            shape = " x ".join(map(str, size[1:])) if isinstance(size, list) else ""
            rows.append((name.removeprefix("network."), kind, shape, f"{parameters:,}"))
    rows.append(("total", "", "", f"{summary.total_parameters:,}"))
    headers = ["layer", "kind", "output for one image", "parameters"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
