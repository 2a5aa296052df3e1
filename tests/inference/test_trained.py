"""Loading a trained network, and rejecting damaged or hostile runs."""

import json
from pathlib import Path
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
from tests.conftest import run_command


@pytest.fixture
def run(untrained_run: RunDirectory) -> RunDirectory:
    return untrained_run


def test_loaded_network_is_the_saved_one_in_evaluation_mode_with_class_names(run: RunDirectory) -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    torch.manual_seed(0)
    expected = build.classifier(OmegaConf.load(run.hydra / "config.yaml")).network.eval()(images)  # type: ignore[arg-type]
    network = fmnist.load(run.path)
    assert torch.equal(network(images), expected)
    assert not network.training
    assert network.class_names == CLASS_NAMES
    assert not torch.equal(fmnist.load(str(run.path), "last")(images), expected)


def test_probabilities_are_the_softmax_for_any_batch_size(run: RunDirectory) -> None:
    network = fmnist.load(run.path)
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    together = probabilities(network, images)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(7))
    torch.testing.assert_close(probabilities(network, images, batch_size=2), together)
    torch.testing.assert_close(together, network(images).softmax(dim=1))


def test_importing_the_package_does_not_import_torch() -> None:
    outcome = run_command("-c", "import sys, fmnist; print('torch' in sys.modules)", cold=True)
    assert outcome.out == "False\n"


def rejection(run: RunDirectory, checkpoint: Any = "best") -> str:
    with pytest.raises(UserError) as error:
        fmnist.load(run.path, checkpoint)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_directory_without_a_run_is_rejected(tmp_path: Path) -> None:
    assert rejection(RunDirectory(tmp_path / "none")).startswith(f"no directory {tmp_path / 'none'}")
    assert "is not a run directory: it has no .hydra/config.yaml" in rejection(RunDirectory(tmp_path))


def test_unfinished_run_has_only_a_last_checkpoint(run: RunDirectory) -> None:
    run.metrics.unlink()
    assert "has not finished (no metrics.json); use checkpoint=last, or finish it:" in rejection(run)
    fmnist.load(run.path, "last")


def test_a_missing_checkpoint_is_named(run: RunDirectory) -> None:
    run.best_checkpoint.unlink()
    assert f"no checkpoint {run.best_checkpoint}" in rejection(run)


@pytest.mark.parametrize("size", [0, 10, 1000, 100_000])
def test_damaged_checkpoint_is_rejected(run: RunDirectory, size: int) -> None:
    run.best_checkpoint.write_bytes(run.best_checkpoint.read_bytes()[:size])
    assert "is not a checkpoint, or is damaged" in rejection(run)


def test_weights_of_another_network_are_rejected_with_the_differences(run: RunDirectory) -> None:
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["network.conv3.weight"] = weights.pop("network.conv2.weight")
    weights["network.out.bias"] = torch.zeros(11)
    torch.save(checkpoint, run.best_checkpoint)
    message = rejection(run)
    assert 'Missing key(s) in state_dict: "network.conv2.weight".' in message
    assert 'Unexpected key(s) in state_dict: "network.conv3.weight".' in message
    assert "size mismatch for network.out.bias: " in message


@pytest.mark.parametrize("weights", [None, {}, {"network.out.bias": "text"}, {1: torch.zeros(1)}])
def test_checkpoint_without_weights_is_rejected(run: RunDirectory, weights: Any) -> None:
    torch.save({"state_dict": weights}, run.best_checkpoint)
    message = rejection(run)
    assert "is not a checkpoint: it holds no weights" in message or "Missing key(s)" in message


def test_configuration_of_another_version_is_rejected(run: RunDirectory) -> None:
    path = run.hydra / "config.yaml"
    config: Any = OmegaConf.load(path)
    del config["label_smoothing"]
    OmegaConf.save(config, path)
    assert "the configuration lacks label_smoothing; is it from another version" in rejection(run)


@pytest.mark.parametrize("content", ["", "[]", "a: [", "seed: x\n", "\x00"])
def test_unreadable_configuration_is_rejected(run: RunDirectory, content: str) -> None:
    (run.hydra / "config.yaml").write_text(content)
    assert "cannot read" in rejection(run)


def test_loading_does_not_change_the_metrics(run: RunDirectory) -> None:
    fmnist.load(run.path)
    assert json.loads(run.metrics.read_text()) == {"val/acc": 0.5}
