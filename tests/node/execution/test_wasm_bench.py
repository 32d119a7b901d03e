"""The measurement runs, checks its results, and carries the module that its source says."""

from __future__ import annotations

from pathlib import Path

import wasmtime

from hearthmesh.node.bench.execution import HASH_MODULE, fnv1a, measure_execution

SOURCE = Path(__file__).parents[2] / "wasm" / "hash.wat"


def test_the_module_of_the_bench_is_its_source_assembled() -> None:
    assert bytes(wasmtime.wat2wasm(SOURCE.read_text())) == HASH_MODULE


def test_fnv1a_has_its_published_value() -> None:
    assert fnv1a(b"a") == (0xAF63DC4C8601EC8C).to_bytes(8, "little")


async def test_execution_is_measured(tmp_path: Path) -> None:
    cost = await measure_execution(tmp_path, batch_tasks=16, rounds=1, batches=2)
    assert cost.wall_us > 0 and cost.worker_cpu_us > 0 and cost.parent_cpu_us > 0
    assert 10 < cost.worker_rss_mb < 100
