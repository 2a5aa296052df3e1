"""Confusion matrix of the validation set as training goes on, and of the test set."""

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Panel, PanelContext, Stage


class ConfusionMatrix(Panel):
    """Draws ``val/confusion_matrix`` at milestones, ``test/confusion_matrix`` after the test.

    Drawn after every epoch, it would cost more than all other logging of the epoch.
    """

    stages = frozenset({Stage.MILESTONE, Stage.FINAL})

    def draw(self, context: PanelContext) -> None:
        counts = context.evaluation.confusion_matrix.numpy()
        title = f"{context.subject}: {counts.trace() / counts.sum():.2%} of {counts.sum():,} correct"
        context.add_figure("confusion_matrix", figures.confusion_matrix(counts, context.class_names, title=title))
