"""Dask or Ray at the three workloads, two workers of one core: `peer_program.py dask|ray`.

Runs in an environment of its own, without hearthmesh. One JSON object a line in and out; ends with its input.
The tasks do what ours do: SHA-256 of a random kilobyte, or a fixed amount of work that takes 50 ms of CPU alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import queue
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

WORKERS = 2
INPUT_BYTES = 1_000
PAUSE_S = 0.02
CALIBRATION_ROUNDS = 100_000
CALIBRATION_TASKS = 9


def hash_one(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def hash_many(payloads: Sequence[bytes]) -> list[bytes]:
    return [hashlib.sha256(payload).digest() for payload in payloads]


def burn(rounds: int) -> float:
    """How much CPU time it took, microseconds."""
    began_ns = time.thread_time_ns()
    hashlib.pbkdf2_hmac("sha256", b"burn", b"salt", rounds)
    return (time.thread_time_ns() - began_ns) / 1e3


class DaskSystem:
    """A scheduler and two worker processes of one thread each."""

    def __init__(self, folder: str) -> None:
        distributed: Any = importlib.import_module("distributed")
        self.version: str = distributed.__version__
        self._cluster = distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=folder,
            silence_logs=40,
        )
        self._client = distributed.Client(self._cluster)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._client.gather(self._client.map(function, items, pure=False)))

    def one(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self._client.submit(function, item, pure=False).result()

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class RaySystem:
    """A head with two one-core workers; no dashboard, no usage reports."""

    def __init__(self, folder: str) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray: Any = importlib.import_module("ray")
        self.version: str = self._ray.__version__
        self._ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=256 << 20,
            _temp_dir=folder,
        )
        self._remote: dict[str, Any] = {}

    def _of(self, function: Callable[[Any], Any]) -> Any:
        name = function.__name__
        if name not in self._remote:
            self._remote[name] = self._ray.remote(function)
        return self._remote[name]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        remote = self._of(function)
        return list(self._ray.get([remote.remote(item) for item in items]))

    def one(self, function: Callable[[Any], Any], item: Any) -> Any:
        return self._ray.get(self._of(function).remote(item))

    def close(self) -> None:
        self._ray.shutdown()


def run_tiny(system: Any, tasks: int, pack: int) -> dict[str, float]:
    """pack: how many tasks the user puts into one call."""
    inputs = [os.urandom(INPUT_BYTES) for _ in range(tasks)]
    began_s = time.perf_counter()
    if pack == 1:
        outputs = system.map(hash_one, inputs)
    else:
        packs = [inputs[at : at + pack] for at in range(0, tasks, pack)]
        outputs = [output for found in system.map(hash_many, packs) for output in found]
    seconds = time.perf_counter() - began_s
    if outputs != hash_many(inputs):
        raise RuntimeError("wrong results")
    return {"seconds": seconds}


def run_single(system: Any, count: int) -> dict[str, list[float]]:
    took_ms = []
    for _ in range(count):
        payload = os.urandom(INPUT_BYTES)
        began_s = time.perf_counter()
        output = system.one(hash_one, payload)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
        if output != hash_one(payload):
            raise RuntimeError("wrong result")
        time.sleep(PAUSE_S)
    return {"ms": took_ms}


def run_long(system: Any, tasks: int, cpu_us: int) -> dict[str, float]:
    rounds = round(CALIBRATION_ROUNDS * cpu_us / alone_us(CALIBRATION_ROUNDS))
    began_s = time.perf_counter()
    spent_us = system.map(burn, [rounds] * tasks)
    seconds = time.perf_counter() - began_s
    return {"seconds": seconds, "spent_us": statistics.mean(spent_us), "cores": WORKERS}


def alone_us(rounds: int) -> float:
    """CPU time of one task here, while the workers rest; the median of some."""
    return statistics.median(burn(rounds) for _ in range(CALIBRATION_TASKS))


def answer(system: Any, request: dict[str, Any]) -> dict[str, Any]:
    works: dict[str, Callable[..., dict[str, Any]]] = {"tiny": run_tiny, "single": run_single, "long": run_long}
    return works[request.pop("do")](system, **request)


def read_requests() -> Iterator[dict[str, Any]]:
    """Until the input ends. If that happens while something runs, then whoever asked is gone, and it is interrupted."""
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        requests.put(None)
        if not idle.is_set():
            signal.pthread_kill(main_thread, signal.SIGINT)

    idle = threading.Event()
    idle.set()
    threading.Thread(target=read, daemon=True).start()
    while (line := requests.get()) is not None:
        idle.clear()
        yield json.loads(line)
        idle.set()


def main() -> None:
    # A shell that starts us in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What libraries print must not come between our lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A short path: Ray puts Unix sockets in it.
    folder = tempfile.mkdtemp(prefix="hearth-peer-")
    system: Any = None
    try:
        system = {"dask": DaskSystem, "ray": RaySystem}[sys.argv[1]](folder)
        # Workers started, functions sent.
        for function, item in ((hash_one, b"warm"), (hash_many, [b"warm"]), (burn, 1000)):
            system.map(function, [item] * 64)
        out.write(json.dumps({"version": system.version}) + "\n")
        out.flush()
        for request in read_requests():
            out.write(json.dumps(answer(system, request)) + "\n")
            out.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever asked is gone: end in order, as after the last request.
        sys.stderr.write("interrupted\n")
    finally:
        if system is not None:
            system.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
