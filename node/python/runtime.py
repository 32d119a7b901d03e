"""The component that runs Python tasks: built once from this package's guest, kept by its recipe's digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GUEST = Path(__file__).with_name("guest")
BUILD_TIMEOUT_S = 900.0
CACHE_VARIABLE = "HEARTH_PYTHON_CACHE"
_FILES = ("hearth_guest.py", "hearth_modules.py", "hearth_values.py", "task.wit")

_RUN = "import sys; from componentize_py import script; sys.exit(script())"


class RuntimeUnavailable(Exception):
    """The component is not there and cannot be built; one line."""


def python_component(cache: Path | None = None) -> Path:
    """The component's file; built if need be, which takes some 15 s of processor once. Raises RuntimeUnavailable.

    Two builds differ, in their hash seed and clock, so a job's component travels with it, as each program does, and is
    the same on every node. cache: a folder; $HEARTH_PYTHON_CACHE, else the user's own.
    """
    path = _path(cache or default_cache())
    try:
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _build(path)
    except OSError as error:
        raise RuntimeUnavailable(f"{path.parent}: {error.strerror}") from error
    return path


def built_component(cache: Path | None = None) -> Path | None:
    """The component's file if it was built already."""
    try:
        path = _path(cache or default_cache())
    except RuntimeUnavailable:
        return None
    return path if path.is_file() else None


def _path(folder: Path) -> Path:
    """Named by all that it is made of. Raises RuntimeUnavailable."""
    try:
        version = importlib.metadata.version("componentize-py")
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeUnavailable("Python jobs need componentize-py: run `make python-runtime` in its clone") from error
    recipe = hashlib.sha256(version.encode())
    for name in _FILES:
        recipe.update((GUEST / name).read_bytes())
    return folder / f"python-{recipe.hexdigest()[:32]}.wasm"


def default_cache() -> Path:
    """Where components are kept if nobody says otherwise."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hearthmesh"


def _build(path: Path) -> None:
    """In a folder of its own, so that nothing of the user's gets in; several builders at once do no harm."""
    with tempfile.TemporaryDirectory(prefix="hearth-python-") as folder:
        (Path(folder) / "wit").mkdir()
        for name in _FILES:
            shutil.copy(GUEST / name, Path(folder) / ("wit" if name.endswith(".wit") else "") / name)
        command = [sys.executable, "-c", _RUN, "-q", "-d", "wit", "-w", "task", "componentize"]
        command += ["--stub-wasi", "-p", folder, "hearth_guest", "-o", "python.wasm"]
        environment = {name: word for name, word in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        try:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=BUILD_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise RuntimeUnavailable(f"componentize-py did not end within {BUILD_TIMEOUT_S:g} s") from error
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
            raise RuntimeUnavailable(f"componentize-py failed: {lines[0][:200]}")
        temporary = path.with_suffix(f".{os.getpid()}")
        shutil.copyfile(Path(folder) / "python.wasm", temporary)
        os.replace(temporary, path)
