"""What Lightning's Trainer would take, and a run can make no sense of."""

import os

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from omegaconf import DictConfig

from fmnist.config.errors import UserError
from fmnist.config.instantiate import check_node
from fmnist.config.monitor import monitored
from fmnist.distributed import process_info
from fmnist.distributed.process_info import Member
from fmnist.training import speed

# Those of Lightning's by which several processes train that were not started by Lightning.
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


def check(config: DictConfig) -> None:
    """Refuses what Lightning takes and a run cannot make sense of.

    Raises:
        UserError: There is such a thing.
    """
    check_node(config, "trainer")
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
            f"trainer.precision={node.precision}: this processor has no bf16 instructions, and would be slower "
            "with it; trainer=auto calculates in single precision"
        )
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if node[key] == 0:
            raise UserError(f"trainer.{key} is 0, so that nothing would be trained")
    if node.overfit_batches:
        raise UserError(
            f"trainer.overfit_batches={node.overfit_batches} would take the order of the samples out of the data "
            "module's hands; use trainer.limit_train_batches"
        )
    if monitored(config) is None:
        if "early_stopping" in config.callbacks:
            raise UserError("callbacks=early_stopping needs a validation set, and there is none (data.val_size=0)")
    elif isinstance(node.check_val_every_n_epoch, int) and 0 < (node.max_epochs or 0) < node.check_val_every_n_epoch:
        raise UserError(
            f"trainer.check_val_every_n_epoch={node.check_val_every_n_epoch} is more than trainer.max_epochs="
            f"{node.max_epochs}, so that there would be no validation; data.val_size=0 asks for that"
        )


def anywhere(config: DictConfig) -> DictConfig:
    """The same run on one processor core, which each machine has.

    Raises:
        UserError: A key or a value of the trainer is wrong wherever it is.
    """
    check_node(config, "trainer")
    config = config.copy()
    config.trainer.update(accelerator="cpu", devices=1, num_nodes=1, strategy="auto", precision=None)
    return config


def check_processes(config: DictConfig, built: Trainer, member: Member) -> None:
    """Refuses processes that do not go together, or more than there is work or place for.

    Args:
        config: The configuration.
        built: The trainer that was made of it.
        member: Which of the processes this is, and what has started it.

    Raises:
        UserError: It is refused.
    """
    size = built.num_devices * built.num_nodes
    if member.launcher and member.size != size:
        raise UserError(
            f"{member.launcher} has started {member.size} processes, and trainer.devices={config.trainer.devices} on "
            f"trainer.num_nodes={built.num_nodes} is {size}; both must be the same"
        )
    if size == 1:
        return
    if built.num_nodes > 1 and not member.launcher:
        raise UserError(
            f"trainer.num_nodes={built.num_nodes}: to train on several machines, start train.py on each by torchrun or "
            "srun, see docs/distributed.md"
        )
    if config.trainer.strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={config.trainer.strategy}: several processes train by ddp; use trainer=ddp")
    on_processors = isinstance(built.accelerator, CPUAccelerator)
    if on_processors and built.num_devices > (cores := _cores(member)):
        raise UserError(f"trainer.devices={built.num_devices} is more than the {cores} cores that this run may use")
    if on_processors and config.trainer.sync_batchnorm:
        raise UserError("trainer.sync_batchnorm=true: torch can do that on GPUs alone; see docs/distributed.md")
    for key in ("limit_val_batches", "limit_test_batches"):
        if isinstance(limit := getattr(built, key), float) and limit < 1:
            raise UserError(f"trainer.{key}={limit}: to {size} processes give the number of batches that one would see")
    if config.data.batch_size % size:
        raise UserError(
            f"data.batch_size={config.data.batch_size} must be a multiple of {size}, the number of processes, which "
            "share each batch"
        )
    if config.ensemble > (images := config.data.batch_size // size):
        raise UserError(
            f"ensemble={config.ensemble}: each network has its part of every batch, of which each of {size} processes "
            f"has {images} images; use a larger data.batch_size"
        )
    if 0 < config.data.val_size < size:
        raise UserError(f"data.val_size={config.data.val_size} must be 0, or at least 1 for each of {size} processes")


def _cores(member: Member) -> int:
    """How many processor cores all processes of a run may use together on this machine."""
    machine = os.cpu_count() or 1
    if member.launcher:
        return machine  # this process may have its own share alone
    # Of taskset, or a container; macOS has no such call.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    return min(allowed, process_info.cores() or machine)


def processes_here(config: DictConfig) -> int:
    """How many processes of the run share the cores of this machine."""
    devices = config.trainer.devices
    if config.trainer.accelerator == "gpu" or (config.trainer.accelerator == "auto" and torch.cuda.is_available()):
        return 1  # the GPUs do the work
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else 1
