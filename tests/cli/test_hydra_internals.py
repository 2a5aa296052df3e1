"""Fails when Hydra or OmegaConf change the private parts that ``fmnist.cli.hydra_internals`` uses."""

import sys

import hydra
import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf.basecontainer import BaseContainer

from fmnist.cli import hydra_internals


def test_options_include_those_of_hydras_command_line() -> None:
    assert {"--multirun", "-m", "--cfg", "--config-dir", "--help"} <= set(hydra_internals.command_line_options())


def test_hydra_still_needs_an_older_argparse() -> None:
    """Fails with Hydra 1.4: delete what NEEDS_OLD_ARGPARSE guards."""
    assert hydra.__version__.startswith("1.3.")
    if sys.version_info >= (3, 14):
        with pytest.raises(ValueError, match="badly formed help string"):
            hydra_internals._get_args_parser()


def test_error_of_a_failed_job_is_returned() -> None:
    error = ValueError("a defect")
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = error
    assert hydra_internals.job_error(job) is error


def test_only_harmless_resolvers_are_registered() -> None:
    """Interpolations in a configuration can call them: they read the configuration, the environment and the clock."""
    import fmnist.cli.preflight  # noqa: F401 (registers two)

    oc = {f"oc.{name}" for name in ("create", "decode", "deprecated", "env", "select", "dict.keys", "dict.values")}
    of_hydra = {"now", "hydra", "python_version", "ray_pkg_version"}  # the last comes from its Ray plugin
    assert set(BaseContainer._resolvers) - of_hydra == {*oc, "directory_name", "suffix"}
