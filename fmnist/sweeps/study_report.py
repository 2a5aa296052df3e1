"""The report of a search: best value over trials and seconds, pruned trials, importance of the parameters."""

import warnings
from collections.abc import Iterator

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState


def remarks(study: optuna.Study) -> Iterator[str]:
    """Lines for the report."""
    complete, pruned = _complete(study), _pruned(study)
    if not complete:
        return
    best = study.best_trial
    ended = f"trial {best.number}, {_seconds(study, best):,.0f} seconds after the first began"
    yield f"{'best value':<20} {best.value:.4f} in {ended}"
    if pruned:
        epochs = sum(max(trial.intermediate_values, default=0) for trial in pruned) / len(pruned)
        yield f"{'pruned':<20} {len(pruned)} trials, after {epochs:.1f} epochs on average"
    if importance := importances(study):
        yield f"{'importance':<20} " + ", ".join(f"{name} {share:.0%}" for name, share in importance.items())


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each parameter in the spread of the finished trials, largest first; empty if these are too few."""
    if len(_complete(study)) < 4:
        return {}
    with warnings.catch_warnings(action="ignore"):
        return optuna.importance.get_param_importances(study)


def draw(study: optuna.Study, metric: str) -> Figure:
    """Draws the trials in their order and over the time, with the best value so far, and the importances."""
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained")
    over_trials, over_time, bars = figure.subplots(1, 3)
    trials = sorted([*_complete(study), *_pruned(study)], key=lambda trial: trial.datetime_complete or 0)
    _draw_progress(over_trials, study, trials, [trial.number for trial in trials], "trial")
    _draw_progress(over_time, study, trials, [_seconds(study, trial) for trial in trials], "seconds")
    over_trials.set_ylabel(metric)
    over_trials.legend(loc="lower right", fontsize=9)
    importance = importances(study)
    bars.barh([*importance][::-1], [*importance.values()][::-1], color="#4c78a8")
    bars.set(xlabel="importance", xlim=(0, 1))
    return figure


def _draw_progress(
    axes: Axes, study: optuna.Study, trials: list[FrozenTrial], positions: list[float], name: str
) -> None:
    better = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
    best: list[tuple[float, float]] = []
    for state, colour, marker, label in (
        (TrialState.COMPLETE, "#4c78a8", "o", "finished"),
        (TrialState.PRUNED, "0.6", "x", "pruned, at its last value"),
    ):
        points = [
            (position, trial.value)
            for position, trial in zip(positions, trials, strict=True)
            if trial.state == state and trial.value is not None
        ]
        axes.plot(*zip(*points, strict=True) if points else ((), ()), marker, color=colour, markersize=5, label=label)
        if state == TrialState.COMPLETE:
            for position, value in sorted(points):
                best.append((position, better(value, best[-1][1]) if best else value))
    axes.step(*zip(*best, strict=True), where="post", color="#e45756", label="best so far")
    axes.set_xlabel(name)


def _seconds(study: optuna.Study, trial: FrozenTrial) -> float:
    starts = [each.datetime_start for each in study.get_trials(deepcopy=False) if each.datetime_start]
    assert trial.datetime_complete is not None
    return (trial.datetime_complete - min(starts)).total_seconds()


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _pruned(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
