"""Precision, recall and F1 of each class over the epochs."""

from fmnist.dashboard.panel import Panel, PanelContext, Stage, tag

MEASURES = ("precision", "recall", "f1")


class PerClass(Panel):
    """Logs ``val_per_class/<measure>/<class>`` after each validation.

    TensorBoard's custom scalars tab shows them in three charts with a line per class.
    """

    stages = frozenset({Stage.EPOCH})

    def __init__(self) -> None:
        self._has_layout = False

    def draw(self, context: PanelContext) -> None:
        tags = {
            measure: [f"val_per_class/{measure}/{tag(name)}" for name in context.class_names] for measure in MEASURES
        }
        if not self._has_layout:
            charts = {measure: ["Multiline", names] for measure, names in tags.items()}
            context.writer.add_custom_scalars({"each class of the validation set": charts})
            self._has_layout = True
        values = context.evaluation.per_class()
        for measure in MEASURES:
            for name, value in zip(tags[measure], values[measure].tolist(), strict=True):
                context.writer.add_scalar(name, value, context.step)
