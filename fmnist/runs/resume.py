"""``resume=<run directory>``: continues a run with its own configuration. Imported without torch."""

import sys
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.config import settings
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory, locate

# Overrides allowed when resuming: they change nothing that was computed so far.
ALLOWED = ("trainer.max_epochs", "data.data_dir", "trainer.enable_progress_bar")
_NOTHING = object()  # equal to no configuration value


def take_over(config: DictConfig) -> tuple[RunDirectory, int | None]:
    """Replaces the composed configuration by that of the run that ``resume`` names.

    Hydra then works in the run's directory and writes only the log there. Exits if nothing is left to do.

    Returns:
        The run, and its ``trainer.max_epochs`` before this command line, which may have increased it.

    Raises:
        UserError: There is no such run, or an override would change its result.
    """
    if not isinstance(config.resume, str) or not config.resume:
        raise UserError(f"resume must be the directory of one run, got {config.resume!r}")
    run = RunDirectory(locate(config.resume)[0])
    stored = configuration(run)
    max_epochs = OmegaConf.select(stored, "trainer.max_epochs")
    _check_overrides(config, stored, run)
    trust = config.trust
    for key in {override.partition("=")[0] for override in config.hydra.overrides.task}.intersection(ALLOWED):
        OmegaConf.update(stored, key, OmegaConf.select(config, key))
    _check_epochs(run, OmegaConf.select(stored, "trainer.max_epochs"), max_epochs)
    with read_write(config), open_dict(config):
        for key in [key for key in config if key != "hydra"]:
            del config[key]
        config.merge_with(stored)
        config.resume = None
        config.trust = trust  # from the command line, never from the run directory
        config.hydra.run.dir = str(run.path)
    return run, max_epochs


def configuration(run: RunDirectory) -> DictConfig:
    """The configuration of a run, with ``trainer.max_epochs`` of its last session and without its ``trust``.

    Raises:
        UserError: The directory holds no run, is damaged, or comes from another version of this project.
    """
    stored = run.read_configuration()
    stored.trust = []  # only the command line decides whom to trust
    try:
        settings.check(stored, stored=True)
    except UserError as error:
        raise UserError(f"cannot use {run.hydra / 'config.yaml'}: {error}") from error
    manifest = run.read_manifest() or {}
    try:
        max_epochs = manifest["sessions"][-1]["max_epochs"]
    except (LookupError, TypeError):  # the run was killed before it wrote the manifest
        return stored
    if isinstance(max_epochs, int):
        OmegaConf.update(stored, "trainer.max_epochs", max_epochs)
    return stored


def check_same(run: RunDirectory, config: DictConfig, *, free: Collection[str] = ALLOWED) -> None:
    """Checks that a run was started with this configuration.

    Args:
        run: The run directory.
        config: What the same command line composes now.
        free: Keys that may differ.

    Raises:
        UserError: The configurations differ, because the files in ``conf/`` have changed.
    """
    stored, now = _comparable(run.read_configuration(), free), _comparable(config, free)
    if changed := sorted(key for key in stored.keys() | now.keys() if stored.get(key) != now.get(key)):
        raise UserError(
            f"{run.shown} was started with another configuration: {', '.join(changed)} changed since; undo the "
            "change, or start again in another directory"
        )


def _comparable(config: DictConfig, free: Collection[str]) -> dict[str, Any]:
    """A configuration without the keys that may differ between two sessions of one run."""
    config = config.copy()
    for key in (*free, "trust", "resume", "max_jobs"):
        OmegaConf.update(config, key, None, force_add=True)
    values: Any = OmegaConf.to_container(config, resolve=True)
    return dict(values)


def _check_overrides(config: DictConfig, stored: DictConfig, run: RunDirectory) -> None:
    path = run.hydra / "overrides.yaml"
    original = list(OmegaConf.load(path)) if path.is_file() else []
    for override in config.hydra.overrides.task:
        key, equals, _ = override.partition("=")
        unchanged = equals and OmegaConf.select(config, key) == OmegaConf.select(stored, key, default=_NOTHING)
        if not (key in ("resume", "trust", *ALLOWED) or unchanged or override in original):
            raise UserError(
                f"{override} cannot be changed when resuming {run.shown}, which keeps its own configuration; "
                f"allowed: {', '.join(ALLOWED)}"
            )
    for override in config.hydra.overrides.hydra:
        key = override.partition("=")[0]
        if key in ("hydra.run.dir", "hydra.output_subdir", "hydra.sweep.dir"):
            raise UserError(f"{key} cannot be combined with resume: a run continues in its own directory")


def _check_epochs(run: RunDirectory, wanted: int | None, max_epochs: int | None) -> None:
    if max_epochs == -1 != wanted:
        raise UserError("trainer.max_epochs=-1 cannot be changed when resuming: the run was started without an end")
    if isinstance(wanted, int) and max_epochs is not None and wanted < max_epochs:
        raise UserError(
            f"trainer.max_epochs={wanted} is less than the run's {max_epochs}; when resuming it can only be increased"
        )
    if not run.finished:
        return
    done = run.read_metrics().get("epochs")
    if wanted == max_epochs:
        print(
            f"{run.shown} is finished, after {done} epochs, and stays unchanged; "
            f"to train longer, if its learning rate does not depend on the number of epochs:  {run.resume_command} "
            f"trainer.max_epochs=<more than {max_epochs}>"
        )
        sys.exit(0)
    if done != max_epochs:
        raise UserError(
            f"{run.shown} ended after {done} of its {max_epochs} epochs, by early stopping, trainer.max_steps or "
            "trainer.max_time, which would end it again"
        )
