"""Versions that must not be run: the list that the project keeps itself, so that no network is needed to hold to it.

An entry concerns what the project depends on, or what is often installed beside it, and names where its claim is made.
What is found goes to ``make audit`` and ``make doctor``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


class Advisory(NamedTuple):
    """What is wrong with some versions.

    ``affected`` maps names to version specifiers (PEP 440); of several names, all must be there. ``python`` is one.
    """

    affected: Mapping[str, str]
    kind: Literal["malicious", "vulnerable", "broken"]
    what: str
    source: str


class Package(NamedTuple):
    name: str
    version: str
    needed_here: bool = True  # by this Python on this system: a lock file holds packages for all


class Match(NamedTuple):
    """Packages that an advisory is about."""

    advisory: Advisory
    packages: tuple[Package, ...]

    def __str__(self) -> str:
        names = " with ".join(f"{package.name} {package.version}" for package in self.packages)
        return f"{names} is {self.advisory.kind}: {self.advisory.what} ({self.advisory.source})"


_STEALS = "the upload was not its makers', and steals passwords and keys when it is imported"
_INSTANTIATOR = "a checkpoint can run code, even one that is loaded with weights_only=True"

ADVISORIES = (
    Advisory({"lightning": ">=2.6.2,<=2.6.3"}, "malicious", _STEALS, "GHSA-w37p-236h-pfx3"),
    Advisory({"pytorch-lightning": ">=2.6.2,<=2.6.3"}, "malicious", _STEALS, "GHSA-w37p-236h-pfx3"),
    Advisory({"lightning": "<2.6.6"}, "vulnerable", _INSTANTIATOR, "CVE-2026-58659"),
    Advisory({"pytorch-lightning": "<2.6.6"}, "vulnerable", _INSTANTIATOR, "CVE-2026-58659"),
    Advisory({"torch": "<2.6"}, "vulnerable", "torch.load runs code despite weights_only=True", "CVE-2025-32434"),
    Advisory({"torch": "<2.10"}, "vulnerable", "a checkpoint can run code despite weights_only=True", "CVE-2026-24747"),
    Advisory({"hydra-core": "<1.3.4"}, "vulnerable", "instantiate calls whatever a file names", "CVE-2026-68508"),
    Advisory(
        {"hydra-core": ">=1.3.4,<1.3.7"},
        "vulnerable",
        "a configuration can switch off the list of what instantiate refuses",
        "CVE-2026-106439",
    ),
    Advisory(
        {"hydra-core": "<1.4", "python": ">=3.14"}, "broken", "Hydra does not start", "facebookresearch/hydra#3121"
    ),
    # Each torchvision is built for one torch; the newest has begun to take later ones, too.
    Advisory({"torchvision": ">=0.29", "torch": "<2.14"}, "broken", "needs torch 2.14", "torchvision's requirements"),
    Advisory(
        {"torchvision": "<0.29", "torch": ">=2.14"}, "broken", "needs an older torch", "torchvision's requirements"
    ),
    Advisory(
        {"tensorboard": "<2.21", "setuptools": ">=82"},
        "broken",
        "TensorBoard does not start, for want of pkg_resources",
        "tensorflow/tensorboard#7107",
    ),
    # Plugins of Hydra for sweeps bring an Optuna of before 3.
    Advisory(
        {"optuna": "<3.1", "sqlalchemy": ">=2"},
        "broken",
        "a study in a database ends in an AssertionError",
        "optuna/optuna#4392",
    ),
    Advisory({"pillow": "<12.3"}, "vulnerable", "pasting and cropping can write outside a picture", "CVE-2026-59199"),
    Advisory({"pillow": "<13"}, "vulnerable", "a JPEG file can write outside its buffer", "CVE-2026-112403"),
    Advisory({"gradio": "<6.6"}, "vulnerable", "the server can be made to ask others", "CVE-2026-28416"),
    Advisory({"gradio": "<6.20"}, "vulnerable", "the page can be made to send its user elsewhere", "CVE-2026-59806"),
    Advisory(
        {"onnx": "<1.21"}, "vulnerable", "a model can have files read outside its directory, by links", "CVE-2026-27489"
    ),
    Advisory({"fsspec": ">=0.9,<2026.6"}, "vulnerable", "a reference file can run code", "CVE-2026-104851"),
    Advisory(
        {"filelock": "<3.20.1"}, "vulnerable", "a lock follows links, and empties what they lead to", "CVE-2025-68146"
    ),
    Advisory({"filelock": ">=4,<4.2.1"}, "vulnerable", "a lock can be made to write elsewhere", "CVE-2026-112934"),
    Advisory({"fonttools": ">=4.33,<4.60.2"}, "vulnerable", "a font's source can write files", "CVE-2025-66034"),
)


def find(packages: Iterable[Package]) -> list[Match]:
    """What the list says of packages, of which there may be several versions."""
    named = defaultdict(list)
    for package in packages:
        named[canonicalize_name(package.name)].append(package)
    return [
        Match(advisory, found)
        for advisory in ADVISORIES
        for found in product(
            *(
                [package for package in named[canonicalize_name(name)] if _within(package.version, versions)]
                for name, versions in advisory.affected.items()
            )
        )
    ]


def locked(path: Path) -> list[Package]:
    """The packages of a lock file, also those for other systems and other Pythons.

    Raises:
        OSError: It cannot be read.
    """
    packages = []
    for line in re.findall(r"^[\w.-]+ *==[^\\\n]+", path.read_text(), re.MULTILINE):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        needed_here = requirement.marker is None or requirement.marker.evaluate()
        packages.append(Package(requirement.name, specifier.version, needed_here))
    return packages


def _within(version: str, versions: str) -> bool:
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except InvalidVersion:  # the system's own packages have such; nothing can be said of them
        return False
