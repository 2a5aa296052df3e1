"""What makes training fast, as behaviour: what is done how often. Times are for ``make bench``."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.notebook import Network
from fmnist import build
from fmnist.config.errors import UserError
from fmnist.data.batches import SeededBatchSampler
from fmnist.data.dataset import ImageDataset
from fmnist.networks.cnn import CNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed
from tests.conftest import ROOT, run_command

Composed = Callable[..., DictConfig]


class DuringSteps(Callback):
    """Counts what happens from the second training step of an epoch to its last."""

    def __init__(self, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
        self.start = start
        self.stop = stop

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            self.stop()


def train(config: DictConfig, directory: Path, callback: Callback) -> None:
    trainer = build.trainer(config, RunDirectory(directory))
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    trainer.fit(build.classifier(config), build.data(config))


def calls(config: DictConfig, directory: Path) -> int:
    """Number of calls of Python and C functions during an epoch's steps."""
    counter: Counter[str] = Counter()

    def note(_frame: object, event: str, _argument: object) -> None:
        counter[event] += 1

    callback = DuringSteps(lambda: sys.setprofile(note), lambda: sys.setprofile(None))
    train(config, directory, callback)
    return counter["call"] + counter["c_call"]


@pytest.mark.real_data
@pytest.mark.usefixtures("official")
def test_a_step_runs_as_much_python_for_a_thousand_images_as_for_ten(composed: Composed, tmp_path: Path) -> None:
    """No per-sample work: no image is fetched, converted or counted on its own."""
    settings = ["trainer.max_epochs=1", "trainer.limit_train_batches=12", "data.val_size=0"]
    calls(composed("data.batch_size=10", *settings), tmp_path / "first")  # imports and caches
    few = calls(composed("data.batch_size=10", *settings), tmp_path / "few")
    many = calls(composed("data.batch_size=1000", *settings), tmp_path / "many")
    assert few > 1000
    assert abs(many - few) < 50  # garbage collection comes and goes; one call per sample would be 10,890 more


class Synchronisations(TorchDispatchMode):
    """Counts how often a value is taken from a tensor to Python, which on a GPU waits for all that was started."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.real_data
@pytest.mark.usefixtures("official")
def test_steps_between_two_that_are_logged_wait_for_nothing(composed: Composed, tmp_path: Path) -> None:
    config = composed("trainer.max_epochs=1", "trainer.limit_train_batches=40", "data.val_size=0")
    config.trainer.log_every_n_steps = 50
    mode = Synchronisations()
    train(config, tmp_path, DuringSteps(mode.__enter__, lambda: mode.__exit__(None, None, None)))
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
    assert torch.equal(losses[0], losses[1])
    for parameter, reference in zip(ours.parameters(), taught.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, reference.grad)  # type: ignore[arg-type]


def test_batches_are_made_on_the_device_that_holds_the_images() -> None:
    """The meta device stands for a GPU: an index that lay elsewhere would have to be copied to it."""
    device = torch.device("meta")
    dataset = ImageDataset(torch.zeros(100, 1, 28, 28, dtype=torch.uint8), torch.zeros(100).long()).to(device)
    for batch in SeededBatchSampler(torch.arange(100).to(device), batch_size=30, seed=0):
        assert batch.indices.device == device
        images, labels = dataset[batch.indices]
        assert images.device == labels.device == device


def test_adams_fading_averages_are_flushed_to_zero_in_every_thread(tmp_path: Path) -> None:
    """In a process of its own, after all that the guard does: threads inherit it when they are made, not later."""
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


def test_the_default_profiler_measures_nothing_and_another_can_be_chosen(composed: Composed, tmp_path: Path) -> None:
    default = build.trainer(composed(), RunDirectory(tmp_path)).profiler  # type: ignore[attr-defined]
    assert isinstance(default, speed.NoProfiler)
    with default.profile("anything"), default.profile("within"):
        pass
    chosen = build.trainer(composed("trainer.profiler=simple"), RunDirectory(tmp_path)).profiler  # type: ignore[attr-defined]
    assert type(chosen).__name__ == "SimpleProfiler"


def test_without_the_projects_progress_bar_there_is_none(composed: Composed, tmp_path: Path) -> None:
    """Lightning's own, redrawn on each step, would come in its place."""
    trainer = build.trainer(composed("~callbacks.progress_bar"), RunDirectory(tmp_path))
    assert trainer.progress_bar_callback is None


def test_bf16_is_refused_where_the_processor_lacks_it(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"trainer.precision=bf16-mixed: this processor has no bf16"):
        build.trainer(composed("trainer=bf16"), RunDirectory(tmp_path))


@pytest.mark.real_data
@pytest.mark.usefixtures("official")
def test_bf16_trains_where_the_processor_has_it(composed: Composed, tmp_path: Path) -> None:
    if not speed.has_bf16():
        pytest.skip("this processor has no bf16")
    dtypes = set()

    class Logits(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_arguments: Any) -> None:
            dtypes.add(module.train_metrics._pending[-1][1].dtype)

    config = composed("trainer=bf16", "experiment=smoke", "trainer.max_epochs=1")
    train(config, tmp_path, Logits())
    assert dtypes == {torch.bfloat16}


def test_the_network_is_compiled_in_place_when_training_starts(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _self, mode: compiled.append(mode))
    module = build.classifier(composed("compile=reduce-overhead"))
    names = set(module.state_dict())
    module.setup("test")
    assert compiled == []
    module.setup("fit")
    assert compiled == ["reduce-overhead"]
    assert set(module.state_dict()) == names
    eager = build.classifier(composed())
    eager.setup("fit")
    assert len(compiled) == 1
