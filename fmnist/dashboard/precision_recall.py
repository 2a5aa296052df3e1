"""Precision-recall curves."""

from fmnist.dashboard.panel import Panel, PanelContext, Stage, tag

THRESHOLDS = 127


class PrecisionRecall(Panel):
    """Logs a curve per class, ``<split>/<class>``, for TensorBoard's PR curves tab."""

    stages = frozenset({Stage.FINAL})

    def draw(self, context: PanelContext) -> None:
        evaluation = context.evaluation
        for index, name in enumerate(context.class_names):
            labels, probabilities = (evaluation.targets == index).numpy(), evaluation.probabilities[:, index].numpy()
            context.writer.add_pr_curve(
                f"{context.split}/{tag(name)}", labels, probabilities, context.step, num_thresholds=THRESHOLDS
            )
