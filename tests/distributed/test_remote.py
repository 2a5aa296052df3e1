"""Sweeps whose jobs run on other machines, as far as one machine can test them."""

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.distributed import process_info, remote
from fmnist.runs import signals
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed
from tests.conftest import ROOT, free_port

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


def sweep(launcher: Mapping[str, object], *overrides: str) -> DictConfig:
    """The configuration of a sweep before it starts. The launcher need not be installed."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(
            "train", [*overrides, "hydra.job.name=train", "hydra.sweep.dir=sweep"], return_hydra_config=True
        )
    OmegaConf.update(config, "hydra.launcher", dict(launcher), merge=False)
    return config


def started(path: Path) -> RunDirectory:
    directory = RunDirectory(path)
    directory.sweep.mkdir()
    return directory


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Restores the environment variables of this process."""
    for name in ("PYTHONPATH", "RAY_DEDUP_LOGS", "RAY_ADDRESS", "SRUN_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("key", ["hydra.job.name", "hydra.sweep.dir", "hydra.launcher.name", "hydra.launcher.comment"])
def test_line_break_in_slurm_options_is_rejected(key: str) -> None:
    config = sweep(SLURM)
    remote.check_launcher(config)
    OmegaConf.update(config, key, "harmless\ntouch witness", force_add=True)
    with pytest.raises(UserError, match=r"^hydra\.launcher\.(name|submitit_folder|comment) must be one line"):
        remote.check_launcher(config)


@pytest.mark.parametrize("key", ["nodes", "tasks_per_node"])
def test_slurm_job_is_one_process(key: str) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.{key} must be 1, got 2: "):
        remote.check_launcher(sweep(SLURM | {key: 2}))


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nowhere.invalid:{}", "127.0.0.1:port"])
def test_unreachable_ray_cluster_is_reported_at_once(address: str, environment: pytest.MonkeyPatch) -> None:
    address = address.format(free_port())
    init = {"address": address}
    with pytest.raises(UserError, match=r"^no Ray cluster answers at "):
        remote.check_launcher(sweep(RAY | {"ray": {"init": init, "remote": {}}}))
    environment.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"^no Ray cluster answers at "):
        remote.check_launcher(sweep(RAY))


def test_jobs_find_the_project_and_the_working_directory(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.chdir(tmp_path)
    directory = started(tmp_path)
    config = sweep(RAY)
    remote.prepare_jobs(config, directory)
    ray = config.hydra.launcher.ray
    assert ray.init.address == "auto"  # else Ray would start a new cluster
    assert ray.init.runtime_env.env_vars == {"PYTHONPATH": str(ROOT), "FMNIST_DIRECTORY": str(tmp_path)}
    assert ray.remote.num_cpus == 1
    slurm = sweep(SLURM)
    remote.prepare_jobs(slurm, directory)
    assert slurm.hydra.launcher == sweep(SLURM).hydra.launcher
    assert os.environ["PYTHONPATH"].partition(os.pathsep)[0] == str(ROOT)
    assert os.environ["SRUN_CPUS_PER_TASK"] == "3"


def test_command_line_overrides_ray_options(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.chdir(tmp_path)
    given = {"init": {"address": "10.0.0.1:6379", "runtime_env": {"pip": ["timm"]}}, "remote": {"num_cpus": 4}}
    config = sweep(RAY | {"ray": given})
    remote.prepare_jobs(config, started(tmp_path))
    ray = config.hydra.launcher.ray
    assert (ray.init.address, ray.init.runtime_env.pip, ray.remote.num_cpus) == ("10.0.0.1:6379", ["timm"], 4)
    assert "env_vars" in ray.init.runtime_env


def test_remote_jobs_may_use_devices_that_this_machine_lacks(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(speed, "has_bf16", lambda: False)
    run = RunDirectory(tmp_path)
    for overrides in (["trainer=gpu"], ["trainer=bf16"], ["trainer=ddp", "trainer.devices=50", "trainer.num_nodes=2"]):
        with pytest.raises(UserError, match=r"^trainer\."):
            build.check(composed(*overrides), run)
        build.check(composed(*overrides), run, here=False)
    for wrong in ("trainer.precision=bf17-mixed", "trainer.max_epochs=0", "optimizer.lr=x"):
        with pytest.raises(UserError, match=rf"^{re.escape(wrong.partition('=')[0])} "):
            build.check(composed("trainer=gpu", wrong), run, here=False)


def test_remote_jobs_see_their_gpus(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("CUDA_VISIBLE_DEVICES", "")  # as fmnist.training.speed sets it without GPU
    remote.prepare_jobs(sweep(SLURM), started(tmp_path))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("name", ["Python", "commit", "uncommitted changes", "torch"])
@pytest.mark.usefixtures("environment")
def test_job_on_a_machine_with_other_versions_is_rejected(name: str, tmp_path: Path) -> None:
    directory, job = started(tmp_path), RunDirectory(tmp_path / "seed-1")
    remote.check_versions(job)  # of a local sweep
    remote.prepare_jobs(sweep(SLURM), directory)
    remote.check_versions(job)
    versions = directory.sweep / "versions.json"
    versions.write_text(json.dumps(json.loads(versions.read_text()) | {name: "another"}))
    with pytest.raises(UserError, match=rf"has {name} .*, but the sweep was started with another; all jobs"):
        remote.check_versions(job)
    remote.prepare_jobs(sweep({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}), directory)
    remote.check_versions(job)  # resumed locally


@pytest.mark.parametrize(("given", "cores"), [({}, None), ({"SLURM_CPUS_PER_TASK": "6"}, 6)])
def test_number_of_cores_comes_from_slurm(given: dict[str, str], cores: int | None) -> None:
    assert process_info.slurm_cores(given) == cores


@pytest.mark.parametrize("value", ["many", "0", "-1", ""])
def test_invalid_number_of_cores_is_rejected(value: str) -> None:
    with pytest.raises(UserError, match="SLURM_CPUS_PER_TASK is not a number of processor cores"):
        process_info.slurm_cores({"SLURM_CPUS_PER_TASK": value})


def test_slurm_job_ignores_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm would not requeue a job that ends."""
    with signals.interruptible(lambda: None):
        interruptible = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = signal.getsignal(signal.SIGTERM)
    with signals.interruptible(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is before is not interruptible
