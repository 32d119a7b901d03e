"""Logs of a node: structlog events on standard error, as text or as one JSON object a line."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO, cast

import structlog


class LossyStream:
    """A text stream to a file descriptor for what must never end its writer: what a full disk does not take is lost,
    and counted; the first line for which there is room again says how many were."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._begun = ""

    def write(self, text: str) -> int:
        """Whole lines are written; the begin of one waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._write_line(line)
        return len(text)

    def flush(self) -> None:
        """Nothing: a line is written at its end."""

    def _write_line(self, line: str) -> None:
        if self._lost:
            line = f"({self._lost} lines of this log were lost: they could not be written)\n{line}"
        data = f"{line}\n".encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self._lost += 1
            return
        self._lost = 0


def configure_logs(level: str, *, json_lines: bool) -> None:
    """level: "debug", "info", "warning" or "error". Libraries' own loggers stay at warnings."""
    number = getattr(logging, level.upper())
    renderer: structlog.typing.Processor
    if json_lines:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_log_stream()),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, stream=_log_stream(), force=True)
    # py-libp2p's logger neither propagates nor has a handler, so Python's last resort would print its warnings.
    libp2p = logging.getLogger("libp2p")
    libp2p.setLevel(logging.CRITICAL)
    libp2p.addHandler(logging.NullHandler())


def _log_stream() -> TextIO:
    """Standard error, so that it cannot fail; as it is where it is no file, as in some tests."""
    try:
        return cast(TextIO, LossyStream(sys.stderr.fileno()))
    except (AttributeError, OSError, ValueError):
        return sys.stderr
