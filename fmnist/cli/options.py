"""The command lines of the tools beside train.py: ``python -m fmnist.<verb> key=value ...``.

Each argument is split at its first ``=`` and its value taken as it is, so that a file may have spaces, commas or equal
signs in its name. Imported before torch is.
"""

import dataclasses
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fmnist.cli.command_line import refusing, say_interrupted
from fmnist.config.errors import UserError
from fmnist.config.signature import check_value
from fmnist.config.suggestion import did_you_mean
from fmnist.runs.signals import interruptible

Options = TypeVar("Options")

# The help text of the option that every verb has which builds what a run directory says.
TRUST = "package whose classes the run's configuration may name, beyond torch's family, since you trust it: trust=timm"


def option(text: str, **arguments: Any) -> Any:
    """A field of an options class, with its line in the help text; ``default`` or ``default_factory`` as usual."""
    return dataclasses.field(metadata={"help": text}, **arguments)


def run(main: Callable[[Options], object], options: type[Options]) -> None:
    """Reads the command line and calls the program.

    A mistake of the user's ends it with one line and exit code 1, ``--help`` with the documentation of the module that
    the options stand in.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe(options))
        return
    with refusing(), interruptible(say_interrupted):
        main(read(options, sys.argv[1:]))


def read(options: type[Options], arguments: Sequence[str]) -> Options:
    """Makes an instance of a dataclass from ``key=value`` arguments.

    A field may be a Path, text, a whole number, true or false, one of some words, or a tuple of texts. A tuple takes
    ``key=value`` several times, or ``key=[value,value]``.

    Raises:
        UserError: An argument is unknown, missing, given twice, or does not fit.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(options)
    given: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise UserError(f"cannot read '{argument}': an argument is written key=value; --help lists the keys")
        if key not in fields:
            raise UserError(f"there is no '{key}'{did_you_mean(key, fields)} (there are: {', '.join(fields)})")
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
    return options(**given)


def describe(options: type) -> str:
    """The help text: what the module says of itself, then each key."""
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
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path's own raises for a user that is not there)
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
