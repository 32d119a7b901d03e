"""The source text of a function, with all that it needs and nothing of the process that it comes from."""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from .guest.hearth_modules import MODULES
from .guest.hearth_values import ValueRefused, pack

# Where the names of a text are looked for; in the component, whose Python is 3.14, annotations wait by themselves.
_FUTURE = "from __future__ import annotations\n"
FUNCTIONS_MAX = 256
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")


class SourceRefused(ValueError):
    """A function that cannot be shipped as text; one line that says why and what to do."""


def source_of(function: Callable[..., Any], *, native: bool = False) -> tuple[str, str]:
    """(source, name) of a plain function and of the functions, modules and constants of its module that it names.

    native: for the Python of a node's owner, which has the standard library and whatever else its owner installed; so
    installed packages are imported by name, and only what is not installed here is shipped.
    The text is the same whenever the function is. Raises SourceRefused.
    """
    needs = _Needs(native)
    needs.add(function)
    lines = [*sorted(needs.imports), *(needs.constants[name] for name in sorted(needs.constants))]
    return "".join([*lines, *(f"\n{text}" for text in needs.texts())]), function.__name__


class _Needs:
    def __init__(self, native: bool) -> None:
        self._native = native
        self.functions: dict[str, tuple[types.FunctionType, str]] = {}
        self.imports: dict[str, None] = {}
        self.constants: dict[str, str] = {}
        self._meant: dict[str, object] = {}

    def texts(self) -> list[str]:
        """In the order in which they were defined, for a default may be one of them; what is imported comes first."""
        modules = list(dict.fromkeys(function.__module__ for function, _ in self.functions.values()))[::-1]
        places = [
            (modules.index(function.__module__), function.__code__.co_firstlineno, text)
            for function, text in self.functions.values()
        ]
        return [text for _, _, text in sorted(places)]

    def add(self, function: Callable[..., Any]) -> None:
        name, text = _text_of(function)
        assert isinstance(function, types.FunctionType)
        self._mean(name, name, function)
        if name in self.functions:
            return
        if len(self.functions) >= FUNCTIONS_MAX:
            raise SourceRefused(f"{name} needs more than {FUNCTIONS_MAX} functions")
        self.functions[name] = function, text
        names = function.__globals__
        for wanted in _global_names(compile(_FUTURE + text, "job.py", "exec")):
            if wanted in names:
                self._need(name, wanted, names[wanted])
            elif hasattr(builtins, wanted):
                self._mean(name, wanted, getattr(builtins, wanted))
            elif wanted != name:
                raise SourceRefused(f"{name} uses {wanted}, which is nowhere in its module")

    def _need(self, user: str, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType):
            line = f"import {value.__name__} as {name}\n"
            self._import(user, name, value.__name__, line)
        elif (found := _standard(value) or (_installed(value) if self._native else None)) is not None:
            module, own = found
            self._import(user, name, module, f"from {module} import {own} as {name}\n")
        elif isinstance(value, types.FunctionType):
            if value.__name__ != name:
                raise SourceRefused(f"{user} calls {value.__name__} by another name, {name}; use its own")
            self.add(value)
        else:
            try:
                pack(value)
            except ValueRefused as error:
                raise SourceRefused(f"{user} uses {name} of its module, but {error}; pass it as an argument") from error
            self.constants[name] = f"{name} = {_literal(value)}\n"
            self._mean(user, name, self.constants[name])

    def _mean(self, user: str, name: str, meant: object) -> None:
        """All is shipped as one module, where a name stands for one thing."""
        if self._meant.setdefault(name, meant) != meant:
            raise SourceRefused(f"{name} is one thing for {user} and another for what it is shipped with; rename one")

    def _import(self, user: str, name: str, module: str, line: str) -> None:
        if self._native and not _is_installed(module):
            raise SourceRefused(
                f"{user} uses the module {module}, which is your own; import the functions that it uses"
            )
        if not self._native and module not in MODULES:
            raise SourceRefused(f"{user} uses the module {module}; Python tasks have: {', '.join(MODULES)}")
        self._mean(user, name, line)
        self.imports[line] = None


def _standard(value: object) -> tuple[str, str] | None:
    """(module, name) to import what a standard module offers; its own words don't tell where that is.

    heappush says that it is of _heapq, sha256 that it is openssl_sha256, randint that it is Random.randint.
    """
    if not callable(value):
        return None
    own = getattr(value, "__module__", None)
    for module in (*([own] if own in MODULES else []), *MODULES):
        offered = vars(sys.modules[module]) if module in sys.modules else {}
        for name, each in offered.items():
            if each is value and not name.startswith("_"):
                return module, name
    return None


def _is_installed(module: str) -> bool:
    """Whether it is of the standard library or of an installed package, rather than the user's own."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return any(folder in file for folder in _PACKAGE_FOLDERS)


def _installed(value: object) -> tuple[str, str] | None:
    """(module, name) to import what an installed package offers, from as near to the package's top as it does."""
    own, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if isinstance(own, str) and isinstance(name, str) and _is_installed(own):
        parts = own.split(".")
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if getattr(sys.modules.get(module), name, None) is value:
                return module, name
    return None


def _text_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Raises SourceRefused."""
    if not isinstance(function, types.FunctionType):
        raise SourceRefused(f"{function!r} is no plain function; write a def that calls it")
    name = function.__name__
    if name == "<lambda>":
        raise SourceRefused("a lambda cannot be shipped; write it as a def with a name")
    if function.__closure__:
        inner = ", ".join(function.__code__.co_freevars)
        raise SourceRefused(f"{name} is a closure over {inner}; make that an argument, or a constant of the module")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise SourceRefused(f"{name} is async or a generator; return a value, for example a list")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise SourceRefused(f"the source of {name} cannot be found; put it into a file") from error
    if not text.startswith("def "):
        raise SourceRefused(f"{name} is decorated; ship the plain function")
    return name, text


def _global_names(code: types.CodeType) -> Iterator[str]:
    """What it looks up in its module, in order, once each."""
    found: dict[str, None] = {}
    pending = [code]
    while pending:
        current = pending.pop(0)
        stored = set(current.co_names) & {"annotations"} | {
            str(step.argval) for step in dis.get_instructions(current) if step.opname == "STORE_NAME"
        }
        for step in dis.get_instructions(current):
            if step.opname in _LOADS and str(step.argval) not in stored:
                found[str(step.argval)] = None
        pending += [constant for constant in current.co_consts if isinstance(constant, types.CodeType)]
    return iter(found)


def _literal(value: object) -> str:
    """Source that evaluates to it. Raises SourceRefused."""
    if _has_odd_float(value):
        raise SourceRefused(f"{value!r} has no literal; write float('inf') or float('nan') within the function")
    return repr(value)


def _has_odd_float(value: object) -> bool:
    if isinstance(value, float):
        return value != value or value in (float("inf"), float("-inf"))
    if isinstance(value, complex):
        return _has_odd_float(value.real) or _has_odd_float(value.imag)
    if isinstance(value, (list, tuple)):
        return any(map(_has_odd_float, value))
    if isinstance(value, dict):
        return any(_has_odd_float(item) for pair in value.items() for item in pair)
    return False
