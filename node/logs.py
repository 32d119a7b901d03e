"""Logs of a node: structlog events on standard error, as text or as one JSON object a line."""

from __future__ import annotations

import logging
import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, force=True)
    # py-libp2p's logger neither propagates nor has a handler, so Python's last resort would print its warnings.
    libp2p = logging.getLogger("libp2p")
    libp2p.setLevel(logging.CRITICAL)
    libp2p.addHandler(logging.NullHandler())
