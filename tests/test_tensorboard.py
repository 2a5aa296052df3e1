"""The dashboard: what is in the event files, and what a real TensorBoard serves of a sweep."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.callbacks.confusion_matrix import is_milestone
from fmnist.run_directory import RunDirectory
from tests.conftest import ROOT, run_command

pytestmark = pytest.mark.real_data


def events(run: RunDirectory) -> EventAccumulator:
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.fixture(scope="module")
def seven_epochs(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("run")
    overrides = ["experiment=smoke", "trainer.max_epochs=7", "scheduler=cosine", f"hydra.run.dir={path}"]
    outcome = run_command(ROOT / "train.py", *overrides)
    assert outcome.code == 0, outcome.err
    return RunDirectory(path)


def test_curves_are_logged_per_epoch_and_per_some_steps(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    steps_per_epoch = 50
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "train/images_per_second"):
        assert len(log.Scalars(name)) == 7, name
    assert {event.value for event in log.Scalars("epoch")} == {*range(7), 7}  # counted from 0; 7 is the test's
    for name in ("train/loss_step", "lr"):
        steps = [event.step for event in log.Scalars(name)]
        assert len(steps) == 7 * steps_per_epoch / 10, name  # smoke logs every 10 steps
        assert steps == sorted(set(steps))
    rates = [event.value for event in log.Scalars("lr")]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < rates[0] <= 0.01
    assert all(event.value > 100 for event in log.Scalars("train/images_per_second"))


def test_curves_end_with_the_figures_of_metrics_json(seven_epochs: RunDirectory) -> None:
    log, metrics = events(seven_epochs), seven_epochs.read_metrics()
    for name in ("train/loss", "train/acc", "test/loss", "test/acc"):
        assert log.Scalars(name)[-1].value == metrics[name]
    assert max(event.value for event in log.Scalars("val/acc")) == metrics["val/acc"]
    for name in ("train/acc", "val/acc", "test/acc"):
        assert log.Scalars(f"final/{name}")[0].value == metrics[name]


def test_confusion_matrices_are_drawn_at_milestones_and_the_last_epoch(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    epochs = [event.step // 50 for event in log.Images("val/confusion_matrix")]
    assert epochs == [1, 2, 5, 7]
    (test,) = log.Images("test/confusion_matrix")
    assert (test.width, test.height) == (640, 640)


def test_milestones_grow_like_the_coins_of_a_currency() -> None:
    assert [epoch for epoch in range(1, 1001) if is_milestone(epoch)] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def test_the_graph_and_the_resolved_configuration_are_there(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    graph = str(log.Graph())
    for layer in ("conv1", "conv2", "fc1", "fc2", "out"):
        assert layer in graph
    (text,) = log.Tensors("configuration/text_summary")
    yaml = text.tensor_proto.string_val[0].decode()
    assert "max_epochs: 7" in yaml
    assert "${" not in yaml  # references are resolved


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real TensorBoard on the runs of a sweep over the learning rate."""
    cwd = tmp_path_factory.mktemp("sweep")
    outcome = run_command(ROOT / "train.py", "-m", "optimizer.lr=0.001,0.003,0.01", "experiment=smoke", cwd=cwd)
    assert outcome.code == 0, outcome.err
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", cwd / "runs", "--port", str(port), "--load_fast=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/data/plugin"
    finally:
        process.kill()
        process.wait()


def get(url: str, body: dict[str, Any] | None = None, *, until: Callable[[Any], bool]) -> Any:
    """Asks TensorBoard until it has read its files."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    for _ in range(60):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = json.load(response)
            if until(answer):
                return answer
        except OSError:
            pass  # it has not started yet
        time.sleep(1)
    raise AssertionError(f"no answer from {url}")


def test_a_sweep_can_be_sorted_by_validation_accuracy_in_the_hparams_tab(served: str) -> None:
    experiment = get(f"{served}/hparams/experiment", {"experimentName": ""}, until=lambda it: "hparamInfos" in it)
    parameters = [info["name"] for info in experiment["hparamInfos"]]
    # TensorBoard shows the first five parameters and the first metric by itself.
    assert "optimizer.lr" in parameters[:5]
    assert {"data.batch_size", "model", "optimizer", "scheduler", "seed", "trainer.max_epochs"} <= set(parameters)
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert metrics[0] == "final/val/acc"

    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": "final/val/acc", "group": ""}, "order": "ORDER_DESC"}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    groups = get(f"{served}/hparams/session_groups", request, until=lambda it: it.get("totalSize") == 3)
    rows = [(group["hparams"]["optimizer.lr"], group["metricValues"][0]["value"]) for group in groups["sessionGroups"]]
    assert sorted(rate for rate, _ in rows) == [0.001, 0.003, 0.01]
    accuracies = [accuracy for _, accuracy in rows]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_image_that_is_served_can_be_opened(served: str) -> None:
    tags = get(f"{served}/images/tags", until=lambda it: len(it) == 3)
    run = min(tags)
    assert re.fullmatch(r"sweeps/.*/experiment-smoke\+optimizer\.lr-0\.001/tensorboard", run)
    assert set(tags[run]) == {"val/confusion_matrix", "test/confusion_matrix"}
    query = urllib.parse.urlencode({"run": run, "tag": "test/confusion_matrix", "sample": 0})
    (image,) = get(f"{served}/images/images?{query}", until=bool)
    with urllib.request.urlopen(f"{served}/images/individualImage?{image['query']}") as response:
        assert Image.open(response).size == (640, 640)
