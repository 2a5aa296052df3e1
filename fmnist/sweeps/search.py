"""A search: a sweep for which Optuna chooses the values, one trial after the other. Imported before torch is.

Its study is a file in the sweep's directory, see ``conf/sweep/search.yaml``.
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
    """How many jobs a search is to have.

    Raises:
        UserError: None.
    """
    count: int = config.hydra.sweeper.n_trials
    if count < 1:
        raise UserError(f"hydra.sweeper.n_trials must be at least 1, got {count}")
    return count


def take_direction(config: DictConfig) -> None:
    """Has the search look for what runs are judged by, see ``fmnist.config.monitor``.

    Raises:
        UserError: The configuration says the contrary.
    """
    metric, mode = monitor.score(config)
    sweeper, wanted = config.hydra.sweeper, {"max": "maximize", "min": "minimize"}[mode]
    given = getattr(sweeper.direction, "name", sweeper.direction)  # Hydra's own default is a member of an Enum
    if given not in (None, wanted):
        raise UserError(
            f"hydra.sweeper.direction={given} would look for the worst run: runs are judged by {metric}, and the "
            f"{mode}imum of it is the best; use hydra.sweeper.direction={wanted}"
        )
    with read_write(sweeper):
        sweeper.direction = wanted


def quieten() -> None:
    """Keeps Optuna from saying of the study what Hydra says again."""
    from optuna.logging import set_verbosity

    set_verbosity(logging.WARNING)


def go_on(config: DictConfig) -> None:
    """Changes what Hydra is about to run, so that a search goes on instead of starting anew.

    Trials that were finished count. Those that were interrupted or failed come first, with the same values, so that
    their runs are continued. Optuna chooses the others, knowing all that was found; it does not remember where it was
    among its random numbers, so they are not those that would have come without the interruption.
    """
    sweeper = config.hydra.sweeper
    if not (sweeper.storage and sweeper.study_name):  # the study was in memory, and is gone
        return
    import optuna
    from optuna.trial import TrialState

    try:
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:  # stopped before there was one
        return
    begun = study.trials
    done = [_values(trial) for trial in begun if trial.state in (TrialState.COMPLETE, TrialState.WAITING)]
    for trial in begun:
        if trial.state == TrialState.RUNNING:  # nobody runs it: the directory is ours
            study.tell(trial.number, state=TrialState.FAIL)
        if (values := _values(trial)) and values not in done:
            done.append(values)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # so it was in Optuna 2
                study.enqueue_trial(values)
    complete = sum(trial.state == TrialState.COMPLETE for trial in begun)
    with open_dict(sweeper):
        sweeper.n_trials = max(0, sweeper.n_trials - complete)
        if sweeper.sampler.get("seed") is not None:  # the same random numbers again would choose the same values again
            sweeper.sampler.seed += len(begun)


def _values(trial: Any) -> dict[str, Any]:
    """What a trial tries, also where it waits for its turn: Optuna then keeps it elsewhere."""
    values: dict[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
    return values
