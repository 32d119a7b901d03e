"""The storage benchmark runs on any disk and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from hearthmesh.node.bench.storage import bench_storage


def test_the_benchmark_returns_positive_numbers_and_cleans_up(tmp_path: Path) -> None:
    numbers = bench_storage(tmp_path, scale=0.02)
    assert set(numbers) >= {"single_durable_per_s", "merged_durable_per_s", "blob_put_durable_mb_per_s"}
    assert all(value > 0 for value in numbers.values()), numbers
    assert list(tmp_path.iterdir()) == []
