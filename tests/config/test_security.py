"""Whatever comes from somebody else is refused before it can run anything: configurations, checkpoints, data.

What is hostile here leaves a witness, a file, when it is really run; that it does so is part of the tests.
"""

import ast
import gzip
import json
import os
import pickle
import pydoc
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import fmnist
from fmnist import build, demo, evaluate, export, predict
from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.config.instantiate import GROUPS
from fmnist.data import files
from fmnist.runs.checkpoint_io import CheckpointIO
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, Hostile, Outcome, free_port, one_line, outcome_of

Composed = Callable[..., DictConfig]
TrainHere = Callable[..., Outcome]


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.fixture
def foreign_package(tmp_path: Path, witness: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that Python finds, with a network; to import it runs its code."""
    code = (
        f"import torch\nopen({str(witness)!r}, 'w').close()\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.out = torch.nn.Linear(784, 10)\n"
        "    def forward(self, images):\n        return self.out(images.flatten(1).float())\n"
    )
    (tmp_path / "foreign_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield "foreign_package"
    sys.modules.pop("foreign_package", None)


def hostile_node(target: str, directory: Path) -> dict[str, Any]:
    """A node that runs a target so that it leaves the witness behind."""
    witness = str(directory / "witness")
    if target == "torch.load":
        torch.save(Hostile(Path(witness)), directory / "hostile.pt")
    if target == "torch.hub.load":
        (directory / "hubconf.py").write_text(f"def model():\n    open({witness!r}, 'w').close()\n")
    options: dict[str, dict[str, Any]] = {
        "torch.load": {"f": str(directory / "hostile.pt"), "weights_only": False},
        "torch.hub.load": {"repo_or_dir": str(directory), "model": "model", "source": "local"},
        "torch.utils.collect_env.run": {"command": f"touch {witness}"},
        "torch.hub.os.mkdir": {"path": witness},
        "torch.hub.zipfile.ZipFile": {"file": witness, "mode": "w"},
        "torch.utils.tensorboard.SummaryWriter": {"log_dir": witness},
        "os.system": {"command": f"touch {witness}"},
        "builtins.eval": {"_args_": [f"open({witness!r}, 'w').close()"]},
        "subprocess.Popen": {"args": ["touch", witness]},
        "logging.FileHandler": {"filename": witness},
        "foreign_package.Net": {},
    }
    return {"_target_": target, **options[target]}


TARGETS = {
    "torch.load": "is a function",
    "torch.hub.load": "is a function",
    "torch.utils.collect_env.run": "is a function",
    "torch.hub.os.mkdir": "is a builtin_function_or_method",
    "torch.hub.zipfile.ZipFile": "must be a",  # a class, found in torch, and not torch's
    "torch.utils.tensorboard.SummaryWriter": "must be a",
    "os.system": "whose package is not trusted",
    "builtins.eval": "whose package is not trusted",
    "subprocess.Popen": "whose package is not trusted",
    "logging.FileHandler": "whose package is not trusted",
    "foreign_package.Net": "add trust=[foreign_package] to the command line",
}
all_targets = pytest.mark.parametrize(("target", "message"), TARGETS.items(), ids=TARGETS)


def typed(value: object) -> str:
    """A value in the grammar of Hydra's command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(typed, value)) + "]"
    return json.dumps(value)


def rewrite(run: RunDirectory, changes: dict[str, Any]) -> None:
    """Changes what a run directory says of its own configuration."""
    path = run.hydra / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def write_experiment(directory: Path, content: dict[str, Any]) -> list[str]:
    """Writes a file for the group ``experiment`` and returns the overrides that choose it."""
    (directory / "theirs/experiment").mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump(content)
    (directory / "theirs/experiment/foreign.yaml").write_text(text)
    return [f"--config-dir={directory / 'theirs'}", "experiment=foreign"]


VERBS: dict[str, Callable[[Any], object]] = {
    "evaluate": evaluate.evaluate,
    "predict": predict.main,
    "export": export.export,
    "demo": demo.demo,
}


def call_verb(verb: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *given: str) -> Outcome:
    """``python -m fmnist.<verb> <options>``, in this process."""
    if verb == "demo":
        pytest.importorskip("gradio")
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "no_proxy"):  # which the demo sets
            monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "argv", [verb, *given])
    return outcome_of(lambda: options.run(VERBS[verb], sys.modules[f"fmnist.{verb}"].Options), capfd)


def options_of(verb: str, directory: Path) -> list[str]:
    """What a verb must be told beside the run."""
    picture = directory / "picture.png"
    Image.linear_gradient("L").save(picture)
    return {
        "evaluate": [],
        "predict": [f"images={picture}"],
        "export": ["format=torch"],
        "demo": [f"port={free_port()}"],
    }[verb]


def refusal(run: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        fmnist.load(run, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# What a configuration may build


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("foreign_package")
def test_what_the_other_tests_call_hostile_is_hostile(target: str, tmp_path: Path, witness: Path) -> None:
    node = hostile_node(target, tmp_path)
    del node["_target_"]
    result = pydoc.locate(target)(*node.pop("_args_", ()), **node)  # type: ignore[operator]
    if isinstance(result, subprocess.Popen):
        result.wait()
    for open_file in [result] if hasattr(result, "close") else []:
        open_file.close()
    assert witness.exists()


@all_targets
@pytest.mark.usefixtures("foreign_package")
def test_a_hostile_target_on_the_command_line_is_refused(
    target: str, message: str, train_here: TrainHere, tmp_path: Path, witness: Path
) -> None:
    line = one_line(train_here(f"+callbacks.theirs={typed(hostile_node(target, tmp_path))}"))
    assert line.startswith("error: callbacks.theirs._target_ ")
    assert message in line
    assert target in line
    assert not witness.exists()
    assert not (tmp_path / "runs").exists()


@all_targets
@pytest.mark.usefixtures("foreign_package")
def test_a_hostile_target_in_an_experiment_is_refused(
    target: str, message: str, train_here: TrainHere, tmp_path: Path, witness: Path
) -> None:
    experiment = write_experiment(tmp_path, {"callbacks": {"theirs": hostile_node(target, tmp_path)}})
    assert message in one_line(train_here(*experiment))
    assert message in one_line(train_here(*experiment, "-m", "seed=1,2"))
    assert not witness.exists()


@all_targets
@pytest.mark.usefixtures("foreign_package")
def test_a_hostile_target_in_a_run_directory_is_refused(
    target: str,
    message: str,
    untrained_run: RunDirectory,
    tmp_path: Path,
    witness: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rewrite(untrained_run, {"model": hostile_node(target, tmp_path)})
    assert message in refusal(untrained_run.path)
    assert message in refusal(untrained_run.path, checkpoint="last")
    assert message in one_line(call_verb("evaluate", capfd, monkeypatch, f"run={untrained_run.path}"))
    assert not witness.exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.usefixtures("foreign_package")
def test_every_verb_refuses_a_hostile_run_and_one_that_names_a_package_it_was_not_told_to_trust(
    verb: str,
    untrained_run: RunDirectory,
    tmp_path: Path,
    witness: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = options_of(verb, tmp_path)
    for target in ("torch.utils.collect_env.run", "foreign_package.Net"):
        rewrite(untrained_run, {"model": hostile_node(target, tmp_path)})
        line = one_line(call_verb(verb, capfd, monkeypatch, f"run={untrained_run.path}", *options))
        assert TARGETS[target] in line
    assert not witness.exists()
    trusting = f"run={untrained_run.path}", *options, "trust=foreign_package"
    assert "is of another network" in one_line(call_verb(verb, capfd, monkeypatch, *trusting))  # the weights are CNN's
    assert witness.exists()


@pytest.mark.parametrize("group", GROUPS)
def test_a_class_of_another_kind_is_refused_in_every_group(group: str, composed: Composed, tmp_path: Path) -> None:
    config = composed()
    OmegaConf.set_struct(config, False)
    key = f"{group}.theirs" if group in ("callbacks", "dashboard", "augmentation") else group
    # One of the same packages, that could be built, and that can be called as an augmentation can.
    wrong: dict[str, Any] = {"_target_": "torchmetrics.MeanMetric" if group != "model" else "torch.Generator"}
    partial = {"_partial_": True} if group in ("optimizer", "scheduler") else {}
    OmegaConf.update(config, key, wrong | partial, merge=key == "trainer")
    with pytest.raises(UserError, match=rf"^{key}\._target_ must be a {GROUPS[group].__name__}, got torch") as error:
        build.check(config, RunDirectory(tmp_path))
    assert "\n" not in str(error.value)


def test_a_class_is_of_the_package_that_defines_it_not_of_the_one_that_names_it(
    composed: Composed, foreign_package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.networks.cnn.Net", __import__(foreign_package).Net, raising=False)
    overrides = ["~model", "+model._target_=fmnist.networks.cnn.Net"]
    with pytest.raises(UserError, match=r"^model\._target_ names foreign_package\.Net, whose package is not trusted"):
        build.check(composed(*overrides), RunDirectory(tmp_path))
    build.check(composed(*overrides, "trust=[foreign_package]"), RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "target", ["", "torch", ".os.system", "torch..nn", "torch.nn.", "torch.nn.Linear()", "torch.nn:Linear", "3"]
)
def test_what_is_no_name_of_a_class_is_refused(target: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model\._target_ (must be the full name of a class|is no class)"):
        build.check(composed(f"model._target_={json.dumps(target)}"), RunDirectory(tmp_path))


HARMFUL = {"_target_": "torch.utils.collect_env.run"}
NESTINGS: dict[str, tuple[object, str]] = {
    "in a dict": ({"a": HARMFUL}, "in_channels.a._target_"),
    "as an argument": (HARMFUL, "in_channels._target_"),
    "in a list": ([1, HARMFUL], "in_channels[1]._target_"),
    "in a dict in a list": ([{"a": HARMFUL}], "in_channels[0].a._target_"),
    "in a list in a list": ([[HARMFUL]], "in_channels[0][0]._target_"),
    "of another node": ("${optimizer}", "in_channels._target_"),
    "made by a resolver": ("${oc.decode:'{_target_: torch.utils.collect_env.run}'}", "in_channels._target_"),
    "created by a resolver": ("${oc.create:{_target_: torch.utils.collect_env.run}}", "in_channels._target_"),
}


@pytest.mark.parametrize(("value", "where"), NESTINGS.values(), ids=NESTINGS)
def test_a_target_deeper_inside_a_node_is_refused(
    value: object, where: str, untrained_run: RunDirectory, composed: Composed, tmp_path: Path, witness: Path
) -> None:
    for node in (HARMFUL, value):
        if isinstance(node, dict) and "_target_" in node:
            node["command"] = f"touch {witness}"
    rewrite(untrained_run, {"model": {"_target_": "fmnist.networks.cnn.CNN", "in_channels": value}})
    assert f"model.{where} must not be there: a node is one constructor call" in refusal(untrained_run.path)
    config = composed()
    OmegaConf.update(config, "trainer.plugins", value, merge=False, force_add=True)
    with pytest.raises(UserError, match=rf"^{re.escape(where.replace('in_channels', 'trainer.plugins'))} must not be"):
        build.check(config, RunDirectory(tmp_path / "new"))
    assert not witness.exists()


def test_left_to_hydra_a_nested_target_would_have_been_run(tmp_path: Path, witness: Path) -> None:
    node = {"_target_": "torch.nn.ParameterList", "values": [hostile_node("torch.utils.collect_env.run", tmp_path)]}
    try:
        hydra.utils.instantiate(OmegaConf.create(node))
    finally:
        assert witness.exists()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("_args_: [1]", r"takes no model\._args_"),
        ("_convert_: none", r"takes no model\._convert_"),
        ("_recursive_: true", r"takes no model\._recursive_"),
        ("_partial_: true", r"model\._partial_ must be false, got True"),
    ],
)
def test_hydras_own_keys_have_no_place_in_a_node(untrained_run: RunDirectory, key: str, message: str) -> None:
    rewrite(untrained_run, {"model": {"_target_": "fmnist.networks.cnn.CNN", **yaml.safe_load(key)}})
    assert re.search(message, refusal(untrained_run.path))


def test_a_stored_configuration_is_read_without_pythons_tags(untrained_run: RunDirectory, witness: Path) -> None:
    text = f"!!python/object/apply:os.system ['touch {witness}']"
    path = untrained_run.hydra / "config.yaml"
    path.write_text(path.read_text() + f"theirs: {text}\n")
    assert "cannot read" in refusal(untrained_run.path)
    assert not witness.exists()
    yaml.unsafe_load(text)
    assert witness.exists()


def test_only_harmless_resolvers_are_registered() -> None:
    """Interpolations in a file call these: they read the configuration, the environment and the clock."""
    from omegaconf.basecontainer import BaseContainer

    import fmnist.cli.preflight  # noqa: F401 (registers one)

    oc = {f"oc.{name}" for name in ("create", "decode", "deprecated", "env", "select", "dict.keys", "dict.values")}
    hydras = {"now", "hydra", "python_version", "ray_pkg_version"}  # the last is its Ray plugin's
    assert set(BaseContainer._resolvers) - hydras == {*oc, "typeable"}


# Whom the user trusts


@pytest.mark.real_data
def test_a_package_that_the_command_line_trusts_can_be_trained_with_and_loaded_by_who_trusts_it(
    foreign_package: str, train_here: TrainHere
) -> None:
    network = "~model", f"+model._target_={foreign_package}.Net"
    overrides = "experiment=smoke", "threads=1", "dashboard=none", f"trust=[{foreign_package}]", "hydra.run.dir=run"
    final_metrics = train_here(*overrides, *network)
    assert final_metrics.code == 0, final_metrics.err
    assert "add trust=[foreign_package] to the command line" in refusal("run")
    assert type(fmnist.load("run", trust=(foreign_package,))).__name__ == "Net"


def test_a_run_directory_cannot_say_that_it_is_trusted(
    untrained_run: RunDirectory, foreign_package: str, witness: Path
) -> None:
    for trust in ([foreign_package], "${oc.decode:'[foreign_package]'}", {"a": 1}, None):
        rewrite(untrained_run, {"model": {"_target_": f"{foreign_package}.Net"}, "trust": trust})
        assert "whose package is not trusted" in refusal(untrained_run.path)
    assert not witness.exists()


@pytest.mark.parametrize("value", ["timm", "[1]", "['']", "[timm.models]", "null"])
def test_whom_to_trust_is_a_list_of_packages(value: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trust must be a list of names of packages, such as \[timm\], got"):
        build.check(composed(f"trust={value}"), RunDirectory(tmp_path))


# Checkpoints


def save_zipped(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickled(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("save", [save_zipped, save_legacy, save_pickled])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "whole"])
def test_a_checkpoint_that_carries_code_is_refused_and_nothing_of_it_is_run(
    checkpoint: str,
    save: Callable[[object, Path], None],
    place: str,
    untrained_run: RunDirectory,
    tmp_path: Path,
    witness: Path,
) -> None:
    path = untrained_run.checkpoints / f"{checkpoint}.ckpt"
    hostile = Hostile(witness)
    save(hostile if place == "whole" else {"state_dict": {}, place: hostile}, path)
    assert f"{path} is refused: it holds more than weights" in refusal(untrained_run.path, checkpoint=checkpoint)

    # The ways that Lightning reads checkpoints, as the program uses them.
    config = OmegaConf.load(untrained_run.hydra / "config.yaml")
    assert isinstance(config, DictConfig)
    config.trainer.enable_checkpointing, config.trainer.limit_val_batches = False, 0
    images = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1, 1, 28, 28), torch.zeros(1)))
    for way in ("fit", "test"):
        trainer = build.trainer(config, RunDirectory(tmp_path / way))
        with (
            warnings.catch_warnings(action="ignore"),  # there is nothing to validate on
            pytest.raises(UserError, match="is refused: it holds more than weights"),
        ):
            getattr(trainer, way)(build.classifier(config), images, ckpt_path=path, weights_only=True)
    assert not witness.exists()
    torch.load(path, weights_only=False) if save is not save_pickled else pickle.loads(path.read_bytes())
    assert witness.exists()  # it is as hostile as it looks


@pytest.mark.real_data
def test_training_does_not_run_a_checkpoint_that_was_put_into_its_directory(
    train_here: TrainHere, tmp_path: Path, witness: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmnist.training import final_metrics

    after_training = final_metrics.after_training

    def put_there(trainer: Any, run: RunDirectory) -> Any:
        torch.save({"state_dict": Hostile(witness)}, run.best_checkpoint)
        return after_training(trainer, run)

    monkeypatch.setattr(final_metrics, "after_training", put_there)
    refused = train_here("experiment=smoke", "threads=1", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert "best.ckpt is refused: it holds more than weights" in one_line(refused)
    assert not witness.exists()
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize("weights", [None, [1], {"network.conv1.weight": "text"}, {1: torch.zeros(1)}, "text"])
def test_weights_that_are_none_are_refused(untrained_run: RunDirectory, weights: object) -> None:
    torch.save({"state_dict": weights}, untrained_run.best_checkpoint)
    message = "is of another network" if weights == {1: torch.zeros(1)} else "is no checkpoint: it holds no weights"
    assert message in refusal(untrained_run.path)


@pytest.mark.parametrize("url", ["https://example.org/run", "http://127.0.0.1:1/run", "s3://bucket/run", "file:///run"])
def test_an_address_is_no_run_and_no_checkpoint_and_nobody_is_asked_for_it(
    url: str,
    untrained_run: RunDirectory,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *arguments, **_options: asked.append(arguments))
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: asked.append(arguments))
    assert refusal(url).startswith("no directory ")
    assert refusal(untrained_run.path, checkpoint=url) == f"checkpoint must be best or last, got '{url}'"
    for verb in ("evaluate", "predict", "export"):
        options = options_of(verb, tmp_path)
        assert "no directory " in one_line(call_verb(verb, capfd, monkeypatch, f"run={url}", *options))
        line = one_line(call_verb(verb, capfd, monkeypatch, f"run={untrained_run.path}", f"checkpoint={url}", *options))
        assert "checkpoint must be best or last" in line
    with pytest.raises(UserError, match="no checkpoint"):  # Lightning's own reading of checkpoints would fetch it
        CheckpointIO().load_checkpoint(url)
    assert asked == []


# Data


@pytest.mark.parametrize("name", files.SHA256)
@pytest.mark.parametrize("kind", ["pickle", "gzipped pickle", "npy", "torch", "gzip rubbish", "rubbish"])
def test_a_data_file_that_is_something_else_is_refused_unread(
    kind: str, name: str, tmp_path: Path, witness: Path
) -> None:
    hostile = Hostile(witness)
    path = tmp_path / (f"{name}.gz" if "gzip" in kind else name)
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.array([hostile], dtype=object), allow_pickle=True)
    elif kind == "torch":
        torch.save(hostile, path)
    else:
        content = {
            "pickle": pickle.dumps(hostile),
            "gzipped pickle": gzip.compress(pickle.dumps(hostile)),
            "gzip rubbish": gzip.compress(b"x" * 1000)[:-9] + b"rubbish",
            "rubbish": bytes(range(256)) * 9,
        }[kind]
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"(is not the official file|is damaged: not a complete gzip file)"):
        files.read(path)
    assert not witness.exists()
    if kind == "npy":
        np.load(path, allow_pickle=True)
    elif kind == "torch":
        torch.load(path, weights_only=False)
    elif "pickle" in kind:
        pickle.loads(gzip.decompress(path.read_bytes()) if "gzip" in kind else path.read_bytes())
    else:
        return
    assert witness.exists()


# The sources

SOURCES = [ROOT / "train.py", *sorted((ROOT / "fmnist").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
FORBIDDEN = (
    *("eval", "exec", "compile", "__import__"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "joblib.load", "os.system"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "np.load", "numpy.load", "pd.read_pickle"),
    *("torch.jit.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.package.PackageImporter"),
)


def dangers(source: str) -> list[str]:
    """The calls in a program that read what can run code, or that run text."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name, keywords = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        last = name.rpartition(".")[2]
        reads = name == "torch.load" or last == "load_from_checkpoint" or "ckpt_path" in keywords
        if (
            name in FORBIDDEN
            or (reads and keywords.get("weights_only") != "True")
            or keywords.get("weights_only", "True") == "False"
            or keywords.get("allow_pickle", "False") != "False"
            or (keywords.get("shell", "False") != "False" and last in ("run", "Popen", "call", "check_output"))
        ):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_sources_reads_pickles_or_runs_text(path: Path) -> None:
    assert dangers(path.read_text()) == []
    assert not re.search(r"from (pickle|marshal|shelve|joblib) import (?!UnpicklingError)", path.read_text())
    assert "from torch import load" not in path.read_text()


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "trainer.fit(m, ckpt_path=p)",
        "trainer.test(m, ckpt_path=p, weights_only=False)",
        "Classifier.load_from_checkpoint(p)",
        "np.load(f)",
        "np.fromregex(f, allow_pickle=True)",
        "yaml.load(f, Loader=L)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_is_to_find(source: str) -> None:
    assert dangers(source)


def test_the_search_leaves_what_is_safe() -> None:
    safe = (
        "network.eval()\ntorch.load(f, weights_only=True)\ntrainer.fit(m)\ntrainer.test(ckpt_path=p, weights_only=True)"
    )
    assert dangers(safe) == []


# Who can reach what listens


def listening(process: int) -> set[str]:
    """The local addresses on which a process and its children accept connections, by what the kernel says of them."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets.add(re.sub(r"socket:\[(\d+)\]", r"\1", str(descriptor.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in sockets:  # LISTEN
                words = re.findall("." * 8, fields[1].partition(":")[0])
                address = b"".join(bytes.fromhex(word)[::-1] for word in words)  # each word in this machine's order
                found.add(socket.inet_ntop(socket.AF_INET if table == "tcp" else socket.AF_INET6, address))
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found |= listening(int(child))
    return found


@contextmanager
def made(target: str, *arguments: str, log: Path, **environment: str) -> Iterator[int]:
    """What a target of the Makefile starts, once it listens."""
    recipe = ["make", "--dry-run", "--no-print-directory", "-o", ".venv/.ready", "-o", ".venv/.extras", target]
    dry = subprocess.run(
        [*recipe, *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    program, *rest = shlex.split(dry.stdout.splitlines()[-1])
    module = ["-m", "tensorboard.main"] if program.endswith("/tensorboard") else []
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *module, *rest], cwd=ROOT, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 100
        while not listening(process.pid):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        time.sleep(2)  # for what else it may open
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)  # not killed, or the demo's temporary directory would stay
        process.wait(30)


def reachable(address: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who listens where")
@pytest.mark.parametrize("target", ["tensorboard", "demo"])
def test_what_listens_listens_on_loopback_unless_make_is_told_otherwise(
    target: str, untrained_run: RunDirectory, tmp_path: Path
) -> None:
    if target == "demo":
        pytest.importorskip("gradio")
    port = free_port()
    options = [f"PORT={port}", f"RUN={untrained_run.path}" if target == "demo" else f"LOGDIR={untrained_run.path}"]
    with made(target, *options, log=tmp_path / "log", HOST="0.0.0.0") as process:  # a shell's HOST does not count
        assert listening(process) <= {"127.0.0.1", "::1"}
        assert reachable("127.0.0.1", port)
        assert not reachable("127.0.0.2", port)
    with made(target, *options, "HOST=127.0.0.2", log=tmp_path / "log") as process:
        assert listening(process) - {"127.0.0.1", "::1"} == {"127.0.0.2"}  # TensorBoard's data server stays
        assert reachable("127.0.0.2", port)
