"""``make bench-report``: from the newest result of ``make bench`` to the tables in README.md and docs/benchmark.md.

The tables stand between two comments. Nobody types them; a test compares them with the result.
"""

import json
import re
import statistics
from operator import mul, truediv
from pathlib import Path
from typing import Any, TypedDict

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
README, DOCUMENT = ROOT / "README.md", ROOT / "docs/benchmark.md"

# The goal of each figure.
GOALS: dict[str, tuple[str, float]] = {
    "this project / floor": ("at most", 1.15),
    "usual Lightning project / this project": ("at least", 3.0),
    "notebook / this project": ("at least", 1.6),
    "start-up beyond that import": ("at most", 1.5),
    "--help": ("at most", 0.45),
    "--cfg job": ("at most", 0.45),
    "mistyped override": ("at most", 0.45),
    "verified files to tensors": ("at most", 0.5),
    "memory beyond the imports": ("at most", 400),
    "60,000 images / 4 times 15,000": ("at most", 1.1),
    "whole command, 1 epoch, without the training": ("at most", 4.5),
    "whole command, 5 epochs: Keras on TensorFlow / this project": ("at least", 1.35),
    "evaluate": ("at most", 4.3),
    "predict one picture": ("at most", 3.5),
    "experiment=smoke": ("at most", 5.0),
    "eight smoke jobs one after the other": ("at most", 16.0),
    "eight smoke jobs beside each other": ("at most", 16.0),
    "one after the other / beside each other": ("at least", 1.4),
}


class Figure(TypedDict):
    unit: str
    values: list[float]  # one per round


class Result(TypedDict):
    date: str
    machine: dict[str, Any]
    settings: dict[str, int]
    figures: dict[str, Figure]


def newest() -> Result:
    result: Result = json.loads(max(RESULTS.glob("bench-*.json")).read_text())
    return result


def table(result: Result, *, short: bool = False) -> str:
    """Median, least and greatest of the rounds; short: of the figures with a goal and of whole commands of 5 epochs."""
    lines = ["| | median | range | goal |", "|---|---|---|---|"]
    for name, figure in result["figures"].items():
        if short and name not in GOALS and not name.startswith("whole command, 5 epochs"):
            continue
        values = figure["values"]
        median, least, greatest = (
            _number(value, figure["unit"]) for value in (statistics.median(values), min(values), max(values))
        )
        bound = ""
        if name in GOALS:
            word, limit = GOALS[name]
            reached = statistics.median(values) <= limit if word == "at most" else statistics.median(values) >= limit
            bound = f"{word} {_number(limit, figure['unit'])}: {'reached' if reached else '**missed**'}"
        lines.append(f"| {name} | {median} | {least} to {greatest} | {bound} |")
    return "\n".join(lines)


def summary(result: Result) -> str:
    """The README's table: the time of an epoch, and of a whole command."""
    rounds = {name: figure["values"] for name, figure in result["figures"].items()}
    machine, settings = result["machine"], result["settings"]
    lines = ["| | one epoch | times the floor | 5 epochs and the test, from prompt to prompt |", "|---|---|---|---|"]
    whole = "whole command, 5 epochs"
    for name, what in (
        ("floor", "the floor: a bare PyTorch loop, as fast as we can make it, that only trains"),
        ("this project", "this project: `python train.py`, with validation, logging, checkpoints and figures"),
        ("Keras on TensorFlow", "Keras on TensorFlow, images in memory"),
        ("Keras on JAX", "the same on JAX"),
        ("notebook", "the lesson's script: torchvision's data set, `ToTensor`, `DataLoader`, `.item()`"),
        ("usual Lightning project", "the usual Lightning project, after its best-known template"),
    ):
        if name in rounds:
            of_floor = statistics.median(map(truediv, rounds[name], rounds["floor"]))
            commands = rounds.get(whole, [])
            if name != "this project":
                commands = list(map(mul, rounds.get(f"{whole}: {name} / this project", []), commands))
            command = f"{statistics.median(commands):.0f} s" if commands else ""
            lines.append(f"| {what} | {statistics.median(rounds[name]):.1f} s | {of_floor:.1f} | {command} |")
    versions = f"torch {machine['torch']}, Lightning {machine['lightning']}"
    where = f"{machine['processor']}, {machine['threads']} threads, {versions}"
    size = f"An epoch has {settings['images']:,} images in batches of 100."
    how = f"median of {settings['rounds']} rounds, ratios within a round"
    return "\n".join([*lines, "", f"{size} {result['date'][:10]}, {where}; {how}."])


def fill(text: str, content: str, name: str = "benchmark") -> str:
    """Puts the content between the two comments with that name in a document.

    Raises:
        ValueError: The document does not have them.
    """
    pattern = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise ValueError(f"no '<!-- {name}: ... -->' and '<!-- end of {name} -->' in the document")
    return re.sub(pattern, lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text, flags=re.DOTALL)


def documents(result: Result) -> dict[Path, str]:
    """The new content of each document."""
    return {
        README: fill(README.read_text(), summary(result)),
        DOCUMENT: fill(DOCUMENT.read_text(), f"{_conditions(result)}\n\n{table(result, short=True)}"),
    }


def _conditions(result: Result) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    return f"{result['date']}: {machine}."


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if unit in ("MB", "images/s") else f"{value:.2f}"
    return f"{text} {unit}".rstrip()


if __name__ == "__main__":
    for path, text in documents(newest()).items():
        path.write_text(text)
        print(path)
