"""The jobs of a sweep on other machines: what they have to be told, and what can go wrong on the way there.

Imported before torch is, and without Ray or submitit.
"""

import json
import os
import platform
import socket
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.config.errors import UserError
from fmnist.runs import atomic, provenance
from fmnist.runs.run_directory import RunDirectory

_LOCAL = (".BasicLauncher", ".JoblibLauncher")  # their jobs are children of this process, or this process
_RAY, _SLURM = ".RayLauncher", ".SlurmLauncher"
_DIRECTORY = "FMNIST_DIRECTORY"
_VERSIONS = "versions.json"  # beside what a sweep is made of


def check(config: DictConfig) -> None:
    """Makes sure that the sweep's launcher can start its jobs, and that the cluster is there which it is to use.

    Raises:
        UserError: It cannot, or is not.
    """
    if _target(config).endswith(_RAY):
        _knock(config.hydra.launcher.ray.init.get("address") or os.environ.get("RAY_ADDRESS"))
    if _target(config).endswith(_SLURM):
        settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        for key, value in settings.items():
            if not str(value).isprintable():  # it would be a line of its own in what Slurm has a shell run
                raise UserError(f"hydra.launcher.{key} must be one line, got {value!r}")
        for key in ("nodes", "tasks_per_node"):
            if settings.get(key, 1) != 1:
                raise UserError(
                    f"hydra.launcher.{key} must be 1, got {settings[key]}: each job is one process, which with "
                    "trainer=ddp starts the others"
                )


def _knock(address: object) -> None:
    """Makes sure that somebody listens at a Ray cluster's address: Ray itself tries for a quarter of an hour."""
    if not isinstance(address, str) or ":" not in address:  # it is to find the cluster itself
        return
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}; see docs/ray.md") from error


def elsewhere(config: DictConfig) -> bool:
    """Whether the sweep's jobs run on other machines, which may have what this one lacks."""
    return not _target(config).endswith(_LOCAL)


def prepare(config: DictConfig, sweep: RunDirectory) -> None:
    """Has the jobs find the project, and what relative paths are relative to, wherever they run."""
    versions = sweep.sweep / _VERSIONS
    if not elsewhere(config):
        versions.unlink(missing_ok=True)  # of when it was started elsewhere
        return
    if (
        os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    ):  # this machine has no GPU, see fmnist/training/speed.py; theirs may have
        del os.environ["CUDA_VISIBLE_DEVICES"]
    atomic.write_json(versions, provenance.decisive_versions())
    os.environ["PYTHONPATH"] = path = provenance.import_path()  # Slurm passes the environment on, Ray does not
    if _target(config).endswith(_SLURM) and (cores := config.hydra.launcher.get("cpus_per_task")):
        # Else some versions of srun give a process one of the job's cores.
        os.environ["SRUN_CPUS_PER_TASK"] = str(cores)
    if _target(config).endswith(_RAY):
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # a line that two jobs say is said by two jobs
        given = {
            "env_vars": {"PYTHONPATH": path, _DIRECTORY: str(Path.cwd())},
            "worker_process_setup_hook": f"{__name__}.enter_directory",
        }
        with read_write(config.hydra), open_dict(config.hydra):
            init, remote = config.hydra.launcher.ray.init, config.hydra.launcher.ray.remote
            init.address = init.get("address") or os.environ.get("RAY_ADDRESS", "auto")  # not a cluster of its own
            init.runtime_env = OmegaConf.merge(given, init.get("runtime_env") or {})
            init.setdefault("object_store_memory", None)  # the plugin's own is refused by a cluster that is there
            remote.setdefault("num_cpus", 1)  # and so many threads


def check_versions(run: RunDirectory) -> None:
    """Makes sure that a job of a sweep has the versions of the command that waits for it, if that is elsewhere.

    Raises:
        UserError: It has others.
    """
    for parent in run.path.resolve().parents:
        if (told := RunDirectory(parent).sweep / _VERSIONS).is_file():
            wanted = json.loads(told.read_text())
            for name, version in provenance.decisive_versions().items():
                if wanted.get(name) != version:
                    raise UserError(
                        f"{platform.node()} has {name} {version}, where the sweep's command has {wanted.get(name)}; "
                        "all its jobs must have the same"
                    )
            return


def enter_directory() -> None:
    """Called by Ray in each process before its first job."""
    os.chdir(os.environ[_DIRECTORY])


def explain(error: BaseException) -> str | None:
    """Says in words what went wrong on the way to another machine; None if it is something else."""
    module = type(error).__module__.partition(".")[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, ConnectionError) and "Ray" in lines[0]:
        return f"no Ray cluster answers: {lines[0].partition('. ')[0]}; see docs/ray.md"
    if module == "ray":
        hint = ""
        if type(error).__name__ == "WorkerCrashedError":  # of a process that could not begin, too
            hint = " One reason: a machine that does not see the project's directory; see docs/ray.md"
        return f"Ray lost a job ({type(error).__name__}): {lines[-1]}{hint}"
    if _raised_in(error) == "ray":  # what it says of versions, options, or a machine that is no node, in any exception
        return f"Ray refuses: {' '.join(lines)}; see docs/ray.md"
    if isinstance(error, RuntimeError) and "are you indeed on a slurm cluster" in lines[0]:
        return "no Slurm here: its command srun is not on the path; see docs/slurm.md"
    if module == "submitit":
        return (
            f"Slurm took no job, or lost one ({type(error).__name__}): {lines[-1]}; let others that are still queued "
            "(squeue) end, or cancel them, before the sweep goes on"
        )
    return None


def _raised_in(error: BaseException) -> str:
    """The package whose code has raised an exception."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def _target(config: DictConfig) -> str:
    return str(config.hydra.launcher._target_)
