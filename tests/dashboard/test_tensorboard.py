"""TensorBoard: the event files of a run, and what a real server shows of a sweep."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist.dashboard.callback import is_milestone
from fmnist.data.files import CLASS_NAMES
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, free_port, run_command

pytestmark = pytest.mark.real_data

FIGURES = {
    *("val/confusion_matrix", "test/confusion_matrix", "test/mistakes", "test/calibration"),
    *("network/filters", "train/batch"),
}


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


def test_curves_are_logged_per_epoch_and_every_ten_steps(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    steps_per_epoch = 50
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "train/images_per_second"):
        assert len(log.Scalars(name)) == 7, name
    assert {event.value for event in log.Scalars("epoch")} == {*range(7), 7}  # counted from 0; the test logs 7
    for name in ("train/loss_step", "lr"):
        steps = [event.step for event in log.Scalars(name)]
        assert len(steps) == 7 * steps_per_epoch / 10, name  # smoke logs every 10 steps
        assert steps == sorted(set(steps))
    rates = [event.value for event in log.Scalars("lr")]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < rates[0] <= 0.01
    assert all(event.value > 100 for event in log.Scalars("train/images_per_second"))


def test_curves_end_at_the_values_of_metrics_json(seven_epochs: RunDirectory) -> None:
    log, metrics = events(seven_epochs), seven_epochs.read_metrics()
    for name in ("train/loss", "train/acc", "test/loss", "test/acc"):
        assert log.Scalars(name)[-1].value == metrics[name]
    assert max(event.value for event in log.Scalars("val/acc")) == metrics["val/acc"]
    for name in ("train/acc", "val/acc", "test/acc"):
        assert log.Scalars(f"final/{name}")[0].value == metrics[name]


def test_confusion_matrices_are_drawn_at_milestones_and_the_last_epoch(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    # At the last step of the first epoch, like its metrics; the last one is drawn after training.
    assert [event.step for event in log.Images("val/confusion_matrix")] == [49, 350]
    (test,) = log.Images("test/confusion_matrix")
    assert (test.width, test.height) == (640, 640)


def test_milestones_are_powers_of_ten() -> None:
    assert [epoch for epoch in range(1, 1001) if is_milestone(epoch)] == [1, 10, 100, 1000]


def test_graph_layers_configuration_and_command_line_are_logged(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    graph = str(log.Graph())
    for layer in ("conv1", "conv2", "fc1", "fc2", "out"):
        assert layer in graph
    (text,) = log.Tensors("configuration/text_summary")
    yaml = text.tensor_proto.string_val[0].decode()
    assert "max_epochs: 7" in yaml
    assert "${" not in yaml  # references are resolved
    (text,) = log.Tensors("layers/text_summary")
    layers = re.sub(" +", " ", text.tensor_proto.string_val[0].decode())
    assert "| conv1 | Conv2d | 6 x 24 x 24 | 156 |" in layers
    assert "| total | | | 32,998 |" in layers
    (text,) = log.Tensors("command_line/text_summary")
    assert "experiment=smoke trainer.max_epochs=7 scheduler=cosine" in text.tensor_proto.string_val[0].decode()


def test_each_class_has_curves_that_agree_with_the_accuracy(seven_epochs: RunDirectory) -> None:
    log = events(seven_epochs)
    recalls = []
    for name in CLASS_NAMES:
        for measure in ("precision", "recall", "f1"):
            curve = log.Scalars(f"val_per_class/{measure}/{name.replace('/', ' or ')}")
            assert (
                [event.step for event in curve]
                == [event.step for event in log.Scalars("val/acc")]
                == [50 * epoch - 1 for epoch in range(1, 8)]
            )
            assert all(0 <= event.value <= 1 for event in curve)
        recalls.append(log.Scalars(f"val_per_class/recall/{name.replace('/', ' or ')}")[-1].value)
    # Validated on 500 stratified images, about 50 per class: the mean recall is close to the accuracy.
    assert sum(recalls) / 10 == pytest.approx(log.Scalars("val/acc")[-1].value, abs=0.03)


def test_projector_has_features_classes_and_sprites_of_the_same_images(seven_epochs: RunDirectory) -> None:
    (folder,) = (path.parent for path in seven_epochs.tensorboard.rglob("tensors.tsv"))
    header, *names = (folder / "metadata.tsv").read_text().splitlines()
    features = (folder / "tensors.tsv").read_text().splitlines()
    assert header.split("\t") == ["class", "predicted", "prediction"]
    assert len(names) == len(features) == 500  # of the 2,000: smoke tests on two batches
    assert {len(row.split("\t")) for row in features} == {60}  # input of the last layer
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (23 * 28, 23 * 28)  # the smallest square that holds 500


def serve(directory: Path) -> Iterator[str]:
    """Starts a real TensorBoard on a directory and yields its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", directory, "--port", str(port), "--load_fast=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the plugins of a real TensorBoard on a sweep over the learning rate."""
    cwd = tmp_path_factory.mktemp("sweep")
    outcome = run_command(ROOT / "train.py", "-m", "optimizer.lr=0.001,0.003,0.01", "experiment=smoke", cwd=cwd)
    assert outcome.code == 0, outcome.err
    for address in serve(cwd / "runs"):
        yield f"{address}/data/plugin"


def get(url: str, body: dict[str, Any] | None = None, *, until: Callable[[Any], bool]) -> Any:
    """Repeats a request until TensorBoard has read its files."""
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


def test_hparams_tab_sorts_a_sweep_by_validation_accuracy(served: str) -> None:
    experiment = get(f"{served}/hparams/experiment", {"experimentName": ""}, until=lambda it: "hparamInfos" in it)
    parameters = [info["name"] for info in experiment["hparamInfos"]]
    # By default TensorBoard shows the first five parameters and the first metric.
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


def test_served_image_can_be_opened(served: str) -> None:
    tags = get(f"{served}/images/tags", until=lambda it: len(it) == 3)
    run = min(tags)
    assert re.fullmatch(r"sweeps/.*/experiment-smoke\+optimizer\.lr-0\.001/tensorboard", run)
    assert set(tags[run]) == FIGURES
    query = urllib.parse.urlencode({"run": run, "tag": "test/confusion_matrix", "sample": 0})
    (image,) = get(f"{served}/images/images?{query}", until=bool)
    with urllib.request.urlopen(f"{served}/images/individualImage?{image['query']}") as response:
        assert Image.open(response).size == (640, 640)


def test_precision_recall_curves_are_served(served: str) -> None:
    tags = get(f"{served}/pr_curves/tags", until=lambda it: len(it) == 3)
    run = min(tags)
    assert len(tags[run]) == 10
    query = urllib.parse.urlencode({"run": run, "tag": "test/Trouser"})
    (curve,) = get(f"{served}/pr_curves/pr_curves?{query}", until=bool)[run]
    assert max(curve["recall"]) == 1
    assert all(0 <= value <= 1 for value in curve["precision"])


def test_custom_charts_name_existing_curves(served: str) -> None:
    layout = get(f"{served}/custom_scalars/layout", until=bool)
    charts = [chart for category in layout["category"] for chart in category["chart"]]
    assert [chart["title"] for chart in charts] == ["precision", "recall", "f1"]
    scalars = get(f"{served}/scalars/tags", until=lambda it: len(it) == 3)
    for chart in charts:
        tags = chart["multiline"]["tag"]
        assert len(tags) == 10
        for run in scalars:
            assert set(tags) <= set(scalars[run])


def test_projector_is_served(served: str) -> None:
    runs = get(f"{served}/projector/runs", until=lambda it: len(it) == 3)
    query = urllib.parse.urlencode({"run": runs[0]})
    (embedding,) = get(f"{served}/projector/info?{query}", until=bool)["embeddings"]
    assert embedding["tensorName"].startswith("features")
    assert embedding["sprite"]["singleImageDim"] == [28, 28]


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
    get(f"{served}/scalars/tags", until=lambda it: len(it) == 3)
    assert_shows(browser, f"{served.removesuffix('/data/plugin')}/#{tab}", texts)


@pytest.mark.slow
def test_projector_shows_the_features_in_a_browser(seven_epochs: RunDirectory, browser: WebDriver) -> None:
    """One run only: with several, the projector first asks which one to show."""
    for address in serve(seven_epochs.path):
        get(f"{address}/data/plugin/projector/runs", until=lambda it: len(it) == 1)
        assert_shows(browser, f"{address}/#projector", ["Points: 500", "Dimension: 60"])


def assert_shows(browser: WebDriver, address: str, texts: list[str]) -> None:
    """Opens a page and waits until it shows all of the texts."""
    browser.get("about:blank")
    browser.get(address)
    shown = ""
    for _ in range(60):
        time.sleep(0.5)
        shown = browser.execute_script(VISIBLE_TEXT)
        if all(text in shown for text in texts):
            break
    assert [text for text in texts if text not in shown] == [], shown[:2000]


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
