"""The command line of train.py: a mistake ends with one line and changes nothing; help needs no torch."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.config.suggestion import did_you_mean
from tests import fork_server
from tests.conftest import ROOT, Outcome, one_line, run_command

TrainHere = Callable[..., Outcome]
Start = Callable[..., fork_server.Popen]


def everything_in(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr=0.1"], "no key 'lr' in the configuration; did you mean 'optimizer.lr'?"),
        (["optimizer.lrr=0.1"], "no key 'optimizer.lrr' in the configuration; did you mean 'optimizer.lr'?"),
        (["optimizer.lrr=0.1", "--cfg", "hydra"], "no key 'optimizer.lrr' in the configuration"),
        (["optimzer.lr=0.1"], "did you mean 'optimizer.lr'?"),
        (["max_epochs=3"], "did you mean 'trainer.max_epochs'?"),
        (["modle=cnn"], "did you mean 'model'?"),
        (["model.fixed_stem=true"], "no key 'model.fixed_stem' in the configuration; model=residual has it"),
        (
            ["optimizer=adam", "optimizer.nesterov=true"],
            "'optimizer.nesterov' in the configuration; optimizer=sgd has it",
        ),
        (["optimizer=sdg"], "no 'sdg' in group 'optimizer'; did you mean 'sgd'? (choices: adam, adamw, sgd)"),
        (["experiment=notebok"], "did you mean 'notebook'?"),
        (["optimizer=sgd", "betas=1"], "no key 'betas'"),  # sgd has no betas to suggest
        (
            ["optimizer.lr=1,2"],
            "'optimizer.lr=1,2': add -m to run each value, or write a list as 'optimizer.lr=[1,2]'",
        ),
        (["trainer.max_epochs"], "cannot read 'trainer.max_epochs': write overrides as key=value"),
        (["data.data_dir=~/x"], """quote the value twice: 'data.data_dir="~/x"'"""),
        (['data.data_dir="~/x"'], "data.data_dir: "),  # parsed, but not found
        (["optimizer.lr=[1"], "cannot read 'optimizer.lr=[1'"),
        (["data.batch_size=0"], "data.batch_size must be at least 1, got 0"),
        (["data.batch_size=abc"], "data.batch_size must be a whole number, got 'abc'"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs must be a whole number or null, got 1.5"),
        (["data.val_size=70000"], "data.val_size must be from 0 to 59999"),
        (["data.data_dir=/nowhere"], "data.data_dir: /nowhere does not exist"),
        (["trainer=gpu"], "torch sees no GPU here; use trainer=auto"),
        (["+lr=0.1"], "unknown configuration key 'lr'; did you mean 'optimizer.lr'?"),
        (
            ["--lr=0.1"],
            "no option '--lr': write settings as key=value, without dashes; did you mean 'optimizer.lr'?",
        ),
        (["--max-epochs", "5"], "without dashes; did you mean 'trainer.max_epochs'?"),
        (["--resume", "runs/x"], "no option '--resume': write settings as key=value, without dashes"),
        (["-m", "lr=0.1,0.2"], "did you mean 'optimizer.lr'?"),
        (["-m", "optimizer.lr=0.01,-1"], "optimizer: Invalid learning rate: -1"),
        (["-m", "optimizer=adam,sdg"], "did you mean 'sgd'?"),
        (["-m", "data.batch_size=range(-1,2)"], "data.batch_size must be at least 1, got -1"),
        (["-m", "seed=1,2,1"], "seed has the value 1 twice"),
        (["-m", "seed=1,2", "hydra.sweep.subdir=x"], "would give all jobs the same directory"),
        (["-m", "seed=1,2", "hydra.sweep.dir=/dev/null/x"], "cannot"),
        (["hydra.run.dir=" + 300 * "x"], "File name too long"),
        (["scheduler=null"], "a group cannot be null"),
        (["~foo"], "no key 'foo'"),
        (["seed=${foo}"], "'foo' not found"),
    ],
    ids=" ".join,
)
def test_mistake_ends_with_one_line_and_creates_no_directory(
    arguments: list[str], message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    outcome = train_here(*arguments)
    assert message in one_line(outcome)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("mistake", ["lr=0.1", "data.batch_size=0"])
def test_traceback_is_printed_on_request(mistake: str, tmp_path: Path) -> None:
    outcome = run_command(ROOT / "train.py", mistake, cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


@pytest.mark.parametrize("option", ["--help", "--cfg=job"])
def test_help_and_configuration_need_no_torch(option: str, tmp_path: Path) -> None:
    outcome = run_command("-X", "importtime", ROOT / "train.py", option, cwd=tmp_path, cold=True)
    assert outcome.code == 0
    assert "torch.nn" not in outcome.err
    assert "batch_size: 100" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples_and_all_choices(tmp_path: Path) -> None:
    out = run_command(ROOT / "train.py", "--help", cwd=tmp_path).out
    assert "python train.py -m optimizer.lr=0.001,0.003,0.01" in out
    assert "optimizer: adam, adamw, sgd" in out
    experiments = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))
    assert f"experiment: {', '.join(experiments)}" in out


@pytest.mark.parametrize("content", ["metrics.json", ".hydra/config.yaml", "holiday.jpg"])
def test_directory_in_use_is_rejected_and_unchanged(content: str, train_here: TrainHere, tmp_path: Path) -> None:
    path = tmp_path / "busy" / content
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    for arguments in (["hydra.run.dir=busy"], ["-m", "seed=1,2", "hydra.sweep.dir=busy"]):
        before = everything_in(tmp_path)
        line = one_line(train_here("experiment=smoke", *arguments))
        assert "busy already holds" in line
        assert "choose another directory" in line
        assert everything_in(tmp_path) == before


def test_defect_ends_with_its_traceback(train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("a defect")

    for place in ("fmnist.build.check", "fmnist.build.configure_process"):  # before and after the directory is created
        with monkeypatch.context() as patch:
            patch.setattr(place, defective)
            outcome = train_here("experiment=smoke")
        assert outcome.code == 1
        assert "Traceback" in outcome.err
        assert outcome.err.splitlines()[-1] == "ZeroDivisionError: a defect"
    assert len(list((tmp_path / "runs/train").glob("*/*"))) == 1  # the first call created none


@pytest.mark.parametrize("option", ["hydra.run.dir", "hydra.sweep.dir"])
def test_directory_within_a_run_is_rejected(option: str, train_here: TrainHere, tmp_path: Path) -> None:
    (tmp_path / "run/.hydra").mkdir(parents=True)
    arguments = ["-m", "seed=1,2"] if option == "hydra.sweep.dir" else []
    assert "lies within another run" in one_line(train_here(*arguments, f"{option}=run/checkpoints/new"))


def test_file_as_run_directory_is_rejected(train_here: TrainHere, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file is a file" in one_line(train_here("hydra.run.dir=file"))


def test_run_directory_that_cannot_be_created_is_rejected(train_here: TrainHere, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write the directory file/run" in one_line(train_here("hydra.run.dir=file/run"))


@pytest.mark.real_data
def test_damaged_data_file_is_named_and_kept(train_here: TrainHere, official: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for path in official.glob("*ubyte"):
        (given / path.name).symlink_to(path)
    damaged = given / "t10k-labels-idx1-ubyte"
    damaged.unlink()
    damaged.write_bytes(b"truncated")
    line = one_line(train_here("experiment=smoke", f"data.data_dir={given}", "trainer.max_epochs=1"))
    assert f"{damaged} is not the official file: expected SHA-256 0402a96d92fd..., found" in line
    assert damaged.read_bytes() == b"truncated"


@pytest.mark.real_data
@pytest.mark.parametrize("after", ["data:", "epoch 1"])
def test_ctrl_c_stops_cleanly_and_names_the_checkpoint(after: str, start: Start, tmp_path: Path) -> None:
    process = start("hydra.run.dir=run", "trainer.max_epochs=9")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(after):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGINT)
    assert err == ""
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    if after == "data:":
        assert "interrupted: no epoch was finished, so there is no checkpoint in" in out
    else:
        assert "kept run/checkpoints/last.ckpt, of the last finished epoch" in out
        assert out.rstrip().endswith("; to resume:  python train.py resume=run")
        assert checkpoint.is_file()
    assert not (tmp_path / "run/metrics.json").exists()


def test_ctrl_c_before_training_prints_one_word(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, ROOT / "train.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():  # torch is being imported
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("name", "candidates", "suggestion"),
    [
        ("lr", ["seed", "optimizer.lr"], "optimizer.lr"),
        ("learning_rate", ["seed"], None),
        ("data.bach_size", ["data.batch_size", "data.val_size"], "data.batch_size"),
        ("bach_size", ["data.batch_size", "data.val_size"], "data.batch_size"),
        ("epochs", ["trainer.max_epochs", "trainer.min_epochs"], "trainer.max_epochs"),
        ("trainer.epochs", ["x.max_epochs", "trainer.max_epochs", "trainer.min_epochs"], "trainer.max_epochs"),
        ("batch", ["data.val_size", "data.batch_size"], "data.batch_size"),
        ("x", [], None),
    ],
)
def test_closest_name_is_suggested(name: str, candidates: list[str], suggestion: str | None) -> None:
    assert did_you_mean(name, candidates) == (f"; did you mean '{suggestion}'?" if suggestion else "")
