"""Log lines on a terminal that progress bars and other jobs write to as well. Imported without torch."""

import logging
from typing import TextIO

from tqdm import tqdm

from fmnist.runs import output

_job = ""  # name of this process's job, if other jobs write to the same terminal


def set_job(name: str) -> None:
    """Prefixes each log line with the name of the job, since jobs that run in parallel share the terminal."""
    global _job
    _job = name


def is_shared() -> bool:
    return bool(_job)


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes log lines above a progress bar instead of through it, with the job's name if jobs share the terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(output.robust(stream))

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(f"{_job}  {line}" for line in text.splitlines()) if _job else text
