"""Values are checked against the annotations of constructors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pytest

from fmnist.config.errors import UserError
from fmnist.config.signature import check_arguments, check_value


class Node:
    def __init__(  # type: ignore[no-untyped-def]
        self,
        *,
        number: int = 0,
        share: int | float = 0,
        text: str = "",
        flag: bool = False,
        mode: Literal["max", "min"] | None = None,
        precision: Literal[16, "bf16"] = 16,
        devices: int | Sequence[int] = 1,
        widths: Sequence[int] = (),
        items: Iterable[int] | int = 0,
        settings: Mapping[str, int] | str = "",
        table: dict[str, int] | None = None,
        free: Any = None,
        unannotated=None,
    ) -> None: ...


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("number", "abc", "must be a whole number, got 'abc'"),
        ("number", 1.5, "must be a whole number, got 1.5"),
        ("number", True, "must be a whole number, got True"),
        ("number", None, "must be a whole number, got None"),
        ("number", [3], "must be a whole number, got [3]"),
        ("share", "abc", "must be a number, got 'abc'"),
        ("share", {"a": 1}, "must be a number, got {'a': 1}"),
        ("text", ["cpu"], "must be text, got ['cpu']"),
        ("flag", "yes", "must be true or false, got 'yes'"),
        ("mode", "maxi", "must be max or min or null, got 'maxi'; did you mean 'max'?"),
        ("mode", ["x"], "must be max or min or null, got ['x']"),
        ("precision", "bf17", "must be 16 or bf16, got 'bf17'; did you mean 'bf16'?"),
        ("precision", True, "must be 16 or bf16, got True"),
        ("devices", True, "must be a whole number or a list of whole numbers, such as [32,64], got True"),
        ("widths", 3, "must be a list of whole numbers, such as [32,64], got 3"),
        ("table", 3, "must be null, got 3"),
    ],
)
def test_value_of_another_type_is_rejected(name: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_arguments("node", Node, {"share": 0.5, name: value})
    assert str(error.value) == f"node.{name} {message}"


def test_value_that_fits_is_accepted() -> None:
    check_arguments("node", Node, {"share": 1, "flag": True, "mode": "min", "precision": 16, "free": True})
    check_arguments("node", Node, {"share": 1e-3, "mode": None, "table": None, "unannotated": "x", "text": "x"})


def test_constructor_checks_what_is_in_lists_and_mappings() -> None:
    values = {"devices": ["x"], "widths": ["x"], "items": ["x"], "free": ["x"], "settings": {"a": "x"}, "table": ["x"]}
    check_arguments("node", Node, values)


def test_unknown_argument_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"^Node takes no node\.numbr; did you mean 'number'\?$"):
        check_arguments("node", Node, {"numbr": 1})


def test_true_is_a_value_of_a_literal() -> None:
    check_value("key", True, Literal[True, "auto"])
    with pytest.raises(UserError, match=r"^key must be True or auto, got False$"):
        check_value("key", False, Literal[True, "auto"])
