"""What makes training fast: what is done how often. ``make bench`` measures times."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.notebook import Network
from fmnist import build
from fmnist.data.batches import SeededBatchSampler
from fmnist.data.dataset import ImageDataset
from fmnist.networks.cnn import CNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed
from tests.helpers import ROOT, run_command

Composed = Callable[..., DictConfig]


@pytest.fixture
def train(composed: Composed, tmp_path: Path) -> Callable[..., None]:
    """Trains for 12 steps, observed from the second to the last."""

    def call(start: Callable[[], Any], stop: Callable[[], Any], *overrides: str) -> None:
        short = ["trainer.max_epochs=1", "trainer.limit_train_batches=12", "data.val_size=0", "dashboard=none"]
        config = composed(*short, *overrides)
        trainer = build.trainer(config, RunDirectory(tmp_path))
        observer = LambdaCallback(
            on_train_batch_start=lambda *arguments: start() if arguments[-1] == 1 else None,
            on_train_batch_end=lambda *arguments: stop() if arguments[-1] == 11 else None,
        )
        trainer.callbacks.append(observer)  # type: ignore[attr-defined]
        trainer.fit(build.classifier(config), build.data(config))

    return call


@pytest.mark.real_data
@pytest.mark.usefixtures("official")
def test_step_runs_as_much_python_for_a_thousand_images_as_for_ten(train: Callable[..., None]) -> None:
    """No per-sample work: no image is fetched, converted or counted on its own."""

    def calls(batch_size: int) -> int:
        """Number of calls of Python and C functions during the steps."""
        counter: Counter[str] = Counter()

        def note(_frame: object, event: str, _argument: object) -> None:
            counter[event] += 1

        train(lambda: sys.setprofile(note), lambda: sys.setprofile(None), f"data.batch_size={batch_size}")
        return counter["call"] + counter["c_call"]

    _, few, many = calls(10), calls(10), calls(1000)  # the first imports and fills caches
    assert few > 1000
    assert abs(many - few) < 50  # garbage collection comes and goes; one call per sample would be 10,890 more


class Synchronisations(TorchDispatchMode):
    """Counts how often a value is taken from a tensor to Python, for which a GPU finishes everything."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.real_data
@pytest.mark.usefixtures("official")
def test_steps_between_two_that_are_logged_wait_for_nothing(train: Callable[..., None]) -> None:
    mode = Synchronisations()
    train(mode.__enter__, lambda: mode.__exit__(None, None, None), "trainer.log_every_n_steps=50")
    assert mode.count == 0
    with mode:
        torch.tensor(1.0).item()
    assert mode.count == 1  # it does count


@pytest.mark.real_data
def test_relu_after_pooling_gives_the_lessons_values_and_gradients_to_the_last_bit(train_set: ImageDataset) -> None:
    images, labels = train_set[torch.arange(500)]
    taught, ours = Network(), CNN()
    ours.load_state_dict(ours.state_dict() | taught.state_dict())
    losses = []
    for network, pixels in ((taught, images.float() / 255), (ours, images)):
        network.to(memory_format=torch.channels_last)
        losses.append(torch.nn.functional.cross_entropy(network(pixels), labels))
        losses[-1].backward()
    assert torch.equal(*losses)
    for parameter, reference in zip(ours.parameters(), taught.parameters(), strict=True):
        assert torch.equal(parameter.grad, reference.grad)  # type: ignore[arg-type]


def test_batches_are_made_on_the_device_that_holds_the_images() -> None:
    """The meta device stands for a GPU: an index elsewhere would have to be copied to it."""
    device = torch.device("meta")
    dataset = ImageDataset(torch.zeros(100, 1, 28, 28, dtype=torch.uint8), torch.zeros(100).long()).to(device)
    for batch in SeededBatchSampler(torch.arange(100).to(device), set_size=100, num_classes=10, batch_size=30, seed=0):
        images, labels = dataset[batch.indices]
        assert batch.indices.device == images.device == labels.device == device


def test_adams_fading_averages_are_flushed_to_zero_in_every_thread(tmp_path: Path) -> None:
    """In a fresh process, after everything that train.py does before: threads inherit the setting when they start."""
    code = f"""
import torch
import fmnist.cli.preflight
from fmnist import build
from fmnist.runs.run_directory import RunDirectory
from hydra import compose, initialize_config_dir
with initialize_config_dir({str(ROOT / "conf")!r}, version_base="1.3"):
    config = compose("train", ["threads=2"])
build.check(config, RunDirectory({str(tmp_path)!r}))
build.configure_process(config)
x = torch.full((1_000_000,), 1e-38)
print((x * 1e-2 == 0).all().item())
"""
    outcome = run_command("-c", code, cold=True)
    assert (outcome.out.strip(), outcome.err) == ("True", "")


@pytest.mark.parametrize(("library", "given"), [("glibc", [(-1, 2147483647), (-3, 33554432)]), ("musl", [])])
def test_freed_memory_is_kept_for_the_next_step(
    library: str, given: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h, and their greatest values."""
    calls: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(speed, "ctypes", SimpleNamespace(CDLL=lambda _: libc))
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, "2"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    speed.prepare()
    assert calls == given
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_default_profiler_measures_nothing_and_another_can_be_chosen(composed: Composed, tmp_path: Path) -> None:
    default, chosen = (
        build.trainer(composed(f"trainer.profiler={name}"), RunDirectory(tmp_path)).profiler  # type: ignore[attr-defined]
        for name in ("null", "simple")
    )
    assert isinstance(default, speed.NoProfiler)
    with default.profile("anything"), default.profile("within"):
        pass
    assert isinstance(chosen, SimpleProfiler)


def test_without_the_projects_progress_bar_there_is_none(composed: Composed, tmp_path: Path) -> None:
    """Lightning would add its own, redrawn on each step."""
    trainer = build.trainer(composed("~callbacks.progress_bar"), RunDirectory(tmp_path))
    assert trainer.progress_bar_callback is None


@pytest.mark.parametrize("capable", [True, False])
def test_bf16_needs_a_processor_that_has_it(capable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": capable})
    assert speed.has_bf16() == capable


def test_network_is_compiled_in_place_when_training_starts(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _self, mode: compiled.append(mode))
    module, eager = build.classifier(composed("compile=reduce-overhead")), build.classifier(composed())
    names = set(module.state_dict())
    for each in (module, eager):
        each.trainer = MagicMock(spec=Trainer, datamodule=None)
    module.setup("test")
    eager.setup("fit")
    assert compiled == []
    module.setup("fit")
    assert compiled == ["reduce-overhead"]
    assert set(module.state_dict()) == names
