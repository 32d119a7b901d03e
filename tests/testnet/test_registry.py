"""A network's folder that cannot be locked: whose fault that is."""

import subprocess
from pathlib import Path

import pytest

from hearthmesh.testnet.errors import TestnetError
from hearthmesh.testnet.registry import Registry
from tests.node.execution.test_scarce import descriptors


def refusal(folder: Path) -> str:
    with pytest.raises(TestnetError) as caught, Registry(folder).changing():
        raise AssertionError("it could be locked")
    return str(caught.value)


def test_a_machine_out_of_descriptors_is_not_told_that_the_network_is_anothers(tmp_path: Path) -> None:
    with descriptors(0):
        said = refusal(tmp_path)
    assert said == f"{tmp_path}/testnet.lock: Too many open files"


def test_a_read_only_file_system_is_not_told_that_the_network_is_anothers(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        said = refusal(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert said == f"{tmp_path}/testnet.lock: Read-only file system"
