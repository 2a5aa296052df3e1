"""One-line messages for errors of Ray, Slurm and other launchers. test_command_line.py tests those of Hydra."""

from concurrent.futures import BrokenExecutor

import pytest

from fmnist.cli.error_messages import message_for


class RayTaskError(Exception):
    __module__ = "ray.exceptions"


class FailedJobError(Exception):
    __module__ = "submitit.core.utils"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("Could not find any running Ray instance. Please specify"),
            "no Ray cluster answers: Could not",
        ),
        (
            RayTaskError("a traceback\nModuleNotFoundError: no fmnist\n"),
            "Ray lost a job (RayTaskError): ModuleNotFoundError: no fmnist",
        ),
        (
            FailedJobError("sbatch: error: invalid partition"),
            "Slurm rejected or lost a job (FailedJobError): sbatch: error",
        ),
        (RuntimeError("are you indeed on a slurm cluster?"), "Slurm is not available"),
        (BrokenExecutor("A process was terminated"), "a job was killed (probably out of memory)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_launcher_error_gives_one_line(error: Exception, message: str) -> None:
    line = message_for(error)
    assert line is not None
    assert line.startswith(message)
    assert "\n" not in line


@pytest.mark.parametrize("defect", [ConnectionError("of something else"), ValueError("a defect"), ZeroDivisionError()])
def test_defect_has_no_message(defect: Exception) -> None:
    assert message_for(defect) is None


def test_plain_exception_raised_by_ray_gives_one_line() -> None:
    """Ray raises plain exceptions, for example when the cluster has another version."""
    code = "raise RuntimeError('Version mismatch: the cluster has:\\n    Ray: 1\\nThis process has:\\n    Ray: 2')"
    message = "Ray raised an error: Version mismatch: the cluster has: Ray: 1 This process has: Ray: 2; see docs/ray.md"
    for module, expected in (("ray._private.utils", message), ("rayon", None)):
        with pytest.raises(RuntimeError) as raised:
            exec(code, {"__name__": module})
        assert message_for(raised.value) == expected
