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
from tests.helpers import ROOT, TINY, TrainHere

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[list[str]]:
    """Those of the README and of the pages beside it; what stands for a directory there is one here."""
    text = "".join(page.read_text() for page in PAGES)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    typed = dict.fromkeys(re.sub(r"<\w+>", "x", line) for line in lines if line and not line.startswith("#"))
    return [shlex.split(line, comments=True) for line in typed]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_the_documents_works(
    command: list[str], composed: Callable[..., DictConfig], own_data: Path, tmp_path: Path
) -> None:
    """The targets exist; the overrides compose and build. That they train is shown by the tests of whole runs."""
    program, *arguments = command
    if program == ".venv/bin/ray":
        ray = pytest.importorskip("ray.scripts.scripts", reason="needs make setup-extras")
        ray.cli.commands[arguments[0]].make_context("ray", arguments[1:])  # is such a command, and takes these options
        return
    if program == "python" and arguments[0] == "-m":
        if arguments[1:] != ["fmnist"]:  # tests/cli/test_main.py runs it
            options.read(importlib.import_module(arguments[1]).Options, arguments[2:])
        return
    if program == "make":
        assert {argument for argument in arguments if "=" not in argument} <= TARGETS
        overrides = [word for argument in arguments if argument.startswith("ARGS=") for word in argument[5:].split()]
        if arguments[0] in ("measure", "record"):
            given = options.read(measure.Options, ["experiments=record_93", *overrides])
            overrides = [f"experiment={given.experiments[0]}", *given.overrides]
    else:
        assert program in ("python", "torchrun", "srun")
        overrides = [word for word in command[command.index("train.py") + 1 :] if not word.startswith("-")]
        if "-m" in command or any(override.startswith("sweep=") for override in overrides):
            overrides = [re.sub(r"(?<==)tag\(.*", "0.01", override).partition(",")[0] for override in overrides]
    if overrides:
        overrides = [re.sub(r"^data\.data_dir=.*", f"data.data_dir={own_data}", override) for override in overrides]
        config = composed(*overrides)
        config.resume = None  # tests/runs/test_resume.py tests it
        build.check(config, RunDirectory(tmp_path))


def test_data_set_and_network_of_the_documentation_train(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits, network = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)
    assert len(digits.splitlines()) <= 30
    (tmp_path / "my_digits.py").write_text(digits)
    (tmp_path / "my_networks.py").write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    data = "data._target_=my_digits.Digits", "data.val_size=0.1", "data.batch_size=20"
    model = "model=own", "model._target_=my_networks.Mine", "+model.width=16", "trust=[my_digits,my_networks]"
    outcome = train_here(*TINY, *data, *model, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert "data: 1293 training and 144 validation images from digits" in outcome.out


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_between_the_documents_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_file_that_the_readme_names_is_there() -> None:
    tree = re.search(r"```text\n(train\.py.*?)```", README, re.DOTALL)
    assert tree
    named = set(re.findall(r"`((?:fmnist|conf|tests)/[\w./]*)`", README))
    assert len(named) > 10
    listed = {line.split()[0] for line in tree[1].splitlines()}
    assert [name for name in named | listed if not (ROOT / name).exists()] == []


def test_pictures_of_the_readme_are_small() -> None:
    pictures = [ROOT / picture for picture in re.findall(r"!\[.+\]\((.+)\)", README)]
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.stat().st_size < 300_000
        Image.open(picture).verify()


def test_make_alone_lists_every_target_with_a_line() -> None:
    help_text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)  +\S", help_text, re.MULTILINE)) == TARGETS
    required = {"setup", "data", "train", "test", "lint", "types", "format", "tensorboard", "clean"}
    assert required <= TARGETS


def test_make_clean_leaves_runs_and_data_alone(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    kept, removed = ("runs/a/__pycache__", "data/FashionMNIST/raw/__pycache__"), ("fmnist/__pycache__", ".venv/bin")
    for name in (*kept, *removed):
        (tmp_path / name).mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in (*kept, *removed) if (tmp_path / name).exists()] == [*kept]


def test_lock_file_pins_everything_by_hash_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    requirements = re.findall(r"^[\w.-]+==.*?(?=^[\w.-]+==|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert len(requirements) > 60
    assert [requirement for requirement in requirements if "--hash=sha256:" not in requirement] == []
