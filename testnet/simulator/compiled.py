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
_SOURCES = ("crypto", "protocol", "testnet/simulator", "node/heating", "node/storage", "node/pipeline.py")
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


def files_of_sources() -> list[Path]:
    """Every module that a compiled one may rest on."""
    found = [PACKAGE / each for each in _SOURCES]
    return [path for each in found for path in (sorted(each.rglob("*.py")) if each.is_dir() else [each])]


def digest_of_sources() -> str:
    """Of these, and of the interpreter for which they are compiled."""
    digest = blake2b(sys.version.encode(), digest_size=16)
    for path in files_of_sources():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def in_use() -> bool:
    """Whether this process plays compiled modules."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def built(manifest: Path = MANIFEST) -> dict[str, str]:
    """Files by the names of the modules that they are, if all are there, of the sources as they stand; else none."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("sources") != digest_of_sources():
        return {}
    files: dict[str, str] = found["modules"]
    return files if all((manifest.parent / file).is_file() for file in files.values()) else {}


def use() -> bool:
    """From now on import the compiled modules, if there are any. Returns whether it is so.

    To be called before any module of the protocol is imported: afterwards it does nothing.
    """
    if not in_use() and os.environ.get(PLAIN, "0") == "0":
        files = built()
        if files and not any(name in sys.modules for name in files):
            sys.meta_path.insert(0, _Finder(files))
    return in_use()
