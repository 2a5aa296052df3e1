"""manifest.json: the conditions under which a run was made."""

import hashlib
import subprocess
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.runs import manifest, provenance
from fmnist.runs.manifest import Manifest
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT

Composed = Callable[..., DictConfig]
DATA = {"sha256": {"images": "0"}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def read(run: RunDirectory) -> Manifest:
    content = run.read_manifest()
    assert content is not None
    return content


@pytest.mark.real_data
def test_run_records_source_versions_and_data(trained_run: RunDirectory) -> None:
    content = read(trained_run)
    assert {"commit", "dirty", "diff", "python", "platform", "processor", "cores"} < content.keys()
    assert content["command"].endswith(
        f"train.py {' '.join(OmegaConf.load(trained_run.hydra / 'overrides.yaml'))} hydra.run.dir={trained_run.path}"
    )
    text = OmegaConf.to_yaml(trained_run.read_configuration(), resolve=True, sort_keys=True)
    assert content["config_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert content["threads"] == 1
    for package in ("torch", "lightning", "numpy", "hydra-core"):
        assert content["packages"][package] == version(package)
    assert content["gpu"] == [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    stems = {"train": "train", "test": "t10k"}
    digests = {split: files.SHA256[f"{stem}-images-idx3-ubyte"] for split, stem in stems.items()}
    assert content["data"] == {**FashionMNIST.spec.to_dict(), "sha256": digests, "val_size": 5000, "val_seed": 0}
    assert content["parameters"] == 32_998
    start, end = (datetime.fromisoformat(content[name]) for name in ("start", "end"))
    assert 0 < content["training_seconds"] < content["seconds"] <= (end - start).total_seconds() + 1
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
    with pytest.raises(type(error)), manifest.record_session(run, composed("seed=5", "data.val_size=9"), DATA):
        raise error
    content = read(run)
    assert (content["state"], content["error"]) == (state, text)
    assert content["end"] > content["start"]
    assert (content["seed"], content["data"]) == (5, {**DATA, "val_size": 9, "val_seed": 0})


def test_resuming_keeps_the_first_description_and_adds_a_session(run: RunDirectory, composed: Composed) -> None:
    manifest.start_session(run, composed("trainer.max_epochs=3"), DATA)  # and killed
    assert (read(run)["state"], read(run)["end"]) == ("running", None)
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
    found = {"threads": 2, "packages": {"torch": "1.0", "ruff": "1"}}
    for environment in (found, {"threads": 64, "packages": {"torch": "9.9", "ruff": "2"}}):
        monkeypatch.setattr(provenance, "environment", lambda environment=environment: environment)
        manifest.start_session(run, composed(), DATA)
    assert "threads was 2 when the run started and is now 64: metrics may differ" in caplog.messages
    assert read(run)["sessions"][1]["differs"] == {  # not ruff, which computes nothing
        "torch": {"was": "1.0", "is": "9.9"},
        "threads": {"was": "2", "is": "64"},
    }


def test_differences_in_data_and_uncommitted_changes_omit_the_content() -> None:
    then = {"data": {"sha256": {"a": "0"}, "val_seed": 0}, "diff": "+a", "threads": 2, "gpu": []}
    now = {"data": {"sha256": {"a": "1"}, "val_seed": 0}, "diff": "+b", "threads": 2, "gpu": ["A", "B"]}
    assert manifest.differences(then, now) == {
        "uncommitted changes": ("others", "these"),
        "gpu": ("none", "A, B"),
        "data set or split": ("another", "this one"),
    }
    assert manifest.differences(then, then) == {}
    assert manifest.differences({}, {"diff": "+b", "packages": {"torch": "1"}}) == {
        "uncommitted changes": ("none", "+b"),
        "torch": ("absent", "1"),
    }


def test_commit_is_none_without_git_or_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.source()["commit"] is None
    monkeypatch.undo()
    for root in (tmp_path, ROOT / "tests"):  # no checkout, and a directory inside of one
        monkeypatch.setattr(provenance, "ROOT", root)
        assert provenance.source()["commit"] is None


def test_commit_and_uncommitted_changes_are_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*command: str) -> str:
        command = ("git", "-c", "user.name=a", "-c", "user.email=a@b", *command)
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    commit = git("rev-parse", "HEAD")
    assert provenance.source() == {"commit": commit, "dirty": False, "diff": "", "untracked": []}
    (tmp_path / "new.py").touch()
    assert provenance.source() == {"commit": commit, "dirty": True, "diff": "", "untracked": ["new.py"]}
    (tmp_path / "code.py").write_text("a = 2\n")
    assert "-a = 1\n+a = 2" in provenance.source()["diff"]


def test_machines_match_by_source_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    for diff, expected in (("+a", hashlib.sha256(b"+a").hexdigest()[:8]), ("", "none")):
        monkeypatch.setattr(provenance, "source", lambda diff=diff: {"commit": "abc", "diff": diff})
        wanted = {"commit": "abc", "uncommitted changes": expected, "torch": version("torch")}
        assert wanted.items() <= provenance.versions_to_match().items()
