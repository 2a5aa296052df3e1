"""What a process writes to the terminal, beside a progress bar and beside other processes. Imported before torch is."""

import logging

from tqdm import tqdm

_name = ""  # of this process's job, if others write to the same terminal


def share(name: str) -> None:
    """Has each line say which job it is of, since jobs beside this one write to the same terminal."""
    global _name
    _name = name


def is_shared() -> bool:
    return bool(_name)


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes log lines above a progress bar instead of through it, and with the job's name where others write, too."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(f"{_name}  {line}" for line in text.splitlines()) if _name else text
