"""Wasm modules from tests/wasm, and pools that leave nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from hearthmesh.node.execution.outcome import BatchRequest, Limits
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.isolation.layers import detect
from hearthmesh.node.isolation.worker_sandbox import WorkerFolders
from tests.node.execution.containers import archive, ask, executor, shared_state, state

__all__ = ["archive", "ask", "executor", "shared_state", "state"]  # fixtures

MODULES = Path(__file__).parents[2] / "wasm"
LIMITS = Limits(memory_bytes=16 << 20, wall_us=20_000_000, output_bytes=1 << 20, scratch_bytes=4 << 20)


class Wasm:
    """Requests for modules given by name (tests/wasm/NAME.wat), text or bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, module: str | bytes) -> tuple[Path, bytes]:
        """The module's file and digest."""
        if isinstance(module, str):
            text = module if module.lstrip().startswith("(") else (MODULES / f"{module}.wat").read_text()
            module = bytes(wasmtime.wat2wasm(text))
        digest = hashlib.sha256(module).digest()
        path = self._folder / f"{digest.hex()[:16]}.wasm"
        path.write_bytes(module)
        return path, digest

    def request(
        self,
        module: str | bytes,
        inputs: Sequence[bytes] | None = None,
        *,
        abi: str = "function",
        first: int = 0,
        count: int | None = None,
        limits: dict[str, int] | None = None,
        **more: Any,
    ) -> BatchRequest:
        path, digest = self.file(module)
        return BatchRequest(
            job_id=b"j" * 32,
            runtime="wasm",
            abi=abi,
            program=path,
            program_digest=digest,
            first=first,
            count=count if count is not None else len(inputs or [b""]),
            seed=more.pop("seed", b"s" * 32),
            inputs=inputs,
            limits=replace(LIMITS, **(limits or {})),
            **more,
        )


@pytest.fixture
def wasm(tmp_path: Path) -> Wasm:
    return Wasm(tmp_path)


@pytest.fixture
def child_config(tmp_path_factory: pytest.TempPathFactory) -> ChildConfig:
    """One cache of compiled modules for the whole test run; all layers that this machine has."""
    base = tmp_path_factory.getbasetemp()
    return ChildConfig(base / "wasm-cache", confinement=detect(), folders=WorkerFolders((base,), (base,)))


PoolMaker = Callable[..., WasmPool]


@pytest.fixture
async def make_pool(child_config: ChildConfig) -> AsyncIterator[PoolMaker]:
    pools: list[WasmPool] = []

    def make(max_children: int = 1, idle_s: float = 60.0, **changes: Any) -> WasmPool:
        pools.append(WasmPool(replace(child_config, **changes), max_children, idle_s))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.aclose()


@pytest.fixture
async def pool(make_pool: PoolMaker) -> WasmPool:
    return make_pool()
