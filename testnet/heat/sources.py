"""What a played case rests on: the sources of its policy, and of all that they import, as one digest."""

from __future__ import annotations

import ast
from functools import cache
from hashlib import blake2b
from pathlib import Path

import hearthmesh

from . import optimum, play
from .policies import POLICIES

# What is solved, not played.
OPTIMUM = "optimum"
_PACKAGE = hearthmesh.__name__
_FOLDER = Path(hearthmesh.__file__).parent
# It imports every policy; which of them is played, the case says.
_ALL_POLICIES = f"{_PACKAGE}.testnet.heat.policies"


def digest_of(policy: str) -> str:
    """Of all sources of ours that decide what a case of that policy comes to. Raises KeyError for one that is none."""
    roots = (play.__name__, optimum.__name__ if policy == OPTIMUM else POLICIES[policy].__module__)
    return _digest(roots)


@cache
def _digest(roots: tuple[str, ...]) -> str:
    digest = blake2b(digest_size=16)
    for path in sorted(modules_under(roots).values()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_FOLDER).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def modules_under(roots: tuple[str, ...]) -> dict[str, Path]:
    """The modules of this package that these import, directly or not, and they themselves; with their files."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None or name == _ALL_POLICIES:
            continue
        found[name] = path
        waiting += _imports(name, path)
    return found


def _file_of(name: str) -> Path | None:
    """None for what is no module of this package: another's, or a name in a module."""
    first, *rest = name.split(".")
    if first != _PACKAGE:
        return None
    place = _FOLDER.joinpath(*rest)
    files = (place / "__init__.py", place.with_suffix(".py")) if rest else (_FOLDER / "__init__.py",)
    return next((file for file in files if file.is_file()), None)


def _imports(name: str, path: Path) -> list[str]:
    """Names that may be modules, those for the type checker too; with their packages."""
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{each.name}" for each in node.names)]
    return [
        ".".join(parts[:count]) for parts in (each.split(".") for each in found) for count in range(1, len(parts) + 1)
    ]
