"""How pytest runs the tests. The fixtures are in tests/fixtures.py, which the main process of xdist need not import."""

import gc
import os
import signal
import sys

import pytest

from fmnist.config.cores import usable_cores
from tests import fork_server

pytest.register_assert_rewrite("tests.helpers")
# A shell script starts background jobs with SIGINT ignored, nohup with SIGHUP; what the tests start would do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:  # tests beside each other: one thread each, also for what they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers() -> int:
    return min(4, usable_cores())


def pytest_configure(config: pytest.Config) -> None:
    if WORKER or not config.getoption("numprocesses", None):
        gc.disable()  # until all is imported
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("numprocesses", None) and not session.config.getoption("collectonly"):
        fork_server.start()  # in the main process, for all workers; else with the first command


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that none of them runs alone at the end."""
    items.sort(key=lambda item: -max((mark.kwargs.get("minutes", 0) for mark in item.iter_markers("slow")), default=0))


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_runtest_teardown() -> None:
    # A run in this process has set it, and hypothesis's numbers do not go with it.
    sys.modules["torch"].set_flush_denormal(False)


def pytest_sessionfinish() -> None:
    fork_server.stop()
