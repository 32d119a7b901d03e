"""Networks and disks of a run's own: they do what they should, and are gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hearthmesh.testnet.chaos import places
from hearthmesh.testnet.errors import TestnetError
from hearthmesh.testnet.process import inside

LISTEN = "import socket; s = socket.create_server(('0.0.0.0', 4001)); print('up', flush=True); s.accept()[0].recv(1)"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 4001), timeout=1).close()"

needs_networks = pytest.mark.skipif(bool(places.why_no_networks()), reason=places.why_no_networks())
needs_disks = pytest.mark.skipif(bool(places.why_no_disks()), reason=places.why_no_disks())


def python(namespace: str, *arguments: str) -> list[str]:
    return inside(namespace, [sys.executable, "-S", "-c", *arguments])


async def connects(namespace: str, host: str) -> bool:
    done = await trio.run_process(python(namespace, CONNECT, host), check=False, capture_stderr=True)
    return done.returncode == 0


@needs_networks
async def test_networks_are_joined_cut_and_joined_again() -> None:
    async with places.networks(["a", "b", "c"]) as nets:
        holders = list(nets._holders.values())
        listener = python(nets.namespace("a"), LISTEN)
        with subprocess.Popen(listener, stdout=subprocess.PIPE) as serving:
            assert serving.stdout is not None and serving.stdout.readline() == b"up\n"
            await nets.cut(["b"])
            assert not await connects(nets.namespace("b"), nets.host("a"))
            await nets.cut(["a"])
            assert not await connects(nets.client_namespace, nets.host("a"))
            await nets.heal()
            await nets.pull("a")
            assert not await connects(nets.namespace("b"), nets.host("a"))
            await nets.heal()
            assert await connects(nets.namespace("b"), nets.host("a"))
    assert not any(Path(f"/proc/{pid}").exists() for pid in holders)
    assert not any(Path(f"/sys/class/net/{name}").exists() for name in ("bridge0", "port1"))


@needs_disks
async def test_a_small_disk_has_what_was_there_fills_up_and_is_gone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    async with places.small_disk(tmp_path, 4) as disk:
        assert (disk.state / "kept").read_text() == "as it was"
        (disk.state / "new").write_bytes(b"x")
        assert disk.fill() > 3 << 20
        with pytest.raises(OSError, match="No space left"), (disk.state / "more").open("wb", buffering=0) as file:
            file.write(bytes(8192))
        disk.free()
        (disk.state / "more").write_bytes(bytes(8192))
        assert disk.namespace.startswith("--mount=/proc/")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@needs_disks
async def test_a_disk_over_no_folder_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TestnetError, match=r"a namespace \(mount\) cannot be made: mount: .*nowhere"):
        async with places.small_disk(tmp_path / "nowhere", 4):
            raise AssertionError("there was nothing to mount over")


def test_a_test_without_root_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert places.why_no_networks() == places.why_no_disks() == "it needs root"
