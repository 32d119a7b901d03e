"""The Python that runs in the sandbox: takes a function's source once, and one call's argument a task.

Built into a WebAssembly component with all that functions may import: there is no disk, and no other way to the
outside than the two calls below. Clock and randomness follow from the job and the task's index. Bytes travel as
text, one character a byte, because wasmtime's component values are copied a byte at a time otherwise.
"""

import sys

sys.modules["_datetime"] = None  # type: ignore[assignment]  # its clock is the system's; the Python one asks ours

import builtins  # noqa: E402
import hashlib  # noqa: E402
import importlib  # noqa: E402
import io  # noqa: E402
import linecache  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402

import hearth_values  # noqa: E402
import wit_world  # noqa: E402
from hearth_modules import MODULES  # noqa: E402

FAILED, OUT_OF_MEMORY, BAD_RESULT = 1, 2, 3
START_NS = 1_577_836_800_000_000_000  # 2020-01-01T00:00:00Z
LOOK_NS = 1_000_000
SAID_CHARS_MAX = 16_384
FILE_NAME = "job.py"
FRAMES_MAX = 20

for name in MODULES:
    importlib.import_module(name)


class _World:
    """Clock and randomness of one task."""

    def __init__(self) -> None:
        self.begin(b"", 0)

    def begin(self, seed: bytes, index: int) -> None:
        self.now_ns = START_NS
        self._key = hashlib.blake2b(seed, digest_size=32, person=b"hearth.python", salt=index.to_bytes(8, "little"))
        self._block = 0
        random.seed(self.bytes(32))

    def time_ns(self) -> int:
        self.now_ns += LOOK_NS
        return self.now_ns

    def bytes(self, count: int) -> bytes:
        out = bytearray()
        while len(out) < count:
            block = self._key.copy()
            block.update(self._block.to_bytes(8, "little"))
            self._block += 1
            out += block.digest()
        return bytes(out[:count])


class _NoOtherModules:
    """The last finder: what was not built in is not there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(f"{name} is not among the modules that Python tasks have", name=name)


_world = _World()
_names: "dict[str, object]" = {}


def _own_clock() -> None:
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, lambda: _world.time_ns() / 1e9)
        setattr(time, name + "_ns", lambda: _world.time_ns())
    for name in ("gmtime", "localtime"):
        original = getattr(time, name)
        setattr(time, name, lambda seconds=None, original=original: original(_now(seconds)))
    time.ctime = lambda seconds=None: time.asctime(time.gmtime(seconds))
    time.sleep = _sleep


def _now(seconds: "float | None") -> float:
    return _world.time_ns() / 1e9 if seconds is None else seconds


def _sleep(seconds: float) -> None:
    _world.now_ns += int(seconds * 1e9)


def _own_randomness() -> None:
    os.urandom = _world.bytes
    random._urandom = _world.bytes  # type: ignore[attr-defined]


def _refuse(*_: object, **__: object) -> object:
    raise OSError("a Python task has no files and no system")


def _no_system() -> None:
    """What asks the system raises OSError; whatever else would get there ends the task, as a trap."""
    for module in (os, sys.modules["posix"]):
        for name, value in list(vars(module).items()):
            if type(value) is type(len) and name not in ("fspath", "strerror", "urandom"):
                setattr(module, name, _refuse)
    builtins.open = io.open = _refuse  # type: ignore[assignment]
    builtins.input = _refuse  # type: ignore[assignment]


def _enclose() -> None:
    """At the first call rather than when the component is built, which itself needs the system."""
    _own_clock()
    _own_randomness()
    _no_system()
    sys.path.clear()
    sys.meta_path[:] = [_NoOtherModules()]  # type: ignore[list-item]
    sys.stdin = io.StringIO()
    # Tracebacks look for lines on the disk, and ask loaders, which do too.
    linecache.lazycache = lambda *_: False  # type: ignore[assignment]
    linecache.checkcache = lambda *_: None  # type: ignore[assignment]
    linecache.updatecache = lambda *_: []  # type: ignore[assignment]


class WitWorld(wit_world.WitWorld):
    """The component's two exports."""

    def init(self, source: str, entry: str) -> str:
        """Run a job's source. Returns what is wrong, or nothing."""
        _enclose()
        _world.begin(b"", 0)
        sys.stdout = sys.stderr = io.StringIO()
        linecache.cache[FILE_NAME] = (len(source), None, source.splitlines(keepends=True), FILE_NAME)
        _names.clear()
        _names.update({"__name__": "job", "__builtins__": builtins})
        try:
            exec(compile(source, FILE_NAME, "exec"), _names)
        except BaseException:  # boundary: whatever a stranger's source raises is the task's failure
            return _explain()
        return "" if callable(_names.get(entry)) else f"the source has no function {entry}"

    def run(self, index: int, seed: str, entry: str, argument: str) -> "tuple[int, str, str]":
        """Call the function. Returns (0 or why not, the packed result, what was printed)."""
        said = sys.stdout = sys.stderr = io.StringIO()
        _world.begin(seed.encode("latin-1"), index)
        function = _names[entry]
        code = 0
        try:
            packed = argument.encode("latin-1")
            result = function(hearth_values.unpack(packed) if packed else index)  # type: ignore[operator]
            packed = b""
            packed = hearth_values.pack(result)
        except MemoryError:
            code = OUT_OF_MEMORY
        except hearth_values.ValueRefused as error:
            code, packed = BAD_RESULT, b""
            said.write(f"\n{error}\n")
        except BaseException:  # boundary: as above; SystemExit too
            code, packed = FAILED, b""
            said.write(_explain())
        return code, packed.decode("latin-1"), said.getvalue()[-SAID_CHARS_MAX:]


def _explain() -> str:
    """The traceback within the job's source. Not the library's, which parses lines anew and looks for files."""
    kind, error, trace = sys.exc_info()
    lines = ["Traceback (most recent call last):"]
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == FILE_NAME:
            lines.append(f'  File "{FILE_NAME}", line {trace.tb_lineno}, in {code.co_qualname}')
            lines.append(f"    {linecache.getline(FILE_NAME, trace.tb_lineno or 0).strip()}")
        trace = trace.tb_next
    if len(lines) > FRAMES_MAX * 2:
        lines[FRAMES_MAX:-FRAMES_MAX] = ["  …"]
    try:
        said = str(error)
    except Exception:  # boundary: a stranger's exception may not even have a text
        said = "without a text"
    return "\n".join([*lines, f"{kind.__name__ if kind else 'error'}: {said}"])[-SAID_CHARS_MAX:] + "\n"
