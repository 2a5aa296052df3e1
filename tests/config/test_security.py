"""Hostile run directories, checkpoints and data files are rejected before they can run code.

Each hostile input creates a file, the witness, when its code runs. The tests also check that it would.
"""

import ast
import gzip
import json
import os
import pickle
import pydoc
import re
import runpy
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
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import fmnist
from fmnist import build
from fmnist.config.errors import UserError
from fmnist.config.settings import GROUPS
from fmnist.data import files
from fmnist.runs.checkpoint_io import CheckpointIO
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, Hostile, Outcome, free_port, one_line, outcome_of

Composed = Callable[..., DictConfig]
TrainHere = Callable[..., Outcome]
Command = Callable[..., Outcome]


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.fixture
def foreign_package(tmp_path: Path, witness: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that Python finds, with a network. Importing it runs its code."""
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


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs ``python -m fmnist.<name> <arguments>`` in this process, with the arguments it requires."""

    def call(name: str, *arguments: str) -> Outcome:
        if name == "demo":
            pytest.importorskip("gradio")
            for variable in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "no_proxy"):  # the demo sets them
                monkeypatch.setenv(variable, os.environ.get(variable, ""))
        Image.linear_gradient("L").save(tmp_path / "picture.png")
        required = {
            "evaluate": [],
            "predict": [f"images={tmp_path / 'picture.png'}"],
            "export": ["format=torch"],
            "demo": [f"port={free_port()}"],
        }
        monkeypatch.setattr(sys, "argv", [name, *required[name], *arguments])
        return outcome_of(lambda: runpy.run_path(str(ROOT / f"fmnist/{name}.py"), run_name="__main__"), capfd)

    return call


COMMANDS = ("evaluate", "predict", "export", "demo")

# Each target with the message that rejects it.
TARGETS = {
    "torch.load": "is a function",
    "torch.hub.load": "is a function",
    "torch.utils.collect_env.run": "is a function",
    "torch.hub.os.mkdir": "is a builtin_function_or_method",
    "torch.hub.zipfile.ZipFile": "must be a",  # a class that torch imports, and not torch's
    "torch.utils.tensorboard.SummaryWriter": "must be a",
    "os.system": "whose package is not trusted",
    "builtins.eval": "whose package is not trusted",
    "subprocess.Popen": "whose package is not trusted",
    "logging.FileHandler": "whose package is not trusted",
    "foreign_package.Net": "add trust=[foreign_package] to the command line",
}
THREE_TARGETS = ("torch.utils.collect_env.run", "torch.hub.zipfile.ZipFile", "foreign_package.Net")


def hostile_node(target: str, directory: Path) -> dict[str, Any]:
    """A node that creates the witness if it is built."""
    witness = str(directory / "witness")
    if target == "torch.load":
        torch.save(Hostile(Path(witness)), directory / "hostile.pt")
    if target == "torch.hub.load":
        (directory / "hubconf.py").write_text(f"def model():\n    open({witness!r}, 'w').close()\n")
    arguments: dict[str, dict[str, Any]] = {
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
    return {"_target_": target, **arguments[target]}


def as_override(value: object) -> str:
    """A value in the grammar of Hydra's command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_override(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_override, value)) + "]"
    return json.dumps(value)


def rewrite(run: RunDirectory, changes: dict[str, Any]) -> None:
    """Changes the stored configuration of a run."""
    path = run.hydra / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def load_error(run: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        fmnist.load(run, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Configurations


@pytest.mark.parametrize(("target", "message"), TARGETS.items(), ids=TARGETS)
@pytest.mark.usefixtures("foreign_package")
def test_hostile_target_is_rejected_and_would_have_run(
    target: str, message: str, composed: Composed, tmp_path: Path, witness: Path
) -> None:
    node, config = hostile_node(target, tmp_path), composed()
    OmegaConf.update(config, "callbacks.theirs", node, force_add=True)
    with pytest.raises(UserError, match=rf"^callbacks\.theirs\._target_ .*{re.escape(message)}"):
        build.check(config, RunDirectory(tmp_path / "run"))
    assert not witness.exists()
    del node["_target_"]
    result = pydoc.locate(target)(*node.pop("_args_", ()), **node)  # type: ignore[operator]
    if isinstance(result, subprocess.Popen):
        result.wait()
    elif hasattr(result, "close"):
        result.close()
    assert witness.exists()


@pytest.mark.parametrize("target", THREE_TARGETS)
@pytest.mark.usefixtures("foreign_package")
def test_train_rejects_hostile_target_in_overrides_experiments_and_run_directories(
    target: str, train_here: TrainHere, untrained_run: RunDirectory, tmp_path: Path, witness: Path
) -> None:
    node = hostile_node(target, tmp_path)
    (tmp_path / "theirs/experiment").mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump({"callbacks": {"theirs": node}})
    (tmp_path / "theirs/experiment/foreign.yaml").write_text(text)
    experiment = [f"--config-dir={tmp_path / 'theirs'}", "experiment=foreign"]
    rewrite(untrained_run, {"model": node})
    untrained_run.metrics.unlink()
    for arguments in (
        [f"+callbacks.theirs={as_override(node)}"],
        experiment,
        [*experiment, "-m", "seed=1,2"],
        [f"resume={untrained_run.path}"],
    ):
        assert TARGETS[target] in one_line(train_here(*arguments))
    assert not witness.exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("foreign_package")
def test_commands_reject_hostile_run_directory(
    name: str, command: Command, untrained_run: RunDirectory, tmp_path: Path, witness: Path
) -> None:
    for target in THREE_TARGETS:
        rewrite(untrained_run, {"model": hostile_node(target, tmp_path)})
        assert TARGETS[target] in one_line(command(name, f"run={untrained_run.path}"))
        for checkpoint in ("best", "last"):
            assert TARGETS[target] in load_error(untrained_run.path, checkpoint=checkpoint)
    assert not witness.exists()
    trusting = command(name, f"run={untrained_run.path}", "trust=foreign_package")
    assert "do not fit the run's network" in one_line(trusting)  # the checkpoint holds a CNN's weights
    assert witness.exists()


@pytest.mark.parametrize("name", [*COMMANDS, "resume", "reproduce"])
def test_run_directory_with_other_keys_is_rejected(
    name: str, command: Command, train_here: TrainHere, untrained_run: RunDirectory, capfd: Any, monkeypatch: Any
) -> None:
    path = untrained_run.hydra / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["ensemble"]
    path.write_text(yaml.safe_dump(config))
    run = str(untrained_run.path)
    if name == "resume":
        outcome = train_here(f"resume={run}")
    elif name == "reproduce":
        monkeypatch.setattr(sys, "argv", ["reproduce", f"run={run}", f"to={run}-again"])
        outcome = outcome_of(lambda: runpy.run_path(str(ROOT / "fmnist/reproduce.py"), run_name="__main__"), capfd)
    else:
        outcome = command(name, f"run={run}")
    message = "the configuration lacks ensemble; is it from another version of this project?"
    assert message in one_line(outcome)
    assert message in load_error(run)
    assert not Path(f"{run}-again").exists()


@pytest.mark.parametrize("group", GROUPS)
def test_class_of_another_kind_is_rejected_in_every_group(group: str, composed: Composed, tmp_path: Path) -> None:
    config = composed()
    OmegaConf.set_struct(config, False)
    key = f"{group}.theirs" if group in ("callbacks", "dashboard", "augmentation") else group
    # From a package of the allow-list, can be built, and can be called as an augmentation is.
    wrong: dict[str, Any] = {"_target_": "torchmetrics.MeanMetric" if group != "model" else "torch.Generator"}
    partial = {"_partial_": True} if group in ("optimizer", "scheduler") else {}
    OmegaConf.update(config, key, wrong | partial, merge=key == "trainer")
    with pytest.raises(UserError, match=rf"^{key}\._target_ must be a \w+, got torch"):
        build.check(config, RunDirectory(tmp_path))


def test_package_of_a_class_is_the_one_that_defines_it(
    composed: Composed, foreign_package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.networks.cnn.Net", __import__(foreign_package).Net, raising=False)
    overrides = ["~model", "+model._target_=fmnist.networks.cnn.Net"]
    with pytest.raises(UserError, match=r"^model\._target_ names foreign_package\.Net, whose package is not trusted"):
        build.check(composed(*overrides), RunDirectory(tmp_path))
    build.check(composed(*overrides, "trust=[foreign_package]"), RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "target", ["", "torch", ".os.system", "torch..nn", "torch.nn.Linear()", "torch.nn:Linear", "3"]
)
def test_target_that_is_not_the_name_of_a_class_is_rejected(target: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model\._target_ (must be the full name of a class|is not a class)"):
        build.check(composed(f"model._target_={json.dumps(target)}"), RunDirectory(tmp_path))


HARMFUL = {"_target_": "torch.utils.collect_env.run", "command": "touch witness"}
NESTINGS: dict[str, tuple[object, str]] = {
    "in a dict": ({"a": HARMFUL}, ".a._target_"),
    "as an argument": (HARMFUL, "._target_"),
    "in a list": ([1, HARMFUL], "[1]._target_"),
    "in a dict in a list": ([{"a": HARMFUL}], "[0].a._target_"),
    "in a list in a list": ([[HARMFUL]], "[0][0]._target_"),
    "of another node": ("${optimizer}", "._target_"),
    "decoded by a resolver": ("${oc.decode:'{_target_: torch.utils.collect_env.run}'}", "._target_"),
    "created by a resolver": ("${oc.create:{_target_: torch.utils.collect_env.run}}", "._target_"),
}


@pytest.mark.parametrize(("value", "where"), NESTINGS.values(), ids=NESTINGS)
def test_target_nested_in_a_node_is_rejected(
    value: object, where: str, untrained_run: RunDirectory, composed: Composed, tmp_path: Path
) -> None:
    rewrite(untrained_run, {"model": {"_target_": "fmnist.networks.cnn.CNN", "in_channels": value}})
    assert f"model.in_channels{where} must not be there" in load_error(untrained_run.path)
    config = composed()
    OmegaConf.update(config, "trainer.plugins", value, merge=False, force_add=True)
    with pytest.raises(UserError, match=rf"^trainer\.plugins{re.escape(where)} must not be there"):
        build.check(config, RunDirectory(tmp_path / "new"))


def test_hydra_would_have_run_a_nested_target(tmp_path: Path, witness: Path) -> None:
    node = {"_target_": "torch.nn.ParameterList", "values": [hostile_node("torch.utils.collect_env.run", tmp_path)]}
    try:
        hydra.utils.instantiate(OmegaConf.create(node))
    finally:
        assert witness.exists()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("_args_: [1]", "takes no model._args_"),
        ("_convert_: none", "takes no model._convert_"),
        ("_recursive_: true", "takes no model._recursive_"),
        ("_partial_: true", "model._partial_ must be false, got True"),
    ],
)
def test_hydras_own_keys_are_rejected_in_a_node(untrained_run: RunDirectory, key: str, message: str) -> None:
    rewrite(untrained_run, {"model": {"_target_": "fmnist.networks.cnn.CNN", **yaml.safe_load(key)}})
    assert message in load_error(untrained_run.path)


def test_stored_configuration_is_read_without_python_tags(untrained_run: RunDirectory, witness: Path) -> None:
    text = f"!!python/object/apply:os.system ['touch {witness}']"
    path = untrained_run.hydra / "config.yaml"
    path.write_text(path.read_text() + f"theirs: {text}\n")
    assert "cannot read" in load_error(untrained_run.path)
    assert not witness.exists()
    yaml.unsafe_load(text)
    assert witness.exists()


# Trust


@pytest.mark.real_data
def test_trusted_package_can_be_trained_and_loaded(foreign_package: str, train_here: TrainHere) -> None:
    network = "~model", f"+model._target_={foreign_package}.Net"
    overrides = "experiment=smoke", "threads=1", "dashboard=none", f"trust=[{foreign_package}]", "hydra.run.dir=run"
    outcome = train_here(*overrides, *network)
    assert outcome.code == 0, outcome.err
    assert "add trust=[foreign_package] to the command line" in load_error("run")
    assert type(fmnist.load("run", trust=(foreign_package,))).__name__ == "Net"


def test_run_directory_cannot_trust_itself(untrained_run: RunDirectory, foreign_package: str, witness: Path) -> None:
    for trust in ([foreign_package], "${oc.decode:'[foreign_package]'}", {"a": 1}, None):
        rewrite(untrained_run, {"model": {"_target_": f"{foreign_package}.Net"}, "trust": trust})
        assert "whose package is not trusted" in load_error(untrained_run.path)
    assert not witness.exists()


@pytest.mark.parametrize("value", ["timm", "[1]", "['']", "[timm.models]", "null"])
def test_trust_must_be_a_list_of_packages(value: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trust must be a list of .*\[timm\], got"):
        build.check(composed(f"trust={value}"), RunDirectory(tmp_path))


# Checkpoints


def save_zipped(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickled(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("save", [save_zipped, save_legacy, save_pickled])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "whole"])
def test_hostile_checkpoint_is_rejected(
    save: Callable[[object, Path], None], place: str, untrained_run: RunDirectory, tmp_path: Path, witness: Path
) -> None:
    hostile = Hostile(witness)
    for checkpoint, path in (("best", untrained_run.best_checkpoint), ("last", untrained_run.last_checkpoint)):
        save(hostile if place == "whole" else {"state_dict": {}, place: hostile}, path)
        message = f"{path} is rejected: it holds more than weights"
        assert message in load_error(untrained_run.path, checkpoint=checkpoint)

    # As Lightning reads checkpoints in training and testing.
    config = OmegaConf.load(untrained_run.hydra / "config.yaml")
    assert isinstance(config, DictConfig)
    config.trainer.enable_checkpointing, config.trainer.limit_val_batches = False, 0
    images = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1, 1, 28, 28), torch.zeros(1)))
    for method in ("fit", "test"):
        trainer = build.trainer(config, RunDirectory(tmp_path / method))
        with (
            warnings.catch_warnings(action="ignore"),  # there is no validation data
            pytest.raises(UserError, match="is rejected: it holds more than weights"),
        ):
            getattr(trainer, method)(build.classifier(config), images, ckpt_path=path, weights_only=True)
    assert not witness.exists()
    torch.load(path, weights_only=False) if save is not save_pickled else pickle.loads(path.read_bytes())
    assert witness.exists()


@pytest.mark.real_data
def test_hostile_checkpoint_written_during_training_is_not_run(
    train_here: TrainHere, tmp_path: Path, witness: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = Trainer.test

    def replace_and_test(trainer: Trainer, *arguments: Any, **options: Any) -> Any:
        torch.save({"state_dict": Hostile(witness)}, RunDirectory("run").best_checkpoint)
        return test(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "test", replace_and_test)
    outcome = train_here("experiment=smoke", "threads=1", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert "best.ckpt is rejected: it holds more than weights" in one_line(outcome)
    assert not witness.exists()
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize("weights", [None, [1], {"network.conv1.weight": "text"}, {1: torch.zeros(1)}, "text"])
def test_checkpoint_without_weights_is_rejected(untrained_run: RunDirectory, weights: object) -> None:
    torch.save({"state_dict": weights}, untrained_run.best_checkpoint)
    assert "it holds no weights" in load_error(untrained_run.path)


@pytest.mark.parametrize("url", ["https://example.org/run", "http://127.0.0.1:1/run", "s3://bucket/run", "file:///run"])
def test_url_is_rejected_without_a_connection(
    url: str, command: Command, untrained_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *arguments, **_options: connections.append(arguments))
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: connections.append(arguments))
    assert load_error(url).startswith("no directory ")
    assert load_error(untrained_run.path, checkpoint=url) == f"checkpoint must be best or last, got '{url}'"
    for name in ("evaluate", "predict", "export"):
        assert "no directory " in one_line(command(name, f"run={url}"))
        line = one_line(command(name, f"run={untrained_run.path}", f"checkpoint={url}"))
        assert "checkpoint must be best or last" in line
    with pytest.raises(UserError, match="no checkpoint"):  # Lightning's own CheckpointIO would fetch it
        CheckpointIO().load_checkpoint(url)
    assert connections == []


def test_lightning_reads_checkpoints_with_weights_only() -> None:
    for path in [ROOT / "train.py", *(ROOT / "fmnist").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call):
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                if "ckpt_path" in keywords or ast.unparse(call.func).endswith("load_from_checkpoint"):
                    assert keywords.get("weights_only") == "True", f"{path}:{call.lineno}"


# Data files


@pytest.mark.parametrize("kind", ["pickle", "gzipped pickle", "npy", "torch", "gzip rubbish", "rubbish"])
def test_hostile_data_file_is_rejected(kind: str, tmp_path: Path, witness: Path) -> None:
    hostile = Hostile(witness)
    for name in files.SHA256:
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
    assert witness.exists() or "rubbish" in kind


# Servers


def listening(process: int) -> set[str]:
    """Local addresses on which a process and its children accept connections, from /proc."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # closed in the meantime
            sockets.add(re.sub(r"socket:\[(\d+)\]", r"\1", str(descriptor.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in sockets:  # LISTEN
                words = re.findall("." * 8, fields[1].partition(":")[0])
                address = b"".join(
                    bytes.fromhex(word)[::-1] for word in words
                )  # each word in this machine's byte order
                found.add(socket.inet_ntop(socket.AF_INET if table == "tcp" else socket.AF_INET6, address))
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            found |= listening(int(child))
    return found


@contextmanager
def started(target: str, *arguments: str, log: Path, **environment: str) -> Iterator[int]:
    """Runs the program of a Makefile target; yields its process id once it listens."""
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
        time.sleep(2)  # it may open more
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)  # not SIGKILL, which would leave the demo's temporary directory
        process.wait(30)


def reachable(address: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
@pytest.mark.parametrize("target", ["tensorboard", "demo"])
def test_servers_listen_on_loopback_unless_make_gets_a_host(
    target: str, untrained_run: RunDirectory, tmp_path: Path
) -> None:
    if target == "demo":
        pytest.importorskip("gradio")
    port = free_port()
    options = [f"PORT={port}", f"RUN={untrained_run.path}" if target == "demo" else f"LOGDIR={untrained_run.path}"]
    with started(
        target, *options, log=tmp_path / "log", HOST="0.0.0.0"
    ) as process:  # HOST of the environment is ignored
        assert listening(process) <= {"127.0.0.1", "::1"}
        assert reachable("127.0.0.1", port)
        assert not reachable("127.0.0.2", port)
    with started(target, *options, "HOST=127.0.0.2", log=tmp_path / "log") as process:
        assert listening(process) - {"127.0.0.1", "::1"} == {"127.0.0.2"}  # TensorBoard's data server stays on loopback
        assert reachable("127.0.0.2", port)
