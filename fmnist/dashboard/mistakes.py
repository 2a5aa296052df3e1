"""The images that the network gets wrong while it is sure of itself."""

from matplotlib.figure import Figure

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES
from fmnist.training.evaluation import Evaluation


class Mistakes(Panel):
    """Draws the most confident mistakes as a gallery, and names the pairs of classes that are confused most.

    Args:
        count: Mistakes to show, at least 1.
    """

    moments = frozenset({Moment.FINAL})

    def __init__(self, *, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count

    def draw(self, view: View) -> None:
        view.add_figure("mistakes", gallery(view.evaluation, self.count, view.subject))
        pairs = view.evaluation.confused_pairs()[:10]
        view.writer.add_text(f"{view.split}/confused_pairs", markdown(pairs, len(view.evaluation)), view.step)


def gallery(evaluation: Evaluation, count: int, subject: str, *, columns: int = 4) -> Figure:
    """The most confident mistakes of an evaluation, drawn."""
    mistakes = evaluation.mistakes()
    shown = mistakes[:count]
    predicted, targets, confidence = (
        values[shown].tolist() for values in (evaluation.predicted, evaluation.targets, evaluation.confidence)
    )
    captions = [
        figures.Caption(f"{CLASS_NAMES[p]} {c:.0%}", f"is {CLASS_NAMES[t]}")
        for p, t, c in zip(predicted, targets, confidence, strict=True)
    ]
    title = f"{subject}: the {len(shown)} most confident of {len(mistakes):,} mistakes"
    return figures.gallery(evaluation.images[shown, 0].numpy(), captions, title=title, columns=columns)


def markdown(pairs: list[tuple[int, int, int]], total: int) -> str:
    """The pairs of classes that are confused, as a table."""
    lines = [f"Confused most, of {total:,} images:", "", "| is | taken for | images |", "|---|---|---|"]
    lines += [f"| {CLASS_NAMES[true]} | {CLASS_NAMES[predicted]} | {count} |" for true, predicted, count in pairs]
    return "\n".join(lines)
