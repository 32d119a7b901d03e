"""What a bad disk does, in small."""

from pathlib import Path
from random import Random

import pytest

from hearthmesh.testnet.chaos.damage import blobs_of, flip_bits, truncate
from hearthmesh.testnet.errors import TestnetError


def test_bits_flip_in_place_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    before = path.stat()
    assert flip_bits(path, Random(1), 5) == "5 bits of file flipped"
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
    assert sum(byte.bit_count() for byte in path.read_bytes()) == 5


def test_half_of_a_file_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)
    assert truncate(path) == "file cut from 11 to 5 bytes"
    assert path.read_bytes() == b"x" * 5


def test_a_folder_without_blobs_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(TestnetError, match="keeps no blob"):
        blobs_of(tmp_path)
