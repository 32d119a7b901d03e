"""Blobs are pulled from whoever has them, verified, bounded, and from the next source if one fails."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio
from libp2p.abc import INetStream

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.transport.blobs import (
    BLOB_PROTOCOL,
    BUSY,
    FETCHES_AT_ONCE,
    FOUND,
    SERVES_A_PEER,
    BlobFetchError,
)

from .village import Village, Villager, village

LIMIT = 1 << 30


async def librarians(mesh: Village, folder: Path, count: int) -> list[tuple[Villager, BlobStore]]:
    """Nodes with stores, who know each other."""
    found = []
    for number in range(count):
        store = BlobStore(folder / str(number), 1 << 30, min_free_bytes=0)
        found.append((await mesh.settle(store=store), store))
    for node, _ in found:
        node.knows(*(other for other, _ in found if other is not node))
    return found


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 17])
async def test_blob_arrives_whole(tmp_path: Path, size: int) -> None:
    async with village() as mesh:
        (one, here), (other, there) = await librarians(mesh, tmp_path, 2)
        blob = os.urandom(size)
        digest = there.put_bytes(blob)
        await one.links.fetch_blob(digest, [other.id], LIMIT)
        assert here.read(digest) == blob


async def test_blob_is_pulled_from_a_client_that_dialled(tmp_path: Path) -> None:
    async with village() as mesh:
        server = await mesh.settle(store=tmp_path / "server")
        store = BlobStore(tmp_path / "client", 1 << 30, min_free_bytes=0)
        client = await mesh.settle(listen=(), bootstrap=server.addresses, store=store)
        await server.seen.until(lambda: server.seen.connected)
        digest = store.put_bytes(b"the program")
        await server.links.fetch_blob(digest, [client.id], LIMIT)


async def test_next_source_is_asked_when_one_has_it_not_or_is_gone(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, here), (empty, _), (other, there) = await librarians(mesh, tmp_path, 3)
        digest = there.put_bytes(b"rare")
        await one.links.fetch_blob(digest, [Identity.generate().node_id, empty.id, other.id], LIMIT)
        assert here.read(digest) == b"rare"


async def test_blob_that_nobody_has_names_each_reason(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, _), (other, _) = await librarians(mesh, tmp_path, 2)
        with pytest.raises(BlobFetchError, match="has it not"):
            await one.links.fetch_blob(bytes(32), [other.id], LIMIT)
        with pytest.raises(BlobFetchError, match="nobody"):
            await one.links.fetch_blob(bytes(32), [], LIMIT)


async def test_blob_over_the_callers_limit_is_not_taken(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, here), (other, there) = await librarians(mesh, tmp_path, 2)
        digest = there.put_bytes(bytes(1001))
        with pytest.raises(BlobFetchError, match="at most 1000"):
            await one.links.fetch_blob(digest, [other.id], 1000)
        assert not here.has(digest) and here.usage().reserved_bytes == 0


def serve_instead(node: Villager, answer: bytes, *, then_wait: bool = False) -> None:
    """The node answers every blob request with these bytes."""

    async def lie(stream: INetStream) -> None:
        await stream.read(1)
        await stream.write(answer)
        if then_wait:
            await trio.sleep_forever()

    node.links._host.set_stream_handler(BLOB_PROTOCOL, lie)


async def test_liar_is_named_and_the_truth_comes_from_the_next(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, here), (liar, _), (other, there) = await librarians(mesh, tmp_path, 3)
        digest = there.put_bytes(b"truth")
        serve_instead(liar, bytes([FOUND]) + (5).to_bytes(8, "big") + b"false")
        caught: list[tuple[bytes, bytes]] = []
        assert one.links._transfers is not None
        one.links._transfers.on_liar = lambda peer, blob: caught.append((peer, blob))
        await one.links.fetch_blob(digest, [liar.id, other.id], LIMIT)
        assert here.read(digest) == b"truth"
        assert caught == [(liar.id, digest)]


async def test_transfer_goes_on_at_the_next_source_where_it_broke_off(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, here), (flaky, _), (other, there) = await librarians(mesh, tmp_path, 3)
        blob = os.urandom(3 << 20)
        digest = there.put_bytes(blob)
        serve_instead(flaky, bytes([FOUND]) + len(blob).to_bytes(8, "big") + blob[: 2 << 20])
        await one.links.fetch_blob(digest, [flaky.id, other.id], LIMIT)
        assert here.read(digest) == blob
        (link,) = [link for link in one.links.peers() if link.peer == other.id]
        received = one.links._connections[one.links._links[other.id]].muxed_conn.received_bytes  # type: ignore[attr-defined]
        assert received < 2 << 20, "the second source sent what was here already"
        assert link.peer == other.id


@pytest.mark.parametrize("answer", [b"", bytes([BUSY]), b"\x09", bytes([FOUND]), bytes([FOUND]) + b"\xff" * 8])
async def test_source_with_a_bad_answer_is_passed_over(tmp_path: Path, answer: bytes) -> None:
    async with village() as mesh:
        (one, here), (bad, _), (other, there) = await librarians(mesh, tmp_path, 3)
        digest = there.put_bytes(b"good")
        serve_instead(bad, answer)
        await one.links.fetch_blob(digest, [bad.id, other.id], LIMIT)
        assert here.read(digest) == b"good"


async def test_only_source_may_be_asked_for_more_than_it_serves_at_once(tmp_path: Path) -> None:
    """As a replica does that takes several jobs of one client: each was refused for good from the fifth blob on."""
    async with village() as mesh:
        (one, here), (other, there) = await librarians(mesh, tmp_path, 2)
        assert FETCHES_AT_ONCE > SERVES_A_PEER
        digests = [there.put_bytes(os.urandom(2 << 20)) for _ in range(FETCHES_AT_ONCE)]
        async with trio.open_nursery() as nursery:
            for digest in digests:
                nursery.start_soon(one.links.fetch_blob, digest, [other.id], LIMIT)
        assert all(map(here.has, digests))


async def test_many_waiters_for_one_blob_make_one_transfer(tmp_path: Path) -> None:
    async with village() as mesh:
        (one, here), (other, there) = await librarians(mesh, tmp_path, 2)
        blob = os.urandom(1 << 20)
        digest = there.put_bytes(blob)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one.links.fetch_blob, digest, [other.id], LIMIT)
        assert here.read(digest) == blob
        received = one.links._connections[one.links._links[other.id]].muxed_conn.received_bytes  # type: ignore[attr-defined]
        assert received < 2 * len(blob)


@pytest.mark.parametrize("request_bytes", [b"\xff" * 100, b"\x00\x00\x00\x01\xc1", b"\x00\x00\x01\x01" + bytes(257)])
async def test_malformed_request_is_answered_and_costs_nothing(tmp_path: Path, request_bytes: bytes) -> None:
    async with village() as mesh:
        (one, _), (other, there) = await librarians(mesh, tmp_path, 2)
        stream = await one.links.open_peer_stream(other.id, BLOB_PROTOCOL)
        await stream.write(request_bytes)
        assert await stream.read(1) == b"\x03"
        digest = there.put_bytes(b"fine")
        await one.links.fetch_blob(digest, [other.id], LIMIT)
        assert hashlib.sha256(b"fine").digest() == digest
