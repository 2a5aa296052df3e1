"""The private parts of Hydra that this project uses, checked with hydra-core 1.3.8.

tests/cli/test_hydra_internals.py fails when they change.
"""

from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn


def command_line_options() -> list[str]:
    """All options of Hydra's command line, such as --multirun. argparse has no public list."""
    return list(get_args_parser()._option_string_actions)


def job_error(job: JobReturn) -> BaseException:
    """The exception of a failed job. The public property ``return_value`` raises it."""
    error = job._return_value
    assert isinstance(error, BaseException)
    return error
