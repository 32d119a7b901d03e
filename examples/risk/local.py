"""Runs tasks of the job in this process, without a mesh: to try a portfolio, and to compare digests.

python local.py [--params params.bin] [--json]
"""

import argparse
import atexit
import json
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import wasmtime
from aggregate import ResultError, aggregate, table
from params import HEADER

HERE = Path(__file__).parent
EXIT_MASK = 0xFF


class TaskFailed(Exception):
    """hearth_init or hearth_task returned a failure; the code is one of risk.c's."""


@cache
def compiled_module(path: Path) -> tuple[wasmtime.Engine, wasmtime.Module]:
    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(path))


# wasmtime's own library is gone by the time that module globals are cleared.
atexit.register(compiled_module.cache_clear)


class Instance:
    """One live instance of a module with the function ABI."""

    def __init__(self, module: Path, init: bytes | None = None) -> None:
        engine, compiled = compiled_module(module)
        self._store = wasmtime.Store(engine)
        instance = wasmtime.Instance(self._store, compiled, [])
        self._exports = instance.exports(self._store)
        if init is not None:
            self.init(init)

    def init(self, data: bytes) -> None:
        """Raises TaskFailed."""
        code = self._call("hearth_init", self._place(data), len(data))
        if code:
            raise TaskFailed(f"hearth_init: code {code}")

    def memory_bytes(self) -> int:
        return self._memory().data_len(self._store)

    def run(self, index: int, data: bytes = b"") -> bytes:
        """One task's output. Raises TaskFailed."""
        packed = self._call("hearth_task", index, self._place(data), len(data))
        if packed < 0:
            raise TaskFailed(f"task {index}: code {packed & EXIT_MASK}")
        start = packed >> 32
        return bytes(self._memory().read(self._store, start, start + (packed & 0xFFFFFFFF)))

    def _place(self, data: bytes) -> int:
        address = self._call("hearth_alloc", len(data))
        if not address:
            raise TaskFailed(f"hearth_alloc: no room for {len(data)} bytes")
        self._memory().write(self._store, data, address)
        return address

    def _call(self, name: str, *arguments: int) -> int:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return int(function(self._store, *arguments))

    def _memory(self) -> wasmtime.Memory:
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory


def run_tasks(params: bytes, indices: Iterable[int], module: Path = HERE / "risk.wasm") -> Iterator[tuple[int, bytes]]:
    """(index, output) of each task, on one instance."""
    instance = Instance(module, params)
    for index in indices:
        yield index, instance.run(index)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=HERE / "params.bin")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    params = a.params.read_bytes()
    tasks = HEADER.unpack_from(params)[9]
    started = time.process_time()
    try:
        measures = aggregate(run_tasks(params, range(tasks))).measures()
    except (ResultError, TaskFailed) as error:
        print(error, file=sys.stderr)
        return 2
    spent = time.process_time() - started
    print(json.dumps(measures, indent=2) if a.json else table(measures))
    print(f"{tasks} tasks, {spent / tasks * 1e3:.2f} ms CPU each", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
