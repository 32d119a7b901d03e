"""Peer systems: skipped with a reason where they cannot be had, ended with all that they started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hearthmesh.node.bench.peer_process import PeerFailed, PeerProcess
from hearthmesh.node.bench.peers import OURS, PACK, SYSTEMS, Comparison, SystemRound, prepare


def round_of(tiny_per_s: float, single_ms: float) -> SystemRound:
    return SystemRound(tiny_per_s, 10 * tiny_per_s, 100.0, [single_ms] * 3, 0.9, 0.0)


def test_ratios_are_taken_round_by_round_and_above_one_where_we_are_better() -> None:
    comparison = Comparison(
        {
            OURS: [round_of(1000.0, 2.0), round_of(3000.0, 4.0), round_of(2000.0, 2.0)],
            "dask": [round_of(500.0, 8.0), round_of(500.0, 8.0), round_of(500.0, 1.0)],
        }
    )
    ratios = comparison.as_json()["ratios"]["dask"]
    assert ratios["tiny"] == {"median": 4.0, "min": 2.0, "max": 6.0}
    assert ratios[f"tiny_against_packed_{PACK}"] == {"median": 0.4, "min": 0.2, "max": 0.6}
    assert ratios["single_p50"] == {"median": 2.0, "min": 0.5, "max": 4.0}


def test_only_peers_have_a_row_for_packing_by_hand() -> None:
    comparison = Comparison({OURS: [round_of(1.0, 1.0)], "ray": [round_of(1.0, 1.0)]})
    systems = comparison.as_json()["systems"]
    name = f"packed_{PACK}_tasks_per_s"
    assert name in systems["ray"] and name not in systems[OURS]


async def test_where_nothing_can_be_installed_each_peer_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    told: list[str] = []
    _, skipped = await prepare(tmp_path / "venv", told.append)
    assert list(skipped) == list(SYSTEMS)
    assert all("cannot be installed: ERROR: No matching distribution" in reason for reason in skipped.values())


async def test_an_environment_that_cannot_be_made_skips_all_peers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    _, skipped = await prepare(tmp_path / "file" / "venv", print)
    assert list(skipped) == list(SYSTEMS)


async def test_a_peer_that_does_not_start_fails_with_its_last_words(tmp_path: Path) -> None:
    peer = PeerProcess("ray", Path(sys.executable), tmp_path / "ray.log")
    with pytest.raises(PeerFailed, match="ray ended.*No module named 'ray'"):
        await peer.start()
    await peer.end()
    with pytest.raises(ProcessLookupError):
        os.kill(peer.pid, 0)
