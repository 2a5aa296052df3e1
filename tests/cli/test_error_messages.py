"""One-line messages for errors of Ray, Slurm and other plugins. test_command_line.py tests those of Hydra."""

import errno
from concurrent.futures import BrokenExecutor

import pytest
from hydra.errors import MissingConfigException

from fmnist.cli.error_messages import message_for


class RayTaskError(Exception):
    __module__ = "ray.exceptions"


class FailedJobError(Exception):
    __module__ = "submitit.core.utils"


class WorkerCrashedError(RayTaskError):
    __module__ = "ray.exceptions"


PLUGIN = "hydra/launcher/submitit_slurm"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Could not find any Ray instance. Please specify"), "no Ray cluster answers: Could not"),
        (RayTaskError("a traceback\nImportError: no x\n"), "Ray lost a job (RayTaskError): ImportError: no x"),
        (WorkerCrashedError(), "Ray lost a job (WorkerCrashedError): WorkerCrashedError One reason: the machine"),
        (FailedJobError("sbatch: error: x"), "Slurm rejected or lost a job (FailedJobError): sbatch: error: x; wait"),
        (RuntimeError("are you indeed on a slurm cluster?"), "Slurm is not available: the command srun"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), f"{'a' * 60}...: File name too long"),
        (BrokenExecutor("A process was terminated"), "a job was killed (probably out of memory); the remaining"),
        (MissingConfigException("in ...", PLUGIN), f"'{PLUGIN}' belongs to a Hydra plugin that is not installed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_of_a_plugin_gives_one_line(error: Exception, message: str) -> None:
    line = message_for(error)
    assert line is not None
    assert line.startswith(message)
    assert "\n" not in line


@pytest.mark.parametrize("defect", [ConnectionError("of x"), ValueError("a defect"), ZeroDivisionError()])
def test_defect_has_no_message(defect: Exception) -> None:
    assert message_for(defect) is None


def test_plain_exception_raised_by_ray_gives_one_line() -> None:
    """Ray raises plain exceptions, for example when the cluster has another version."""
    code = "raise RuntimeError('Version mismatch: the cluster has:\\n    Ray: 1\\nThis process has:\\n    Ray: 2')"
    versions = "the cluster has: Ray: 1 This process has: Ray: 2"
    message = f"Ray raised an error: Version mismatch: {versions}; see docs/distributed.md"
    for module, expected in (("ray._private.utils", message), ("rayon", None)):
        with pytest.raises(RuntimeError) as raised:
            exec(code, {"__name__": module})
        assert message_for(raised.value) == expected
