"""Precision, recall and F1 of each class, as curves over the epochs."""

from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES

MEASURES = ("precision", "recall", "f1")


class PerClass(Panel):
    """Logs ``val_per_class/<measure>/<class>`` after each validation.

    TensorBoard's custom scalars tab shows them in three charts, each with all ten classes.
    """

    moments = frozenset({Moment.EPOCH})

    def __init__(self) -> None:
        self._has_layout = False

    def draw(self, view: View) -> None:
        if not self._has_layout:
            charts = {name: ["Multiline", [_tag(name, c) for c in CLASS_NAMES]] for name in MEASURES}
            view.writer.add_custom_scalars({"each class of the validation set": charts})
            self._has_layout = True
        figures = view.evaluation.per_class()
        for measure in MEASURES:
            for class_name, value in zip(CLASS_NAMES, figures[measure].tolist(), strict=True):
                view.writer.add_scalar(_tag(measure, class_name), value, view.step)


def _tag(measure: str, class_name: str) -> str:
    # A class name with a slash would open a group of its own.
    return f"val_per_class/{measure}/{class_name.replace('/', ' or ')}"
