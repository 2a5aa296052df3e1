"""Sweeps whose jobs run on other machines, through Ray or Slurm. Imported without torch, Ray and submitit."""

import json
import os
import platform
import socket
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.config.errors import UserError
from fmnist.runs import atomic, provenance
from fmnist.runs.run_directory import RunDirectory

_LOCAL = (".BasicLauncher", ".JoblibLauncher")  # their jobs run in this process or in its children
_RAY, _SLURM = ".RayLauncher", ".SlurmLauncher"
_DIRECTORY = "FMNIST_DIRECTORY"  # environment variable: working directory of Ray's jobs
_VERSIONS = "versions.json"  # in .sweep: versions of the machine that started the sweep


def check_launcher(config: DictConfig) -> None:
    """Checks the options of a sweep's launcher, and that the Ray cluster answers.

    Raises:
        UserError: An option is wrong, or the cluster does not answer.
    """
    launcher = _launcher(config)
    if launcher.endswith(_RAY):
        _check_ray_address(config.hydra.launcher.ray.init.get("address") or os.environ.get("RAY_ADDRESS"))
    if launcher.endswith(_SLURM):
        settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        for key, value in settings.items():
            if not str(value).isprintable():  # a line break would add a line to the script that Slurm runs
                raise UserError(f"hydra.launcher.{key} must be one line, got {value!r}")
        for key in ("nodes", "tasks_per_node"):
            if settings.get(key, 1) != 1:
                raise UserError(
                    f"hydra.launcher.{key} must be 1, got {settings[key]}: each job is one process, which starts its "
                    "workers itself with trainer=ddp"
                )


def _check_ray_address(address: object) -> None:
    """Connects to a Ray cluster's address, since Ray itself would keep trying for a quarter of an hour."""
    if not isinstance(address, str) or ":" not in address:  # Ray finds the cluster itself
        return
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}; see docs/distributed.md") from error


def is_remote(config: DictConfig) -> bool:
    """Whether the sweep's jobs run on other machines, which may have devices that this one lacks."""
    return not _launcher(config).endswith(_LOCAL)


def prepare_jobs(config: DictConfig, sweep: RunDirectory) -> None:
    """Configures the launcher so that jobs on other machines find the project and resolve relative paths as here."""
    versions = sweep.sweep / _VERSIONS
    if not is_remote(config):
        versions.unlink(missing_ok=True)  # from an earlier start with a remote launcher
        return
    # fmnist/training/speed.py sets it on a machine without GPU; the others may have one.
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    atomic.write_json(versions, provenance.versions_to_match())
    os.environ["PYTHONPATH"] = path = provenance.python_path()  # Slurm passes the environment on, Ray does not
    if _launcher(config).endswith(_SLURM) and (cores := config.hydra.launcher.get("cpus_per_task")):
        # Else some versions of srun give a process only one of the job's cores.
        os.environ["SRUN_CPUS_PER_TASK"] = str(cores)
    if _launcher(config).endswith(_RAY):
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # show a line of two jobs twice
        runtime_env = {
            "env_vars": {"PYTHONPATH": path, _DIRECTORY: str(Path.cwd())},
            "worker_process_setup_hook": f"{__name__}.enter_directory",
        }
        with read_write(config.hydra), open_dict(config.hydra):
            init, remote = config.hydra.launcher.ray.init, config.hydra.launcher.ray.remote
            init.address = init.get("address") or os.environ.get("RAY_ADDRESS", "auto")  # never start a new cluster
            init.runtime_env = OmegaConf.merge(runtime_env, init.get("runtime_env") or {})
            init.setdefault("object_store_memory", None)  # a running cluster rejects the plugin's default
            remote.setdefault("num_cpus", 1)  # also the job's number of threads


def enter_directory() -> None:
    """Changes the working directory. Ray calls it in each process before the first job."""
    os.chdir(os.environ[_DIRECTORY])


def check_versions(run: RunDirectory) -> None:
    """Checks that a job on another machine has the versions of the machine that started its sweep.

    Raises:
        UserError: A version differs.
    """
    for parent in run.path.resolve().parents:
        if (versions := RunDirectory(parent).sweep / _VERSIONS).is_file():
            expected = json.loads(versions.read_text())
            for name, version in provenance.versions_to_match().items():
                if expected.get(name) != version:
                    raise UserError(
                        f"{platform.node()} has {name} {version}, but the sweep was started with {expected.get(name)}; "
                        "all jobs must have the same"
                    )
            return


def _launcher(config: DictConfig) -> str:
    return str(config.hydra.launcher._target_)
