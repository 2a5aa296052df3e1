"""The command line of train.py: a mistake ends with one line and changes nothing; help needs no torch."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, TINY, Start, TrainHere, one_line, run_command, wait_until


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # Hydra's
        ("modle=cnn", "no key 'modle' in the configuration; did you mean 'model'?"),
        ("model.fixed_stem=true", "no key 'model.fixed_stem' in the configuration; model=residual has it"),
        ("optimizer=adam optimizer.nesterov=true", "'optimizer.nesterov' in the configuration; optimizer=sgd has it"),
        ("optimizer=sgd betas=1", "no key 'betas' in the configuration; python train.py --help lists the keys\n"),
        ("optimizer=sdg", "no 'sdg' in group 'optimizer'; did you mean 'sgd'? (choices: adam, adamw, sgd)"),
        ("hydra/launcher=cloud", "no 'cloud' in group 'hydra/launcher': no installed Hydra plugin provides it"),
        ("optimizer.lr=1,2", "'optimizer.lr=1,2': add -m to run each value, or write a list as 'optimizer.lr=[1,2]'"),
        ("trainer.max_epochs", "cannot read 'trainer.max_epochs': write overrides as key=value"),
        ("data.data_dir=~/x", """quote the value twice: 'data.data_dir="~/x"'"""),
        ("--lr=0.1", "no option '--lr': write settings as key=value, without dashes; did you mean 'optimizer.lr'?"),
        ("~name", "error: name is null already, so '~name' has nothing to remove\n"),
        ("-lr=0.1", "no option '-lr': write settings as key=value, without dashes; did you mean 'optimizer.lr'?"),
        ("--max-epochs 5", "without dashes; did you mean 'trainer.max_epochs'?"),
        ("scheduler=null", "a group cannot be null"),
        ("~foo", "no key 'foo'"),
        ("seed=${foo}", "error: Interpolation key 'foo' not found\n"),
        # of values
        ("data.batch_size=0", "data.batch_size must be at least 1, got 0"),
        ("-m optimizer.lr=0.01,-1", "optimizer: Invalid learning rate: -1"),
        ("-m optimizer=adam,sdg", "did you mean 'sgd'?"),
        ("-m data.batch_size=range(-1,2)", "data.batch_size must be at least 1, got -1"),
        ("-m seed=1,2,1", "seed has the value 1 twice"),
        # of directories
        ("hydra.run.dir=busy", "busy already holds a finished run, and nothing in it was changed; choose another"),
        ("hydra.run.dir=file", "file is a file; a run or a sweep needs a directory"),
        ("hydra.run.dir=file/run", "cannot write the directory file/run"),
        (f"hydra.run.dir={300 * 'x'}", "File name too long"),
        ("-m seed=1,2 hydra.sweep.dir=.", "already holds other files, and nothing in it was changed"),
        ("-m seed=1,2 hydra.sweep.dir=busy/new", "busy/new lies within another run"),
        ("-m seed=1,2 hydra.sweep.subdir=x", "hydra.sweep.subdir=x would give all jobs the same directory"),
        ("-m seed=1,2 resume=busy", "resume continues one run and cannot be combined with a sweep"),
    ],
)
def test_mistake_ends_with_one_line_and_changes_nothing(
    arguments: str, message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    (tmp_path / "busy/.hydra").mkdir(parents=True)
    for name in ("file", "busy/metrics.json"):
        (tmp_path / name).write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    assert message in one_line(train_here(*arguments.split()))
    assert sorted(tmp_path.rglob("*")) == before
    assert {path.read_text() for path in before if path.is_file()} == {"precious"}


def test_mistake_that_only_the_run_notices_ends_with_one_line(
    train_here: TrainHere, official: Path, tmp_path: Path
) -> None:
    (tmp_path / "given").mkdir()
    for path in official.glob("*ubyte"):
        (tmp_path / "given" / path.name).write_bytes(b"truncated")
    line = one_line(train_here(*TINY, "data.data_dir=given"))
    assert "ubyte is not the official file: expected SHA-256 " in line
    assert {path.read_bytes() for path in (tmp_path / "given").iterdir()} == {b"truncated"}


def test_mistyped_override_is_reported_before_torch_is_imported(tmp_path: Path) -> None:
    outcome = run_command("-X", "importtime", ROOT / "train.py", "lr=0.1", cwd=tmp_path, cold=True)
    lines = outcome.err.splitlines()
    assert outcome.code == 1
    assert [line for line in lines if not line.startswith("import time:")] == [
        "error: no key 'lr' in the configuration; did you mean 'optimizer.lr'?"
    ]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "torchvision", "matplotlib"}


def test_help_needs_no_torch_and_shows_examples_choices_and_values(tmp_path: Path) -> None:
    outcome = run_command("-X", "importtime", ROOT / "train.py", "--help", cwd=tmp_path, cold=True)
    assert outcome.code == 0
    assert "torch.nn" not in outcome.err
    experiments = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))
    lines = "-m optimizer.lr=0.001,0.003,0.01", "optimizer: adam, adamw, sgd", f"experiment: {', '.join(experiments)}"
    assert all(line in outcome.out for line in (*lines, "batch_size: 100"))
    assert list(tmp_path.iterdir()) == []


def test_configuration_is_shown(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here("--cfg", "job", "data.batch_size=7")
    assert (outcome.code, outcome.err) == (0, "")
    assert "\n  batch_size: 7\n" in outcome.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_data
def test_ctrl_c_in_the_first_epoch_says_that_there_is_no_checkpoint(start: Start) -> None:
    process = start("hydra.run.dir=run", "threads=1")
    assert process.stdout is not None
    assert any(line.startswith("data:") for line in process.stdout)  # reads up to this line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "interrupted: no epoch was finished, so there is no checkpoint in" in out


@pytest.mark.real_data
def test_ctrl_c_keeps_the_last_checkpoint_and_names_it(start: Start, tmp_path: Path) -> None:
    process = start(*TINY, "hydra.run.dir=run", "trainer.max_epochs=9999")
    wait_until((tmp_path / "run/checkpoints/last.ckpt").is_file, "a checkpoint")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "kept run/checkpoints/last.ckpt, of the last finished epoch" in out
    assert out.rstrip().endswith("; to resume:  python train.py resume=run")
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    assert not (tmp_path / "run/metrics.json").exists()


def test_ctrl_c_while_torch_is_imported_prints_one_word(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, ROOT / "train.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(), "the import of torch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
