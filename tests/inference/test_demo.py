"""The demo page: it shows the predictions of the network, and a message for bad files."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.support.wait import WebDriverWait

import fmnist
from fmnist import demo
from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.conftest import ROOT, free_port


def make_run(path: Path, finished: int = 0) -> RunDirectory:
    """A directory that looks like a run, finished at some time."""
    run = RunDirectory(path)
    run.hydra.mkdir(parents=True)
    run.write_metrics({"test/acc": 0.87654, "epochs": 2})
    os.utime(run.metrics, (finished, finished))
    return run


def test_newest_run_is_the_last_to_finish(tmp_path: Path) -> None:
    make_run(tmp_path / "train/2026-01-01/00-00-00-0", finished=1000)
    newest = make_run(tmp_path / "sweeps/2025-01-01/00-00-00-0/seed-1", finished=3000)
    make_run(tmp_path / "train/2026-01-02/00-00-00-0", finished=2000)
    (tmp_path / "train/2026-01-03/unfinished/.hydra").mkdir(parents=True)
    evaluation = newest.evaluation("best", "test")
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text("{}")  # newer, but not of a run
    assert demo.newest_run(tmp_path) == newest.path


def test_description_has_the_accuracy_of_the_tested_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert demo.describe(run, "best") == f"{run.path} (best checkpoint, test accuracy 0.8765)"
    assert demo.describe(run, "last") == f"{run.path} (last checkpoint)"
    run.write_metrics({"test/acc": float("nan")})
    assert demo.describe(run, "best") == f"{run.path} (best checkpoint)"


def rejection(**options: Any) -> str:
    with pytest.raises(UserError) as error:
        demo.demo(demo.Options(**options))
    return str(error.value)


def test_bad_options_and_missing_gradio_end_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the demo sets what Gradio reads
    no_run = "there is no finished run under runs/: train one, or name a run directory with run=<...>"
    assert rejection(port=free_port()) == no_run
    for port in (0, 65536):
        assert rejection(port=port) == f"port must be from 1 to 65535, got {port}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert rejection(port=port) == (
            f"cannot listen on 127.0.0.1, port {port}: Address already in use; "
            "choose others with host=<address> port=<number>"
        )
    assert rejection(host="") == "host must be an address, such as 127.0.0.1, got nothing"
    monkeypatch.setitem(sys.modules, "gradio", None)  # makes the import fail
    message = "the page needs the package gradio: make setup-extras, or pip install '.[demo]'"
    assert rejection(run=make_run(tmp_path / "run").path, port=free_port()) == message


@pytest.fixture(scope="module")
def demo_page() -> Any:
    """The module that imports Gradio."""
    return pytest.importorskip("fmnist.inference.demo_page", reason="needs gradio", exc_type=ImportError)


def brightness(images: torch.Tensor) -> list[dict[str, float]]:
    """A classifier: the probability of trousers is the mean brightness."""
    return [{"Trouser": image.float().mean().item() / 255} for image in images]


def test_outputs_are_probabilities_and_enlarged_pixels(demo_page: Any, tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[2:27, 1:27] = 200  # in the form of the data set, so that it is not changed
    Image.fromarray(pixels).save(tmp_path / "a.png")
    file = {"path": str(tmp_path / "a.png"), "orig_name": "a.png"}
    drawing = {"composite": Image.open(tmp_path / "a.png")}
    for found in (demo_page.classify_file(brightness, file), demo_page.classify_drawing(brightness, drawing)):
        assert found[0] == {"Trouser": pytest.approx(pixels.mean() / 255)}
        np.testing.assert_array_equal(found[1], np.kron(pixels, np.ones((14, 14), np.uint8)))
        assert found[2] == ""


def test_message_for_a_bad_file_is_escaped(demo_page: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("rubbish")
    file = {"path": str(tmp_path / "x"), "orig_name": "<b>&x.png"}
    probabilities, seen, message = demo_page.classify_file(brightness, file)
    assert (probabilities, seen) == (None, None)
    assert message.startswith("&lt;b&gt;&amp;x.png is not a picture")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "x", format="PNG")
    assert "shows nothing" in demo_page.classify_file(brightness, {**file, "orig_name": None})[2]


def test_missing_file_and_empty_canvas_give_no_prediction(demo_page: Any) -> None:
    assert demo_page.classify_file(brightness, None) == (None, None, "")
    for drawing in (None, {"composite": None}, {"composite": Image.new("L", (392, 392), 255)}):
        assert demo_page.classify_drawing(brightness, drawing) == (None, None, "")


def test_page_names_the_network_and_draws_lines_of_two_pixels_of_its_input(demo_page: Any) -> None:
    async def components() -> Any:  # within an event loop, else Gradio leaves an open one behind
        return demo_page.page(brightness, "runs/<b>").get_config_file()["components"]

    given = {part["props"].get("elem_id"): part["props"] for part in asyncio.run(components())}
    assert "runs/&lt;b&gt;" in given["title"]["value"]
    assert (given["drawing"]["canvas_size"], given["drawing"]["brush"]["default_size"]) == ([392, 392], 392 / 28 * 2)


@contextmanager
def serving(run: RunDirectory, temporary: Path) -> Iterator[tuple[fork_server.Popen, str]]:
    """The program, with its own directory for temporary files, and the address of its page."""
    program = "import runpy, tempfile; tempfile.tempdir = None; runpy.run_module('fmnist.demo', run_name='__main__')"
    command = "-c", program, f"run={run.path}", f"port={free_port()}"
    process = fork_server.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)})
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        network, page = process.stdout.readline(), process.stdout.readline()
        assert network.startswith(f"network              {run.path} (best checkpoint, test accuracy 0."), network
        yield process, page.split()[1]
    finally:
        process.send_signal(signal.SIGINT)  # not killed, or its temporary directory would stay
        process.communicate()
        timer.cancel()


@pytest.fixture(scope="module")
def address(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio")
    with serving(trained_run, tmp_path_factory.mktemp("demo")) as (_process, address):
        yield address


@pytest.fixture
def page(browser: Chrome, address: str) -> Chrome:
    """A browser that has opened the page."""
    browser.get_log("performance")  # forget what was fetched before
    browser.get(address)
    return browser


def wait(page: Chrome, until: Callable[[], Any]) -> Any:
    ignored = [NoSuchElementException, StaleElementReferenceException]
    return WebDriverWait(page, 30, ignored_exceptions=ignored).until(lambda _page: until())


def find(page: Chrome, selector: str) -> Any:
    return wait(page, lambda: page.find_element("css selector", selector))


def upload(page: Chrome, path: Path) -> None:
    find(page, "#picture input[type=file]").send_keys(str(path))


def answer(page: Chrome) -> dict[str, float]:
    """The probabilities that the page shows."""

    def read() -> dict[str, float]:
        bars: Any = page.find_elements("css selector", "#answer meter")
        return {bar.get_attribute("aria-label"): float(bar.get_attribute("value")) for bar in bars}

    values: dict[str, float] = wait(page, lambda: len(read()) == len(CLASS_NAMES) and read())
    return values


@pytest.mark.slow
@pytest.mark.real_data
def test_page_shows_a_message_for_a_bad_file_and_then_the_prediction_for_a_picture(
    page: Chrome, trained_run: RunDirectory, test_set: ImageDataset, tmp_path: Path
) -> None:
    wait(page, lambda: f"{trained_run.path} (best checkpoint, test accuracy 0." in find(page, "#title").text)
    (tmp_path / "rubbish.png").write_text("rubbish")
    upload(page, tmp_path / "rubbish.png")
    message = find(page, "#message")
    wait(page, lambda: message.text.startswith("rubbish.png is not a picture"))
    assert page.find_elements("css selector", "#answer meter") == []
    find(page, "#picture button[aria-label='Remove Image']").click()
    wait(page, lambda: message.text == "")

    image = test_set.images[3:4]  # uncertain, after so short a training
    Image.fromarray(image[0, 0].numpy()).save(tmp_path / "image.png")
    upload(page, tmp_path / "image.png")
    with torch.no_grad():
        expected = fmnist.load(trained_run.path)(image).softmax(dim=1)[0].tolist()
    assert answer(page) == pytest.approx(dict(zip(CLASS_NAMES, expected, strict=True)), abs=1e-6)
    assert page.find_element("css selector", "#answer h2").text == CLASS_NAMES[int(np.argmax(expected))]
    wait(page, lambda: page.find_element("css selector", "#seen img").get_property("naturalWidth") == 392)


@pytest.mark.slow
@pytest.mark.real_data
def test_page_classifies_a_drawing(page: Chrome) -> None:
    find(page, "button[role=tab][aria-selected=false]").click()
    wait(page, lambda: "Drawing" in find(page, "button[role=tab][aria-selected=true]").text)
    canvas = find(page, "#drawing canvas")
    find(page, "#drawing button[aria-label='Brush Size']")  # there when the brush has been taken
    pen = ActionChains(page, duration=50)
    pen.move_to_element_with_offset(canvas, 0, -100).click_and_hold().move_by_offset(0, 200).release().perform()
    assert max(answer(page).values()) > 0.1


@pytest.mark.slow
@pytest.mark.real_data
def test_page_loads_nothing_from_other_servers(page: Chrome, address: str) -> None:
    find(page, "#picture input[type=file]")
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = [request["request"]["url"] for request in requests if request["documentURL"].startswith("http")]
    assert len(urls) > 10
    assert [url for url in urls if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("demo_page")  # skips without Gradio
def test_ctrl_c_ends_the_demo_and_removes_uploads(trained_run: RunDirectory, tmp_path: Path) -> None:
    with serving(trained_run, tmp_path) as (process, _address):
        assert [path.name.startswith("fmnist-demo-") for path in tmp_path.iterdir()] == [True]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ended\n", "")
    assert list(tmp_path.iterdir()) == []
