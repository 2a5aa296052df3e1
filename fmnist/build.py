"""From configuration to the objects of a run."""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from omegaconf import DictConfig

from fmnist.config import settings
from fmnist.config.errors import UserError
from fmnist.config.instantiate import blaming, instantiate, instantiate_each
from fmnist.config.monitor import monitored
from fmnist.dashboard.callback import Dashboard
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.distributed import process_info
from fmnist.distributed.cluster_environment import Cluster
from fmnist.distributed.ddp import Ddp, leave_signals_alone
from fmnist.distributed.process_info import Member
from fmnist.networks.ensemble import Ensemble
from fmnist.runs.checkpoint_io import CheckpointIO
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import scheduler, speed, trainer_options
from fmnist.training.classifier import Classifier

# Lightning's advice that does not apply here.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # tips, which devices it sees, and which process it is in
warnings.filterwarnings("ignore", message=".*does not have many workers")  # the images are in memory
warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 with torch 2.14, theirs to mend
warnings.filterwarnings("ignore", message=".*Total length of `list`")  # data.val_size=0 means no validation
warnings.filterwarnings("ignore", message=".*exists and is not empty")  # a run that goes on finds its own checkpoints
warnings.filterwarnings("ignore", message=".*smaller than the logging interval")  # true of every short try
warnings.filterwarnings("ignore", message=".*sync_dist=True")  # an epoch's figures are of all processes, see metrics.py
warnings.filterwarnings("ignore", message=".*srun. command is available")  # and not needed, see processes.py

TORCHS_THREADS = torch.get_num_threads()  # before a job of a sweep has set another number

_STRATEGIES: dict[str, Callable[[], Any]] = {  # in the place of Lightning's of the same names
    "ddp": Ddp,
    "ddp_find_unused_parameters_false": Ddp,
    "ddp_find_unused_parameters_true": partial(Ddp, find_unused_parameters=True),
}


def check(config: DictConfig, run: RunDirectory, *, here: bool = True) -> None:
    """Builds everything and throws it away, so that a wrong value is told before anything is read or written.

    Args:
        config: The run's configuration.
        run: Its directory.
        here: Whether this machine is to train it. Else what a machine must have for that is not asked for.

    Raises:
        UserError: A key or a value is wrong.
    """
    speed.prepare()  # here, too: it must come before torch starts its threads
    settings.check(config)
    data(config)
    if config.ensemble > config.data.batch_size:
        raise UserError(
            f"ensemble={config.ensemble}: each network has its part of every batch, and data.batch_size is "
            f"{config.data.batch_size}"
        )
    classifier(config)
    trainer(config if here else trainer_options.anywhere(config), run)


def check_longer(config: DictConfig, max_epochs: int) -> None:
    """Makes sure that the learning rates so far would have been the same, had more epochs been planned at the start.

    Args:
        config: With more epochs.
        max_epochs: What was planned.

    Raises:
        UserError: They would have been others.
    """
    module = classifier(config)
    before, after = (epochs * 10 for epochs in (max_epochs, config.trainer.max_epochs))  # ten steps tell
    planned, wanted = (
        scheduler.rates(module.scheduler, module.make_optimizer(), total_steps=steps) for steps in (before, after)
    )
    if planned != wanted[:before]:
        raise UserError(
            f"the learning rates of scheduler {config.scheduler._target_} were planned for an end after {max_epochs} "
            f"epochs, and would have been others with trainer.max_epochs={config.trainer.max_epochs}; start a new run"
        )


def prepare(config: DictConfig) -> None:
    """Sets what belongs to the whole process: speed, the number of threads, the seed of the initial weights."""
    speed.prepare()
    given = process_info.cores()
    # srun gives each process its own cores; else those of the machine, or of the job, are for all of them.
    sharing = 1 if given and process_info.this().launcher == "srun" else trainer_options.processes_here(config)
    torch.set_num_threads(config.threads or max(1, min(given or TORCHS_THREADS, TORCHS_THREADS) // sharing))
    seed_everything(config.seed, verbose=False)


def data(config: DictConfig) -> FashionMNIST:
    module: FashionMNIST = instantiate(config, "data", augmentations=instantiate_each(config, "augmentation"))
    return module


def classifier(config: DictConfig) -> Classifier:
    num_classes = len(CLASS_NAMES)
    networks = [instantiate(config, "model") for _ in range(config.ensemble)]
    module = Classifier(
        network=networks[0] if len(networks) == 1 else Ensemble(networks),
        optimizer=instantiate(config, "optimizer"),
        scheduler=instantiate(config, "scheduler"),
        num_classes=num_classes,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
        compile_mode=config.compile,
    )
    # To call each of them once is the way to learn whether they fit.
    with blaming(config, "optimizer"):
        optimizer = module.make_optimizer()
    with blaming(config, "scheduler"):
        endless = config.trainer.max_epochs == -1 and config.trainer.max_steps == -1
        module.scheduler(optimizer, total_steps=float("inf") if endless else 1000)
    try:
        with torch.inference_mode():
            shape = tuple(module.network.eval()(module.example_input_array).shape)
    except RuntimeError as error:
        raise UserError(f"model: takes no images [1, 1, 28, 28]: {' '.join(str(error).split())}") from error
    module.network.train()
    if shape != (1, num_classes):
        raise UserError(f"model: must make logits [1, {num_classes}] of images [1, 1, 28, 28], made {list(shape)}")
    return module


def trainer(config: DictConfig, run: RunDirectory, member: Member | None = None) -> Trainer:
    """The trainer of a run.

    Args:
        config: The run's configuration.
        run: Its directory.
        member: Which of its processes this is; None for process 0, or for what the launcher says.
    """
    trainer_options.check(config)
    member = member or process_info.this()
    config = config.copy()
    config.monitor.metric = monitored(config)
    callbacks: list[Callback] = instantiate_each(config, "callbacks")
    if config.trainer.enable_checkpointing is False:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
    if config.trainer.enable_progress_bar is False or member.rank:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    panels = instantiate_each(config, "dashboard")
    callbacks.append(Dashboard(panels=panels, final="test" if config.test else "val"))
    result: Trainer = instantiate(
        config,
        "trainer",
        strategy=_STRATEGIES.get(config.trainer.strategy, lambda: config.trainer.strategy)(),
        callbacks=callbacks,
        # Without callbacks of its own, Lightning would write checkpoints where it likes, and draw its own, slow bar.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        profiler=config.trainer.profiler or speed.NoProfiler(),
        logger=False if member.rank else instantiate(config, "logger", save_dir=str(run.path)),
        default_root_dir=str(run.path),
        plugins=[CheckpointIO(), Cluster(member)],
    )
    trainer_options.check_processes(config, result, member)
    leave_signals_alone(result)
    return result


def evaluator(config: DictConfig, split: str) -> Trainer:
    """A trainer that evaluates on a split as training did, on as much of it, and leaves no trace.

    On all of it where training did not evaluate on it at all.
    """
    config = config.copy()
    config.trainer.limit_test_batches = None if split == "train" else config.trainer[f"limit_{split}_batches"] or None
    config.trainer.fast_dev_run = False
    config.trainer.strategy, config.trainer.devices, config.trainer.num_nodes = "auto", 1, 1
    result: Trainer = instantiate(
        config,
        "trainer",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        profiler=speed.NoProfiler(),
        plugins=[CheckpointIO(), Cluster(Member())],
    )
    return result
