"""What TensorBoard is told of a configuration."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

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


def markdown(config: DictConfig) -> str:
    """The configuration with every reference resolved, for TensorBoard's text tab."""
    return f"```yaml\n{OmegaConf.to_yaml(config, resolve=True)}\n```"
