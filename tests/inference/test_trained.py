"""Bringing a trained network back, and refusing what is none."""

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


def test_the_same_network_comes_back_in_evaluation_mode_with_its_class_names(run: RunDirectory) -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    torch.manual_seed(0)
    expected = build.classifier(OmegaConf.load(run.hydra / "config.yaml")).network.eval()(images)  # type: ignore[arg-type]
    network = fmnist.load(run.path)
    assert torch.equal(network(images), expected)
    assert not network.training
    assert network.class_names == CLASS_NAMES
    assert not torch.equal(fmnist.load(str(run.path), "last")(images), expected)


def test_probabilities_are_the_softmax_whatever_the_batches(run: RunDirectory) -> None:
    network = fmnist.load(run.path)
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    together = probabilities(network, images)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(7))
    torch.testing.assert_close(probabilities(network, images, batch_size=2), together)
    torch.testing.assert_close(together, network(images).softmax(dim=1))


def test_importing_the_package_imports_no_torch() -> None:
    outcome = run_command("-c", "import sys, fmnist; print('torch' in sys.modules)")
    assert outcome.out == "False\n"


def refusal(run: RunDirectory, checkpoint: Any = "best") -> str:
    with pytest.raises(UserError) as error:
        fmnist.load(run.path, checkpoint)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_directory_that_is_not_there_or_no_run_is_refused(tmp_path: Path) -> None:
    assert refusal(RunDirectory(tmp_path / "none")).startswith(f"no directory {tmp_path / 'none'}")
    assert "is no run directory: it has no .hydra/config.yaml" in refusal(RunDirectory(tmp_path))


def test_of_an_unfinished_run_only_the_last_checkpoint_is_taken(run: RunDirectory) -> None:
    run.metrics.unlink()
    assert "has not finished (no metrics.json); checkpoint=last takes what there is" in refusal(run)
    fmnist.load(run.path, "last")


def test_a_missing_checkpoint_is_named(run: RunDirectory) -> None:
    run.best_checkpoint.unlink()
    assert f"no checkpoint {run.best_checkpoint}" in refusal(run)


@pytest.mark.parametrize("size", [0, 10, 1000, 100_000])
def test_a_damaged_checkpoint_is_refused(run: RunDirectory, size: int) -> None:
    run.best_checkpoint.write_bytes(run.best_checkpoint.read_bytes()[:size])
    assert "is no checkpoint, or is damaged" in refusal(run)


def test_weights_of_another_network_are_refused_with_the_keys_that_differ(run: RunDirectory) -> None:
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["network.conv3.weight"] = weights.pop("network.conv2.weight")
    weights["network.out.bias"] = torch.zeros(11)
    torch.save(checkpoint, run.best_checkpoint)
    message = refusal(run)
    assert "network.conv2.weight is missing" in message
    assert "network.conv3.weight is unknown" in message
    assert "network.out.bias is [11] and should be [10]" in message


def test_a_run_of_before_a_key_came_loads_as_if_it_had_had_it(run: RunDirectory) -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    expected = fmnist.load(run.path)(images)
    path = run.hydra / "config.yaml"
    config: Any = OmegaConf.load(path)
    for key in ("max_jobs", "resume", "trust", "label_smoothing", "ensemble"):
        del config[key]
    OmegaConf.save(config, path)
    assert torch.equal(fmnist.load(run.path)(images), expected)
    assert build.classifier(run.read_configuration()).label_smoothing == 0


@pytest.mark.parametrize("content", ["", "[]", "a: [", "seed: x\n", "\x00"])
def test_a_configuration_that_cannot_be_read_is_refused(run: RunDirectory, content: str) -> None:
    (run.hydra / "config.yaml").write_text(content)
    assert "cannot read" in refusal(run)


def test_the_metrics_of_the_run_stay_as_they_are(run: RunDirectory) -> None:
    fmnist.load(run.path)
    assert json.loads(run.metrics.read_text()) == {"val/acc": 0.5}
