"""``resume=<run directory>``: a run goes on as if nothing had happened, and nothing else is made of it.

That it ends with the same result wherever it was killed is for ``tests/torture.py``.
"""

import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.runs.run_directory import RunDirectory
from tests.cli.test_command_line import everything_in
from tests.conftest import ROOT, Outcome, one_line, run_command
from tests.torture import different, outcome

pytestmark = pytest.mark.real_data

TrainHere = Callable[..., Outcome]
Start = Callable[..., subprocess.Popen[str]]
SMOKE = ["experiment=smoke", "threads=1", "dashboard=none"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("finished") / "run"
    assert run_command(ROOT / "train.py", *SMOKE, f"hydra.run.dir={path}").code == 0
    return RunDirectory(path)


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A finished run that was moved to another place."""
    shutil.copytree(finished.path, tmp_path / "moved")
    return RunDirectory(tmp_path / "moved")


def unfinish(run: RunDirectory) -> None:
    """Leaves a run as if it had been killed just before its end."""
    run.metrics.unlink()


def test_a_finished_run_says_so_and_stays_as_it_is(run: RunDirectory, train_here: TrainHere) -> None:
    before = everything_in(run.path)
    ended = train_here("resume=moved")
    assert (ended.code, ended.err) == (0, "")
    assert "moved is finished, after 2 epochs, and stays as it is" in ended.out
    assert "python train.py resume=moved trainer.max_epochs=<more than 2>" in ended.out
    assert everything_in(run.path) == before


def test_a_run_killed_before_it_wrote_its_metrics_writes_them(
    run: RunDirectory, finished: RunDirectory, train_here: TrainHere
) -> None:
    unfinish(run)
    ended = train_here("resume=moved")
    assert ended.code == 0, ended
    assert "going on after epoch 2" in ended.out
    assert different(outcome(run), outcome(finished)) == []


def test_a_finished_run_trains_on_as_if_more_epochs_had_been_planned(
    run: RunDirectory, train_here: TrainHere, tmp_path: Path
) -> None:
    configuration = everything_in(run.hydra)
    assert train_here("resume=moved", "trainer.max_epochs=4").code == 0
    assert train_here(*SMOKE, "trainer.max_epochs=4", "hydra.run.dir=planned").code == 0
    assert different(outcome(run), outcome(RunDirectory(tmp_path / "planned"))) == []
    assert everything_in(run.hydra) == configuration


def test_a_run_that_trains_on_and_is_killed_knows_how_far(
    run: RunDirectory, train_here: TrainHere, start: Start
) -> None:
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
def test_a_run_that_goes_on_sees_the_images_that_it_would_have_seen(
    augmentation: list[str], train_here: TrainHere, tmp_path: Path
) -> None:
    for name, epochs in (("stopped", 1), ("planned", 3)):
        epochs_and_place = f"trainer.max_epochs={epochs}", f"hydra.run.dir={name}"
        assert train_here(*SMOKE, *augmentation, *epochs_and_place).code == 0
    assert train_here("resume=stopped", "trainer.max_epochs=3").code == 0
    stopped, planned = (outcome(RunDirectory(tmp_path / name)) for name in ("stopped", "planned"))
    assert different(stopped, planned) == []


def test_an_older_run_whose_augmentation_is_one_node_goes_on_with_the_same_images(
    train_here: TrainHere, tmp_path: Path
) -> None:
    for name, epochs in (("older", 1), ("planned", 2)):
        epochs_and_place = f"trainer.max_epochs={epochs}", f"hydra.run.dir={name}"
        assert train_here(*SMOKE, "augmentation=flip_shift", *epochs_and_place).code == 0
    older = RunDirectory(tmp_path / "older")
    config = older.read_configuration()
    config.augmentation = {"_target_": "fmnist.data.augmentation.FlipAndShift", "flip": True, "shift": 2}
    OmegaConf.save(config, older.hydra / "config.yaml")
    assert train_here("resume=older", "trainer.max_epochs=2").code == 0
    assert different(outcome(older), outcome(RunDirectory(tmp_path / "planned"))) == []


@pytest.mark.parametrize("schedule", ["cosine", "linear", "onecycle"])
def test_a_schedule_that_was_planned_for_the_end_is_not_trained_on(
    schedule: str, train_here: TrainHere, tmp_path: Path
) -> None:
    assert train_here(*SMOKE, f"scheduler={schedule}", "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    before = everything_in(tmp_path / "run")
    line = one_line(train_here("resume=run", "trainer.max_epochs=3"))
    assert "were planned for an end after 1 epochs, and would have been others with trainer.max_epochs=3" in line
    assert everything_in(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr=0.1 would make another run of moved"),
        (["model=cnn", "seed=1"], "seed=1 would make another run"),
        (["experiment=notebook"], "experiment=notebook would make another run"),
        (["optimizer=sgd"], "optimizer=sgd would make another run"),
        (["~callbacks.best"], "~callbacks.best would make another run"),
        (["+trainer.foo=1"], "+trainer.foo=1 would make another run"),
        (["trainer.max_epochs=1"], "trainer.max_epochs=1 is less than the run's 2"),
        (["trainer.max_epochs=x"], "trainer.max_epochs must be a whole number"),
        (["hydra.run.dir=other"], "a run goes on in its own directory"),
        (["-m", "seed=1,2"], "resume continues one run, and does not go with a sweep"),
        (["sweep=lr"], "resume continues one run, and does not go with a sweep"),
        (["data.data_dir=/nowhere"], "/nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_make_it_another_run_is_refused_and_named(
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
        ["optimizer.lr=0.01", "optimizer=adam"],  # said again
        ["trainer.enable_progress_bar=false", "trainer.max_epochs=2"],
    ],
    ids=" ".join,
)
def test_what_changes_nothing_may_be_said(overrides: list[str], run: RunDirectory, train_here: TrainHere) -> None:
    unfinish(run)
    assert train_here("resume=moved", *overrides).code == 0
    assert run.finished


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("resume=nowhere", "no directory nowhere"),
        ("resume=empty", "empty is no run directory"),
        ("resume=", "resume must be the directory of one run, got ''"),
        ("resume=3", "resume must be the directory of one run, got 3"),
        ("resume=https://example.org/run", "no directory https:/example.org/run"),
    ],
)
def test_what_is_no_run_is_refused(place: str, message: str, train_here: TrainHere, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert message in one_line(train_here(place))
    assert everything_in(tmp_path) == {}


def test_a_damaged_run_is_refused(run: RunDirectory, train_here: TrainHere) -> None:
    unfinish(run)
    last = run.last_checkpoint.read_bytes()
    for path, content, message in (
        (run.manifest, b"{", "cannot read"),
        (run.last_checkpoint, last[:1000], "is no checkpoint, or is damaged"),
        (run.best_checkpoint, None, "best.ckpt is missing"),
    ):
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert message in train_here("resume=moved").err.splitlines()[-1]
        path.write_bytes(whole)
    assert train_here("resume=moved").code == 0


def test_a_run_that_another_process_works_on_is_refused(start: Start, tmp_path: Path) -> None:
    process = start(*SMOKE, "trainer.max_epochs=100", "hydra.run.dir=run")
    run = RunDirectory(tmp_path / "run")
    while not run.last_checkpoint.exists():
        time.sleep(0.02)
    other = run_command(ROOT / "train.py", "resume=run", cwd=tmp_path)
    assert "run is being written by another process; wait until it has ended" in one_line(other)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert run.read_manifest()["state"] == "interrupted"  # type: ignore[index]


def test_the_run_says_how_to_go_on_and_the_curves_have_each_step_once(start: Start, tmp_path: Path) -> None:
    process = start(*SMOKE, "trainer.max_epochs=30", 'hydra.run.dir="my run, 1=2"')
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch  3/30"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    command = shlex.split(lines[-1].partition("to go on:  ")[2])
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
