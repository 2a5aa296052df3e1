"""The report of a sweep in words: for the terminal, and as Markdown. Imported without torch."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from fmnist.sweeps import sweep_directory
from fmnist.sweeps.ranking import SEED, Ranking, Setting, Statistic, short
from fmnist.sweeps.sweep_directory import Job, SweepDirectory
from fmnist.sweeps.tables import Table, aligned, escaped, markdown_rows

SHOWN = 20  # settings in the terminal's table, and lines of what is to be said beside it
REPEATED = 3  # settings that are worth repeating, if there was one run of each
REPETITIONS = 5  # with so many other seeds
WIDTH = 120  # of a line in the terminal


def terminal(sweep: SweepDirectory, ranks: Ranking) -> str:
    lines = ["", f"sweep of {_subject(ranks)}: {_states(sweep.jobs)}"]
    header, *rows = _table(ranks, [ranks.name(name) for name in ranks.parameters], short)
    if rows:
        lines += [_order(ranks), "", *aligned([header, *rows[:SHOWN]], words=1 + len(ranks.parameters))]
        if len(rows) > SHOWN:
            lines.append(f"and {len(rows) - SHOWN} more settings, see report.md")
        lines.append("")
    notes = [*_remarks(ranks), *_unfinished(sweep)]
    lines += [_cut(note, WIDTH) for note in notes[:SHOWN]]
    if len(notes) > SHOWN:
        lines.append(f"and {len(notes) - SHOWN} more lines, see report.md")
    lines += [f"{'to repeat':<20} {command}" for command in _repetitions(ranks)]
    if not sweep.complete:
        runs = [job.run for job in sweep.jobs if job.run and not job.finished]
        commands = [sweep.command] if sweep.command else [run.resume_command for run in runs[:SHOWN]]
        lines += [f"{'to go on':<20} {command}" for command in commands]
    return "\n".join([*lines, f"{'report':<20} {sweep.run.shown / 'report.md'}"])


def markdown(sweep: SweepDirectory, ranks: Ranking) -> str:
    lines = [f"# Sweep of {escaped(_subject(ranks))}", "", f"{_states(sweep.jobs)}.".capitalize(), ""]
    header, *rows = _table(ranks, ranks.parameters, str)
    if rows:
        lines += [f"{_order(ranks)}.".capitalize(), ""]
        lines += [*markdown_rows([header, *rows], words=1 + len(ranks.parameters)), ""]
    if notes := [f"- {escaped(note)}" for note in [*_remarks(ranks), *_unfinished(sweep)]]:
        lines += [*notes, ""]
    if commands := _repetitions(ranks):
        lines += ["To repeat the best:", "", "```sh", *commands, "```", ""]
    if ranks.best:
        lines += ["![The metric over what was swept](report.png)", ""]
    return "\n".join(lines)


def _table(ranks: Ranking, names: Sequence[str], shown: Callable[[str], str]) -> Table:
    """Header and rows: the settings of which some run has finished.

    Args:
        ranks: What was found.
        names: What to call the parameters.
        shown: Makes of a parameter's value what is to be shown.
    """
    spread = any(score.sd is not None for _, score in ranks.judged)
    header = ["", *names, ranks.metric, *(["sd"] if spread else []), "runs", "seconds"]
    rows = []
    for place, setting in enumerate(ranks.settings, start=1):
        if not setting.finished:
            continue
        score, seconds = setting.score, setting.seconds
        finished, planned = len(setting.finished), len(setting.jobs)
        rows.append(
            [
                str(place) if score else "",
                *map(shown, setting.values),
                f"{score.mean:.4f}" if score else "-",
                *([f"{score.sd:.4f}" if score and score.sd is not None else ""] if spread else []),
                str(planned) if finished == planned else f"{finished} of {planned}",
                f"{seconds.mean:,.1f}" if seconds else "-",
            ]
        )
    return [header, *rows]


def _order(ranks: Ranking) -> str:
    first = "highest" if ranks.mode == "max" else "lowest"
    over = "mean and standard deviation (sd) over the seeds; " if ranks.seeds else ""
    return f"ranked by {ranks.metric}, {first} first; {over}seconds of one run"


def _subject(ranks: Ranking) -> str:
    parameters = ", ".join(ranks.parameters)
    if not ranks.seeds:
        return parameters or "one setting"
    seeds = f"{ranks.seeds} seeds"
    return f"{parameters}, with {seeds}" if parameters else seeds


def _states(jobs: Sequence[Job]) -> str:
    """How many runs ended how, such as '4 of 6 runs finished, 1 failed, 1 not started'."""
    states = Counter(job.state for job in jobs if not job.finished)
    finished = sum(job.finished for job in jobs)
    return ", ".join([f"{finished} of {len(jobs)} runs finished", *(f"{n} {state}" for state, n in states.items())])


def _remarks(ranks: Ranking) -> Iterator[str]:
    """What is to be known beside the table."""
    if ranks.best and ranks.best.test:
        test = ranks.best.test
        yield f"{'test accuracy':<20} {test.mean:.4f}{_spread(test)}, of the best setting alone"
    if ranks.metric.startswith("train/") and len(ranks.settings) > 1:
        yield f"{'no validation':<20} what has learnt these images best may know new ones worse: try data.val_size=5000"
    if ranks.tied:
        which = ", ".join(_setting(ranks, setting) for setting in ranks.tied)
        yield f"{'not told apart':<20} {which}: within two standard errors of the best"
    if ranks.single:
        yield f"{'one run of each':<20} which says little: repeat the best with other seeds before you choose"
    for setting in ranks.settings:
        if lacking := len(setting.finished) - len(setting.figures):
            which = _setting(ranks, setting)
            yield f"{which}: {ranks.metric} is missing or not finite in {lacking} of {len(setting.finished)} runs"
    if ranks.otherwise:
        yield f"{ranks.otherwise} of {len(ranks.settings)} settings monitor another metric than {ranks.metric}"


def _setting(ranks: Ranking, setting: Setting) -> str:
    return _words(zip(ranks.parameters, setting.values, strict=True)) or "the setting"


def _repetitions(ranks: Ranking) -> list[str]:
    """Commands that repeat the best settings, if there was one run of each."""
    return [_repetition(setting.finished[0]) for setting, _ in ranks.judged[:REPEATED]] if ranks.single else []


def _repetition(job: Job) -> str:
    """A command that runs a job's setting with other seeds.

    The group ``sweep`` is left out: what its files say of a job is in the job's own overrides, but for ``test``.
    """
    overrides = [text for text in job.typed if sweep_directory.name_and_value(text)[0] not in (SEED, "sweep", "test")]
    seed = job.overrides.get(SEED, "0")
    first = int(seed) + 1 if seed.isdecimal() else 0
    seeds = ",".join(map(str, range(first, first + REPETITIONS)))
    return shlex.join(["python", "train.py", "-m", *overrides, f"seed={seeds}", "test=false"])


def _spread(statistic: Statistic) -> str:
    return "" if statistic.sd is None else f" (sd {statistic.sd:.4f}, {statistic.count} runs)"


def _unfinished(sweep: SweepDirectory) -> list[str]:
    """A line for each job that began and did not finish."""
    names = sweep_directory.differing(job.overrides for job in sweep.jobs)
    lines = []
    for job in sweep.jobs:
        if job.run and not job.finished:
            which = _words((name, job.overrides[name]) for name in names if name in job.overrides)
            lines.append(f"{job.state:<20} {which or job.run.path.name}" + (f": {job.error}" if job.error else ""))
    return lines


def _words(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs if value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
