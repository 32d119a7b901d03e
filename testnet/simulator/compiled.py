"""The same sources, compiled ahead of time where somebody did (`make fast`): the same traces, in less time.

Only extension modules are kept, in a folder beside the sources, with a digest of what they were made of. A command
that plays runs takes them instead of the sources, if they still are what the sources say; nothing else knows of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import hearthmesh

PACKAGE = Path(hearthmesh.__file__).parent
FOLDER = PACKAGE.parent.parent / ".fast"
MANIFEST = FOLDER / "modules.json"
# What a compiled module may take from another was looked up when it was compiled: all of it is in the digest.
_SOURCES = ("crypto", "protocol", "testnet/simulator")
# Set to anything but 0: the sources as they stand.
PLAIN = "HEARTH_SIM_PLAIN"


class _Finder(MetaPathFinder):
    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        return None if file is None else spec_from_file_location(fullname, FOLDER / file)


def digest_of_sources() -> str:
    """Of every module that a compiled one may rest on, and of the interpreter for which they are."""
    digest = blake2b(sys.version.encode(), digest_size=16)
    for folder in _SOURCES:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def in_use() -> bool:
    """Whether this process plays compiled modules."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def built(manifest: Path = MANIFEST) -> dict[str, str]:
    """Files by the names of the modules that they are, if they are of the sources as they stand; else none."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fresh = isinstance(found, dict) and found.get("sources") == digest_of_sources()
    return dict(found["modules"]) if fresh else {}


def use() -> bool:
    """From now on import the compiled modules, if there are any. Returns whether it is so.

    To be called before any module of the protocol is imported: afterwards it does nothing.
    """
    if not in_use() and os.environ.get(PLAIN, "0") == "0":
        files = built()
        if files and not any(name in sys.modules for name in files):
            sys.meta_path.insert(0, _Finder(files))
    return in_use()
