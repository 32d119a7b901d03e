"""`python -m hearthmesh.testnet.simulator.compiling` (`make fast`): the protocol and the simulator's engine, compiled.

Needs mypyc, which comes with mypy, Python's headers, and a C compiler: what CC names, else the one that Python was
built with, else ziglang from the package index. `-O0` is compiled in less time and runs for longer; it is `-O2` else.
Ends with 3 where the headers or a compiler are missing, with 1 where something else is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from .compiled import FOLDER, MANIFEST, PACKAGE, digest_of_sources
from .cores import cores

# Of the simulator, what runs for every event. The protocol is compiled as it is, but for the modules below.
SIMULATOR = (
    "basins",
    "blobs",
    "checkers/disks",
    "checkers/holding",
    "checkers/jobs",
    "checkers/leases",
    "checkers/base",
    "checkers/nodes",
    "checkers/recovery",
    "checkers/seats",
    "checkers/stale",
    "checkers/watch",
    "circuits",
    "clock",
    "customer",
    "disk",
    "engine",
    "executor",
    "faults",
    "head_start",
    "life",
    "links",
    "machine",
    "memory",
    "network",
    "proportional",
    "reservations",
    "sinks",
    "trace",
    "world",
)
# Stay as they are: msgspec makes its classes itself, from annotations that mypyc does not keep. What `memory.py`
# replaces is in such modules as well, and is looked up at each call.
_MARK = "import Meta, Struct", "from msgspec import Struct"
_FLAGS = ("-fPIC", "-fwrapv", "-fno-strict-aliasing", "-w", "-DNDEBUG")
NOTHING_TO_COMPILE_WITH = 3


class CannotCompile(Exception):
    """In one line, why."""


class NothingToCompileWith(CannotCompile):
    """Python's headers or a C compiler are missing here; anything else is our own fault, or that of what we pin."""


def sources() -> list[Path]:
    """Paths of what is compiled, in order."""
    protocol = [
        path
        for path in sorted((PACKAGE / "protocol").rglob("*.py"))
        if path.name != "__init__.py" and not any(mark in path.read_text(encoding="utf-8") for mark in _MARK)
    ]
    crypto = PACKAGE / "crypto"
    return [
        crypto / "identity.py",
        crypto / "merkle.py",
        *protocol,
        *(PACKAGE / "testnet" / "simulator" / f"{name}.py" for name in sorted(SIMULATOR)),
    ]


def c_compiler() -> list[str]:
    """Its command. Raises NothingToCompileWith."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise NothingToCompileWith(
            f"no Python.h in {sysconfig.get_path('include')}: Python's headers are not installed"
        )
    built_with = shlex.split(sysconfig.get_config_var("CC") or "")[:1]
    for command in (shlex.split(os.environ.get("CC", "")), built_with, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NothingToCompileWith("no C compiler: neither CC, cc, gcc, clang nor the package ziglang")


def compile_all(level: str = "2") -> int:
    """Build into FOLDER. level: of the C compiler's optimisation. Returns how many modules were compiled.

    Raises CannotCompile.
    """
    compiler = [*c_compiler(), f"-O{level}"]
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise CannotCompile(f"{error.name} is not installed: pip install mypy setuptools") from None
    except SystemExit:
        raise CannotCompile("setuptools is not installed") from None
    digest = digest_of_sources()
    root, build = FOLDER.parent, FOLDER / "build"
    MANIFEST.unlink(missing_ok=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.chdir(root)
    paths = [str(path.relative_to(root)) for path in sources()]
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            extensions = mypycify(
                ["--config-file=pyproject.toml", "--cache-dir=.mypy_cache/compiled", *paths],
                only_compile_paths=paths,
                multi_file=True,
                group_name="hearthmesh_fast",
                target_dir=str(build),
            )
    except SystemExit:
        errors = [line for line in said.getvalue().splitlines() if ": error: " in line]
        raise CannotCompile("; ".join(errors[:3]) or said.getvalue()[-300:]) from None
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    with ThreadPoolExecutor(cores()) as pool:
        objects = [[pool.submit(_compile, compiler, c, each) for c in each.sources] for each in extensions]
        files = {
            each.name: _link(compiler, [job.result() for job in jobs], f"{each.name}{suffix}")
            for each, jobs in zip(extensions, objects, strict=True)
        }
    shutil.rmtree(build)
    MANIFEST.write_text(json.dumps({"sources": digest, "modules": files}, indent=1) + "\n", encoding="utf-8")
    return len(files)


def _compile(compiler: list[str], source: str, extension: Any) -> str:
    out = str(Path(source).with_suffix(".o"))
    include = [f"-I{folder}" for folder in (sysconfig.get_path("include"), *extension.include_dirs)]
    _run([*compiler, *_FLAGS, *include, "-c", source, "-o", out])
    return out


def _link(compiler: list[str], objects: list[str], name: str) -> str:
    _run([*compiler, "-shared", *objects, "-o", str(FOLDER / name)])
    return name


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise CannotCompile(f"{shlex.join(command)}: {ran.stderr.strip()[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hearthmesh.testnet.simulator.compiling")
    parser.add_argument("-O", dest="level", choices=("0", "1", "2", "3"), default="2", help="as the C compiler's")
    try:
        count = compile_all(parser.parse_args(arguments).level)
    except CannotCompile as error:
        print(f"not compiled, so runs are interpreted: {error}", file=sys.stderr)
        return NOTHING_TO_COMPILE_WITH if isinstance(error, NothingToCompileWith) else 1
    print(f"{count} modules in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
