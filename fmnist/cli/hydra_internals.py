"""The private parts of Hydra that this project uses, checked with hydra-core 1.3.8.

tests/cli/test_hydra_internals.py fails when they change.
"""

import argparse
import sys
from typing import Any

import hydra
from hydra._internal import utils
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.plugin import Plugin

_get_args_parser = utils.get_args_parser


def _without_check_of_help() -> argparse.ArgumentParser:
    parser: Any = argparse.ArgumentParser
    check, parser._check_help = parser._check_help, lambda _parser, _action: None
    try:
        return _get_args_parser()
    finally:
        parser._check_help = check


# argparse of Python 3.14 checks help texts, and that of --shell-completion is no text in Hydra 1.3 (hydra issue 3121).
NEEDS_OLD_ARGPARSE = sys.version_info >= (3, 14) and hydra.__version__.startswith("1.3.")
if NEEDS_OLD_ARGPARSE:
    utils.get_args_parser = sys.modules["hydra.main"].get_args_parser = _without_check_of_help  # type: ignore[attr-defined]


def register(plugin: type[Plugin], target: str) -> None:
    """Registers a plugin under the name that a configuration uses.

    Hydra instantiates plugins from the package ``hydra_plugins`` only, also those that were registered.
    """
    module, _, _ = target.rpartition(".")
    sys.modules[module] = sys.modules[plugin.__module__]
    plugin.__module__ = module
    Plugins.instance().register(plugin)


def command_line_options() -> list[str]:
    """All options of Hydra's command line, such as --multirun. argparse has no public list."""
    return list(utils.get_args_parser()._option_string_actions)


def job_error(job: JobReturn) -> BaseException:
    """The exception of a failed job. The public property ``return_value`` raises it."""
    error = job._return_value
    assert isinstance(error, BaseException)
    return error
