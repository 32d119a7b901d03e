"""What becomes of a batch's outcome on its way to the machine, and of what tasks leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from hearthmesh.node.service import remove_old_checkpoints
from hearthmesh.node.tasks import STDERR_BATCH_BYTES_MAX, _tails


def test_tails_of_a_talkative_batch_fit_one_delivery() -> None:
    said = _tails(dict.fromkeys(range(1024), b"x" * 4095 + b"!"), 1000)
    assert len(said) == 1000
    assert sum(map(len, said.values())) <= STDERR_BATCH_BYTES_MAX
    assert all(text.endswith(b"!") for text in said.values())


def test_a_single_tail_is_kept_whole() -> None:
    assert _tails({3: b"y" * 4096, 4: b""}, 5) == {3: b"y" * 4096}


def test_only_old_checkpoints_go(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "7").mkdir(parents=True)
    for path in (tmp_path / "old" / "7", tmp_path / "old"):
        os.utime(path, (1, 1))
    assert remove_old_checkpoints(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert remove_old_checkpoints(tmp_path / "absent") == 0
