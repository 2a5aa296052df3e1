"""A search: a sweep in which Optuna chooses the values of each trial. Imported without Optuna and Lightning."""

import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fmnist.config import monitor
from fmnist.config.errors import UserError, one_line
from fmnist.config.signature import check_value
from fmnist.config.suggestion import did_you_mean

if TYPE_CHECKING:
    import optuna
    from lightning.pytorch import Callback

log = logging.getLogger(__name__)

TARGET = "hydra_plugins.fmnist.OptunaSweeper"
SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "grid": "GridSampler",
}
PRUNERS = ("hyperband", "median", "none")
OVERRIDES = "overrides"  # attribute of a trial: the overrides of its job
UNPRUNED = "unpruned"  # attribute of a trial: it finishes one that was pruned


def is_search(config: DictConfig) -> bool:
    return str(config.hydra.sweeper.get("_target_")) == TARGET


def check(config: DictConfig) -> None:
    """Checks the options of the sweeper.

    Raises:
        UserError: One is wrong.
    """
    sweeper = config.hydra.sweeper
    for key, choices in (("sampler", tuple(SAMPLERS)), ("pruner", PRUNERS)):
        if (word := sweeper[key]) not in choices:
            hint = did_you_mean(str(word), choices)
            raise UserError(f"hydra.sweeper.{key} must be one of {', '.join(choices)}, got {word!r}{hint}")
    for key, least in (("n_trials", 1), ("n_jobs", 1), ("finish", 0), ("seed", 0)):
        if key != "n_jobs" or sweeper[key] is not None:
            check_value(f"hydra.sweeper.{key}", sweeper[key], int)
            if sweeper[key] < least:
                raise UserError(f"hydra.sweeper.{key} must be at least {least}, got {sweeper[key]}")
    if (sweeper.n_jobs or 1) > 1 and str(config.hydra.launcher._target_).endswith(".BasicLauncher"):
        raise UserError(
            f"hydra.sweeper.n_jobs={sweeper.n_jobs}: jobs run one after the other; use hydra/launcher=joblib, or start "
            "the command several times"
        )
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError("a search needs Optuna: make setup-extras, or pip install '.[search]'") from error


def open_study(config: DictConfig, hydra: DictConfig) -> "optuna.Study":
    """Opens the study of a search, or creates it.

    Args:
        config: The configuration of the sweep, or of one of its jobs.
        hydra: Hydra's configuration of the same.

    Raises:
        UserError: The storage does not answer, or its driver is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A third of the epochs: leaves out the bracket of trials that are judged last, which saves little.
    epochs = max(1, config.trainer.max_epochs // 3) if (config.trainer.max_epochs or 0) > 0 else "auto"
    pruners: dict[str, Any] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=epochs),
    }
    try:
        return optuna.create_study(
            storage=_storage(hydra, Path(hydra.sweep.dir)),
            study_name=str(hydra.sweeper.study_name),
            direction="maximize" if monitor.score(config)[1] == "max" else "minimize",
            pruner=pruners[hydra.sweeper.pruner](),
            load_if_exists=True,
        )
    except Exception as error:  # of any database
        reason = one_line(str(error).partition("\n")[0])
        where = re.sub(r":[^:@/]*@", ":...@", str(hydra.sweeper.storage or hydra.sweep.dir))  # without its password
        raise UserError(f"cannot open the study in {where}: {reason}") from error


def load_study(sweep: Path) -> "optuna.Study | None":
    """The study of a sweep's directory; None if it is not a search, or its study cannot be read here."""
    try:
        hydra: Any = OmegaConf.create({"hydra": OmegaConf.load(sweep / ".sweep/hydra.yaml")}).hydra
        target = hydra.sweeper.get("_target_")
    except Exception:  # the file is damaged, in any way
        return None
    if target != TARGET:
        return None
    try:
        import optuna

        return optuna.load_study(study_name=str(hydra.sweeper.study_name), storage=_storage(hydra, sweep))
    except Exception as error:  # of any database
        log.warning("cannot read the study, so the report leaves it out: %s", one_line(error)[:200])
        return None


def _storage(hydra: Any, sweep: Path) -> "optuna.storages.BaseStorage":
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if hydra.sweeper.storage is not None:
        return RDBStorage(hydra.sweeper.storage)
    return JournalStorage(JournalFileBackend(str(sweep / "study.journal")))


def callbacks(config: DictConfig, hydra: Any) -> "list[Callback]":
    """The pruning callback of a job; none outside a search.

    Args:
        config: The configuration of the job.
        hydra: Hydra's configuration of the job.
    """
    if str(hydra.sweeper.get("_target_")) != TARGET or hydra.sweeper.pruner == "none":
        return []
    import optuna

    from fmnist.training.callbacks.pruning import Pruning

    study, storage = open_study(config, hydra), _storage(hydra, Path(hydra.sweep.dir))
    running = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
    overrides = list(hydra.overrides.task)
    found = [trial for trial in running if trial.user_attrs.get(OVERRIDES) == overrides]
    if not found or UNPRUNED in found[0].user_attrs:  # not found: another process considered it lost
        return []
    study_id = storage.get_study_id_from_name(study.study_name)
    trial = optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, found[0].number))

    def should_prune(epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return math.isnan(value) or trial.should_prune()

    return [Pruning(metric=monitor.score(config)[0], should_prune=should_prune)]
