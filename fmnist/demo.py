"""Classify pictures and drawings on a web page.

  python -m fmnist.demo run=<run directory>
  python -m fmnist.demo                        the newest finished run under runs/

Drop a picture on the page, or draw one: it shows the probability of each class and the input of the network. The page
is reachable from this machine only, unless you set host=, and loads nothing from other servers. Stop it with Ctrl-C.
"""

import logging
import os
import socket
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"  # reachable from this machine only
RUNS = Path("runs")  # where train.py puts them


@dataclass(frozen=True)
class Options:
    run: Path | None = options.option(
        "the run directory, if not the newest finished one under runs/", positional=True, default=None
    )
    checkpoint: Literal["best", "last"] = options.option("best or last", default="best")
    host: str = options.option("address to listen on; 0.0.0.0 opens the page to the whole network", default=LOOPBACK)
    port: int = options.option("port of the page, from 1 to 65535", default=7860)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def demo(options: Options) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        UserError: There is no such run or checkpoint, Gradio is not installed, or the port cannot be used.
    """
    _check_address(options.host, options.port)
    run = RunDirectory(options.run or newest_run(RUNS))
    with tempfile.TemporaryDirectory(prefix="fmnist-demo-") as uploads:
        _import_gradio(uploads, options.host)
        from fmnist.inference import demo_page, trained

        network = trained.load_network(run, options.checkpoint, options.trust)
        description = describe(run, options.checkpoint)
        page = demo_page.page(partial(trained.by_class, network), network.data, description)
        page.launch(
            server_name=options.host,
            server_port=options.port,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            max_file_size="50mb",
            css=demo_page.CSS,
            quiet=True,
            prevent_thread_lock=True,
        )
        try:
            log.info("%-20s %s", "network", description)
            log.info("%-20s http://%s:%d  (Ctrl-C stops it)", "page", options.host, options.port)
            threading.Event().wait()
        except KeyboardInterrupt:  # the server's threads end with the program; closing the server would take seconds
            log.info("ended")


def newest_run(runs: Path) -> Path:
    """The run below a directory that finished last.

    Raises:
        UserError: None has finished.
    """
    finished = [path for path in runs.rglob("metrics.json") if (path.parent / ".hydra").is_dir()]
    if not finished:
        raise UserError(f"there is no finished run under {runs}/: train one, or name a run directory with run=<...>")
    return max(finished, key=lambda path: path.stat().st_mtime).parent


def describe(run: RunDirectory, checkpoint: str) -> str:
    """Name of the run and, for the best checkpoint, which is the one tested, its test accuracy."""
    accuracy = run.read_metrics().get("test/acc") if checkpoint == "best" else None
    note = "" if accuracy is None else f", test accuracy {accuracy:.4f}"
    return f"{run.path} ({checkpoint} checkpoint{note})"


def _import_gradio(uploads: str, host: str) -> None:
    """Imports Gradio, which reads some of these settings only then."""
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",  # sends nothing to its makers
        "GRADIO_TEMP_DIR": uploads,  # else uploaded pictures would stay on the disk
        "no_proxy": f"{no_proxy},{LOOPBACK},{host}".lstrip(","),  # at start it connects to its own server
    }
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log that connection
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("the page needs the package gradio: make setup-extras, or pip install '.[demo]'") from error


def _check_address(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"port must be from 1 to 65535, got {port}")
    if not host:  # which would listen on all addresses
        raise UserError("host must be an address, such as 127.0.0.1, got nothing")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just closed is free
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError, TypeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "no address"
            raise UserError(
                f"cannot listen on {host}, port {port}: {cause}; choose others with host=<address> port=<number>"
            ) from error


if __name__ == "__main__":
    options.run(demo, Options)
