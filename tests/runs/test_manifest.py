"""manifest.json: the conditions under which a run was made."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.runs import manifest, provenance
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, run_command

Composed = Callable[..., DictConfig]
DATA = {"sha256": {"images": "0"}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def read(run: RunDirectory) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run.manifest.read_text())
    return content


@pytest.mark.real_data
def test_run_records_source_versions_and_data(tmp_path: Path) -> None:
    arguments = ["experiment=smoke", "threads=1", "seed=5", f"hydra.run.dir={tmp_path / 'run'}"]
    assert run_command(ROOT / "train.py", *arguments).code == 0
    content = read(RunDirectory(tmp_path / "run"))

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout.rstrip()

    if (ROOT / ".git").exists():
        assert content["commit"] == git("rev-parse", "HEAD")
        assert content["dirty"] == bool(git("status", "--porcelain"))
        assert content["diff"] == git("diff", "HEAD")
    assert content["command"].endswith("train.py " + " ".join(arguments))
    config = OmegaConf.load(tmp_path / "run/.hydra/config.yaml")
    text = OmegaConf.to_yaml(config, resolve=True, sort_keys=True)
    assert content["config_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert (content["seed"], content["threads"]) == (5, 1)
    for package in ("torch", "lightning", "numpy", "hydra-core"):
        assert content["packages"][package] == version(package)
    assert content["gpu"] == [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    assert content["data"] == {"sha256": files.SHA256, "val_size": 5000, "val_seed": 0}
    start, end = (datetime.fromisoformat(content[name]) for name in ("start", "end"))
    assert 0 < content["seconds"] <= (end - start).total_seconds() + 1
    assert (content["state"], content["error"]) == ("finished", None)


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (UserError("the data is\nnot there"), "failed", "the data is not there"),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(143), "interrupted", "SystemExit: 143"),
    ],
)
def test_manifest_records_how_a_run_ended(
    error: BaseException, state: str, text: str, run: RunDirectory, composed: Composed
) -> None:
    def work() -> None:
        with manifest.record_session(run, composed(), DATA):
            assert (read(run)["state"], read(run)["end"]) == ("running", None)
            raise error

    with pytest.raises(type(error)):
        work()
    content = read(run)
    assert (content["state"], content["error"]) == (state, text)
    assert content["end"] > content["start"]


def test_resuming_keeps_the_first_description_and_adds_a_session(run: RunDirectory, composed: Composed) -> None:
    manifest.start_session(run, composed("trainer.max_epochs=3"), DATA)  # and killed
    first = {name: value for name, value in read(run).items() if name not in ("sessions", "state", "end", "seconds")}
    with pytest.raises(KeyboardInterrupt), manifest.record_session(run, composed("trainer.max_epochs=3"), DATA):
        raise KeyboardInterrupt
    with manifest.record_session(run, composed("trainer.max_epochs=9"), DATA):
        pass
    content = read(run)
    assert {name: content[name] for name in first} == first
    assert [session["state"] for session in content["sessions"]] == ["killed", "interrupted", "finished"]
    assert [session["max_epochs"] for session in content["sessions"]] == [3, 3, 9]
    assert content["state"] == "finished"
    known = [session["seconds"] for session in content["sessions"]]
    assert known[0] is None
    assert content["seconds"] == pytest.approx(known[1] + known[2], abs=0.002)


def test_changed_conditions_are_logged_and_recorded(
    run: RunDirectory, composed: Composed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest.start_session(run, composed(), DATA)
    environment = provenance.environment()
    changed = environment | {"threads": 64, "packages": environment["packages"] | {"torch": "9.9", "ruff": "0"}}
    monkeypatch.setattr(provenance, "environment", lambda: changed)
    manifest.start_session(run, composed(), DATA)
    threads = torch.get_num_threads()
    assert f"threads was {threads} when the run started and is now 64: metrics may differ" in caplog.messages
    differs = read(run)["sessions"][1]["differs"]
    assert differs == {  # not ruff, which computes nothing
        "torch": {"was": version("torch"), "is": "9.9"},
        "threads": {"was": str(threads), "is": "64"},
    }


def test_differences_in_data_and_uncommitted_changes_omit_the_content() -> None:
    then = {"data": {"sha256": {"a": "0"}, "val_seed": 0}, "diff": "+a", "threads": 2, "gpu": []}
    now = {"data": {"sha256": {"a": "1"}, "val_seed": 0}, "diff": "+b", "threads": 2, "gpu": ["A"]}
    assert manifest.differences(then, now) == {
        "uncommitted changes": ("others", "these"),
        "gpu": ("none", "A"),
        "data set or split": ("another", "this one"),
    }
    assert manifest.differences(then, then) == {}


def test_equal_configurations_have_equal_hashes(composed: Composed) -> None:
    hashed = manifest.configuration_hash
    assert hashed(composed("seed=1", "model=cnn")) == hashed(composed("model=cnn", "seed=1"))
    assert hashed(composed("seed=1")) != hashed(composed("seed=2"))


def test_commit_is_none_without_git_or_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.source()["commit"] is None
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)  # no checkout, or inside another one
    assert provenance.source()["commit"] is None


def test_uncommitted_changes_are_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*command: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    clean = provenance.source()
    assert (clean["dirty"], clean["diff"], clean["untracked"]) == (False, "", [])
    (tmp_path / "code.py").write_text("a = 2\n")
    (tmp_path / "new.py").touch()
    changed = provenance.source()
    assert changed["dirty"]
    assert "-a = 1\n+a = 2" in changed["diff"]
    assert changed["untracked"] == ["new.py"]
