"""The confusion matrix, which grows a diagonal as training goes on."""

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES


class ConfusionMatrix(Panel):
    """Draws ``val/confusion_matrix`` at milestones and after training, ``test/confusion_matrix`` after the test.

    A drawing after each epoch would cost more than all other logging of the epoch.
    """

    moments = frozenset({Moment.MILESTONE, Moment.LAST, Moment.FINAL})

    def draw(self, view: View) -> None:
        counts = view.evaluation.confusion_matrix.numpy()
        share = counts.trace() / counts.sum()
        title = f"{view.subject}: {share:.2%} of {counts.sum():,} correct"
        view.add_figure("confusion_matrix", figures.confusion_matrix(counts, CLASS_NAMES, title=title))
