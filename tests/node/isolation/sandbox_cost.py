"""What starting a task costs, natively and in a container: `python -m tests.node.isolation.sandbox_cost 20`.

Each is `true`, in a batch of its own, in turn; the medians and the least, in ms. The image is made here."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import trio

from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeCommand, NativeRuntimeConfig
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.oci_config import OciRuntimeConfig
from hearthmesh.node.execution.outcome import BatchRequest, Executor
from tests.node.execution.images import shell_image


async def measure(folder: Path, rounds: int) -> None:
    image = shell_image("true")
    digest = image.seal()
    image.write(folder / "image.tar")
    true = NativeCommand(Path("/usr/bin/true"))
    native = NativeExecutor(NativeRuntimeConfig({"true": true}), folder / "native")
    containers = OciExecutor(OciRuntimeConfig((digest,)), folder / "oci")
    common = (b"job", "native", "command", folder / "image.tar", b"", 0, 1, b"seed")
    runs: dict[str, tuple[Executor, BatchRequest]] = {
        "native": (native, BatchRequest(*common, "true")),
        "oci": (containers, BatchRequest(*common, digest, ("true",))),
    }
    took_ms: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, (executor, request) in runs.items():
            began = trio.current_time()
            await executor.run(request)
            took_ms[name].append((trio.current_time() - began) * 1e3)
    for name, every in took_ms.items():
        print(f"{name}: first {every[0]:.0f}, median {statistics.median(every[1:]):.1f}, least {min(every[1:]):.1f} ms")


if __name__ == "__main__":
    where = Path(tempfile.mkdtemp(prefix="hearthmesh-cost-", dir="/var/tmp"))
    where.chmod(0o711)
    try:
        trio.run(measure, where, int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    finally:
        shutil.rmtree(where)
