"""Loading a trained network, and rejecting damaged runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import fmnist
from fmnist import build
from fmnist.config.errors import UserError
from fmnist.data.files import CLASS_NAMES
from fmnist.inference.trained import probabilities
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import run_command


def test_loaded_network_is_the_saved_one_in_evaluation_mode_with_class_names(untrained_run: RunDirectory) -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    torch.manual_seed(0)
    expected = build.classifier(OmegaConf.load(untrained_run.hydra / "config.yaml")).network.eval()(images)  # type: ignore[arg-type]
    network = fmnist.load(untrained_run.path)
    assert torch.equal(network(images), expected)
    assert not network.training
    assert network.class_names == CLASS_NAMES
    assert not torch.equal(fmnist.load(str(untrained_run.path), "last")(images), expected)


def test_probabilities_are_the_softmax_for_any_batch_size(untrained_run: RunDirectory) -> None:
    network = fmnist.load(untrained_run.path)
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    for batch_size in (2, 250):
        found = probabilities(network, images, batch_size=batch_size)
        torch.testing.assert_close(found, network(images).softmax(dim=1))


def test_importing_the_package_does_not_import_torch() -> None:
    assert run_command("-c", "import sys, fmnist; print('torch' in sys.modules)", cold=True).out == "False\n"


def test_unfinished_run_has_only_a_last_checkpoint(untrained_run: RunDirectory) -> None:
    untrained_run.metrics.unlink()
    message = r" has not finished \(no metrics\.json\); use checkpoint=last, or finish it:  python train\.py resume="
    with pytest.raises(UserError, match=message):
        fmnist.load(untrained_run.path)
    fmnist.load(untrained_run.path, "last")


def damage_weights(run: RunDirectory) -> None:
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["network.conv3.weight"] = weights.pop("network.conv2.weight")
    weights["network.out.bias"] = torch.zeros(11)
    torch.save(checkpoint, run.best_checkpoint)


def save(weights: Any) -> Callable[[RunDirectory], object]:
    return lambda run: torch.save({"state_dict": weights}, run.best_checkpoint)


def describe(**values: object) -> Callable[[RunDirectory], object]:
    def change(run: RunDirectory) -> None:
        checkpoint = torch.load(run.best_checkpoint, weights_only=True)
        checkpoint["data"] |= values
        torch.save(checkpoint, run.best_checkpoint)

    return change


def configure(old: str, new: str) -> Callable[[RunDirectory], object]:
    return lambda run: (path := run.hydra / "config.yaml").write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run.path.rename(run.path.parent / "moved"), r"^no directory \S+/run;"),
        (configure("seed: 0", "seed: x"), r"^cannot read \S+/config.yaml: seed must be a whole number, got 'x'$"),
        (configure("seed: 0", "seed: ${x}"), r"^cannot read \S+/config.yaml: .*'x' not found"),
        (
            configure("pixel_mean: 0.0", "pixel_mean: ${x}"),
            r"^cannot use the configuration of \S+/run: .*'x' not found",
        ),
        (lambda run: run.best_checkpoint.unlink(), r"^no checkpoint \S+/best\.ckpt"),
        (lambda run: run.best_checkpoint.write_bytes(bytes(1000)), "is not a checkpoint, or is damaged"),
        (describe(channels="x"), r"^data\.channels must be a whole number, got 'x'$"),
        (save({}), r"best\.ckpt does not describe its data set: another version's\?$"),
        (save(None), r"best\.ckpt is not a checkpoint: it holds no weights, or more than weights$"),
        (save({"network.out.bias": "text"}), "is not a checkpoint: it holds no weights, or more than weights$"),
        (save({1: torch.zeros(1)}), "is not a checkpoint: it holds no weights, or more than weights$"),
        (
            damage_weights,
            r"^the weights in \S+/best\.ckpt do not fit the run's network: "
            r"Missing key\(s\) in state_dict: \"conv2\.weight\"\. "
            r"Unexpected key\(s\) in state_dict: \"conv3\.weight\"\. "
            r"size mismatch for out\.bias: ",
        ),
    ],
)
def test_damaged_run_is_rejected_with_one_line(
    untrained_run: RunDirectory, damage: Callable[[RunDirectory], object], message: str
) -> None:
    damage(untrained_run)
    with pytest.raises(UserError, match=message) as error:
        fmnist.load(untrained_run.path)
    assert "\n" not in str(error.value)


def test_checkpoint_is_best_or_last(untrained_run: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"^checkpoint must be best or last, got 'lats'$"):
        fmnist.load(untrained_run.path, "lats")  # type: ignore[arg-type]
