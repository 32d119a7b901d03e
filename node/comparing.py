"""A submitter's own comparator: a WebAssembly module that says whether two outputs are the same, run as tasks are.

The function ABI (docs/abi.md): `hearth_task` is given a u32, little-endian, the length of the first output, then both
outputs; it returns one byte, 1 for the same. Each pair is asked in one order only, so that the answer has no side. A
module that traps, or takes too much time or memory, says that they are not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from struct import pack

import trio

from ..protocol.effects import CompareOutputs, Execute
from ..protocol.events import Event, OutputsCompared
from .execution.outcome import BatchRequest, ExecutionError, ExecutionFault, Exit, Limits
from .execution.pool import WasmPool
from .execution.wasm_child import ChildConfig
from .isolation.layers import detect
from .isolation.worker_sandbox import WorkerFolders
from .ports import BlobsUnavailable
from .storage.errors import StorageError
from .tasks import NodeBlobs

# Of one comparison. Fuel bounds it alike on every machine; time only where a machine is very slow.
LIMITS = Limits(
    memory_bytes=64 << 20, wall_us=30_000_000, fuel=500_000_000, output_bytes=64, stderr_bytes=0, scratch_bytes=0
)
WORKER_BYTES = 1 << 30
BATCH_BYTES = 16 << 20
BATCH_PAIRS = 256
SAME = b"\x01"
_SEED = bytes(32)


class Comparing:
    """Runs comparators; the worker process starts with the first, and ends with `aclose`."""

    def __init__(self, cache: Path, modules: Path) -> None:
        """modules: the folder that they lie in."""
        self._cache = cache
        self._modules = modules
        self._pool: WasmPool | None = None

    async def compare(self, module: Path, digest: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> list[bool]:
        """Of each pair, whether the module says that they are the same. Raises ExecutionError: it cannot be run."""
        if self._pool is None:
            # Bubblewrap takes no folder that is not there.
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            config = ChildConfig(
                self._cache.absolute(),
                memory_bytes=WORKER_BYTES,
                confinement=detect(),
                folders=WorkerFolders((self._modules,)).absolute(),
                tag="hearth-comparator",
            )
            self._pool = WasmPool(config, 1)
        inputs = [pack("<I", len(first)) + first + second for first, second in pairs]
        answers: list[bool] = []
        while len(answers) < len(inputs):
            batch: list[bytes] = []
            size = 0
            for item in inputs[len(answers) : len(answers) + BATCH_PAIRS]:
                if batch and size + len(item) > BATCH_BYTES:
                    break
                batch.append(item)
                size += len(item)
            outcome = await self._pool.run(_request(module, digest, batch))
            # What comes after one that took too long was not run: it begins the next batch.
            ran = outcome.exits.index(Exit.CANCELLED) if Exit.CANCELLED in outcome.exits else len(batch)
            if not ran:
                raise ExecutionError(ExecutionFault.UNAVAILABLE, "the comparison was stopped")
            answers += [
                exit == 0 and output == SAME
                for exit, output in zip(outcome.exits[:ran], outcome.outputs[:ran], strict=True)
            ]
        return answers

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()


def _request(module: Path, digest: bytes, inputs: Sequence[bytes]) -> BatchRequest:
    return BatchRequest(
        job_id=digest,
        runtime="wasm",
        abi="function",
        program=module,
        program_digest=digest,
        first=0,
        count=len(inputs),
        seed=_SEED,
        inputs=inputs,
        limits=LIMITS,
    )


class ClientRunner:
    """What a client's machine may ask to be run: no task, only its own comparators."""

    def __init__(
        self, nursery: trio.Nursery, feed: Callable[[Event], None], blobs: NodeBlobs, comparing: Comparing
    ) -> None:
        self._nursery = nursery
        self._feed = feed
        self._blobs = blobs
        self._comparing = comparing

    def start(self, run: Execute) -> None:
        raise AssertionError("a client has no slots")

    def cancel(self, execution_id: int) -> None:
        raise AssertionError("a client has no slots")

    def save(self, execution_id: int, patience_s: float) -> None:
        raise AssertionError("a client has no slots")

    def drop_checkpoint(self, job_id: bytes, index: int) -> None:
        raise AssertionError("a client has no slots")

    def forget(self, job_id: bytes) -> None:
        """It opened nothing."""

    def compare(self, wanted: CompareOutputs) -> None:
        self._nursery.start_soon(self._compare, wanted)

    async def _compare(self, wanted: CompareOutputs) -> None:
        pairs = [(first, second) for _, _, first, second in wanted.pairs]
        pin = b"comparator" + wanted.job_id
        try:
            await self._blobs.fetch((wanted.module,), wanted.sources, pin)
            answers = await self._comparing.compare(self._blobs.store.path(wanted.module), wanted.module, pairs)
        except (BlobsUnavailable, StorageError, ExecutionError) as error:
            self._feed(OutputsCompared(wanted.job_id, (), str(error)))
            return
        finally:
            self._blobs.unpin(pin)
        said = zip(wanted.pairs, answers, strict=True)
        self._feed(OutputsCompared(wanted.job_id, tuple((pair[0], pair[1], same) for pair, same in said)))
