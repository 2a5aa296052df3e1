"""Command lines of the commands: key=value, taken literally."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fmnist.cli import options
from fmnist.config.errors import UserError


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory")
    split: Literal["test", "val"] = options.option("test or val", default="test")
    images: tuple[str, ...] = options.option("files", default=())
    port: int = options.option("number of the port", default=7)
    share: bool = options.option("true or false", default=False)
    output: Path | None = options.option("a file", default=None)


def read(*texts: str) -> Options:
    return options.read(Options, texts)


@given(st.text(min_size=1, max_size=60).filter(lambda text: not text.startswith("~")))
@example("a=b, c")
@example("~nobody-of-that-name")
def test_path_is_taken_literally(text: str) -> None:
    assert read(f"run={text}").run == Path(text)


def test_defaults_and_types() -> None:
    assert read("run=~/runs").run == Path.home() / "runs"
    options = read("run=a", "port=80", "share=true", "split=val", "output=b=c")
    assert options == Options(Path("a"), "val", (), 80, True, Path("b=c"))
    assert read("run=a") == Options(Path("a"))


def test_tuple_takes_brackets_or_repeated_keys() -> None:
    assert read("run=a", "images=[a.png, b c.png]").images == ("a.png", "b c.png")
    assert read("run=a", "images=a,b.png", "images=[c].png").images == ("a,b.png", "[c].png")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["run"], r"cannot read 'run': write arguments as key=value; --help lists the keys"),
        (["rum=a"], r"unknown key 'rum'; did you mean 'run'\? \(keys: run, split, images"),
        ([], r"run=<\.\.\.> is missing: the run directory"),
        (["run="], r"run must be a path, got nothing"),
        (["run=a", "run=b"], r"run is given twice"),
        (["run=a", "split=tset"], r"split must be test or val, got 'tset'; did you mean 'test'\?"),
        (["run=a", "port=x"], r"port must be a whole number, got 'x'"),
        (["run=a", "share=yes"], r"share must be true or false, got 'yes'"),
    ],
)
def test_mistake_gives_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(*texts)


def test_help_lists_keys_and_defaults() -> None:
    text = options.describe(Options)
    assert text.startswith("Command lines of the commands")
    assert "run=         the run directory\n" in text
    assert "split=       test or val (default: test)\n" in text
