"""Whether the network is right as often as it says."""

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Moment, Panel, View


class Calibration(Panel):
    """Draws a reliability diagram and logs ``<split>/calibration_error``."""

    moments = frozenset({Moment.FINAL})

    def draw(self, view: View) -> None:
        calibration = view.evaluation.calibration()
        view.add_figure("calibration", figures.reliability(calibration, title=view.subject))
        view.writer.add_scalar(f"{view.split}/calibration_error", calibration.error, view.step)
