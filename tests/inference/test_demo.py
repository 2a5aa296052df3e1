"""The demo page: it shows the predictions of the network, and a message for bad files."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
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
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.helpers import ROOT, free_port


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
    for classify, given in ((demo_page.classify_file, file), (demo_page.classify_drawing, drawing)):
        found = classify(brightness, FashionMNIST.spec, given)
        assert found[0] == {"Trouser": pytest.approx(pixels.mean() / 255)}
        np.testing.assert_array_equal(found[1], np.kron(pixels, np.ones((14, 14), np.uint8)))
        assert found[2] == ""


def test_message_for_a_bad_file_is_escaped(demo_page: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("rubbish")
    file = {"path": str(tmp_path / "x"), "orig_name": "<b>&x.png"}
    probabilities, seen, message = demo_page.classify_file(brightness, FashionMNIST.spec, file)
    assert (probabilities, seen) == (None, None)
    assert message.startswith("&lt;b&gt;&amp;x.png is not a picture")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "x", format="PNG")
    assert "shows nothing" in demo_page.classify_file(brightness, FashionMNIST.spec, {**file, "orig_name": None})[2]


def test_missing_file_and_empty_canvas_give_no_prediction(demo_page: Any) -> None:
    assert demo_page.classify_file(brightness, FashionMNIST.spec, None) == (None, None, "")
    for drawing in (None, {"composite": None}, {"composite": Image.new("L", (392, 392), 255)}):
        assert demo_page.classify_drawing(brightness, FashionMNIST.spec, drawing) == (None, None, "")


def test_page_names_the_network_and_draws_lines_of_two_pixels_of_its_input(demo_page: Any) -> None:
    async def components() -> Any:  # within an event loop, else Gradio leaves an open one behind
        return demo_page.page(brightness, FashionMNIST.spec, "runs/<b>").get_config_file()["components"]

    given = {part["props"].get("elem_id"): part["props"] for part in asyncio.run(components())}
    assert "runs/&lt;b&gt;" in given["title"]["value"]
    assert (given["drawing"]["canvas_size"], given["drawing"]["brush"]["default_size"]) == ([392, 392], 392 / 28 * 2)


@pytest.fixture
def demo_process(trained_run: RunDirectory, tmp_path: Path) -> Iterator[fork_server.Popen]:
    """The program, with temporary files in tmp_path."""
    pytest.importorskip("gradio")
    program = "import runpy, tempfile; tempfile.tempdir = None; runpy.run_module('fmnist.demo', run_name='__main__')"
    command = "-c", program, f"run={trained_run.path}", f"port={free_port()}"
    process = fork_server.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    timer = threading.Timer(120, process.kill)
    timer.start()
    yield process
    process.kill()
    process.communicate()
    timer.cancel()


@pytest.mark.slow
@pytest.mark.real_data
def test_page_classifies_files_and_drawings_in_a_browser(
    browser: Chrome, demo_process: fork_server.Popen, trained_run: RunDirectory, test_set: ImageDataset, tmp_path: Path
) -> None:
    network, address = (demo_process.stdout.readline()[21:].split("  ")[0].strip() for _ in range(2))
    assert network.startswith(f"{trained_run.path} (best checkpoint, test accuracy 0.")
    browser.get(address)

    def wait(until: Callable[[], Any]) -> Any:
        ignored = [NoSuchElementException, StaleElementReferenceException]
        return WebDriverWait(browser, 30, ignored_exceptions=ignored).until(lambda _: until())

    def find(selector: str) -> Any:
        return wait(lambda: browser.find_element("css selector", selector))

    def shown() -> dict[str, float]:
        bars: Any = browser.find_elements("css selector", "#answer meter")
        return {bar.get_attribute("aria-label"): float(bar.get_attribute("value")) for bar in bars}

    wait(lambda: network in find("#title").text)
    (tmp_path / "rubbish.png").write_text("rubbish")
    find("#picture input[type=file]").send_keys(str(tmp_path / "rubbish.png"))
    wait(lambda: find("#message").text.startswith("rubbish.png is not a picture"))
    assert shown() == {}
    find("#picture button[aria-label='Remove Image']").click()
    wait(lambda: find("#message").text == "")

    image = test_set.images[3:4]  # uncertain, after so short a training
    Image.fromarray(image[0, 0].numpy()).save(tmp_path / "image.png")
    find("#picture input[type=file]").send_keys(str(tmp_path / "image.png"))
    wait(lambda: len(shown()) == len(CLASS_NAMES))
    probabilities = fmnist.load(trained_run.path)(image).softmax(dim=1)[0].tolist()
    assert shown() == pytest.approx(dict(zip(CLASS_NAMES, probabilities, strict=True)), abs=1e-6)
    assert find("#answer h2").text == CLASS_NAMES[int(np.argmax(probabilities))]
    wait(lambda: find("#seen img").get_property("naturalWidth") == 392)

    find("button[role=tab][aria-selected=false]").click()
    wait(lambda: "Drawing" in find("button[role=tab][aria-selected=true]").text)
    wait(lambda: shown() == {})
    find("#drawing button[aria-label='Brush Size']")  # there when the brush has been taken
    pen = ActionChains(browser, duration=50).move_to_element_with_offset(find("#drawing canvas"), 0, -100)
    pen.click_and_hold().move_by_offset(0, 200).release().perform()
    wait(lambda: len(shown()) == len(CLASS_NAMES))

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = [request["request"]["url"] for request in requests if request["documentURL"].startswith("http")]
    assert len(urls) > 10
    assert [url for url in urls if not url.startswith((address, "data:", "blob:"))] == [], "pages of other servers"


@pytest.mark.slow
@pytest.mark.real_data
def test_ctrl_c_ends_the_demo_and_removes_uploads(demo_process: fork_server.Popen, tmp_path: Path) -> None:
    lines = [demo_process.stdout.readline() for _ in range(2)]
    assert lines[1].endswith("(Ctrl-C stops it)\n")
    assert [path.name.startswith("fmnist-demo-") for path in tmp_path.iterdir()] == [True]
    demo_process.send_signal(signal.SIGINT)
    assert demo_process.communicate(timeout=60) == ("ended\n", "")
    assert demo_process.returncode == 0
    assert list(tmp_path.iterdir()) == []
