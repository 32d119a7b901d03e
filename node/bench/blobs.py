"""How fast a blob goes from one node's store to another's, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import trio

from ...crypto.certificates import Certificate, MembershipPolicy, MeshDefinition, Role, issue
from ...crypto.identity import Identity, node_id_from_text
from ..storage.blobs import BlobStore
from ..transport.links import LinkConfig, Links

BLOB_BYTES = 64 << 20
ROUNDS = 3
QUOTA_BYTES = 4 << 30


class _Deaf:
    """A handler for a node that only moves blobs."""

    def on_connected(self, peer: bytes, certificate: Certificate) -> None: ...

    def on_lost(self, peer: bytes, reset: bool) -> None: ...

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None: ...

    def has_room(self, peer: bytes) -> bool:
        return True

    async def room(self, peer: bytes) -> None: ...

    def on_gossip(self, source: bytes, payload: bytes) -> None: ...

    def knows(self, node: bytes) -> bool:
        return False

    def on_unreachable(self, peer: bytes) -> None: ...

    def on_rejected(self, peer: bytes, reason: str) -> None: ...


async def measure_blob_mb_per_s(blob_bytes: int = BLOB_BYTES, rounds: int = ROUNDS) -> float:
    """The best of some transfers of 64 MiB over loopback, verified and durable at its end, in MB/s (10^6)."""
    authority = Identity.generate()
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __spec__.name, folder, authority.seed.hex(), str(blob_bytes), str(rounds)]
        async with trio.open_nursery() as nursery:
            server: trio.Process = await nursery.start(_spawn, command)
            try:
                return await _fetch_all(server, authority, Path(folder), blob_bytes)
            finally:
                nursery.cancel_scope.cancel()


async def _spawn(command: list[str], *, task_status: trio.TaskStatus[trio.Process]) -> None:  # type: ignore[name-defined]
    await trio.run_process(command, stdout=PIPE, task_status=task_status)


async def _fetch_all(server: trio.Process, authority: Identity, folder: Path, blob_bytes: int) -> float:
    assert server.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await server.stdout.receive_some()
    told = json.loads(line)
    source = node_id_from_text(told["peer"])
    best_s = float("inf")
    async with trio.open_nursery() as nursery:
        links = _links(authority, Identity.generate(), folder / "here", ())
        await nursery.start(links.run)
        links.learn(source, tuple(told["addresses"]), ())
        links.connect(source)
        while not links.is_linked(source):
            await links.links_changed()
        for digest in told["digests"]:
            began_s = time.perf_counter()
            await links.fetch_blob(bytes.fromhex(digest), [source], blob_bytes)
            best_s = min(best_s, time.perf_counter() - began_s)
        nursery.cancel_scope.cancel()
    return blob_bytes / best_s / 1e6


def _links(authority: Identity, identity: Identity, folder: Path, listen: tuple[str, ...]) -> Links:
    mesh = MeshDefinition("bench", (authority.node_id,))
    now_s = int(time.time())
    certificate = issue(authority, mesh, identity.node_id, Role.WORKER, now_s - 60, now_s + 3600, "bench")
    store = BlobStore(folder, QUOTA_BYTES, min_free_bytes=0)
    return Links(identity, certificate.to_bytes(), MembershipPolicy(mesh), LinkConfig(listen=listen), _Deaf(), store)


async def _serve(folder: Path, authority: Identity, blob_bytes: int, rounds: int) -> None:
    identity = Identity.generate()
    store = BlobStore(folder / "there", QUOTA_BYTES, min_free_bytes=0)
    digests = [store.put_bytes(os.urandom(blob_bytes), durable=False).hex() for _ in range(rounds)]
    links = _links(authority, identity, folder / "there", ("/ip4/127.0.0.1/tcp/0",))
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run)
        print(json.dumps({"peer": identity.peer_id, "addresses": links.addresses, "digests": digests}), flush=True)
        await trio.sleep_forever()


def main() -> None:
    folder, seed, blob_bytes, rounds = sys.argv[1:]
    trio.run(_serve, Path(folder), Identity(bytes.fromhex(seed)), int(blob_bytes), int(rounds))


if __name__ == "__main__":
    main()
