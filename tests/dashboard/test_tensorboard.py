"""TensorBoard: the event files of a run, and what a real server shows of two runs."""

import contextlib
import json
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.data.files import CLASS_NAMES
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.helpers import ROOT, TINY, free_port, run_command, wait_until

pytestmark = pytest.mark.real_data

FIGURES = {
    *("val/confusion_matrix", "test/confusion_matrix", "test/mistakes", "test/calibration"),
    *("network/filters", "train/batch"),
}


@pytest.fixture(scope="module")
def log(trained_run: RunDirectory) -> EventAccumulator:
    """The event file of a run of two epochs of 50 steps."""
    accumulator = EventAccumulator(str(trained_run.path), size_guidance={"images": 0, "scalars": 0})
    return accumulator.Reload()


def steps(events: list[Any]) -> list[int]:
    return [event.step for event in events]


def test_curves_are_logged_per_epoch_and_every_ten_steps(log: EventAccumulator) -> None:
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "train/images_per_second"):
        assert steps(log.Scalars(name)) == [49, 99], name
    assert {event.value for event in log.Scalars("epoch")} == {0, 1, 2}  # counted from 0; the test logs 2
    for name in ("train/loss_step", "lr"):
        assert steps(log.Scalars(name)) == [9, 19, 29, 39, 49, 59, 69, 79, 89, 99], name
    assert all(event.value == pytest.approx(0.01) for event in log.Scalars("lr"))
    assert all(event.value > 100 for event in log.Scalars("train/images_per_second"))
    for measure in ("precision", "recall", "f1"):
        for name in CLASS_NAMES:
            assert steps(log.Scalars(f"val_per_class/{measure}/{name.replace('/', ' or ')}")) == [49, 99]


def test_curves_end_at_the_values_of_metrics_json(log: EventAccumulator, trained_run: RunDirectory) -> None:
    metrics = trained_run.read_metrics()
    for name in ("train/loss", "train/acc", "test/loss", "test/acc"):
        assert log.Scalars(name)[-1].value == metrics[name]
    assert max(event.value for event in log.Scalars("val/acc")) == metrics["val/acc"]
    for name in ("train/acc", "val/acc", "test/acc"):
        assert log.Scalars(f"final/{name}")[0].value == metrics[name]


def test_graph_layers_configuration_and_command_line_are_logged(log: EventAccumulator) -> None:
    def text(name: str) -> str:
        (event,) = log.Tensors(f"{name}/text_summary")
        return re.sub(" +", " ", event.tensor_proto.string_val[0].decode())

    graph = str(log.Graph())
    assert all(layer in graph for layer in ("conv1", "conv2", "fc1", "fc2", "out"))
    assert "max_epochs: 2" in text("configuration")
    assert "${" not in text("configuration")  # references are resolved
    assert "| conv1 | Conv2d | 6 x 24 x 24 | 156 |" in text("layers")
    assert "| total | | | 32,998 |" in text("layers")
    assert re.search(r"python \S+train.py experiment=smoke threads=1", text("command_line"))


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Starts a real TensorBoard on a directory and yields its address."""
    port = free_port()
    command = ["-m", "tensorboard.main", f"--logdir={directory}", f"--port={port}", "--load_fast=false"]
    process = fork_server.Popen(command, cwd=directory, env=os.environ)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def served(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real TensorBoard on the trained run and a smaller one with another learning rate."""
    directory = tmp_path_factory.mktemp("runs")
    (directory / "first").symlink_to(trained_run.path)
    smaller = *TINY, "optimizer.lr=0.001", f"hydra.run.dir={directory / 'second'}"
    outcome = run_command(ROOT / "train.py", *smaller)
    assert outcome.code == 0, outcome.err
    with serve(directory) as address:
        yield address


def get(url: str, body: dict[str, Any] | None = None, *, until: Callable[[Any], object]) -> Any:
    """Repeats a request until TensorBoard has read its files."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    answers: list[Any] = []

    def answered() -> object:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as response:
            answers.append(json.load(response))
        return answers and until(answers[-1])

    wait_until(answered, url)
    return answers[-1]


def test_hparams_tab_sorts_runs_by_validation_accuracy(served: str, trained_run: RunDirectory) -> None:
    plugin = f"{served}/data/plugin/hparams"
    experiment = get(f"{plugin}/experiment", {"experimentName": ""}, until=lambda it: "hparamInfos" in it)
    parameters = [info["name"] for info in experiment["hparamInfos"]]
    # By default TensorBoard shows the first five parameters and the first metric.
    assert "optimizer.lr" in parameters[:5]
    assert {"data.batch_size", "model", "optimizer", "scheduler", "seed", "trainer.max_epochs"} <= set(parameters)
    assert experiment["metricInfos"][0]["name"]["tag"] == "final/val/acc"
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": "final/val/acc", "group": ""}, "order": "ORDER_ASC"}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    groups = get(f"{plugin}/session_groups", request, until=lambda it: it.get("totalSize") == 2)["sessionGroups"]
    worse, better = ({**group["hparams"], **group["metricValues"][0]} for group in groups)
    assert (worse["optimizer.lr"], better["optimizer.lr"]) == (0.001, 0.01)
    assert better["value"] == pytest.approx(trained_run.read_metrics()["val/acc"])
    assert (better["model"], better["optimizer"], better["trainer.max_epochs"]) == ("CNN", "Adam", 2)


def test_images_are_drawn_at_milestones_and_served(served: str, log: EventAccumulator) -> None:
    assert set(log.Tags()["images"]) == FIGURES
    # At the last step of the first epoch, like its metrics; the last one is drawn after training.
    assert steps(log.Images("val/confusion_matrix")) == [49, 100]
    query = urllib.parse.urlencode({"run": "first", "tag": "test/confusion_matrix", "sample": 0})
    plugin = f"{served}/data/plugin/images"
    (image,) = get(f"{plugin}/images?{query}", until=bool)
    with urllib.request.urlopen(f"{plugin}/individualImage?{image['query']}") as response:
        assert Image.open(response).size == (640, 640)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("timeseries", ["epoch", "final", "6 cards", "Smoothed"]),
        ("images", ["test/mistakes", "test/confusion_matrix", "network/filters"]),
        ("custom_scalars", ["each class of the validation set", "precision", "recall", "f1"]),
        ("pr_curves", ["test/Ankle boot", "test/Bag"]),
        ("hparams", ["optimizer.lr", "final/val/acc"]),
        ("text", ["command_line", "configuration", "layers"]),
    ],
)
def test_each_tab_shows_data_in_a_browser(served: str, browser: WebDriver, tab: str, texts: list[str]) -> None:
    get(f"{served}/data/plugin/scalars/tags", until=lambda it: len(it) == 2)
    assert_shows(browser, f"{served}/#{tab}", texts)


@pytest.mark.slow
def test_projector_shows_the_features_in_a_browser(trained_run: RunDirectory, browser: WebDriver) -> None:
    """One run only: with several, the projector first asks which one to show."""
    with serve(trained_run.path) as address:
        get(f"{address}/data/plugin/projector/runs", until=lambda it: len(it) == 1)
        assert_shows(browser, f"{address}/#projector", ["Points: 1000", "Dimension: 60"])


def assert_shows(browser: WebDriver, address: str, texts: list[str]) -> None:
    """Opens a page and waits until it shows all of the texts."""
    browser.get("about:blank")
    browser.get(address)
    wait_until(lambda: all(text in browser.execute_script(VISIBLE_TEXT) for text in texts), f"{texts} at {address}")


# The text of the page, including its web components and frames.
VISIBLE_TEXT = """
const collect = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (["STYLE", "SCRIPT"].includes(node.nodeName)) return "";
  let inner = node.shadowRoot ? collect(node.shadowRoot) : "";
  if (node.nodeName === "IFRAME" && node.contentDocument) inner += collect(node.contentDocument);
  return inner + Array.from(node.childNodes, collect).join(" ");
};
return collect(document).replace(/\\s+/g, " ");
"""
