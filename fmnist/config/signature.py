"""Checks configuration values against signatures and type hints."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from typeguard import TypeCheckError, check_type

from fmnist.config.errors import UserError
from fmnist.config.suggestion import did_you_mean


def check_arguments(key: str, target: Callable[..., Any], given: Mapping[str, object]) -> None:
    """Checks the arguments of a node against the signature of its class.

    Lists and mappings are checked only if the annotation is one that users can type; else the constructor checks them.

    Args:
        key: Full name of the node, for messages.
        target: The class, or the function.
        given: The node's arguments.

    Raises:
        UserError: An argument is unknown, or its value does not match the annotation.
    """
    hints = parameters(target)
    for name, value in given.items():
        if name not in hints:
            raise UserError(f"{target.__name__} takes no {key}.{name}{did_you_mean(name, hints)}")
        hint = hints[name]
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if is_plain or (_allowed(hint) and not any(map(_accepts_containers, _members(hint)))):
            check_value(f"{key}.{name}", value, hint)


def parameters(target: Callable[..., Any]) -> dict[str, Any]:
    """Names and type hints of the parameters of a function, or of a class's constructor.

    A constructor that takes ``**options`` takes those of its base class, too.
    """
    if not isinstance(target, type):
        hints = typing.get_type_hints(target)
        return {name: hints.get(name, Any) for name in inspect.signature(target).parameters}
    found: dict[str, Any] = {}
    for constructor in (vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)):
        hints = typing.get_type_hints(constructor)
        own = inspect.signature(constructor).parameters
        named = [name for name, parameter in own.items() if parameter.kind not in _VARIADIC]
        found = {name: hints.get(name, Any) for name in named[1:]} | found  # without self
        if len(named) == len(own):
            break
    return found


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_value(key: str, value: object, hint: Any) -> None:
    """Checks a value against a type hint.

    Raises:
        UserError: The value does not match.
    """
    # bool is a subclass of int, but 'true' epochs are a mistake.
    fits = not isinstance(value, bool) or hint is Any or bool in _members(hint) or value in _members(hint)
    try:
        check_type(value, hint)
    except TypeCheckError:
        fits = False
    if not fits:
        allowed = _allowed(hint)
        raise UserError(f"{key} must be {' or '.join(allowed)}, got {value!r}{did_you_mean(str(value), allowed)}")


_DESCRIPTIONS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Sequence[int]: "a list of whole numbers, such as [32,64]",
}


def _allowed(hint: Any) -> list[str]:
    """Describes the members of a type hint that users can type on a command line."""
    members = [member for member in _members(hint) if member is not int or float not in _members(hint)]
    names = [_DESCRIPTIONS.get(member, member if isinstance(member, str | int) else "") for member in members]
    return list(dict.fromkeys(str(name) for name in names if name != ""))


def _members(hint: Any) -> list[Any]:
    """Splits unions and Literals into their types and values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return list(arguments)
    if origin in (typing.Union, types.UnionType):
        return [member for argument in arguments for member in _members(argument)]
    return [hint]


def _accepts_containers(member: Any) -> bool:
    """Whether a list or mapping may match this member of a type hint."""
    kind = typing.get_origin(member) or member
    if not isinstance(kind, type):
        return not isinstance(kind, bool | int | float | str)  # False for a value of a Literal
    return kind in (object, Iterable, Collection) or (issubclass(kind, Sequence | Mapping | Set) and kind is not str)
