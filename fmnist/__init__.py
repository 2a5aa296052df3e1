"""Convolutional networks on small images.

Importing the package is cheap on purpose: torch and Lightning are imported by the modules that use them, after the
command line has been accepted.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmnist.inference.trained import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Imports ``load`` when it is used."""
    if name == "load":
        from fmnist.inference.trained import load

        return load
    raise AttributeError(f"module 'fmnist' has no attribute '{name}'")
