"""Calibration: whether accuracy matches confidence."""

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Panel, PanelContext, Stage


class Calibration(Panel):
    """Draws a reliability diagram and logs ``<split>/calibration_error``."""

    stages = frozenset({Stage.FINAL})

    def draw(self, context: PanelContext) -> None:
        calibration = context.evaluation.calibration()
        context.add_figure("calibration", figures.reliability(calibration, title=context.subject))
        context.writer.add_scalar(f"{context.split}/calibration_error", calibration.error, context.step)
