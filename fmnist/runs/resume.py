"""``resume=<run directory>``: a run goes on with its own configuration. Imported before torch is."""

import sys
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory

# What may be overridden: it changes nothing of what was computed so far.
FREE = ("trainer.max_epochs", "data.data_dir", "trainer.enable_progress_bar")


def take_over(config: DictConfig) -> tuple[RunDirectory, int | None]:
    """Puts the configuration of the run that ``resume`` names in the place of the composed one.

    Hydra then works in the run's directory, and writes nothing there but the log. If there is nothing left to do, this
    ends the program.

    Returns:
        The run, and ``trainer.max_epochs`` as it was before this command line, which may have raised it.

    Raises:
        UserError: There is no such run, or an override would make it another.
    """
    if not isinstance(config.resume, str) or not config.resume:
        raise UserError(f"resume must be the directory of one run, got {config.resume!r}")
    run = RunDirectory(config.resume)
    stored = configuration(run)
    max_epochs = OmegaConf.select(stored, "trainer.max_epochs")
    _check_overrides(config, stored, run)
    trust = config.trust
    given = {override.partition("=")[0] for override in config.hydra.overrides.task}
    for key in given.intersection(FREE):
        OmegaConf.update(stored, key, OmegaConf.select(config, key))
    _check_epochs(run, stored, max_epochs)
    with read_write(config), open_dict(config):
        for key in [key for key in config if key != "hydra"]:
            del config[key]
        config.merge_with(stored)
        config.resume = None
        config.trust = trust  # never the run's own word
        config.hydra.run.dir = str(run.path)
    return run, max_epochs


def configuration(run: RunDirectory) -> DictConfig:
    """What a run was configured with, with as many epochs as it was last told to train.

    Raises:
        UserError: There is no run, or what it holds is damaged.
    """
    stored = run.read_configuration()
    manifest = run.read_manifest() or {}
    try:
        last = manifest["sessions"][-1]["max_epochs"]
    except (LookupError, TypeError):  # a run that was killed before it wrote the manifest
        return stored
    if isinstance(last, int):
        OmegaConf.update(stored, "trainer.max_epochs", last)
    return stored


def check_same(run: RunDirectory, config: DictConfig, *, free: Collection[str] = FREE) -> None:
    """Makes sure that a run is of this configuration.

    Args:
        run: Its directory.
        config: What the same command line makes now.
        free: What may differ.

    Raises:
        UserError: It is not: the files in ``conf/`` have changed since it began.
    """
    stored, now = _plain(run.read_configuration(), free), _plain(config, free)
    if changed := sorted(key for key in stored.keys() | now.keys() if stored.get(key) != now.get(key)):
        raise UserError(
            f"{run.shown} began with another configuration: {', '.join(changed)} changed since; put that back, or "
            "start anew in another directory"
        )


def _plain(config: DictConfig, free: Collection[str]) -> dict[str, Any]:
    """A configuration without what may differ between two sessions of one run."""
    config = config.copy()
    for key in (*free, "trust", "resume", "max_jobs"):
        OmegaConf.update(config, key, None, force_add=True)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return dict(plain)


def _check_overrides(config: DictConfig, stored: DictConfig, run: RunDirectory) -> None:
    path = run.hydra / "overrides.yaml"
    own = list(OmegaConf.load(path)) if path.is_file() else []
    for override in config.hydra.overrides.task:
        key, equals, _ = override.partition("=")
        as_it_is = equals and OmegaConf.select(config, key) == OmegaConf.select(stored, key, default=_NOTHING)
        if not (key in ("resume", "trust", *FREE) or as_it_is or override in own):
            raise UserError(
                f"{override} would make another run of {run.shown}, which goes on with its own configuration; "
                f"what may be given beside resume: {', '.join(FREE)}"
            )
    for override in config.hydra.overrides.hydra:
        key = override.partition("=")[0]
        if key in ("hydra.run.dir", "hydra.output_subdir", "hydra.sweep.dir"):
            raise UserError(f"{key} does not go with resume: a run goes on in its own directory")


def _check_epochs(run: RunDirectory, stored: DictConfig, max_epochs: int | None) -> None:
    wanted = stored.trainer.max_epochs
    if max_epochs == -1 != wanted:
        raise UserError("the run was told to train without an end, trainer.max_epochs=-1; it can have no other")
    if isinstance(wanted, int) and max_epochs is not None and wanted < max_epochs:
        raise UserError(f"trainer.max_epochs={wanted} is less than the run's {max_epochs}; it can be raised alone")
    if not run.finished:
        return
    done = run.read_metrics().get("epochs")
    if wanted == max_epochs:
        print(
            f"{run.shown} is finished, after {done} epochs, and stays as it is; "
            f"to train on:  {run.resume_command} trainer.max_epochs=<more than {max_epochs}>"
        )
        sys.exit(0)
    if done != max_epochs:
        raise UserError(
            f"{run.shown} ended after {done} of its {max_epochs} epochs, by early stopping, trainer.max_steps or "
            "trainer.max_time, which would end it again"
        )


_NOTHING = object()  # equal to no value
