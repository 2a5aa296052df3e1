"""Values are checked against annotations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pytest

from fmnist.config.errors import UserError
from fmnist.config.signature import check_arguments, check_value


@pytest.mark.parametrize(
    ("value", "hint", "allowed"),
    [
        ("abc", int, "a whole number"),
        (1.5, int, "a whole number"),
        (True, int, "a whole number"),
        (None, int, "a whole number"),
        ("abc", float, "a number"),
        ({"a": 1}, int | float, "a number"),
        (["cpu"], str, "text"),
        (1, bool, "true or false"),
        ("top", Literal["max", "min"] | None, "max or min or null"),
        (True, Literal[16, "bf16"], "16 or bf16"),
        (False, Literal[True, "auto"], "True or auto"),
        (True, int | Sequence[int], "a whole number or a list of whole numbers, such as [32,64]"),
    ],
)
def test_value_of_another_type_is_rejected(value: object, hint: Any, allowed: str) -> None:
    with pytest.raises(UserError) as error:
        check_value("key", value, hint)
    assert str(error.value) == f"key must be {allowed}, got {value!r}"


def test_close_value_is_suggested() -> None:
    with pytest.raises(UserError, match=r"must be 16 or bf16, got 'bf17'; did you mean 'bf16'\?$"):
        check_value("key", "bf17", Literal[16, "bf16"])


class Node:
    def __init__(  # type: ignore[no-untyped-def]
        self,
        *,
        number: int = 0,
        share: float = 0,
        mode: Literal["max", True] | None = None,
        widths: Sequence[int] = (),
        items: Iterable[int] | int = 0,
        settings: Mapping[str, int] | str = "",
        table: dict[str, int] | None = None,
        free: Any = None,
        unannotated=None,
    ) -> None: ...


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 3, "share": 1, "mode": True, "widths": [1], "settings": "x", "free": True},
        {"share": 1e-3, "mode": None, "items": 1, "table": None, "unannotated": "x"},
        # The constructor checks what is in lists and mappings.
        {"widths": ["x"], "items": ["x"], "free": ["x"], "settings": {"a": "x"}, "table": ["x"]},
    ],
)
def test_arguments_that_fit_are_accepted(arguments: dict[str, object]) -> None:
    check_arguments("node", Node, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.5, "number": [3]}, "node.number must be a whole number, got [3]"),
        ({"mode": ["x"]}, "node.mode must be max or True or null, got ['x']"),
        ({"widths": 3}, "node.widths must be a list of whole numbers, such as [32,64], got 3"),
        ({"numbr": 1}, "Node takes no node.numbr; did you mean 'number'?"),
    ],
)
def test_arguments_that_do_not_fit_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_arguments("node", Node, arguments)
    assert str(error.value) == message
