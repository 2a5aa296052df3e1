"""Builds the objects of a run from its configuration."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist import build_network
from fmnist.config import cores, settings
from fmnist.config.errors import UserError
from fmnist.config.instantiate import instantiate, instantiate_each, report_as_user_error
from fmnist.config.monitor import monitored
from fmnist.dashboard.callback import Dashboard
from fmnist.dashboard.panel import Panel
from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import BatchContext
from fmnist.data.image_data import ImageDataModule
from fmnist.data.spec import DataSpec
from fmnist.distributed.cluster_environment import RunEnvironment
from fmnist.distributed.ddp import DDP, SyncBuffers
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs.checkpoint_io import CheckpointIO
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import lightning_messages, speed, trainer_options
from fmnist.training.callbacks.non_finite_loss import NonFiniteLoss
from fmnist.training.callbacks.step_seeds import StepSeeds
from fmnist.training.classifier import Classifier
from fmnist.training.lightning_internals import ignore_signals

lightning_messages.silence()

DEFAULT_THREADS = torch.get_num_threads()  # before a job of a sweep sets another number

_STRATEGIES: dict[str, Callable[[], Any]] = {  # replace Lightning's of the same names
    "ddp": DDP,
    "ddp_find_unused_parameters_false": DDP,
    "ddp_find_unused_parameters_true": partial(DDP, find_unused_parameters=True),
}


def check(config: DictConfig, run: RunDirectory, *, here: bool = True) -> None:
    """Builds all objects once and drops them, to validate the configuration before any I/O.

    Args:
        config: The run's configuration.
        run: Its directory.
        here: Whether this machine will train it; False skips what the machine must have for it.

    Raises:
        UserError: A key or a value is wrong.
    """
    speed.prepare()  # must come before torch starts its threads
    settings.check(config)
    spec = data(config).spec
    if config.ensemble > config.data.batch_size:
        raise UserError(f"ensemble={config.ensemble} must not exceed data.batch_size={config.data.batch_size}")
    classifier(config, spec)
    trainer(config if here else trainer_options.on_one_core(config), run)


def configure_process(config: DictConfig) -> None:
    """Sets process-wide options: speed, number of threads, and the seed of the initial weights."""
    speed.prepare()
    # srun binds each process to its own cores; otherwise all processes share those of the machine or the job.
    bound = cores.slurm_cores() and ProcessInfo.from_environment().launcher == "srun"
    processes = 1 if bound else trainer_options.processes_here(config)
    threads = max(1, min(cores.usable_cores(), DEFAULT_THREADS) // processes)
    torch.set_num_threads(config.threads or threads)
    seed_everything(config.seed, verbose=False)


def data(config: DictConfig) -> ImageDataModule:
    augmentations = instantiate_each(config, "augmentation", Augmentation)
    module: ImageDataModule = instantiate(
        config, "data", ImageDataModule, augmentations=augmentations, reshuffle=not config.trainer.overfit_batches
    )
    # Some arguments are possible or not depending on the images: try two.
    context = BatchContext(
        seed=0, epoch=0, number=0, indices=torch.arange(2), set_size=2, num_classes=module.spec.num_classes
    )
    batch = torch.zeros(2, *module.spec.image_shape, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    for name, augmentation in zip(config.augmentation, augmentations, strict=True):
        with report_as_user_error(config, f"augmentation.{name!s}"):
            batch = augmentation(batch, context, torch.Generator())
    return module


def classifier(config: DictConfig, spec: DataSpec | None = None, network: nn.Module | None = None) -> Classifier:
    """The LightningModule with its network.

    Args:
        config: The run's configuration.
        spec: The data set that the network is for; None takes the configured one.
        network: A trained network; None builds a new one.
    """
    spec = spec or data(config).spec
    module = Classifier(
        network=network or build_network.network(config, spec),
        optimizer=instantiate(config, "optimizer", Optimizer),
        scheduler=instantiate(config, "scheduler", LRScheduler),
        data=spec,
        label_smoothing=config.label_smoothing,
        compile_mode=config.compile,
    )
    # Both are factories, whose arguments are checked only when they are called.
    with report_as_user_error(config, "optimizer"):
        optimizer = module.make_optimizer()
    with report_as_user_error(config, "scheduler"):
        endless = config.trainer.max_epochs == -1 and config.trainer.max_steps == -1
        module.scheduler(optimizer, total_steps=float("inf") if endless else 1000)
    return module


def trainer(config: DictConfig, run: RunDirectory, process: ProcessInfo | None = None) -> Trainer:
    """The trainer of a run.

    Args:
        config: The run's configuration.
        run: Its directory.
        process: This process; None reads it from the environment.
    """
    trainer_options.check(config)
    process = process or ProcessInfo.from_environment()
    config = config.copy()
    config.monitor.metric = monitored(config)
    if overfit := config.trainer.overfit_batches:  # Lightning would replace the data module's sampler
        config.trainer.update(overfit_batches=0, limit_train_batches=overfit)
    configured: list[Callback] = instantiate_each(config, "callbacks", Callback)
    if config.trainer.enable_checkpointing is False:
        configured = [callback for callback in configured if not isinstance(callback, ModelCheckpoint)]
    if config.trainer.enable_progress_bar is False or process.rank:
        configured = [callback for callback in configured if not isinstance(callback, ProgressBar)]
    dashboard = Dashboard(panels=instantiate_each(config, "dashboard", Panel), final="test" if config.test else "val")
    built: Trainer = instantiate(
        config,
        "trainer",
        Trainer,
        strategy=_STRATEGIES.get(config.trainer.strategy, lambda: config.trainer.strategy)(),
        # Seeds come last, after whatever other callbacks draw.
        callbacks=[NonFiniteLoss(), *configured, SyncBuffers(), dashboard, StepSeeds(seed=config.seed)],
        # If the user removed ours, Lightning must not add its own checkpoints and its slow progress bar.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in configured),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in configured),
        profiler=config.trainer.profiler or speed.NoProfiler(),
        logger=False if process.rank else instantiate(config, "logger", Logger, save_dir=str(run.path)),
        default_root_dir=str(run.path),
        plugins=[CheckpointIO(), RunEnvironment(process)],
    )
    trainer_options.check_processes(config, built, process)
    ignore_signals(built)
    return built


def evaluator(config: DictConfig, split: str) -> Trainer:
    """A trainer that evaluates a split on one device and writes nothing.

    It evaluates as many batches as training did, or all if training did not evaluate the split.
    """
    config = config.copy()
    config.trainer.limit_test_batches = None if split == "train" else config.trainer[f"limit_{split}_batches"] or None
    config.trainer.fast_dev_run, config.trainer.overfit_batches = False, 0
    config.trainer.strategy, config.trainer.devices, config.trainer.num_nodes = "auto", 1, 1
    built: Trainer = instantiate(
        config,
        "trainer",
        Trainer,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        plugins=[CheckpointIO(), RunEnvironment(ProcessInfo())],
    )
    return built
