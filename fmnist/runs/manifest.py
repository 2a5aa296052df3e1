"""manifest.json: commit, versions, machine and sessions of a run. Written at the start of a run, completed at its end.

The keys of ``describe_run`` are those of the first start and never change. ``sessions`` has one entry for each process
that worked on the run; ``differs`` in it lists what changed since the first start. ``end``, ``state`` and ``error`` are
those of the last session. ``seconds`` is the sum over all sessions that were not killed. train.py adds the number of
parameters and the training time.
"""

import datetime
import hashlib
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import Pruned, UserError, one_line
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)

Manifest = dict[str, Any]

RUNNING, KILLED, FINISHED = "running", "killed", "finished"
INTERRUPTED, FAILED, PRUNED = "interrupted", "failed", "pruned"
_RELEVANT = (
    "commit",
    "diff",
    "python",
    "packages",
    "processor",
    "threads",
    "gpu",
    "data",
)  # keys that may change metrics
_RELEVANT_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "hydra-core", "omegaconf")


@contextmanager
def record_session(run: RunDirectory, config: DictConfig, data: Mapping[str, Any]) -> Iterator[Manifest]:
    """Records in the manifest that this process works on a run, and how that ends.

    Args:
        run: The run directory.
        config: Its configuration.
        data: Identity of the data set, such as file hashes.

    Yields:
        The manifest. What the caller adds is written at the end of the session.

    Raises:
        UserError: The run directory cannot be written.
    """
    manifest = start_session(run, config, data)
    session = manifest["sessions"][-1]
    start = time.monotonic()
    try:
        yield manifest
    except BaseException as error:
        states = (
            (Pruned, PRUNED),
            (KeyboardInterrupt, INTERRUPTED),
            (SystemExit, INTERRUPTED),
            (BaseException, FAILED),
        )
        state = next(state for kind, state in states if isinstance(error, kind))
        session |= {"state": state, "error": _describe(error)}
        with suppress(OSError):  # report the first error
            _end_session(run, manifest, time.monotonic() - start)
        raise
    session |= {"state": FINISHED, "error": None}
    _end_session(run, manifest, time.monotonic() - start)


def start_session(run: RunDirectory, config: DictConfig, data: Mapping[str, Any]) -> Manifest:
    """Writes the manifest of a new run, or adds a session to that of a resumed run."""
    now = describe_run(config, data)
    manifest = run.read_manifest()
    changes: dict[str, tuple[str, str]] = {}
    if manifest is None:
        manifest = {**now, "sessions": []}
    else:
        changes = differences(manifest, now)
        for name, (before, after) in changes.items():
            log.warning("%s was %s when the run started and is now %s: metrics may differ", name, before, after)
        for session in manifest["sessions"]:
            if session["state"] == RUNNING:  # its process was killed, or it would have changed the state
                session["state"] = KILLED
    manifest["sessions"].append(
        {
            "command": now["command"],
            "start": now["start"],
            "max_epochs": config.trainer.max_epochs,
            "differs": {name: {"was": before, "is": after} for name, (before, after) in changes.items()},
            "state": RUNNING,
            "error": None,
            "end": None,
            "seconds": None,
        }
    )
    _write(run, manifest)
    return manifest


def describe_run(config: DictConfig, data: Mapping[str, Any]) -> Manifest:
    """The part of a manifest that is known when a run starts."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "start": _now(),
        **provenance.source(),
        "config_sha256": configuration_hash(config),
        "seed": config.seed,
        **provenance.environment(),
        "data": {**data, "val_size": config.data.val_size, "val_seed": config.data.val_seed},
    }


def configuration_hash(config: DictConfig) -> str:
    """SHA-256 of the configuration with resolved interpolations and sorted keys."""
    return hashlib.sha256(OmegaConf.to_yaml(config, resolve=True, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Differences between two manifests that may change metrics: name to old and new value, as text."""
    result: dict[str, tuple[str, str]] = {}
    for name in _RELEVANT:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name == "packages":
            old, new = old or {}, new or {}
            result |= {
                package: (str(old.get(package, "absent")), str(new.get(package, "absent")))
                for package in _RELEVANT_PACKAGES
                if old.get(package) != new.get(package)
            }
        elif name == "diff":
            result["uncommitted changes"] = ("others", "these") if old and new else (_as_text(old), _as_text(new))
        elif name == "data":
            old, new = old or {}, new or {}
            if any(old[key] != new[key] for key in old.keys() & new.keys()):  # hashes are known only at the end
                result["data set or split"] = ("another", "this one")
        else:
            result[name] = (_as_text(old), _as_text(new))
    return result


def _describe(error: BaseException) -> str:
    text = one_line(error)
    return text if isinstance(error, UserError | Pruned) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _as_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else str(value or "none")


def _end_session(run: RunDirectory, manifest: Manifest, seconds: float) -> None:
    manifest["sessions"][-1] |= {"end": _now(), "seconds": round(seconds, 3)}
    _write(run, manifest)


def _write(run: RunDirectory, manifest: Manifest) -> None:
    last = manifest["sessions"][-1]
    known = [session["seconds"] for session in manifest["sessions"] if session["seconds"] is not None]
    seconds = round(sum(known), 3) if known else None
    run.write_manifest(manifest | {name: last[name] for name in ("end", "state", "error")} | {"seconds": seconds})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
