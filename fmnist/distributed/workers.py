"""The processes that train one run together: how they start, and how they find each other.

Process 0 is the run's: what it writes and says is all that is written and said. The others, its members, are told by it
which run it is and how it is configured, build the same objects, and train along (``fmnist.cli.worker``). On one
machine process 0 starts its members. On several, something else starts all of them with one command line: torchrun, Slurm's
srun, or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

Imported without torch.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.distributed.process_info import Member
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import as_parent

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, though not in __all__

PATIENCE = timedelta(minutes=5)  # for processes to come, which import torch from a network drive at worst
_TALK = ("gloo", "NCCL", "TCPStore", "peer")  # of what errors speak if another process has ended, or does not answer
_told = False  # whether this process 0 has let its members know of a run


@contextmanager
def together(run: RunDirectory, config: DictConfig, trainer: "Trainer") -> Iterator[None]:
    """Has the members of a run beside process 0, which calls this; ends them with the block.

    Args:
        run: Its directory.
        config: Its configuration.
        trainer: What trains it; it knows how many processes there are.

    Raises:
        UserError: A member does not come, has other versions, or dies.
    """
    with ExitStack() as stack:
        stack.callback(_leave)
        if trainer.world_size == 1:
            yield
            return
        cluster = trainer.strategy.cluster_environment  # type: ignore[attr-defined]  # ours, of a strategy for several
        me = dataclasses.replace(cluster.member, size=trainer.world_size)
        try:
            store = _open_store(me)
        except RuntimeError as error:  # torch's DistNetworkError is one
            raise UserError(
                f"process 0 cannot listen at {me.address}:{me.port}; if another program has the port, set MASTER_PORT "
                "to another, for all processes"
            ) from error
        cluster.member = me = dataclasses.replace(me, port=store.port)
        children = [] if me.launcher else stack.enter_context(_children(me))
        told = {"run": str(run.path.resolve()), "config": OmegaConf.to_yaml(config), **provenance.decisive_versions()}
        global _told
        _told = True
        store.set(_key("run"), json.dumps(told))
        _wait_for_members(store, me, children)
        try:
            yield
        except Exception as error:
            if not (isinstance(error, RuntimeError) and any(word in str(error) for word in _TALK)):
                raise
            failed = _failed(store, me, children)
            if failed is None and me.launcher:  # who has died is the launcher's to tell
                failed = f"another of the {me.size} processes has ended"
            if failed is None:
                raise
            raise UserError(f"{failed}; to go on: {run.resume_command}") from error
        with suppress(subprocess.TimeoutExpired):  # what there is to keep is here
            for child in children:
                child.wait(PATIENCE.total_seconds())


@contextmanager
def joined(me: Member) -> Iterator[tuple[RunDirectory, DictConfig]]:
    """Joins process 0, as one of its members, which calls this: gives the run's directory and configuration.

    Whatever mistake of the user's shows here is told by process 0 alone.

    Raises:
        UserError: Process 0 does not answer.
        SystemExit: Process 0 tells why, or has nothing to train.
    """
    try:
        store = _open_store(me)
        message = json.loads(store.get(_key("run")))
    except RuntimeError as error:  # torch's DistNetworkError is one
        raise UserError(
            f"process {me.rank} of {me.size}: process 0 at {me.address}:{me.port} does not answer; has it started, and "
            "can this machine reach it?"
        ) from error
    if message is None:  # there is nothing to train
        store.set(_key("ready", me.rank), "")
        sys.exit(0)
    refusal = None
    for name, version in provenance.decisive_versions().items():
        if version != message.get(name):
            refusal = f"has {name} {version}, where process 0 has {message.get(name)}"
    run = RunDirectory(message["run"])
    if not run.hydra.is_dir():
        refusal = f"does not see {run.path}: machines that train together must share the file system"
    store.set(_key("ready", me.rank), refusal or "")
    if refusal:
        sys.exit(1)
    try:
        yield run, OmegaConf.create(message["config"])
    except UserError as error:
        store.set(_key("failed", me.rank), str(error))
        sys.exit(1)
    finally:
        _leave()


def dismiss(me: Member) -> None:
    """Ends the members that a launcher has started for a run which ends before they are told of it.

    Such as one that is finished, or refused. Else they would wait for minutes, and call that a failure.

    Args:
        me: Process 0, which calls this at its end.
    """
    if _told:
        return
    with suppress(RuntimeError):  # they cannot be told
        store = _open_store(me)
        store.set(_key("run"), json.dumps(None))
        end = time.monotonic() + 30  # to start takes them seconds
        while not store.check([_key("ready", rank) for rank in range(1, me.size)]) and time.monotonic() < end:
            time.sleep(0.1)


def _key(*name: object) -> str:
    """Under which name processes let each other know something; another run, or start, may have had the address."""
    of = ("SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return "/".join(["fmnist", *(os.environ.get(variable, "") for variable in of), *map(str, name)])


def _open_store(me: Member) -> "TCPStore":
    # Takes seconds, and not everybody who imports this module asks.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # torchrun's own process has one already.
    mine = me.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    # In process 0 it goes on to serve what torch.distributed opens at the same port.
    return TCPStore(me.address, me.port, None, mine, PATIENCE, wait_for_workers=False, multi_tenant=True)


def _leave() -> None:
    from torch import distributed

    # The next job of a sweep has processes of its own; and a process ends with an error if a thread of it is left.
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _children(me: Member) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The members of a run on this machine, which end with the block."""
    children = []
    try:
        for rank in range(1, me.size):
            member = dataclasses.replace(me, rank=rank, local_rank=rank)
            environ = os.environ | member.variables() | as_parent() | {"PYTHONPATH": provenance.import_path()}
            command = [sys.executable, "-P", "-m", "fmnist.cli.worker"]  # not another one of the working directory
            # In a session of its own: Ctrl-C is for process 0, which ends the others.
            children.append(subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, start_new_session=True))
        yield children
    finally:
        for child in children:
            child.kill()  # it has nothing to lose: whatever is kept, process 0 keeps
        for child in children:
            child.wait()


def _wait_for_members(store: "TCPStore", me: Member, children: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + PATIENCE.total_seconds()
    for rank in range(1, me.size):
        key = _key("ready", rank)
        while not store.check([key]):
            if dead := _dead(children):
                raise UserError(f"{dead} before training started")
            if time.monotonic() > end:
                raise UserError(f"process {rank} of {me.size} has not come within {PATIENCE.total_seconds():.0f} s")
            time.sleep(0.02)
        if refusal := store.get(key).decode():
            raise UserError(f"process {rank} of {me.size} {refusal}")


def _dead(children: list[subprocess.Popen[bytes]]) -> str | None:
    """Which of the children has died, in words."""
    for rank, child in enumerate(children, start=1):
        if child.poll():
            return f"process {rank} of {len(children) + 1} ended with exit code {child.returncode}"
    return None


def _failed(store: "TCPStore", me: Member, children: list[subprocess.Popen[bytes]]) -> str | None:
    """Which member is why process 0 cannot go on, in words; None if none has told, or died, within two seconds."""
    for _ in range(40):
        for rank in range(1, me.size):
            if store.check([key := _key("failed", rank)]):
                return f"process {rank} of {me.size}: {store.get(key).decode()}"
        if dead := _dead(children):
            return dead
        time.sleep(0.05)
    return None
