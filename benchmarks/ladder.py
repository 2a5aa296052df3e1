"""``make ladder``: from the runs that ``make measure`` has kept to the documents.

It writes the README's table, the tables and the figure of docs/accuracy.md, and a line in the file of each measured
experiment. Nobody types these numbers; a test compares them with the runs.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks import accuracy_figure
from benchmarks.accuracy_figure import Point
from benchmarks.measure import KEPT, NEW
from benchmarks.process import ROOT
from benchmarks.report import fill
from fmnist import results
from fmnist.cli.program import report_user_errors
from fmnist.config.errors import UserError
from fmnist.runs.tables import format_table
from fmnist.sweeps.measurement import Summary, summaries

FIGURE = ROOT / "docs/accuracy.png"
README, DOCUMENT, EXPERIMENTS = ROOT / "README.md", ROOT / "docs/accuracy.md", ROOT / "conf/experiment"
LADDER = {
    "notebook": "the lesson as it is",
    "record_90": "90 % as fast as possible",
    "record_93": "93 % as fast as possible",
    "small": "no more parameters than the lesson's, a better recipe",
    "strong": "the best in ten minutes",
    "best": "the best in thirty minutes, three networks together",
}
SHORT = ("experiment", "parameters", "seconds", "test accuracy", "runs")  # columns of the README's table
RECORDS = (90, 91, 92, 93, 94)  # percent on the test set, as fast as possible: experiment=record_90 ...
RUNS = 5  # at least, for a claim
MEASURED = re.compile(r"^# measured:.*\n(#   .*\n)*", re.MULTILINE)  # in an experiment's file


def measured(paths: Iterable[Path] = (KEPT,)) -> dict[str, Summary]:
    """Reads the kept runs of each experiment.

    Args:
        paths: JSON files, or directories with some of them.

    Raises:
        UserError: Runs of one experiment have different configurations: its file has changed, and only some of its
            runs were measured again.
    """
    found: dict[str, Summary] = {}
    for summary in summaries(run for path in paths for run in results.read(path)):
        (recipe,) = summary.recipe
        name = recipe.removeprefix("experiment=")
        if name in found:
            first, second = (", ".join(str(run.seed) for run in group.runs) for group in (found[name], summary))
            raise UserError(f"the runs of {recipe} have different configurations: seeds {first}, and seeds {second}")
        found[name] = summary
    return found


def ladder(found: Mapping[str, Summary]) -> list[list[str]]:
    """Accuracy and training time of each experiment."""
    names = [name for name in LADDER if name in found]
    header, *rows = results.table([found[name] for name in names])
    first = ["experiment", *(f"`{name}`: {LADDER[name]}" for name in names)]
    return [[cell, *row[1:]] for cell, row in zip(first, [header, *rows], strict=True)]


def records(found: Mapping[str, Summary]) -> list[list[str]]:
    """Time to accuracy."""
    header = ["test accuracy", "seconds", "floor epochs", "mean ± sd", "runs", "parameters", "recipe"]
    rows = []
    for goal in RECORDS:
        name = f"record_{goal}"
        if name not in found:
            continue
        summary = found[name]
        holds = summary.mean("test/acc") >= goal / 100 and len(summary.runs) >= RUNS
        rows.append(
            [
                f"{goal} %" if holds else f"({goal} %: not reached)",
                f"{summary.mean('seconds'):.1f}",
                f"{summary.mean('floor epochs'):.1f}",
                results.percent(summary, "test/acc"),
                str(len(summary.runs)),
                f"{summary.runs[0].parameters:,}",
                f"`experiment={name}`",
            ]
        )
    return [header, *rows]


def header_line(summary: Summary) -> str:
    """The comment in an experiment's file."""
    test, validation = results.percent(summary, "test/acc"), results.percent(summary, "val/acc")
    accuracy = f"{test} %" + ("" if validation == "-" else f" (validation {validation})")
    machines = ", ".join(dict.fromkeys(str(run.manifest["processor"]) for run in summary.runs))
    run = summary.runs[0]
    return (
        f"# measured: test accuracy {accuracy}, {len(summary.runs)} seeds, mean ± sd;\n"
        f"#   {summary.mean('seconds'):.0f} s of training on {run.manifest['threads']} cores ({machines}); "
        f"{run.parameters:,} parameters\n"
    )


def documents(found: Mapping[str, Summary]) -> dict[Path, str]:
    """The new content of each document."""
    rows = ladder(found)
    columns = [column for column, name in enumerate(rows[0]) if name in SHORT]
    short = format_table([[row[column] for column in columns] for row in rows], "pipe")
    record = format_table(records(found), "pipe")
    others = format_table(accuracy_figure.table(), "pipe", words=8)
    document = DOCUMENT.read_text()
    for name, content in {"ladder": format_table(rows, "pipe"), "record": record, "published": others}.items():
        document = fill(document, content, name)
    made = {README: fill(README.read_text(), short, "ladder"), DOCUMENT: document}
    for name, summary in found.items():
        path = EXPERIMENTS / f"{name}.yaml"
        made[path] = MEASURED.sub(header_line(summary), path.read_text(), count=1)
    return made


def points(found: Mapping[str, Summary]) -> list[Point]:
    """The points of this project in the figure."""
    return [
        Point(
            name,
            accuracy=100 * summary.mean("test/acc"),
            sd=100 * summary.sd("test/acc") if len(summary.runs) > 1 else None,
            seconds=summary.mean("seconds"),
        )
        for name, summary in found.items()
    ]


def main() -> None:
    kept, new = ({path.name: path for path in sorted(place.glob("*.json"))} for place in (KEPT, NEW))
    found = measured((kept | new).values())
    made = documents(found)
    for name, path in new.items():  # only now: the new runs might not match the kept ones
        shutil.move(path, KEPT / name)
    for path, text in made.items():
        path.write_text(text)
        print(path.relative_to(ROOT))
    accuracy_figure.draw(points(found), accuracy_figure.published()).savefig(FIGURE)
    print(FIGURE.relative_to(ROOT))


if __name__ == "__main__":
    with report_user_errors():
        main()
