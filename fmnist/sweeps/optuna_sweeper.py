"""Hydra's sweeper for searches: asks Optuna for a trial, has the launcher run it, tells Optuna the result.

Any number of processes may work on one study. Each holds a lock file while it lives, so that the others notice when the
process of a trial has died.
"""

import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from fmnist.config.cores import usable_cores
from fmnist.config.errors import Pruned, UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import jobs, search

WORKER = "worker"  # attribute of a trial: the process that runs it
REPLACES = "replaces"  # attribute of a trial: the number of an earlier one that does not count
SEARCH = "search"  # attribute of a study: name of the sweep's directory, and its overrides


class OptunaSweeper(Sweeper):
    """Runs the trials of a search until all processes together have run ``n_trials``.

    Args:
        n_trials: Number of trials that count: finished, pruned, or failed in this process.
        n_jobs: Trials that this process runs at a time; None chooses by the launcher.
        finish: Number of pruned trials to train to their end after the others.
        sampler: A key of ``search.SAMPLERS``.
        seed: Seed of the sampler.
        options: Read from the configuration, by ``search.open_study``.
    """

    def __init__(
        self, *, n_trials: int, n_jobs: int | None, finish: int, sampler: str, seed: int, **options: Any
    ) -> None:
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.finish = finish
        self.sampler = sampler
        self.seed = seed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.settings = config
        self.launch = (
            Plugins.instance()
            .instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)
            .launch
        )

    def sweep(self, arguments: list[str]) -> None:
        overrides = jobs.overrides(self.settings)
        parsed = {each.get_key_element(): each for each in OverridesParser.create().parse_overrides(overrides)}
        self.space = {key: distribution(each) for key, each in parsed.items() if each.is_sweep_override()}
        self.fixed = [str(each.input_line) for key, each in parsed.items() if key not in self.space]
        self.study = search.open_study(self.settings, self.settings.hydra)
        self.directory, self.worker = RunDirectory(self.settings.hydra.sweep.dir).sweep / "search", uuid.uuid4().hex
        self.mutex, mine = FileLock(self.directory / "lock"), FileLock(self.directory / self.worker)
        try:
            self.directory.mkdir(exist_ok=True)
            held = mine.acquire()
        except (OSError, NotImplementedError) as error:
            raise UserError(f"cannot lock {mine.lock_file}, and processes of a search need locks: {error}") from error
        with held:
            with self.mutex:
                identity = [self.directory.parents[1].absolute().name, *overrides]
                if self.study.user_attrs.get(SEARCH, identity) != identity:
                    raise UserError(
                        f"the storage has a study '{self.study.study_name}' of another search: give "
                        "hydra.sweeper.study_name=<another name>"
                    )
                self.study.set_user_attr(SEARCH, identity)
                self._begin()
            self._run()

    def _begin(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        # A sampler with the same seed would choose the same values again.
        self.study.sampler = self._sampler(self.seed + len(trials) + 1000 * len(self._living()))
        if not self._living():  # a resumed search retries failed trials
            self._replace(trial for trial in trials if trial.state == TrialState.FAIL)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        make: Callable[..., optuna.samplers.BaseSampler] = getattr(optuna.samplers, search.SAMPLERS[self.sampler])
        if self.sampler == "grid":
            values = {name: _values(name, distribution) for name, distribution in self.space.items()}
            self.n_trials = min(self.n_trials, math.prod(map(len, values.values())))
            return make(values, seed=seed)
        return make(seed=seed)

    def _run(self) -> None:
        """Runs trials in as many threads as there are places; each waits for its launcher."""
        places = self._places()
        if places == 1:
            self._work()
            return
        if str(self.settings.hydra.launcher._target_).endswith(".RayLauncher"):  # or each thread would connect
            import ray

            options: Any = OmegaConf.to_container(self.settings.hydra.launcher.ray.init, resolve=True)
            ray.init(**options)
        outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                self._work()
                outcomes.put(None)
            except BaseException as error:
                outcomes.put(error)

        for _ in range(places):
            threading.Thread(target=work, daemon=True).start()
        try:
            for _ in range(places):
                if (error := outcomes.get()) is not None:
                    raise error
        except BaseException:
            _stop_joblib()
            raise

    def _places(self) -> int:
        launcher = str(self.settings.hydra.launcher._target_)
        if launcher.endswith(".BasicLauncher"):  # runs its jobs in this process
            return 1
        if self.n_jobs is None and launcher.endswith(".JoblibLauncher"):
            given: int = self.settings.hydra.launcher.n_jobs
            return given if given > 0 else usable_cores()
        return self.n_jobs or 1

    def _work(self) -> None:
        while (begun := self._next()) is not None:
            trial, overrides = begun
            (result,) = self.launch([overrides], initial_job_idx=trial.number)
            self._tell(trial, result)

    def _next(self) -> tuple[Trial, list[str]] | None:
        """Starts the next trial; None when all trials are done, those of other processes included."""
        while True:
            with self.mutex:
                trials = self.study.get_trials(deepcopy=False)
                living = self._living() | {self.worker}
                running = [trial for trial in trials if trial.state == TrialState.RUNNING]
                lost = [trial for trial in running if trial.user_attrs.get(WORKER) not in living]
                self._replace(lost)
                waiting = lost or any(trial.state == TrialState.WAITING for trial in trials)
                if waiting or len(trials) - len(_replaced(trials)) < self.n_trials:
                    if begun := self._ask([trial for trial in running if trial not in lost]):
                        return begun
                elif not running:
                    if not self._finish_pruned(trials):
                        return None
                    continue
            time.sleep(1)

    def _ask(self, running: Sequence[FrozenTrial]) -> tuple[Trial, list[str]] | None:
        """Starts a trial, unless one with the same values is running: both would have the same directory."""
        trial = self.study.ask(self.space)
        trial.set_user_attr(WORKER, self.worker)
        overrides = [*self.fixed, *(f"{name}={_text(value)}" for name, value in trial.params.items())]
        if any(trial.params == other.params for other in running):
            trial.set_user_attr(REPLACES, trial.number)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr(search.OVERRIDES, overrides)
        return trial, overrides

    def _finish_pruned(self, trials: Sequence[FrozenTrial]) -> bool:
        """Queues the best of the pruned trials that got furthest; False if there are none, or this was done before."""
        if not trials or search.UNPRUNED in trials[-1].user_attrs:
            return False
        sign = 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.value is not None]
        pruned.sort(key=lambda trial: (trial.last_step or 0, sign * (trial.value or 0)), reverse=True)
        self._replace(pruned[: self.finish], unpruned=True)
        return bool(pruned[: self.finish])

    def _replace(self, trials: Iterable[FrozenTrial], *, unpruned: bool = False) -> None:
        """Queues trials with the same values, so that their runs are resumed. The old ones no longer count."""
        replaced = _replaced(self.study.get_trials(deepcopy=False))
        for trial in trials:
            if trial.number not in replaced:
                kept = {search.UNPRUNED: True} if unpruned or search.UNPRUNED in trial.user_attrs else {}
                self.study.enqueue_trial(trial.params, {REPLACES: trial.number, **kept})
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _tell(self, trial: Trial, result: JobReturn) -> None:
        value = result.return_value if result.status == JobStatus.COMPLETED else math.nan  # a failure has been logged
        with self.mutex:
            if isinstance(value, Pruned):
                self.study.tell(trial, state=TrialState.PRUNED)
            elif math.isnan(value):
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, value)

    def _living(self) -> set[str]:
        """The other processes that work on the study."""
        living = set()
        for path in self.directory.iterdir():
            if path.name not in ("lock", self.worker):
                try:
                    FileLock(path, timeout=0).acquire()  # released when the object goes, at once
                except Timeout:
                    living.add(path.name)
        return living


def _replaced(trials: Iterable[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[REPLACES] for trial in trials if REPLACES in trial.user_attrs}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def distribution(override: Override) -> BaseDistribution:
    """The values of a swept override: a choice, or all numbers of an interval or of a range."""
    value: Any = override.value()
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        step: dict[str, Any] = {"step": value.step}
    elif isinstance(value, IntervalSweep):
        numbers, step = [value.start, value.end], {}
    else:
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    whole = all(isinstance(number, int) for number in [*numbers, *step.values()])
    kind: Any = IntDistribution if whole else FloatDistribution
    made: BaseDistribution = kind(numbers[0], numbers[-1], log="log" in value.tags, **step)
    return made


def _values(name: str, distribution: Any) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    step = getattr(distribution, "step", None)
    if step is None:
        raise UserError(f"{name}: sampler=grid needs values or a range with a step, not an interval")
    count = round((distribution.high - distribution.low) / step) + 1
    return [distribution.low + number * step for number in range(count)]


def _stop_joblib() -> None:
    """Ends the processes of joblib's launcher: the threads that wait for them cannot be interrupted."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(kill_workers=True)
