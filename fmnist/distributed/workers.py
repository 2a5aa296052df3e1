"""The processes that train one run together: rank 0 and its workers.

Rank 0 owns the run: it alone writes files and log lines. It sends the run's directory and configuration to the workers,
which build the same objects and train along (``fmnist.cli.worker``). On one machine rank 0 starts the workers. On
several machines a launcher starts all processes with one command line: torchrun, srun, or anything that sets RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

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
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import parent_environment

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, though not in __all__

TIMEOUT = timedelta(minutes=5)  # for workers to start; importing torch from a network drive may take minutes
_CONNECTION_WORDS = ("gloo", "NCCL", "TCPStore", "peer")  # in the errors after another process ended or hung
_run_sent = False  # whether rank 0, this process, has sent a run to its workers


@contextmanager
def launch_workers(run: RunDirectory, config: DictConfig, trainer: "Trainer") -> Iterator[None]:
    """Connects rank 0, the caller, with the workers of a run, and ends them with the block.

    Args:
        run: The run directory.
        config: Its configuration.
        trainer: Its trainer, which knows the number of processes.

    Raises:
        UserError: A worker does not start, has other versions, or dies.
    """
    with ExitStack() as stack:
        stack.callback(_destroy_process_group)
        if trainer.world_size == 1:
            yield
            return
        environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]  # a RunEnvironment
        me = dataclasses.replace(environment.process, world_size=trainer.world_size)
        try:
            store = _open_store(me)
        except RuntimeError as error:  # includes torch's DistNetworkError
            raise UserError(
                f"rank 0 cannot listen at {me.address}:{me.port}; if another program uses the port, set MASTER_PORT "
                "to another one, for all processes"
            ) from error
        environment.process = me = dataclasses.replace(me, port=store.port)
        children = [] if me.launcher else stack.enter_context(_start_workers(me))
        message = {"run": str(run.path.resolve()), "config": OmegaConf.to_yaml(config)}
        global _run_sent
        _run_sent = True
        store.set(_key("run"), json.dumps(message | provenance.versions_to_match()))
        _wait_for_workers(store, me, children)
        try:
            yield
        except RuntimeError as error:
            if not any(word in str(error) for word in _CONNECTION_WORDS):
                raise
            failure = _describe_failure(store, me, children)
            if failure is None and me.launcher:  # only the launcher knows which process died
                failure = f"another of the {me.world_size} processes has ended"
            if failure is None:
                raise
            raise UserError(f"{failure}; to resume: {run.resume_command}") from error
        with suppress(subprocess.TimeoutExpired):  # everything is written
            for child in children:
                child.wait(TIMEOUT.total_seconds())


@contextmanager
def join_rank_zero(me: ProcessInfo) -> Iterator[tuple[RunDirectory, DictConfig]]:
    """Connects a worker, the caller, with rank 0. Rank 0 reports the errors of the worker.

    Yields:
        The run directory and the configuration of the run.

    Raises:
        UserError: Rank 0 does not answer.
        SystemExit: There is nothing to train, or rank 0 reports why this worker cannot train.
    """
    try:
        store = _open_store(me)
        message = json.loads(store.get(_key("run")))
    except RuntimeError as error:  # includes torch's DistNetworkError
        raise UserError(
            f"rank {me.rank} of {me.world_size}: rank 0 at {me.address}:{me.port} does not answer; has it started, and "
            "can this machine reach it?"
        ) from error
    if message is None:  # nothing to train
        store.set(_key("ready", me.rank), "")
        sys.exit(0)
    problem = None
    for name, version in provenance.versions_to_match().items():
        if version != message.get(name):
            problem = f"has {name} {version}, rank 0 has {message.get(name)}"
    run = RunDirectory(message["run"])
    if not run.hydra.is_dir():
        problem = f"cannot find {run.path}: all machines of a run must share the file system"
    store.set(_key("ready", me.rank), problem or "")
    if problem:
        sys.exit(1)
    try:
        yield run, OmegaConf.create(message["config"])
    except UserError as error:
        store.set(_key("failed", me.rank), str(error))
        sys.exit(1)
    finally:
        _destroy_process_group()


def release_workers(me: ProcessInfo) -> None:
    """Ends the workers that a launcher started for a run that never trains: rejected, or finished before.

    Else they would wait for minutes and then report a failure. Does nothing if the run was sent to the workers.

    Args:
        me: Rank 0, the caller.
    """
    if _run_sent:
        return
    with suppress(RuntimeError):  # no worker can be reached
        store = _open_store(me)
        store.set(_key("run"), json.dumps(None))
        end = time.monotonic() + 30  # workers take seconds to start
        while not store.check([_key("ready", rank) for rank in range(1, me.world_size)]) and time.monotonic() < end:
            time.sleep(0.1)


def _key(*name: object) -> str:
    """Key of the store. Includes the job, since another run or restart may have used the same address."""
    job = ("SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return "/".join(["fmnist", *(os.environ.get(variable, "") for variable in job), *map(str, name)])


def _open_store(me: ProcessInfo) -> "TCPStore":
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # takes seconds to import

    # torchrun's agent runs a server already.
    is_server = me.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    # multi_tenant: torch.distributed then uses the same server at the same port.
    return TCPStore(me.address, me.port, None, is_server, TIMEOUT, wait_for_workers=False, multi_tenant=True)


def _destroy_process_group() -> None:
    from torch import distributed

    # The next job of a sweep needs a new group; and a process with a group left exits with an error.
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _start_workers(me: ProcessInfo) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the workers of a run on this machine; kills them at the end of the block."""
    command = [sys.executable, "-P", "-m", "fmnist.cli.worker"]  # -P: not an fmnist in the working directory
    children = []
    try:
        for rank in range(1, me.world_size):
            worker = dataclasses.replace(me, rank=rank, local_rank=rank).to_environment()
            environ = os.environ | worker | parent_environment() | {"PYTHONPATH": provenance.python_path()}
            # A new session: Ctrl-C reaches only rank 0, which ends the workers.
            children.append(subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, start_new_session=True))
        yield children
    finally:
        for child in children:
            child.kill()  # loses nothing: only rank 0 writes files
        for child in children:
            child.wait()


def _wait_for_workers(store: "TCPStore", me: ProcessInfo, children: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + TIMEOUT.total_seconds()
    for rank in range(1, me.world_size):
        key = _key("ready", rank)
        while not store.check([key]):
            if exited := _describe_exited(children):
                raise UserError(f"{exited} before training started")
            if time.monotonic() > end:
                raise UserError(f"rank {rank} of {me.world_size} did not start within {TIMEOUT.total_seconds():.0f} s")
            time.sleep(0.02)
        if problem := store.get(key).decode():
            raise UserError(f"rank {rank} of {me.world_size} {problem}")


def _describe_exited(children: list[subprocess.Popen[bytes]]) -> str | None:
    """Describes the first worker that exited with an error; None if there is none."""
    for rank, child in enumerate(children, start=1):
        if child.poll():
            return f"rank {rank} of {len(children) + 1} ended with exit code {child.returncode}"
    return None


def _describe_failure(store: "TCPStore", me: ProcessInfo, children: list[subprocess.Popen[bytes]]) -> str | None:
    """Describes the worker that failed, or returns None after two seconds."""
    for _ in range(40):
        for rank in range(1, me.world_size):
            if store.check([key := _key("failed", rank)]):
                return f"rank {rank} of {me.world_size}: {store.get(key).decode()}"
        if exited := _describe_exited(children):
            return exited
        time.sleep(0.05)
    return None
