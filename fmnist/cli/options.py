"""Command lines of the commands besides train.py: ``python -m fmnist.<command> key=value ...``.

Each argument is split at its first ``=``, and the value is taken literally: file names may contain spaces, commas and
equal signs. An argument without ``=`` is the value of the next positional option. Imported without torch.
"""

import dataclasses
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fmnist.cli.program import print_interrupted, quick_process, report_user_errors
from fmnist.config.errors import UserError
from fmnist.config.signature import check_value
from fmnist.config.suggestion import did_you_mean
from fmnist.runs.output import robust_output
from fmnist.runs.run_directory import locate
from fmnist.runs.signals import interruptible

Options = TypeVar("Options")

# Help text of `trust`, an option of every command that builds objects from a run's configuration.
TRUST = "package outside torch's family whose classes the run may use, such as trust=timm"


def option(text: str, *, positional: bool = False, **arguments: Any) -> Any:
    """A field of an options dataclass with its help text.

    Args:
        text: The help text.
        positional: Whether the value may stand without its key.
        **arguments: ``default`` or ``default_factory`` as in dataclasses.
    """
    return dataclasses.field(metadata={"help": text, "positional": positional}, **arguments)


def run(main: Callable[[Options], object], options: type[Options]) -> None:
    """Reads the command line and calls the program.

    A user's mistake ends it with one line and exit code 1. ``--help`` prints the docstring of the module that defines
    the options, and the help text of each option.
    """
    with quick_process(), robust_output(), report_user_errors(), interruptible(print_interrupted):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(describe(options))
            return
        main(read(options, sys.argv[1:]))


def read(options: type[Options], arguments: Sequence[str]) -> Options:
    """Creates an options dataclass from ``key=value`` arguments.

    Supported types are Path, str, int, bool (true or false), Literal, and tuple[str, ...], which takes
    ``key=value`` several times or ``key=[value,value]``. If ``run`` is a path in a run directory, it means that run;
    the path of a checkpoint also chooses the ``checkpoint``, unless that is given.

    Raises:
        UserError: An argument is unknown, missing, given twice, or does not match its type.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(options)
    positional = [name for name, field in fields.items() if field.metadata.get("positional")]
    given: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals and (free := [name for name in positional if name not in given or hints[name] is not Path]):
            key, text = free[0], argument
        elif not equals:
            raise UserError(f"cannot read '{argument}': write arguments as key=value; --help lists the keys")
        if key not in fields:
            raise UserError(f"unknown key '{key}'{did_you_mean(key, fields)} (keys: {', '.join(fields)})")
        if typing.get_origin(hints[key]) is tuple:
            parts = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
            given[key] = (*given.get(key, ()), *(part.strip() if len(parts) > 1 else part for part in parts))
        elif key in given:
            raise UserError(f"{key} is given twice")
        else:
            given[key] = _value(key, text, hints[key])
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{name}=<...> is missing: {field.metadata['help']}")
    if "run" in given:
        given["run"], checkpoint = locate(given["run"])
        if checkpoint and "checkpoint" in fields:
            given.setdefault("checkpoint", checkpoint)
    return options(**given)


def describe(options: type) -> str:
    """The help text: the docstring of the module, then a line for each key."""
    lines = [(sys.modules[options.__module__].__doc__ or "").strip(), ""]
    for field in dataclasses.fields(options):
        default = "" if field.default in (dataclasses.MISSING, None, ()) else f" (default: {field.default})"
        lines.append(f"  {field.name + '=':<12} {field.metadata['help']}{default}")
    return "\n".join(lines)


def _value(key: str, text: str, hint: Any) -> Any:
    members = typing.get_args(hint) or (hint,)
    if Path in members:
        if not text:
            raise UserError(f"{key} must be a path, got nothing")
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    value: object = text
    if bool in members and text in ("true", "false"):
        value = text == "true"
    elif int in members:
        try:
            value = int(text)
        except ValueError:
            value = text
    check_value(key, value, hint)
    return value
