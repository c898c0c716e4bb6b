"""What the log looks like: time, process, message."""

import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import TextIO

import click

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Level of the log by `--verbosity`."""

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green")


class _Formatter(logging.Formatter):
    """Writes "12:03:01 worker 2 │ message"; warnings and errors in colour, on a terminal."""

    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__()
        label = f"{process:<9}│"
        self._label = click.style(label, fg=_colour_of(process)) if colour else label
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
            if self._colour:
                text = click.style(text, fg="red" if record.levelno >= logging.ERROR else "yellow")
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock} {self._label} {text}"


_ACCESS_COLOURS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}


class _AccessFormatter(logging.Formatter):
    """Writes "2026-01-31 12:03:01+0000 client "GET / HTTP/1.1" 200 5 0.001s"."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S%z")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if not self._colour:
            return line
        status = re.search(r'" (?:denied )?([2-5])\d\d\b', line)
        return click.style(line, fg=_ACCESS_COLOURS[status[1]] if status else "blue")


def log_handler(process: str) -> logging.Handler:
    """Return what writes the log of this process, called `process`, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(process, colour=_is_coloured(sys.stderr)))
    return handler


def configure_logging(process: str, verbosity: int = 1, access_log: str | None = None) -> None:
    """Send the log of this process, called `process`, to standard error.

    `verbosity` is an index of `LEVELS`. The access log goes to the file `access_log`, added at
    its end, or to standard output for "-"; None: nowhere.
    """
    # Libraries have their say when something is wrong; their details help nobody here.
    logging.basicConfig(level=logging.WARNING, handlers=[log_handler(process)], force=True)
    logging.getLogger("busway").setLevel(LEVELS[verbosity])
    configure_access_log(access_log)


def configure_access_log(access_log: str | None) -> None:
    """Send the access log where `configure_logging` says."""
    access = logging.getLogger("busway.access")
    access.propagate = False
    if access_log is not None:
        to_terminal = access_log == "-"
        lines = (
            logging.StreamHandler(sys.stdout)
            if to_terminal
            else logging.FileHandler(Path(access_log))
        )
        lines.setFormatter(_AccessFormatter(colour=to_terminal and _is_coloured(sys.stdout)))
        access.addHandler(lines)
        access.setLevel(logging.INFO)


def _is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ


def _colour_of(process: str) -> str:
    """Return the colour of a process: the same one every time that it is started."""
    return _COLOURS[sum(process.encode()) % len(_COLOURS)]
