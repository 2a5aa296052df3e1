"""manifest.json: what made the figures of a run. Written when it starts, completed when it ends.

Its first part is of the run's first start and stays as it is. ``sessions`` has an entry for each time that a process
worked on the run, ``differs`` in it what was not as at the first start. What follows is of the last session, but
``seconds``, the sum over all that were not killed. What was trained, and how long, stands at the end.
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

from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)

Manifest = dict[str, Any]

RUNNING, KILLED, FINISHED, INTERRUPTED, FAILED = "running", "killed", "finished", "interrupted", "failed"
# What may change the figures, and of the packages those that compute.
_MAY_MATTER = ("commit", "diff", "python", "packages", "processor", "threads", "gpu", "data")
_COMPUTING = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "hydra-core", "omegaconf")


@contextmanager
def recording(run: RunDirectory, config: DictConfig) -> Iterator[Manifest]:
    """Records in the manifest that this process works on a run, and how that ends, with all that was put into it.

    Raises:
        UserError: The run directory cannot be written.
    """
    manifest = begin(run, config)
    session = manifest["sessions"][-1]
    start = time.monotonic()
    try:
        yield manifest
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        session |= {"state": INTERRUPTED if interrupted else FAILED, "error": describe(error)}
        with suppress(OSError):  # what went wrong first is what counts
            _end(run, manifest, time.monotonic() - start)
        raise
    session |= {"state": FINISHED, "error": None}
    _end(run, manifest, time.monotonic() - start)


def begin(run: RunDirectory, config: DictConfig) -> Manifest:
    """Writes the manifest of a run that starts, or notes in it that the run goes on."""
    now = first_part(config)
    manifest = run.read_manifest()
    if manifest is None:
        manifest = {**now, "sessions": []}
        different: dict[str, Any] = {}
    else:
        different = differences(manifest, now)
        for name, (then, today) in different.items():
            log.warning("%s was %s when the run started and is %s: its figures may differ", name, then, today)
        for session in manifest["sessions"]:
            if session["state"] == RUNNING:  # whoever wrote this did not live to change it
                session["state"] = KILLED
    manifest["sessions"].append(
        {
            "command": now["command"],
            "start": now["start"],
            "max_epochs": config.trainer.max_epochs,
            "differs": {name: {"was": then, "is": today} for name, (then, today) in different.items()},
            "state": RUNNING,
            "error": None,
            "end": None,
            "seconds": None,
        }
    )
    _write(run, manifest)
    return manifest


def first_part(config: DictConfig) -> Manifest:
    """What made the figures, as far as it is known when a run starts."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "start": _now(),
        **provenance.source(),
        "config_sha256": configuration_hash(config),
        "seed": config.seed,
        **provenance.environment(),
        "data": {"sha256": files.SHA256, "val_size": config.data.val_size, "val_seed": config.data.val_seed},
    }


def configuration_hash(config: DictConfig) -> str:
    """SHA-256 of the configuration, all interpolations resolved, keys in order."""
    return hashlib.sha256(OmegaConf.to_yaml(config, resolve=True, sort_keys=True).encode()).hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What may have changed the figures between two manifests, in words: name to what it was and what it is."""
    result: dict[str, tuple[str, str]] = {}
    for name in _MAY_MATTER:
        first, second = then.get(name), now.get(name)
        if first == second:
            continue
        if name == "packages":
            first, second = first or {}, second or {}
            result |= {
                package: (str(first.get(package, "absent")), str(second.get(package, "absent")))
                for package in _COMPUTING
                if first.get(package) != second.get(package)
            }
        elif name == "diff":
            result["uncommitted changes"] = ("others", "these") if first and second else (_words(first), _words(second))
        elif name == "data":
            result["data set or split"] = ("another", "this one")
        else:
            result[name] = (_words(first), _words(second))
    return result


def describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else str(value or "none")


def _end(run: RunDirectory, manifest: Manifest, seconds: float) -> None:
    manifest["sessions"][-1] |= {"end": _now(), "seconds": round(seconds, 3)}
    _write(run, manifest)


def _write(run: RunDirectory, manifest: Manifest) -> None:
    last = manifest["sessions"][-1]
    known = [session["seconds"] for session in manifest["sessions"] if session["seconds"] is not None]
    seconds = round(sum(known), 3) if known else None
    run.write_manifest(manifest | {name: last[name] for name in ("end", "state", "error")} | {"seconds": seconds})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
