"""A search: a sweep whose values Optuna chooses, one trial after another. Imported before torch.

The study is a file in the sweep's directory, see ``conf/sweep/search.yaml``.
"""

import logging
import warnings
from typing import Any

from omegaconf import DictConfig, open_dict, read_write

from fmnist.config import monitor
from fmnist.config.errors import UserError


def is_search(config: DictConfig) -> bool:
    return str(config.hydra.sweeper.get("_target_")).startswith("hydra_plugins.hydra_optuna_sweeper.")


def trials(config: DictConfig) -> int:
    """Number of trials of a search.

    Raises:
        UserError: It is less than 1.
    """
    count: int = config.hydra.sweeper.n_trials
    if count < 1:
        raise UserError(f"hydra.sweeper.n_trials must be at least 1, got {count}")
    return count


def set_direction(config: DictConfig) -> None:
    """Makes the search optimize the metric that ranks runs, see ``fmnist.config.monitor``.

    Raises:
        UserError: The configuration asks for the opposite direction.
    """
    metric, mode = monitor.score(config)
    sweeper, wanted = config.hydra.sweeper, {"max": "maximize", "min": "minimize"}[mode]
    given = getattr(sweeper.direction, "name", sweeper.direction)  # Hydra's default is a member of an Enum
    if given not in (None, wanted):
        raise UserError(
            f"hydra.sweeper.direction={given} would search for the worst run: runs are ranked by the {mode}imum of "
            f"{metric}; use hydra.sweeper.direction={wanted}"
        )
    with read_write(sweeper):
        sweeper.direction = wanted


def silence_optuna() -> None:
    """Hides Optuna's messages about the study, which Hydra repeats."""
    from optuna.logging import set_verbosity

    set_verbosity(logging.WARNING)


def resume(config: DictConfig) -> None:
    """Changes the configuration of Hydra's sweeper so that it resumes the study instead of starting a new one.

    Finished trials count. Interrupted and failed trials are queued first with the same values, so that their runs are
    resumed. Optuna chooses the rest. It does not store the state of its random numbers, so these values differ from
    those of an uninterrupted search.
    """
    sweeper = config.hydra.sweeper
    if not (sweeper.storage and sweeper.study_name):  # the study was in memory only
        return
    import optuna
    from optuna.trial import TrialState

    try:
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:  # interrupted before the study was created
        return
    trials = study.trials
    queued = [_values(trial) for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.WAITING)]
    for trial in trials:
        if trial.state == TrialState.RUNNING:  # its process was killed: this one holds the directory's lock
            study.tell(trial.number, state=TrialState.FAIL)
        if (values := _values(trial)) and values not in queued:
            queued.append(values)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # experimental in Optuna 2
                study.enqueue_trial(values)
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    with open_dict(sweeper):
        sweeper.n_trials = max(0, sweeper.n_trials - complete)
        if sweeper.sampler.get("seed") is not None:  # the same seed would choose the same values again
            sweeper.sampler.seed += len(trials)


def _values(trial: Any) -> dict[str, Any]:
    """The values of a trial. Optuna stores those of a queued trial elsewhere."""
    values: dict[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
    return values
