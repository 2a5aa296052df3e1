"""``resume=<run directory>`` continues a run and changes nothing else.

``tests/torture.py`` tests that a run killed anywhere ends with the same result.
"""

import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.cli.test_command_line import everything_in
from tests.conftest import ROOT, Outcome, one_line, run_command
from tests.torture import different, outcome

pytestmark = pytest.mark.real_data

TrainHere = Callable[..., Outcome]
Start = Callable[..., fork_server.Popen]
SMOKE = ["experiment=smoke", "threads=1", "dashboard=none"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("finished") / "run"
    assert run_command(ROOT / "train.py", *SMOKE, f"hydra.run.dir={path}").code == 0
    return RunDirectory(path)


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A finished run that was moved."""
    shutil.copytree(finished.path, tmp_path / "moved")
    return RunDirectory(tmp_path / "moved")


def unfinish(run: RunDirectory) -> None:
    """Turns a finished run into one that was killed just before its end."""
    run.metrics.unlink()


def test_finished_run_says_so_and_is_unchanged(run: RunDirectory, train_here: TrainHere) -> None:
    before = everything_in(run.path)
    ended = train_here("resume=moved")
    assert (ended.code, ended.err) == (0, "")
    assert "moved is finished, after 2 epochs, and stays unchanged" in ended.out
    assert "python train.py resume=moved trainer.max_epochs=<more than 2>" in ended.out
    assert everything_in(run.path) == before


def test_run_killed_before_writing_its_metrics_writes_them(
    run: RunDirectory, finished: RunDirectory, train_here: TrainHere
) -> None:
    unfinish(run)
    ended = train_here("resume=moved")
    assert ended.code == 0, ended
    assert "going on after epoch 2" in ended.out
    assert different(outcome(run), outcome(finished)) == []


def test_finished_run_trained_longer_equals_run_planned_longer(
    run: RunDirectory, train_here: TrainHere, tmp_path: Path
) -> None:
    configuration = everything_in(run.hydra)
    assert train_here("resume=moved", "trainer.max_epochs=4").code == 0
    assert train_here(*SMOKE, "trainer.max_epochs=4", "hydra.run.dir=planned").code == 0
    assert different(outcome(run), outcome(RunDirectory(tmp_path / "planned"))) == []
    assert everything_in(run.hydra) == configuration


def test_killed_run_remembers_increased_max_epochs(run: RunDirectory, train_here: TrainHere, start: Start) -> None:
    process = start("resume=moved", "trainer.max_epochs=200")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   4/200"):
            break
    process.kill()
    process.wait()
    assert not run.finished
    assert "is less than the run's 200" in one_line(train_here("resume=moved", "trainer.max_epochs=5"))


@pytest.mark.parametrize(
    "augmentation",
    [
        ["augmentation=mixup"],
        [
            "augmentation=[flip,shift,erase,cutmix]",
            "augmentation.flip.alternating=true",
            "augmentation.erase.noise=true",
        ],
    ],
    ids=" ".join,
)
def test_resumed_run_augments_the_same_images(augmentation: list[str], train_here: TrainHere, tmp_path: Path) -> None:
    for name, epochs in (("stopped", 1), ("planned", 3)):
        epochs_and_place = f"trainer.max_epochs={epochs}", f"hydra.run.dir={name}"
        assert train_here(*SMOKE, *augmentation, *epochs_and_place).code == 0
    assert train_here("resume=stopped", "trainer.max_epochs=3").code == 0
    stopped, planned = (outcome(RunDirectory(tmp_path / name)) for name in ("stopped", "planned"))
    assert different(stopped, planned) == []


@pytest.mark.parametrize("schedule", ["cosine", "linear", "onecycle"])
def test_schedule_that_depends_on_max_epochs_is_not_extended(
    schedule: str, train_here: TrainHere, tmp_path: Path
) -> None:
    assert train_here(*SMOKE, f"scheduler={schedule}", "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    before = everything_in(tmp_path / "run")
    line = one_line(train_here("resume=run", "trainer.max_epochs=3"))
    assert "was planned for 1 epochs: with trainer.max_epochs=3, the learning-rate schedule would differ" in line
    assert everything_in(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr=0.1 cannot be changed when resuming moved"),
        (["model=cnn", "seed=1"], "seed=1 cannot be changed when resuming"),
        (["experiment=notebook"], "experiment=notebook cannot be changed when resuming"),
        (["optimizer=sgd"], "optimizer=sgd cannot be changed when resuming"),
        (["~callbacks.best"], "~callbacks.best cannot be changed when resuming"),
        (["+trainer.foo=1"], "+trainer.foo=1 cannot be changed when resuming"),
        (["trainer.max_epochs=1"], "trainer.max_epochs=1 is less than the run's 2"),
        (["trainer.max_epochs=x"], "trainer.max_epochs must be a whole number"),
        (["hydra.run.dir=other"], "a run continues in its own directory"),
        (["-m", "seed=1,2"], "resume continues one run and cannot be combined with a sweep"),
        (["sweep=lr"], "resume continues one run and cannot be combined with a sweep"),
        (["data.data_dir=/nowhere"], "/nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_override_that_changes_the_result_is_rejected(
    overrides: list[str], message: str, run: RunDirectory, train_here: TrainHere, tmp_path: Path
) -> None:
    unfinish(run)
    before = everything_in(tmp_path)
    assert message in one_line(train_here("resume=moved", *overrides))
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=smoke", "threads=1"],  # as it was started
        ["optimizer.lr=0.01", "optimizer=adam"],  # repeated
        ["trainer.enable_progress_bar=false", "trainer.max_epochs=2"],
    ],
    ids=" ".join,
)
def test_override_that_changes_nothing_is_accepted(
    overrides: list[str], run: RunDirectory, train_here: TrainHere
) -> None:
    unfinish(run)
    assert train_here("resume=moved", *overrides).code == 0
    assert run.finished


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("resume=nowhere", "no directory nowhere"),
        ("resume=empty", "empty is not a run directory"),
        ("resume=", "resume must be the directory of one run, got ''"),
        ("resume=3", "resume must be the directory of one run, got 3"),
        ("resume=https://example.org/run", "no directory https:/example.org/run"),
    ],
)
def test_anything_but_a_run_is_rejected(place: str, message: str, train_here: TrainHere, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert message in one_line(train_here(place))
    assert everything_in(tmp_path) == {}


def test_damaged_run_is_rejected(run: RunDirectory, train_here: TrainHere) -> None:
    unfinish(run)
    last = run.last_checkpoint.read_bytes()
    for path, content, message in (
        (run.manifest, b"{", "cannot read"),
        (run.last_checkpoint, last[:1000], "is not a checkpoint, or is damaged"),
        (run.best_checkpoint, None, "best.ckpt is missing"),
    ):
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert message in train_here("resume=moved").err.splitlines()[-1]
        path.write_bytes(whole)
    assert train_here("resume=moved").code == 0


def test_run_locked_by_another_process_is_rejected(start: Start, tmp_path: Path) -> None:
    process = start(*SMOKE, "trainer.max_epochs=100", "hydra.run.dir=run")
    run = RunDirectory(tmp_path / "run")
    while not run.last_checkpoint.exists():
        time.sleep(0.02)
    other = run_command(ROOT / "train.py", "resume=run", cwd=tmp_path)
    assert "run is being written by another process; wait until it ends" in one_line(other)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert run.read_manifest()["state"] == "interrupted"  # type: ignore[index]


def test_printed_resume_command_works_and_curves_have_each_step_once(start: Start, tmp_path: Path) -> None:
    process = start(*SMOKE, "trainer.max_epochs=30", 'hydra.run.dir="my run, 1=2"')
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch  3/30"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    command = shlex.split(lines[-1].partition("to resume:  ")[2])
    assert command[:2] == ["python", "train.py"]
    assert run_command(ROOT / "train.py", *command[2:], cwd=tmp_path).code == 0

    run = RunDirectory(tmp_path / "my run, 1=2")
    log = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0})
    log.Reload()
    for name, steps in {
        "train/loss_step": range(9, 1500, 10),
        "lr": range(9, 1500, 10),
        "train/acc": range(49, 1500, 50),
        "val/loss": range(49, 1500, 50),
    }.items():
        assert [event.step for event in log.Scalars(name)] == list(steps), name
