"""Precision against recall of each class, as its threshold is moved."""

from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES

THRESHOLDS = 127


class PrecisionRecall(Panel):
    """Logs a curve for each class, ``<split>/<class>``, for TensorBoard's PR curves tab."""

    moments = frozenset({Moment.FINAL})

    def draw(self, view: View) -> None:
        for index, name in enumerate(CLASS_NAMES):
            labels = (view.evaluation.targets == index).numpy()
            probabilities = view.evaluation.probabilities[:, index].numpy()
            tag = f"{view.split}/{name.replace('/', ' or ')}"
            view.writer.add_pr_curve(tag, labels, probabilities, view.step, num_thresholds=THRESHOLDS)
