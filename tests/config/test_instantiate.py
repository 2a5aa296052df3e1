"""A node is one constructor call: of a class of its group's kind, with arguments that fit."""

from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer

from fmnist.config.errors import UserError
from fmnist.config.instantiate import instantiate, instantiate_each
from fmnist.data.augmentation import Augmentation, Flip, Shift
from fmnist.networks.cnn import CNN

CNN_, FLIP, SHIFT = "fmnist.networks.cnn.CNN", "fmnist.data.augmentation.Flip", "fmnist.data.augmentation.Shift"
NESTED = {"_target_": "torch.nn.Identity"}


class Raises(nn.Module):
    def __init__(self, *, reason: str, defect: bool = False) -> None:
        raise (NameError if defect else OSError)(f"{reason}\n  of two lines")


def build(node: object, *, key: str = "model", kind: type = nn.Module, **arguments: Any) -> Any:
    return instantiate(OmegaConf.create({"trust": ["tests"], key: node}), key, kind, **arguments)


def test_object_is_built_from_the_node_and_what_the_program_knows() -> None:
    assert type(build({"_target_": CNN_, "in_channels": 3})) is CNN
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    assert build(optimizer, key="optimizer", kind=Optimizer)(CNN().parameters()).defaults["lr"] == 0.5
    assert build({"_target_": CNN_}, num_classes=7).out.out_features == 7


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (None, r"model must be a node with a _target_, got None"),
        ({"in_channels": 1}, r"model must be a node with a _target_, got \{'in_channels': 1\}"),
        *(
            ({"_target_": name}, rf"model\._target_ must be the full name of a class, got {name!r}")
            for name in ("", ".os.system", "torch.nn:Linear", 3)
        ),
        ({"_target_": "torch"}, r"model\._target_ is not a class: torch is a module"),
        ({"_target_": "torch.nn.Lineer"}, r"model\._target_ is not a class: torch\.nn has no 'Lineer'$"),
        ({"_target_": "torch.Generator"}, r"model\._target_ must be a Module, got torch\.Generator"),
        ({"_target_": CNN_, "_partial_": True}, r"model\._partial_ must be false, got True"),
        *(({"_target_": CNN_, key: [1]}, rf"CNN takes no model\.{key}") for key in ("_args_", "_convert_")),
        ({"_target_": CNN_, "_recursive_": True}, r"CNN takes no model\._recursive_"),
        ({"_target_": CNN_, "chanels": 1}, r"CNN takes no model\.chanels; did you mean 'in_channels'"),
        ({"_target_": CNN_, "in_channels": "one"}, r"model\.in_channels must be a whole number, got 'one'"),
        ({"_target_": CNN_, "in_channels": 0}, r"model\.in_channels must be at least 1, got 0"),
        ({"_target_": "torch.nn.Dropout", "p": 2}, r"model: dropout probability has to be between 0 and 1, but got 2"),
        ({"_target_": f"{__name__}.Raises", "reason": "reason: no file"}, r"model\.reason: no file of two lines$"),
    ],
)
def test_wrong_node_is_rejected_with_its_name(node: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        build(node)


class Base:
    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed


class Derived(Base):
    def __init__(self, *, size: int, **options: Any) -> None:
        super().__init__(**options)


def network(num_classes: int) -> nn.Module:
    return nn.Linear(1, num_classes)


def no_network() -> int:
    return 3


def test_constructor_with_options_takes_those_of_its_base_class() -> None:
    node = {"_target_": f"{__name__}.Derived", "size": 1, "seed": 5}
    assert build(node, kind=Base).seed == 5
    with pytest.raises(UserError, match=r"^Derived takes no model\.sed; did you mean 'seed'"):
        build({**node, "sed": 5}, kind=Base)
    with pytest.raises(UserError, match=r"^model\.seed must be a whole number, got 'x'"):
        build({**node, "seed": "x"}, kind=Base)


def test_trusted_function_builds_a_network_and_gets_the_properties_that_it_names() -> None:
    offered = {"num_classes": 7, "in_channels": 3}
    assert build({"_target_": f"{__name__}.network"}, offered=offered).out_features == 7
    for node, message in (
        (
            {"_target_": f"{__name__}.network", "num_classes": 3},
            r"model\.num_classes cannot be set: .* and is 7",
        ),
        ({"_target_": f"{__name__}.no_network"}, r"model\._target_ must return a Module, .*no_network returned int"),
        ({"_target_": "torch.load"}, r"model\._target_ is not a class: torch\.load is a function"),
        ({"_target_": "torchvision.models.resnet18"}, r".*write model=torchvision model\.name=resnet18"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            build(node, offered=offered)


def test_optimizer_must_be_partial() -> None:
    with pytest.raises(UserError, match=r"^optimizer\._partial_ must be true, got None"):
        build({"_target_": "torch.optim.SGD"}, key="optimizer", kind=Optimizer)


def test_defect_in_a_constructor_keeps_its_type() -> None:
    with pytest.raises(NameError, match="name"):
        build({"_target_": f"{__name__}.Raises", "reason": "name", "defect": True})


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (NESTED, r"\._target_"),
        ({"a": NESTED}, r"\.a\._target_"),
        ([1, [NESTED]], r"\[1\]\[0\]\._target_"),
        ([{"a": NESTED}], r"\[0\]\.a\._target_"),
        ("${other}", r"\._target_"),
        ("${oc.decode:'{_target_: torch.nn.Identity}'}", r"\._target_"),
        ("${oc.create:{_target_: torch.nn.Identity}}", r"\._target_"),
    ],
)
def test_nested_node_is_rejected(value: object, where: str) -> None:
    config = OmegaConf.create({"trust": [], "other": NESTED, "model": {"_target_": CNN_, "in_channels": value}})
    with pytest.raises(UserError, match=rf"^model\.in_channels{where} must not be there: .* and model is the node"):
        instantiate(config, "model", nn.Module)


def test_named_nodes_are_built_in_their_order() -> None:
    config = OmegaConf.create({"trust": [], "augmentation": {"b": {"_target_": SHIFT}, "a": {"_target_": FLIP}}})
    assert list(map(type, instantiate_each(config, "augmentation", Augmentation))) == [Shift, Flip]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (None, r" must hold named nodes, got None"),
        ([{"_target_": FLIP}], r" must hold named nodes, got \["),
        ({"_target_": FLIP}, r"\._target_ must be a node with a _target_"),
        ({"flip": {"_target_": "torch.nn.Identity"}}, r"\.flip\._target_ must be a Augmentation, got torch"),
    ],
)
def test_wrong_group_of_nodes_is_rejected(nodes: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^augmentation{message}"):
        instantiate_each(OmegaConf.create({"trust": [], "augmentation": nodes}), "augmentation", Augmentation)


def test_class_of_another_package_needs_trust_wherever_it_can_be_imported_from(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(nn.Module):
        pass

    Foreign.__module__, Foreign.__qualname__ = "foreign.networks", "Foreign"
    monkeypatch.setattr("fmnist.networks.cnn.Foreign", Foreign, raising=False)
    config = OmegaConf.create({"trust": [], "model": {"_target_": "fmnist.networks.cnn.Foreign"}})
    with pytest.raises(UserError, match=r"^model\._target_ names foreign\.networks\.Foreign, .* trust=\[foreign\]"):
        instantiate(config, "model", nn.Module)
    config.trust = ["foreign"]
    assert type(instantiate(config, "model", nn.Module)) is Foreign
