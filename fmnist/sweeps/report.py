"""The report of a sweep: best settings first, for the terminal, as Markdown, as a figure and as CSV. Without torch.

The accuracy on the test set is shown for the best setting only: comparing it would mean choosing by it.
"""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from fmnist.config.errors import UserError
from fmnist.config.paths import TRAIN_COMMAND
from fmnist.runs import atomic
from fmnist.runs.tables import escape, format_table
from fmnist.sweeps import ranking, sweep_directory
from fmnist.sweeps.ranking import SEED, Ranking, Setting, short
from fmnist.sweeps.sweep_directory import Job, SweepDirectory

SHOWN = 20  # settings, and remarks, in the terminal
REPEATED = 3  # settings to repeat if each has only one run
REPETITIONS = 5  # other seeds to repeat them with
WIDTH = 120  # characters of a line in the terminal


def write(path: Path) -> str:
    """Writes the files of the report and returns the text for the terminal, whatever state the sweep is in."""
    try:
        sweep = sweep_directory.read(path)
    except UserError as error:
        return f"no report: {error}"
    ranks = ranking.rank(sweep.jobs)
    text = terminal(sweep, ranks)
    try:
        write_files(sweep, ranks)
    except UserError as error:
        text += f"\n{error}"
    return text


def write_files(sweep: SweepDirectory, ranks: Ranking) -> None:
    """Writes report.csv, report.md and, if a setting can be ranked, report.png; of a search, search.png as well.

    Raises:
        UserError: The directory cannot be written.
    """
    path = sweep.run.path
    try:
        atomic.write(path / "report.csv", _csv(sweep, ranks).encode())
        if ranks.best:
            from fmnist.sweeps import sweep_figures  # imports matplotlib, which takes half a second

            atomic.write_figure(path / "report.png", sweep_figures.draw(ranks))
            if sweep.study is not None:
                from fmnist.sweeps import study_report

                atomic.write_figure(path / "search.png", study_report.draw(sweep.study, ranks.metric))
        atomic.write(path / "report.md", markdown(sweep, ranks).encode())
    except OSError as error:
        raise UserError(f"cannot write the report to {path}: {error.strerror}") from error


def terminal(sweep: SweepDirectory, ranks: Ranking) -> str:
    lines = ["", f"sweep of {_subject(ranks)}: {_states(sweep.jobs)}"]
    table = _table(ranks, [ranks.name(name) for name in ranks.parameters], short)
    if len(table) > 1:
        lines += [_order(ranks), "", format_table(table[: 1 + SHOWN], "plain", words=1 + len(ranks.parameters))]
        if (more := len(table) - 1 - SHOWN) > 0:
            lines.append(f"and {more} more settings, see report.md")
        lines.append("")
    remarks = [*_remarks(ranks), *_of_study(sweep), *_unfinished(sweep)]
    lines += [line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in remarks[:SHOWN]]
    if len(remarks) > SHOWN:
        lines.append(f"and {len(remarks) - SHOWN} more lines, see report.md")
    lines += [f"{'to repeat':<20} {command}" for command in _repetitions(ranks)]
    if not sweep.complete:
        runs = [job.run for job in sweep.jobs if job.run and not job.finished]
        commands = [sweep.command] if sweep.command else [run.resume_command for run in runs[:SHOWN]]
        lines += [f"{'to resume':<20} {command}" for command in commands]
    return "\n".join([*lines, f"{'report':<20} {sweep.run.shown / 'report.md'}"])


def markdown(sweep: SweepDirectory, ranks: Ranking) -> str:
    lines = [f"# Sweep of {escape(_subject(ranks))}", "", f"{_states(sweep.jobs)}.".capitalize(), ""]
    table = _table(ranks, ranks.parameters, str)
    if len(table) > 1:
        lines += [f"{_order(ranks)}.".capitalize(), ""]
        lines += [format_table(table, "pipe", words=1 + len(ranks.parameters)), ""]
    if remarks := [f"- {escape(line)}" for line in [*_remarks(ranks), *_of_study(sweep), *_unfinished(sweep)]]:
        lines += [*remarks, ""]
    if commands := _repetitions(ranks):
        lines += ["To repeat the best:", "", "```sh", *commands, "```", ""]
    if ranks.best:
        lines += ["![The metric over the swept parameters](report.png)", ""]
        if sweep.study is not None:
            lines += ["![The metric over trials and seconds, and what mattered](search.png)", ""]
    return "\n".join(lines)


def _table(ranks: Ranking, names: Sequence[str], shown: Callable[[str], str]) -> list[list[str]]:
    """Header and rows: the settings with at least one finished run.

    Args:
        ranks: The ranking.
        names: Column names of the parameters.
        shown: Formats a parameter's value.
    """
    spread = not all(math.isnan(setting.sd) for setting in ranks.settings)
    header = ["", *names, ranks.metric, *(["sd"] if spread else []), "runs", "seconds"]
    rows = [
        [
            "" if math.isnan(setting.mean) else str(place),
            *map(shown, setting.values),
            _number(setting.mean, ".4f"),
            *([_number(setting.sd, ".4f")] if spread else []),
            _count(setting),
            _number(setting.seconds, ",.1f"),
        ]
        for place, setting in enumerate(ranks.settings, start=1)
        if setting.finished
    ]
    return [header, *rows]


def _count(setting: Setting) -> str:
    finished, planned = setting.finished, len(setting.jobs)
    return str(planned) if finished == planned else f"{finished} of {planned}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _order(ranks: Ranking) -> str:
    first = "highest" if ranks.mode == "max" else "lowest"
    over = "mean and standard deviation (sd) over the seeds; " if ranks.seeds else ""
    return f"ranked by {ranks.metric}, {first} first; {over}seconds per run"


def _subject(ranks: Ranking) -> str:
    parameters = ", ".join(ranks.parameters)
    if not ranks.seeds:
        return parameters or "one setting"
    return f"{parameters}, with {ranks.seeds} seeds" if parameters else f"{ranks.seeds} seeds"


def _states(jobs: Sequence[Job]) -> str:
    """Such as '4 of 6 runs finished, 1 failed, 1 not started'."""
    states = Counter(job.state for job in jobs if not job.finished)
    finished = sum(job.finished for job in jobs)
    return ", ".join([f"{finished} of {len(jobs)} runs finished", *(f"{n} {state}" for state, n in states.items())])


def _remarks(ranks: Ranking) -> Iterator[str]:
    if ranks.best:
        test = pd.Series([job.metrics["test/acc"] for job in ranks.best.jobs if "test/acc" in job.metrics])
        if len(test):
            spread = f" (sd {test.std():.4f}, {len(test)} runs)" if len(test) > 1 else ""
            yield f"{'test accuracy':<20} {test.mean():.4f}{spread}, of the best setting only"
    if ranks.metric.startswith("train/") and len(ranks.settings) > 1:
        yield f"{'no validation':<20} the best on training images may be worse on new ones: try data.val_size=5000"
    if tied := [_name(ranks, setting) for setting in ranks.tied]:
        yield f"{'tied':<20} {', '.join(tied)}: within two standard errors of the best"
    if ranks.single:
        yield f"{'one run each':<20} proves little: repeat the best with other seeds before you choose"
    for setting in ranks.settings:
        if missing := setting.finished - setting.scored:
            name = _name(ranks, setting)
            yield f"{name}: {ranks.metric} is missing or not finite in {missing} of {setting.finished} runs"
    if ranks.other_metric:
        yield f"{ranks.other_metric} of {len(ranks.settings)} settings monitor another metric than {ranks.metric}"


def _of_study(sweep: SweepDirectory) -> Iterator[str]:
    if sweep.study is None:
        return iter(())
    from fmnist.sweeps import study_report  # imports Optuna

    return study_report.remarks(sweep.study)


def _name(ranks: Ranking, setting: Setting) -> str:
    return _format(zip(ranks.parameters, setting.values, strict=True)) or "the setting"


def _repetitions(ranks: Ranking) -> list[str]:
    """Commands that repeat the best settings with other seeds, if each has only one run.

    They leave out the group ``sweep``: all that its file sets for a job, except ``test``, is in the job's overrides.
    """
    commands = []
    for setting in ranks.ranked[:REPEATED] if ranks.single else []:
        job = next(job for job in setting.jobs if job.finished)
        typed = [text for text in job.typed if sweep_directory.name_and_value(text)[0] not in (SEED, "sweep", "test")]
        seed = job.overrides.get(SEED, "0")
        first = int(seed) + 1 if seed.isdecimal() else 0
        seeds = ",".join(map(str, range(first, first + REPETITIONS)))
        commands.append(shlex.join([*TRAIN_COMMAND.split(), "-m", *typed, f"seed={seeds}", "test=false"]))
    return commands


def _unfinished(sweep: SweepDirectory) -> list[str]:
    """A line for each job that started and did not finish."""
    names = sweep_directory.differing(job.overrides for job in sweep.jobs)
    lines = []
    for job in sweep.jobs:
        if job.run and not job.finished:
            name = _format((name, job.overrides[name]) for name in names if name in job.overrides)
            lines.append(f"{job.state:<20} {name or job.run.path.name}" + (f": {job.error}" if job.error else ""))
    return lines


def _format(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs if value)


def _csv(sweep: SweepDirectory, ranks: Ranking) -> str:
    """A row per run, best setting first; ``test/*`` for the best setting only."""
    rows: list[dict[str, object]] = []
    names: dict[str, None] = {}
    best = ranks.best
    for setting in ranks.settings:
        for job in setting.jobs:
            metrics = {k: v for k, v in job.metrics.items() if setting is best or not k.startswith("test/")}
            names |= dict.fromkeys(metrics)
            directory = job.run.path.relative_to(sweep.run.path) if job.run else None
            end = {"state": job.state, "seconds": job.seconds, "error": job.error, "directory": directory}
            rows.append({**job.overrides, **metrics, **end})
    swept = [*ranks.parameters, *([SEED] if ranks.seeds else [])]
    header = dict.fromkeys([*swept, "state", "seconds", *names, "error", "directory"])
    # dtype=object: a column of whole numbers with a gap would become one of fractions
    return pd.DataFrame(rows, columns=list(header), dtype=object).to_csv(index=False, lineterminator="\n")
