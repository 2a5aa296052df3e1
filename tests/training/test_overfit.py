"""``trainer.overfit_batches`` repeats the first batches, in the same order."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from fmnist import build
from fmnist.runs.run_directory import RunDirectory


@pytest.mark.real_data
def test_overfitting_repeats_the_first_batches(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    for overfit, repeated in ((3, True), (0, False)):
        config = composed(f"trainer.overfit_batches={overfit}", "logger=csv")
        data, trainer = build.data(config), build.trainer(config, RunDirectory(tmp_path))
        data.prepare_data()
        data.setup("fit")
        assert torch.equal(data.batch_indices(0, 2), data.batch_indices(1, 2)) == repeated
        assert (trainer.limit_train_batches, trainer.limit_val_batches) == ((3, 3) if overfit else (1.0, 1.0))
