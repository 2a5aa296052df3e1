"""Hostile run directories, checkpoints and data files are rejected before they can run code.

Each hostile input creates a file, the witness, when its code runs. The tests also check that it would.
"""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from omegaconf import OmegaConf
from PIL import Image

import fmnist
from fmnist.config.errors import UserError
from fmnist.config.instantiate import instantiate
from fmnist.data import files
from fmnist.runs.checkpoint_io import CheckpointIO
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, TINY, Hostile, Outcome, TrainHere, free_port, one_line, outcome_of, wait_until

Command = Callable[..., Outcome]

WITNESS = Path("witness")  # in the working directory
FOREIGN = """
import torch
from fmnist.networks.cnn import CNN
open("witness", "w").close()
class Net(CNN):
    def __init__(self):
        super().__init__()
        self.more = torch.nn.Linear(1, 1)
"""


@pytest.fixture(autouse=True)
def foreign_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that Python finds, with a network. Importing it runs its code."""
    (tmp_path / "foreign_package.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("foreign_package", None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs ``python -m fmnist.<name> <arguments>`` in this process, with the arguments it requires."""

    def call(name: str, *arguments: str) -> Outcome:
        Image.linear_gradient("L").save("picture.png")
        required = {"predict": ["images=picture.png"], "export": ["format=torch"], "demo": [f"port={free_port()}"]}
        monkeypatch.setattr(sys, "argv", [name, *required.get(name, []), *arguments])
        return outcome_of(lambda: runpy.run_path(str(ROOT / f"fmnist/{name}.py"), run_name="__main__"), capfd)

    for variable in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "no_proxy"):  # the demo sets them
        monkeypatch.setenv(variable, "")
    for module in ("gradio", "fmnist.inference.demo_page"):  # not needed before the page is shown
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    return call


def load_error(run: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        fmnist.load(run, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewrite(run: RunDirectory, **changes: object) -> None:
    """Changes the stored configuration of a run."""
    path = run.hydra / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture
def reject_node(train_here: TrainHere, untrained_run: RunDirectory) -> Callable[..., str]:
    """Passes a node to an entrance; returns the line that rejects it."""

    def call(node: dict[str, Any], entrance: str) -> str:
        rewrite(untrained_run, model=node)
        if entrance == "node":
            with pytest.raises(UserError) as error:
                instantiate(
                    OmegaConf.create({"trust": [], "callbacks": {"theirs": node}}), "callbacks.theirs", Callback
                )
            return str(error.value)
        if entrance == "load":
            return load_error(untrained_run.path, checkpoint="last")
        if entrance == "resume":
            untrained_run.metrics.unlink()
            return one_line(train_here(f"resume={untrained_run.path}"))
        override = ", ".join(f"{key}: {json.dumps(value)}" for key, value in node.items())
        sweep = ["-m", "seed=1,2"] if entrance == "sweep" else []
        return one_line(train_here(f"+callbacks.theirs={{{override}}}", *sweep))

    return call


RUN, MKDIR, ZIP = "torch.utils.collect_env.run", "torch.hub.os.mkdir", "torch.hub.zipfile.ZipFile"


@pytest.mark.parametrize(
    ("target", "arguments", "entrance", "message"),
    [
        (RUN, {"command": "touch witness"}, "node", "is a function"),
        (MKDIR, {"path": "witness"}, "node", "is a builtin_function_or_method"),
        (ZIP, {"file": "witness", "mode": "w"}, "node", "must be a Callback"),  # a class, which torch imports
        ("os.system", {"command": "touch witness"}, "node", "whose package is not trusted"),
        ("foreign_package.Net", {}, "node", "add trust=[foreign_package] to the command line"),
        ("foreign_package.Net", {}, "load", "add trust=[foreign_package] to the command line"),
        ("foreign_package.Net", {}, "resume", "add trust=[foreign_package] to the command line"),
        (ZIP, {"file": "witness", "mode": "w"}, "override", "must be a Callback"),
        (RUN, {"command": "touch witness"}, "sweep", "is a function"),
    ],
)
def test_hostile_node_is_rejected_and_would_have_run(
    target: str, arguments: dict[str, Any], entrance: str, message: str, reject_node: Callable[..., str]
) -> None:
    assert message in reject_node({"_target_": target, **arguments}, entrance)
    assert not WITNESS.exists()
    assert not Path("runs").exists()
    result: Any = pydoc.locate(target)(**arguments)  # type: ignore[operator]
    if hasattr(result, "close"):
        result.close()
    assert WITNESS.exists()


def test_hydra_would_have_run_a_nested_target() -> None:
    nested = {"_target_": RUN, "command": "touch witness"}
    hydra.utils.instantiate({"_target_": "torch.nn.ParameterList", "values": [nested]})
    assert WITNESS.exists()


@pytest.mark.parametrize("name", ["evaluate", "predict", "export", "demo"])
def test_command_runs_another_package_only_with_trust(name: str, command: Command, untrained_run: RunDirectory) -> None:
    rewrite(untrained_run, model={"_target_": "foreign_package.Net"})
    assert "add trust=[foreign_package]" in one_line(command(name, f"run={untrained_run.path}"))
    assert not WITNESS.exists()
    trusting = command(name, f"run={untrained_run.path}", "trust=foreign_package")
    assert "do not fit the run's network" in one_line(trusting)  # the checkpoint holds a CNN's weights
    assert WITNESS.exists()


def test_run_directory_cannot_trust_itself(untrained_run: RunDirectory) -> None:
    for trust in (["foreign_package"], "${oc.decode:'[foreign_package]'}", None):
        rewrite(untrained_run, model={"_target_": "foreign_package.Net"}, trust=trust)
        assert "whose package is not trusted" in load_error(untrained_run.path)
    assert not WITNESS.exists()


def test_configuration_of_another_version_is_rejected(untrained_run: RunDirectory) -> None:
    rewrite(untrained_run, speed=1)
    assert "cannot read run/.hydra/config.yaml: unknown configuration key 'speed'" in load_error("run")


@pytest.mark.real_data
def test_trusted_package_can_be_trained_and_loaded(train_here: TrainHere) -> None:
    network = "~model", "+model._target_=foreign_package.Net", "trust=[foreign_package]"
    outcome = train_here(*TINY, *network, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "add trust=[foreign_package] to the command line" in load_error("run")
    assert type(fmnist.load("run", trust=("foreign_package",))).__name__ == "Net"


HOSTILE = Hostile(WITNESS)
REJECTED = "is rejected: it holds more than weights"
IMAGES = next(iter(files.SHA256))


def read_torch(path: Path) -> object:
    return torch.load(path, weights_only=False)


# How each kind of file is written, and how a careless program reads it.
KINDS: dict[str, tuple[Callable[[object, Path], object], Callable[[Path], object]]] = {
    "torch": (torch.save, read_torch),
    "torch, old": (partial(torch.save, _use_new_zipfile_serialization=False), read_torch),
    "pickle": (lambda value, path: path.write_bytes(pickle.dumps(value)), lambda path: pickle.loads(path.read_bytes())),
    "gzip": (
        lambda value, path: path.write_bytes(gzip.compress(pickle.dumps(value))),
        lambda path: pickle.loads(gzip.decompress(path.read_bytes())),
    ),
    "yaml": (
        lambda value, path: path.write_text(f"{path.read_text()}theirs: {value}\n"),
        lambda path: yaml.unsafe_load(path.read_text()),
    ),
}


@pytest.mark.real_data  # of the entrance resume
@pytest.mark.parametrize(
    ("kind", "value", "file", "entrance", "message"),
    [
        ("torch", HOSTILE, "run/checkpoints/best.ckpt", "best", REJECTED),
        ("torch", {"state_dict": {}, "hyper_parameters": HOSTILE}, "run/checkpoints/last.ckpt", "last", REJECTED),
        ("torch, old", {"state_dict": HOSTILE}, "run/checkpoints/best.ckpt", "best", REJECTED),
        ("pickle", HOSTILE, "run/checkpoints/last.ckpt", "resume", REJECTED),
        ("yaml", "!!python/object/apply:os.system ['touch witness']", "run/.hydra/config.yaml", "best", "cannot read"),
        ("pickle", HOSTILE, IMAGES, "data", "is not the official file"),
        ("gzip", HOSTILE, f"{IMAGES}.gz", "data", "is not the official file"),
    ],
)
def test_hostile_file_is_rejected_and_would_have_run(
    kind: str, value: object, file: str, entrance: str, message: str, untrained_run: RunDirectory, train_here: TrainHere
) -> None:
    write, read = KINDS[kind]
    write(value, Path(file))
    if entrance == "data":
        with pytest.raises(UserError, match=message):
            files.read(Path(file))
    elif entrance == "resume":
        untrained_run.metrics.unlink()
        assert message in one_line(train_here("resume=run"))
    else:
        assert message in load_error("run", checkpoint=entrance)
    assert not WITNESS.exists()
    read(Path(file))
    assert WITNESS.exists()


@pytest.mark.real_data
def test_hostile_checkpoint_written_during_training_is_not_run(
    train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = Trainer.test

    def replace_and_test(trainer: Trainer, *arguments: Any, **options: Any) -> Any:
        torch.save({"state_dict": HOSTILE}, RunDirectory("run").best_checkpoint)
        return test(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "test", replace_and_test)
    outcome = train_here(*TINY, "hydra.run.dir=run")
    assert f"best.ckpt {REJECTED}" in one_line(outcome)
    assert not WITNESS.exists()
    assert not Path("run/metrics.json").exists()


def test_url_is_rejected_without_a_connection(
    command: Command, untrained_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []
    for place, name in ((socket, "getaddrinfo"), (socket, "create_connection"), (socket.socket, "connect")):
        monkeypatch.setattr(place, name, lambda *arguments, **_options: connections.append(arguments))
    for url in ("https://example.org/run", "s3://bucket/run", "file:///run"):
        assert load_error(url).startswith("no directory ")
        assert load_error(untrained_run.path, checkpoint=url) == f"checkpoint must be best or last, got '{url}'"
        with pytest.raises(UserError, match="no checkpoint"):  # Lightning's own CheckpointIO would fetch it
            CheckpointIO().load_checkpoint(url)
    assert "no directory " in one_line(command("predict", f"run={url}"))
    assert connections == []


def listening(process: int) -> set[str]:
    """Local addresses on which a process and its children accept connections, from /proc."""
    found, sockets = set(), set()
    with suppress(FileNotFoundError, ProcessLookupError):  # a child that has ended in the meantime
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            found |= listening(int(child))
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                sockets.add(re.sub(r"socket:\[(\d+)\]", r"\1", str(descriptor.readlink())))
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for row in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
                _, address, _, state, *_, inode = row.split()[:10]
                if state == "0A" and inode in sockets:  # LISTEN
                    words = re.findall("." * 8, address.partition(":")[0])  # each in this machine's byte order
                    found.add(socket.inet_ntop(family, b"".join(bytes.fromhex(word)[::-1] for word in words)))
    return found


def reachable(address: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


@contextmanager
def started(target: str, *arguments: str, address: str, port: int, log: Path) -> Iterator[int]:
    """Runs the program of a Makefile target; yields its process id once it answers."""
    recipe = ["make", "--dry-run", "--no-print-directory", "-o", ".venv/.ready", "-o", ".venv/.extras", target]
    command = [*recipe, f"PORT={port}", *arguments]
    environment = os.environ | {"HOST": "0.0.0.0"}  # which make ignores
    dry = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    program, *rest = shlex.split(dry.stdout.splitlines()[-1])
    module = ["-m", "tensorboard.main"] if program.endswith("/tensorboard") else []
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *module, *rest], cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or reachable(address, port), "the server")
        assert process.poll() is None, log.read_text()
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)  # not SIGKILL, which would leave the demo's temporary directory
        process.wait(30)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
@pytest.mark.parametrize("target", ["tensorboard", "demo"])
def test_server_listens_on_loopback_unless_make_gets_a_host(
    target: str, untrained_run: RunDirectory, tmp_path: Path
) -> None:
    if target == "demo":
        pytest.importorskip("gradio")
    port, log = free_port(), tmp_path / "log"
    run = f"RUN={untrained_run.path}" if target == "demo" else f"LOGDIR={untrained_run.path}"
    with started(target, run, address="127.0.0.1", port=port, log=log) as process:
        assert listening(process) <= {"127.0.0.1", "::1"}
        assert not reachable("127.0.0.2", port)
    with started(target, run, "HOST=127.0.0.2", address="127.0.0.2", port=port, log=log) as process:
        assert listening(process) - {"127.0.0.1", "::1"} == {"127.0.0.2"}  # TensorBoard's data server stays on loopback
