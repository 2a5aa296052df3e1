"""The description of a data set that networks, evaluation and export need."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from fmnist.config.signature import check_arguments

Fit = Literal["pad", "crop", "stretch"]


@dataclass(frozen=True)
class DataSpec:
    """Describes a data set without its images. Kept in each checkpoint, so that a run can be used without its data.

    Args:
        name: Name of the data set.
        class_names: One per class, in the order of the labels.
        channels: 1 for grey, 3 for colour.
        size: Height and width of the images, in pixels.
        fit: How a picture becomes square, for a folder of pictures, see ``fmnist.data.pictures.resize``. None for sets
            like MNIST: one light object on black, see ``fmnist.inference.pictures.isolate``.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int = 1
    size: int = 28
    fit: Fit | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.size, self.size

    @property
    def decoded_size(self) -> int | None:
        """Height and width at which JPEG files are decoded at least, which is faster; None decodes them whole."""
        return None if self.fit is None else 2 * self.size

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return {**asdict(self), "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """The reverse; other keys are ignored.

        Raises:
            KeyError: A key is missing.
            UserError: A value has another type.
        """
        own = {field.name: values[field.name] for field in fields(cls)}
        check_arguments("data", cls, own)
        return cls(**{**own, "class_names": tuple(own["class_names"])})
