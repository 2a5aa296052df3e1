"""Sweeps whose jobs run on other machines, as far as one machine can test them."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.distributed import remote
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, free_port

RAY: dict[str, Any] = {
    "_target_": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    "ray": {"init": {"address": None}, "remote": {}},
}
SLURM: dict[str, Any] = {
    "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "name": "${hydra.job.name}",
    "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
    "nodes": 1,
    "tasks_per_node": 1,
    "cpus_per_task": 3,
}
OWN = {"init": {"address": "10.0.0.1:6379", "runtime_env": {"pip": ["timm"]}}, "remote": {"num_cpus": 4}}
LOCAL = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


def sweep(launcher: Mapping[str, object]) -> DictConfig:
    """The configuration of a sweep before it starts. The launcher need not be installed."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["hydra.job.name=train", "hydra.sweep.dir=sweep"], return_hydra_config=True)
    OmegaConf.update(config, "hydra.launcher", dict(launcher), merge=False)
    return config


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunDirectory:
    """The directory of a sweep, in the working directory; restores the environment variables of this process."""
    for name in ("PYTHONPATH", "RAY_DEDUP_LOGS", "RAY_ADDRESS", "SRUN_CPUS_PER_TASK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".sweep").mkdir()
    return RunDirectory(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hydra.job.name", "harmless\ntouch witness", "name must be one line, got 'harmless"),
        ("hydra.sweep.dir", "harmless\ntouch witness", "submitit_folder must be one line, got 'harmless"),
        ("hydra.launcher.nodes", 2, "nodes must be 1, got 2: each job is one process"),
        ("hydra.launcher.tasks_per_node", 2, "tasks_per_node must be 1, got 2: each job is one process"),
    ],
)
def test_option_that_slurm_would_misunderstand_is_rejected(key: str, value: object, message: str) -> None:
    config = sweep(SLURM)
    remote.check_launcher(config)
    OmegaConf.update(config, key, value)
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.{message}"):
        remote.check_launcher(config)


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://nowhere.invalid:{}", "127.0.0.1:port"])
def test_unreachable_ray_cluster_is_reported_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.check_launcher(sweep(RAY))  # Ray finds the cluster itself
    address = address.format(free_port())
    with pytest.raises(UserError, match=rf"^no Ray cluster answers at {address}: .*; see docs/distributed\.md"):
        remote.check_launcher(sweep(RAY | {"ray": {"init": {"address": address}, "remote": {}}}))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"^no Ray cluster answers at "):
        remote.check_launcher(sweep(RAY))


@pytest.mark.parametrize(
    ("given", "address", "cores"),
    [({"init": {"address": None}, "remote": {}}, "auto", 1), (OWN, "10.0.0.1:6379", 4)],
    ids=["default", "own options"],
)
def test_ray_jobs_find_the_project_and_the_working_directory(
    given: dict[str, Any], address: str, cores: int, directory: RunDirectory
) -> None:
    config = sweep(RAY | {"ray": given})
    remote.prepare_jobs(config, directory)
    ray = config.hydra.launcher.ray
    assert (ray.init.address, ray.init.object_store_memory, ray.remote.num_cpus) == (address, None, cores)
    environment = {
        "env_vars": {"PYTHONPATH": str(ROOT), "FMNIST_DIRECTORY": str(directory.path)},
        "worker_process_setup_hook": "fmnist.distributed.remote.enter_directory",
    }
    assert ray.init.runtime_env == environment | given["init"].get("runtime_env", {})


def test_slurm_jobs_inherit_the_environment(directory: RunDirectory) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # as fmnist.training.speed sets it without GPU; other machines may have one
    config = sweep(SLURM)
    remote.prepare_jobs(config, directory)
    assert config.hydra.launcher == sweep(SLURM).hydra.launcher
    assert os.environ["PYTHONPATH"].partition(os.pathsep)[0] == str(ROOT)
    assert os.environ["SRUN_CPUS_PER_TASK"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_remote_jobs_may_use_devices_that_this_machine_lacks(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run, gpus = RunDirectory(tmp_path), ["trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=50"]
    with pytest.raises(UserError, match=r"^trainer\.accelerator is gpu"):
        build.check(composed(*gpus), run)
    build.check(composed(*gpus), run, here=False)
    with pytest.raises(UserError, match=r"^trainer\.precision "):
        build.check(composed(*gpus, "trainer.precision=bf17-mixed"), run, here=False)


def test_job_on_a_machine_with_other_versions_is_rejected(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "versions_to_match", lambda: {"Python": "3.11", "torch": "2.8"})
    job = RunDirectory(directory.path / "seed-1")
    remote.check_versions(job)  # of a local sweep
    remote.prepare_jobs(sweep(SLURM), directory)
    remote.check_versions(job)
    versions = directory.sweep / "versions.json"
    versions.write_text(json.dumps({"Python": "3.11", "torch": "2.9"}))
    with pytest.raises(UserError, match=r" has torch 2\.8, but the sweep was started with 2\.9; all jobs"):
        remote.check_versions(job)
    remote.prepare_jobs(sweep(LOCAL), directory)
    remote.check_versions(job)  # resumed locally
