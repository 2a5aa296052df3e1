"""The most confident mistakes, and the pairs of classes that the network confuses most."""

from collections.abc import Sequence

from tabulate import tabulate

from fmnist.dashboard import image_grids
from fmnist.dashboard.panel import Panel, PanelContext, Stage
from fmnist.training.evaluation import Evaluation


class Mistakes(Panel):
    """Draws the most confident mistakes as a gallery and logs a table of the most confused pairs of classes.

    Args:
        count: Images to show, at least 1.
    """

    stages = frozenset({Stage.FINAL})

    def __init__(self, *, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count

    def draw(self, context: PanelContext) -> None:
        figure = image_grids.mistakes(
            context.evaluation, context.class_names, count=self.count, subject=context.subject
        )
        context.add_figure("mistakes", figure)
        table = confused_pairs_table(context.evaluation, context.class_names)
        context.writer.add_text(f"{context.split}/confused_pairs", table, context.step)


def confused_pairs_table(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """The ten most frequent confusions, as Markdown."""
    pairs = evaluation.confused_pairs()[:10]
    rows = [(class_names[true], class_names[predicted], count) for true, predicted, count in pairs]
    table = tabulate(rows, headers=["is", "taken for", "images"], tablefmt="pipe", disable_numparse=True)
    return f"Confused most, of {len(evaluation):,} images:\n\n{table}"
