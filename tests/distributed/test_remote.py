"""What a sweep on other machines needs and can go wrong, as far as it shows on this one."""

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
from torch import Tensor, distributed
from torch.futures import Future

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.distributed import ddp, process_info, remote
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
    """A configuration as the guard sees it when a sweep starts; the launcher need not be installed."""
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
    """Gives this process's environment back as it was."""
    for name in ("PYTHONPATH", "RAY_DEDUP_LOGS", "RAY_ADDRESS", "SRUN_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("key", ["hydra.job.name", "hydra.sweep.dir", "hydra.launcher.name", "hydra.launcher.comment"])
def test_nothing_becomes_a_line_of_its_own_in_what_slurm_has_a_shell_run(key: str) -> None:
    config = sweep(SLURM)
    remote.check(config)
    OmegaConf.update(config, key, "harmless\ntouch witness", force_add=True)
    with pytest.raises(UserError, match=r"^hydra\.launcher\.(name|submitit_folder|comment) must be one line"):
        remote.check(config)


@pytest.mark.parametrize("key", ["nodes", "tasks_per_node"])
def test_a_job_of_slurms_is_one_process(key: str) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.{key} must be 1, got 2: "):
        remote.check(sweep(SLURM | {key: 2}))


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nowhere.invalid:{}", "127.0.0.1:port"])
def test_a_cluster_of_rays_where_nobody_listens_is_told_at_once(address: str, environment: pytest.MonkeyPatch) -> None:
    address = address.format(free_port())
    init = {"address": address}
    with pytest.raises(UserError, match=r"^no Ray cluster answers at "):
        remote.check(sweep(RAY | {"ray": {"init": init, "remote": {}}}))
    environment.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"^no Ray cluster answers at "):
        remote.check(sweep(RAY))


def test_the_jobs_are_told_where_the_project_is_and_what_paths_are_relative_to(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.chdir(tmp_path)
    directory = started(tmp_path)
    config = sweep(RAY)
    remote.prepare(config, directory)
    ray = config.hydra.launcher.ray
    assert ray.init.address == "auto"  # else Ray starts a cluster of its own where there is none
    assert ray.init.runtime_env.env_vars == {"PYTHONPATH": str(ROOT), "FMNIST_DIRECTORY": str(tmp_path)}
    assert ray.remote.num_cpus == 1
    slurm = sweep(SLURM)
    remote.prepare(slurm, directory)
    assert slurm.hydra.launcher == sweep(SLURM).hydra.launcher
    assert os.environ["PYTHONPATH"].partition(os.pathsep)[0] == str(ROOT)
    assert os.environ["SRUN_CPUS_PER_TASK"] == "3"


def test_what_the_command_line_says_to_ray_has_the_last_word(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.chdir(tmp_path)
    given = {"init": {"address": "10.0.0.1:6379", "runtime_env": {"pip": ["timm"]}}, "remote": {"num_cpus": 4}}
    config = sweep(RAY | {"ray": given})
    remote.prepare(config, started(tmp_path))
    ray = config.hydra.launcher.ray
    assert (ray.init.address, ray.init.runtime_env.pip, ray.remote.num_cpus) == ("10.0.0.1:6379", ["timm"], 4)
    assert "env_vars" in ray.init.runtime_env


class RayTaskError(Exception):
    __module__ = "ray.exceptions"


class FailedJobError(Exception):
    __module__ = "submitit.core.utils"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ConnectionError("Could not find any running Ray instance. Please specify"),
            "no Ray cluster answers: Could not",
        ),
        (
            RayTaskError("a traceback\nModuleNotFoundError: no fmnist\n"),
            "(RayTaskError): ModuleNotFoundError: no fmnist",
        ),
        (
            FailedJobError("sbatch: error: invalid partition"),
            "took no job, or lost one (FailedJobError): sbatch: error",
        ),
        (ConnectionError("of something else"), ""),
        (ValueError("a defect"), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_on_the_way_to_another_machine_is_told_in_one_line(error: Exception, told: str) -> None:
    line = remote.explain(error)
    assert (told in line and "\n" not in line) if line is not None else not told


def test_what_ray_itself_refuses_is_told_in_one_line() -> None:
    """Such as a cluster of another version, or a machine that is none of its nodes: it raises what it likes."""
    code = "raise RuntimeError('Version mismatch: the cluster has:\\n    Ray: 1\\nThis process has:\\n    Ray: 2')"
    with pytest.raises(RuntimeError) as raised:
        exec(code, {"__name__": "ray._private.utils"})
    told = "Ray refuses: Version mismatch: the cluster has: Ray: 1 This process has: Ray: 2; see docs/ray.md"
    assert remote.explain(raised.value) == told
    with pytest.raises(RuntimeError) as raised:
        exec(code, {"__name__": "rayon"})
    assert remote.explain(raised.value) is None


def test_jobs_on_other_machines_may_ask_for_what_this_one_lacks(
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


def test_jobs_on_other_machines_see_their_gpus(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("CUDA_VISIBLE_DEVICES", "")  # as the search for GPUs is spared where there are none
    remote.prepare(sweep(SLURM), started(tmp_path))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("name", ["Python", "commit", "uncommitted changes", "torch"])
@pytest.mark.usefixtures("environment")
def test_a_job_on_a_machine_with_other_versions_is_refused(name: str, tmp_path: Path) -> None:
    directory, job = started(tmp_path), RunDirectory(tmp_path / "seed-1")
    remote.check_versions(job)  # of a sweep that nobody has started elsewhere
    remote.prepare(sweep(SLURM), directory)
    remote.check_versions(job)
    told = directory.sweep / "versions.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {name: "another"}))
    with pytest.raises(UserError, match=rf"has {name} .*, where the sweep's command has another; all its jobs"):
        remote.check_versions(job)
    remote.prepare(sweep({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}), directory)
    remote.check_versions(job)  # it goes on here


@pytest.mark.parametrize(("given", "cores"), [({}, None), ({"SLURM_CPUS_PER_TASK": "6"}, 6)])
def test_slurm_says_how_many_cores_there_are(given: dict[str, str], cores: int | None) -> None:
    assert process_info.cores(given) == cores


@pytest.mark.parametrize("value", ["many", "0", "-1", ""])
def test_rubbish_in_the_place_of_a_number_of_cores_is_told(value: str) -> None:
    with pytest.raises(UserError, match="SLURM_CPUS_PER_TASK is no number of processor cores"):
        process_info.cores({"SLURM_CPUS_PER_TASK": value})


def test_a_job_of_slurms_lives_on_when_it_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended would not be queued again."""
    with signals.interruptible(lambda: None):
        interruptible = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = signal.getsignal(signal.SIGTERM)
    with signals.interruptible(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is before is not interruptible


def test_an_exchange_of_gradients_that_failed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: Future[Any] = Future()
    failed.set_exception(RuntimeError("connection closed by peer"))

    class Work:
        def get_future(self) -> Future[Any]:
            return failed

    class Bucket:
        def buffer(self) -> Tensor:
            return torch.ones(3)

    monkeypatch.setattr(distributed, "all_gather", lambda *_args, **_options: Work())
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        ddp.mean_of_two(None, Bucket()).wait()  # type: ignore[arg-type]
