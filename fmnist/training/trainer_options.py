"""Rejects Trainer options that this project does not support, and process counts that do not fit."""

import os

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from omegaconf import DictConfig

from fmnist.config.cores import usable_cores
from fmnist.config.errors import UserError
from fmnist.config.instantiate import check_node
from fmnist.config.monitor import monitored
from fmnist.distributed.process_info import ProcessInfo
from fmnist.training import speed

# Lightning's strategies for several processes that Lightning does not start itself.
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


def check(config: DictConfig) -> None:
    """Rejects options that Lightning accepts but a run cannot use.

    Raises:
        UserError: There is such an option.
    """
    check_node(config, "trainer", Trainer)
    node = config.trainer
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if node.accelerator == "gpu" and not has_gpu:
        raise UserError("trainer.accelerator is gpu, but torch sees no GPU here; use trainer=auto or trainer=cpu")
    if node.accelerator == "cpu" or (node.accelerator == "auto" and not has_gpu):
        devices = str(node.devices)
        if devices != "auto" and not (devices.isdecimal() and int(devices) > 0):
            raise UserError(f"trainer.devices must be a number of processes, at least 1, or auto, got {node.devices!r}")
    if "bf16" in str(node.precision) and not (torch.cuda.is_available() or speed.has_bf16()):
        raise UserError(
            f"trainer.precision={node.precision}: this processor has no bf16 instructions and would be slower with it; "
            "trainer=auto uses single precision"
        )
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if node[key] == 0:
            raise UserError(f"trainer.{key} is 0, so nothing would be trained")
    if node.barebones:
        raise UserError(
            "trainer.barebones=true would train without checkpoints, metrics and logs, which a run consists of; to "
            "measure speed, use make bench"
        )
    if monitored(config) is None:
        if "early_stopping" in config.callbacks:
            raise UserError("callbacks=early_stopping needs a validation set, and there is none (data.val_size=0)")
    elif isinstance(node.check_val_every_n_epoch, int) and 0 < (node.max_epochs or 0) < node.check_val_every_n_epoch:
        raise UserError(
            f"trainer.check_val_every_n_epoch={node.check_val_every_n_epoch} is more than trainer.max_epochs="
            f"{node.max_epochs}, so there would be no validation; to train without, use data.val_size=0"
        )


def on_one_core(config: DictConfig) -> DictConfig:
    """The configuration of the same run on one CPU core, which every machine has.

    Raises:
        UserError: A key or value of the trainer is wrong on any machine.
    """
    check_node(config, "trainer", Trainer)
    config = config.copy()
    config.trainer.update(accelerator="cpu", devices=1, num_nodes=1, strategy="auto", precision=None)
    return config


def check_processes(config: DictConfig, trainer: Trainer, process: ProcessInfo) -> None:
    """Rejects numbers of processes that contradict each other or exceed the cores or the samples.

    Args:
        config: The run's configuration.
        trainer: Built from it.
        process: This process.

    Raises:
        UserError: The number of processes is rejected.
    """
    world_size = trainer.num_devices * trainer.num_nodes
    if process.launcher and process.world_size != world_size:
        raise UserError(
            f"{process.launcher} started {process.world_size} processes, but trainer.devices={config.trainer.devices} "
            f"on trainer.num_nodes={trainer.num_nodes} asks for {world_size}; make them equal"
        )
    if world_size == 1:
        return
    if trainer.num_nodes > 1 and not process.launcher:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: to train on several machines, start train.py on each with "
            "torchrun or srun, see docs/distributed.md"
        )
    if config.trainer.strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={config.trainer.strategy}: several processes need ddp; use trainer=ddp")
    on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    if on_cpu and trainer.num_devices > (cores := _cores(process)):
        raise UserError(f"trainer.devices={trainer.num_devices} is more than the {cores} cores that this run may use")
    if on_cpu and config.trainer.sync_batchnorm:
        raise UserError("trainer.sync_batchnorm=true works on GPUs only; see docs/distributed.md")
    for key in ("limit_val_batches", "limit_test_batches"):
        if isinstance(limit := getattr(trainer, key), float) and limit < 1:
            raise UserError(f"trainer.{key}={limit}: with {world_size} processes, give a whole number of batches")
    if config.data.batch_size % world_size:
        raise UserError(
            f"data.batch_size={config.data.batch_size} must be a multiple of {world_size}, the number of processes, "
            "which share each batch"
        )
    if config.ensemble > (images := config.data.batch_size // world_size):
        raise UserError(
            f"ensemble={config.ensemble} must not exceed the {images} images of a batch that each of {world_size} "
            "processes gets; use a larger data.batch_size"
        )
    if 1 <= config.data.val_size < world_size:
        raise UserError(
            f"data.val_size={config.data.val_size} must be 0, or at least 1 for each of {world_size} processes"
        )


def _cores(process: ProcessInfo) -> int:
    """Number of CPU cores that all processes of a run may use on this machine."""
    # A process that a launcher started may be bound to its own share.
    return os.cpu_count() or 1 if process.launcher else usable_cores()


def processes_here(config: DictConfig) -> int:
    """Number of processes of the run that share the cores of this machine."""
    devices = config.trainer.devices
    if config.trainer.accelerator == "gpu" or (config.trainer.accelerator == "auto" and torch.cuda.is_available()):
        return 1  # the GPUs do the work
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else 1
