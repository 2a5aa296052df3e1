"""Labels that most networks reject.

Such a label need not be wrong: classes overlap, and networks of one kind make the same mistakes. A network that was
trained on an image has seen its label, so that rejecting the label says more, and accepting it says little.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor


def find(probabilities: Tensor, trained_on: Tensor, labels: Tensor, class_names: Sequence[str]) -> pd.DataFrame:
    """Finds the images whose label more than half of the networks reject.

    The lowest mean probability of the label comes first, as in cleanlab's default ranking by self-confidence.

    Args:
        probabilities: float32 [networks, N, num_classes].
        trained_on: Whether a network was trained on an image, bool [networks, N].
        labels: int64 [N].
        class_names: [num_classes].

    Returns:
        One row per image, indexed by its position among the N: ``label`` and its mean ``probability``; ``suggestion``,
        the most probable other class, and its mean ``suggestion_probability``; the numbers of networks that reject the
        label (``rejected_by``) and that were trained on the image (``trained_on_by``); the ``votes`` of the networks.
    """
    votes = probabilities.argmax(dim=2)  # [networks, N]
    rejected_by = (votes != labels).sum(dim=0)  # [N]
    mean = probabilities.mean(dim=0)  # [N, num_classes]
    suggestion_probability, suggestion = mean.scatter(1, labels[:, None], -1.0).max(dim=1)
    names = np.array(class_names, dtype=object)
    columns = {
        "label": names[labels.numpy()],
        "probability": mean.gather(1, labels[:, None])[:, 0].numpy(),
        "suggestion": names[suggestion.numpy()],
        "suggestion_probability": suggestion_probability.numpy(),
        "rejected_by": rejected_by.numpy(),
        "trained_on_by": trained_on.sum(dim=0).numpy(),
        "votes": names[votes.T.numpy()].tolist(),
    }
    issues = pd.DataFrame(columns)[(2 * rejected_by > len(votes)).numpy()]
    return issues.sort_values("probability", kind="stable")
