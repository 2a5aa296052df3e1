"""Labels that most networks reject, the surest rejection first.

Such a label need not be wrong: classes overlap, and networks of one kind make the same mistakes. What a network was
trained on it has been told the label of: that it rejects it all the same says more, that it accepts it says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fmnist.inference import trained
from fmnist.inference.trained import Checkpoint
from fmnist.runs.run_directory import RunDirectory


@dataclass(frozen=True)
class Verdicts:
    """What some networks say of the images of both sets, those of the training set first.

    Args:
        probabilities: float32 [networks, N, num_classes].
        seen: Whether a network was trained on an image, bool [networks, N].
    """

    probabilities: Tensor
    seen: Tensor

    @property
    def predicted(self) -> Tensor:
        """int64 [networks, N]."""
        return self.probabilities.argmax(dim=2)


@dataclass(frozen=True)
class Doubt:
    """An image whose label most networks reject."""

    position: int
    label: int
    votes: list[int]  # the class that each network says
    rejected: int  # networks that say another class than the label
    seen: int  # networks that were trained on the image
    probability: float  # of the label, mean over the networks
    suggestion: int  # the class that has the highest mean probability beside the label
    suggestion_probability: float


def ask(
    runs: Sequence[RunDirectory],
    images: Tensor,
    directory: Path,
    *,
    checkpoint: Checkpoint = "best",
    trust: Sequence[str] = (),
) -> Verdicts:
    """Has the networks of some runs look at the images.

    Args:
        runs: At least one.
        images: uint8 [N, 1, 28, 28], of both sets.
        directory: Of the data set: which training images a run held back follows from it and the run's configuration.
        checkpoint: ``best`` or ``last``.
        trust: Packages whose classes the runs' configurations may name.

    Raises:
        UserError: There is no such run or checkpoint.
    """
    # All of them first: a mistake in the last is told before the others take their minutes.
    networks = [trained.load(run.path, checkpoint, trust) for run in runs]
    probabilities, seen = [], torch.zeros(len(runs), len(images), dtype=torch.bool)
    for number, (run, network) in enumerate(zip(runs, networks, strict=True)):
        data = trained.data(trained.configuration(run, checkpoint, trust), "train", directory)
        seen[number, data.part("train")[1]] = True
        probabilities.append(trained.probabilities(network, images))
    return Verdicts(torch.stack(probabilities), seen)


def doubtful(verdicts: Verdicts, labels: Tensor) -> list[Doubt]:
    """The images whose label more than half of the networks reject, the lowest mean probability of the label first.

    Args:
        verdicts: Of at least one network.
        labels: int64 [N].
    """
    predicted, seen = verdicts.predicted, verdicts.seen.sum(dim=0)
    rejected = (predicted != labels).sum(dim=0)
    mean = verdicts.probabilities.mean(dim=0)
    of_label = mean.gather(1, labels[:, None])[:, 0]
    others, suggestion = mean.scatter(1, labels[:, None], -1.0).max(dim=1)
    chosen = (2 * rejected > len(predicted)).nonzero().flatten()
    chosen = chosen[of_label[chosen].argsort(stable=True)]
    return [
        Doubt(
            position=position,
            label=int(labels[position]),
            votes=predicted[:, position].tolist(),
            rejected=int(rejected[position]),
            seen=int(seen[position]),
            probability=float(of_label[position]),
            suggestion=int(suggestion[position]),
            suggestion_probability=float(others[position]),
        )
        for position in chosen.tolist()
    ]
