"""Which tables of keys stand in which page under docs/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ..config import ClientConfig, NodeConfig
from ..jobfile import JobFile
from ..meshfile import MeshFile
from .describe import describe

PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "config.md": {
        "node keys": partial(describe, NodeConfig),
        "client keys": partial(describe, ClientConfig),
        "mesh keys": partial(describe, MeshFile),
    },
    "jobfile.md": {"job keys": partial(describe, JobFile)},
}
