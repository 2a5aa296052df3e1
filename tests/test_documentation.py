"""What the README and the Makefile say is so."""

import importlib
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from PIL import Image

from benchmarks import measure
from fmnist import build
from fmnist.cli import options
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "fmnist").rglob("*.py"))


def commands() -> list[list[str]]:
    """Those of the README and of the pages beside it; what stands for a directory there is one here."""
    text = "".join([README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))])
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    typed = (re.sub(r"<\w+>", "x", line) for line in lines if line and not line.startswith("#"))
    return [shlex.split(line, comments=True) for line in typed]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_the_documents_works(
    command: list[str], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """The targets exist; the overrides compose and build. That they train is shown by the tests of whole runs."""
    if command[0] == ".venv/bin/ray":
        ray = pytest.importorskip("ray.scripts.scripts", reason="needs make setup-extras")
        ray.cli.commands[command[1]].make_context("ray", command[2:])  # is such a command, and takes these options
        return
    if command[0] in ("torchrun", "srun"):
        command = ["python", *command[command.index("train.py") :]]
    if command[1:] == ["-m", "fmnist"]:  # tests/cli/test_main.py runs it
        return
    if command[1:2] == ["-m"] and command[2].startswith("fmnist."):
        options.read(importlib.import_module(command[2]).Options, command[3:])
        return
    if command[0] == "make":
        assert {argument for argument in command[1:] if "=" not in argument} <= TARGETS
        overrides = [o for argument in command if argument.startswith("ARGS=") for o in argument[5:].split()]
        if command[1:2] == ["measure"]:
            given = options.read(measure.Options, overrides)
            overrides = [f"experiment={given.experiments[0]}", *given.overrides]
    else:
        assert command[:2] == ["python", "train.py"]
        overrides = [argument for argument in command[2:] if not argument.startswith("-")]
        if "-m" in command or any(override.startswith("sweep=") for override in overrides):
            overrides = [re.sub(r"(?<==)tag\(.*", "0.01", override).partition(",")[0] for override in overrides]
    config = composed(*overrides)
    config.resume = None  # has a test of its own
    build.check(config, RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_link_between_the_documents_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_file_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"`((?:fmnist|conf|tests)/[\w./]*)`", README))
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_file_tree_of_the_readme_is_true() -> None:
    tree = re.search(r"```text\n(train\.py.*?)```", README, re.DOTALL)
    assert tree
    for line in tree[1].splitlines():
        assert (ROOT / line.split()[0]).exists(), line


def test_the_pictures_of_the_readme_are_there_and_small() -> None:
    pictures = re.findall(r"!\[.+\]\((.+)\)", README)
    assert len(pictures) >= 2
    for picture in pictures:
        path = ROOT / picture
        assert path.stat().st_size < 300_000
        Image.open(path).verify()


def test_make_alone_lists_every_target_with_a_line() -> None:
    help_text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)  +\S", help_text, re.MULTILINE)) == TARGETS
    required = {"setup", "data", "train", "test", "lint", "types", "format", "tensorboard", "clean"}
    assert required <= TARGETS


def test_make_clean_leaves_runs_and_data_alone(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for name in ("runs/train/a/__pycache__", "data/FashionMNIST/raw/__pycache__", "fmnist/__pycache__", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "runs/train/a/__pycache__").exists()
    assert (tmp_path / "data/FashionMNIST/raw/__pycache__").exists()
    assert not (tmp_path / "fmnist/__pycache__").exists()
    assert not (tmp_path / ".venv").exists()


def test_the_lock_file_pins_everything_by_hash_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    requirements = re.findall(r"^[\w.-]+==.*?(?=^[\w.-]+==|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert len(requirements) > 60
    for requirement in requirements:
        assert "--hash=sha256:" in requirement, requirement


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: nothing says which files belong to it")
def test_the_top_level_is_as_designed() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {Path(name).parts[0] for name in listing.splitlines()}
    assert {"train.py", "conf", "fmnist", "tests", "pyproject.toml", "Makefile", "README.md", "LICENSE"} <= top
    assert not top & {"scripts", "src", "utils", "notebooks", "runs", "data"}


@pytest.mark.parametrize("path", MODULES)
def test_modules_are_small(path: str) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 220, f"{path} may hold two concepts"
