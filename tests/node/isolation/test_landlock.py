"""Landlock by system call, each ABI that this kernel has."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.node.isolation import landlock

ABI = landlock.abi_version()
needs_landlock = pytest.mark.skipif(ABI == 0, reason="this kernel has no Landlock")

TRY = """
import json, os, socket, sys
from pathlib import Path
from hearthmesh.node.isolation.landlock import restrict
root, port, abi = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
restrict([root / "read", root / "one", root / "gone"], [root / "write"], abi)
def errno(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0
print(json.dumps({
    "read": errno(lambda: (root / "read/file").read_text()),
    "list": errno(lambda: os.listdir(root / "read")),
    "write in read": errno(lambda: (root / "read/new").write_text("x")),
    "one": errno(lambda: (root / "one").read_text()),
    "write one": errno(lambda: (root / "one").write_text("x")),
    "other": errno(lambda: (root / "other").read_text()),
    "through a link": errno(lambda: (root / "write/link").read_text()),
    "write": errno(lambda: (root / "write/new").write_text("x")),
    "move out": errno(lambda: os.rename(root / "write/new", root / "read/moved")),
    "remove": errno(lambda: os.unlink(root / "write/new")),
    "folder": errno(lambda: os.mkdir(root / "write/folder")),
    "pipe": errno(lambda: os.mkfifo(root / "write/pipe")),
    "truncate other": errno(lambda: os.truncate(root / "other", 0)),
    "connect": errno(lambda: socket.socket().connect(("127.0.0.1", port))),
    "signal": errno(lambda: os.kill(os.getppid(), 0)),
}))
"""


def restricted(root: Path, abi: int) -> dict[str, int]:
    """The errno of each action under that ABI's rules."""
    import socket

    for folder in ("read", "write"):
        (root / folder).mkdir()
    for file in ("read/file", "one", "other"):
        (root / file).write_text("warm")
    (root / "write/link").symlink_to(root / "other")
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", TRY, str(root), str(server.getsockname()[1]), str(abi)]
        answer: Any = json.loads(subprocess.check_output(command))
    return {str(name): int(number) for name, number in answer.items()}


@needs_landlock
@pytest.mark.parametrize("abi", range(1, 8))
def test_a_process_keeps_what_it_was_left(tmp_path: Path, abi: int) -> None:
    if abi > ABI:
        pytest.skip(f"this kernel has ABI {ABI}")
    found = restricted(tmp_path, abi)
    allowed = ("read", "list", "one", "write", "remove", "folder")
    refused = ("write in read", "write one", "other", "through a link", "pipe")
    assert {name: found[name] for name in (*allowed, *refused)} == {
        **dict.fromkeys(allowed, 0),
        **dict.fromkeys(refused, 13),
    }
    assert found["move out"] in (13, 18)
    assert (found["truncate other"] == 13) == (abi >= 3)
    assert (found["connect"] == 13) == (abi >= 4)
    assert (found["signal"] == 1) == (abi >= 6)


@pytest.mark.parametrize(("abi", "length"), [(1, 8), (2, 8), (3, 8), (4, 16), (5, 16), (6, 24), (7, 24)])
def test_a_ruleset_is_as_long_as_its_abi_knows_it(abi: int, length: int) -> None:
    assert len(landlock.ruleset_attributes(abi)) == length


def test_a_newer_abi_forbids_more() -> None:
    before = (0, 0, 0)
    for abi in range(1, 8):
        files, net, scopes = landlock.handled(abi)
        assert all(old & new == old for old, new in zip(before, (files, net, scopes), strict=True))
        before = (files, net, scopes)
    assert before[0] == 0xFFFF


@needs_landlock
def test_a_path_that_may_not_be_opened_is_one_line() -> None:
    loop = "/proc/self/fd/0/no"
    with pytest.raises(landlock.LandlockError, match=loop):
        landlock.restrict([Path(loop)], [], 1)
