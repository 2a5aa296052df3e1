"""``resume=<run directory>`` continues a run and changes nothing else.

``tests/torture.py`` tests that a run killed anywhere ends with the same result.
"""

import shlex
import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, TINY, Start, TrainHere, one_line, run_command
from tests.sweep_fixtures import everything_in
from tests.torture import different, outcome

pytestmark = pytest.mark.real_data


@pytest.fixture
def killed(run_copy: RunDirectory) -> RunDirectory:
    """A run that was moved, and killed just before its end."""
    run_copy.metrics.unlink()
    return run_copy


def test_finished_run_says_so_and_is_unchanged(run_copy: RunDirectory, train_here: TrainHere) -> None:
    before = everything_in(run_copy.path)
    ended = train_here("resume=run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "run is finished, after 2 epochs, and stays unchanged; "
        "to train longer, if its learning rate does not depend on the number of epochs:  "
        "python train.py resume=run trainer.max_epochs=<more than 2>\n"
    )
    assert everything_in(run_copy.path) == before


def test_run_killed_before_writing_its_metrics_writes_them(
    killed: RunDirectory, trained_run: RunDirectory, train_here: TrainHere
) -> None:
    repeated = ["experiment=smoke", "optimizer.lr=0.01", "optimizer=adam", "trainer.max_epochs=2"]  # change nothing
    ended = train_here("resume=run", *repeated, "trainer.enable_progress_bar=false")
    assert ended.code == 0, ended
    assert "resuming after epoch 2" in ended.out
    assert different(outcome(killed), outcome(trained_run)) == []


def test_run_trained_longer_equals_run_planned_longer(train_here: TrainHere) -> None:
    augmentation = "augmentation=[flip,shift,erase,mixup,cutmix]", "augmentation.flip.alternating=true"
    # TensorBoard orders event files by second, then by name: in one process, files of one second may change places.
    command = *TINY, *augmentation, "augmentation.erase.noise=true", "logger=csv"
    run, planned = RunDirectory("run"), RunDirectory("planned")
    assert train_here(*command, "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    configuration = everything_in(run.hydra)
    assert train_here("resume=run", "trainer.max_epochs=3").code == 0
    assert train_here(*command, "trainer.max_epochs=3", "hydra.run.dir=planned").code == 0
    assert different(outcome(run), outcome(planned)) == []
    assert everything_in(run.hydra) == configuration

    run.metrics.unlink()  # killed before its end, it remembers its epochs
    assert "trainer.max_epochs=2 is less than the run's 3" in one_line(train_here("resume=run", "trainer.max_epochs=2"))


def test_schedule_that_depends_on_max_epochs_is_not_extended(train_here: TrainHere, tmp_path: Path) -> None:
    assert train_here(*TINY, "scheduler=cosine", "hydra.run.dir=run").code == 0
    before = everything_in(tmp_path / "run")
    line = one_line(train_here("resume=run", "trainer.max_epochs=3"))
    assert "was planned for 1 epochs: with trainer.max_epochs=3, the learning-rate schedule would differ" in line
    assert everything_in(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (["trainer.max_epochs=2", "trainer.max_steps=3"], "run ended after 1 of its 2 epochs, by early stopping"),
        (["trainer.max_epochs=-1", "trainer.max_time=00:00:00:01"], "the run was started without an end"),
    ],
)
def test_run_that_its_epochs_did_not_end_is_not_extended(end: list[str], message: str, train_here: TrainHere) -> None:
    assert train_here(*TINY, *end, "hydra.run.dir=run").code == 0
    assert message in one_line(train_here("resume=run", "trainer.max_epochs=300"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr=0.1 cannot be changed when resuming run"),
        (["model=cnn", "seed=1"], "seed=1 cannot be changed when resuming"),
        (["optimizer=sgd"], "optimizer=sgd cannot be changed when resuming"),
        (["~callbacks.best"], "~callbacks.best cannot be changed when resuming"),
        (["+trainer.foo=1"], "+trainer.foo=1 cannot be changed when resuming"),
        (["trainer.max_epochs=1"], "trainer.max_epochs=1 is less than the run's 2"),
        (["trainer.max_epochs=x"], "trainer.max_epochs must be a whole number"),
        (["hydra.run.dir=other"], "hydra.run.dir cannot be combined with resume: a run continues in its own directory"),
        (["-m", "seed=1,2"], "resume continues one run and cannot be combined with a sweep"),
        (["data.data_dir=/nowhere"], "/nowhere does not exist"),
        (["resume=nowhere"], "no directory nowhere"),
        (["resume="], "resume must be the directory of one run, got ''"),
        (["resume=3"], "resume must be the directory of one run, got 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("killed")
def test_mistake_leaves_the_run_unchanged(
    overrides: list[str], message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    before = everything_in(tmp_path)
    assert message in one_line(train_here("resume=run", *overrides))
    assert everything_in(tmp_path) == before


def test_damaged_run_is_rejected(killed: RunDirectory, train_here: TrainHere) -> None:
    last = killed.last_checkpoint.read_bytes()
    for path, content, message in (
        (killed.hydra / "config.yaml", b"seed: 0", "cannot use run/.hydra/config.yaml: the configuration lacks data"),
        (killed.manifest, b"{", "cannot read run/manifest.json"),
        (killed.last_checkpoint, last[:1000], "is not a checkpoint, or is damaged"),
    ):
        whole = path.read_bytes()
        path.write_bytes(content)
        assert message in train_here("resume=run").err.splitlines()[-1]
        path.write_bytes(whole)
    killed.best_checkpoint.unlink()
    assert "best.ckpt is missing" in train_here("resume=run").err.splitlines()[-1]


def test_printed_resume_command_works_and_curves_have_each_step_once(start: Start, tmp_path: Path) -> None:
    length = "trainer.max_epochs=9", "trainer.limit_train_batches=20", "trainer.log_every_n_steps=1"
    process = start(*TINY, *length, 'hydra.run.dir="my run, 1=2"')
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 3/9"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    command = shlex.split(lines[-1].partition("to resume:  ")[2])
    assert command[:2] == ["python", "train.py"]
    assert run_command(ROOT / "train.py", *command[2:], cwd=tmp_path).code == 0

    run = RunDirectory(tmp_path / "my run, 1=2")
    log = EventAccumulator(str(run.path), size_guidance={"scalars": 0})
    log.Reload()
    for names, expected in ((("train/loss_step", "lr"), range(180)), (("train/acc", "val/loss"), range(19, 180, 20))):
        for name in names:
            assert [event.step for event in log.Scalars(name)] == list(expected), name
