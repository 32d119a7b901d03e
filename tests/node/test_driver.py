"""The driver's one promise: what a message rests on is on disk before the message leaves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from hearthmesh.crypto.certificates import MembershipPolicy, MeshDefinition, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.driver import MESSAGES_A_PEER_MAX, Driver
from hearthmesh.node.storage.errors import StorageFull
from hearthmesh.node.storage.records import Put, Write
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import BlobsFetched, PeerConnected, Received
from hearthmesh.protocol.mesh import Mesh, NodeProfile
from hearthmesh.protocol.messages import Ack, Announce, Delivery, Message, Ping, Stored, Submit, Submitted
from hearthmesh.protocol.records import JobSpec, RecordKind, ReplicaSet, sign_record

CLIENT = Identity.from_seed(b"c" * 32)
NODE = Identity.from_seed(b"n" * 32)
AUTHORITY = Identity.from_seed(b"a" * 32)
MESH = MeshDefinition("driver", (AUTHORITY.node_id,))


class SlowStore:
    """A disk whose commits end when the test says so, or fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, int, bytes], bytes] = {}
        self.gate = trio.Event()
        self.gate.set()
        self.full = False
        self.commits = 0

    async def commit(self, writes: Sequence[Write], *, durable: bool) -> None:
        assert durable
        await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.full:
            raise StorageFull(Path("journal.db"), 1, 0)
        self.commits += 1
        for write in writes:
            if isinstance(write, Put):
                self.rows[write.record.job_id, write.record.kind, write.record.key] = write.record.body

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        return self.rows.get((job_id, kind, key))


class Wire:
    """Records what left, and what was on disk at that moment."""

    def __init__(self, store: SlowStore) -> None:
        self.store = store
        self.sent: list[tuple[Message, frozenset[tuple[bytes, int, bytes]]]] = []
        self.closed: list[str] = []

    def send(self, peer: bytes, payload: bytes) -> None:
        self.sent.append((decode_message(payload), frozenset(self.store.rows)))

    def close(self, peer: bytes, reason: str) -> None:
        self.closed.append(reason)

    def publish(self, payload: bytes) -> None: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def recheck(self) -> None: ...

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message, _ in self.sent if isinstance(message, kind)]


class NoBlobs:
    async def fetch(self, digests: Any, sources: Any, pin: bytes) -> None: ...

    def unpin(self, owner: bytes) -> None: ...


def make() -> tuple[Driver, SlowStore, Wire]:
    certificate = issue(AUTHORITY, MESH, NODE.node_id, Role.REPLICA, 0, 1 << 33, "node")
    mesh = Mesh(
        NODE,
        LOCAL,
        random.Random(1),
        policy=MembershipPolicy(MESH),
        certificate=certificate.to_bytes(),
        profile=NodeProfile("node", Role.REPLICA, "", False, 1, 1 << 30),
        incarnation=1,
        wall_offset_us=1_800_000_000_000_000,
    )
    store = SlowStore()
    wire = Wire(store)
    driver = Driver(mesh, store)
    driver.attach(wire, NoBlobs(), None)
    return driver, store, wire


def submission(nonce: bytes) -> Submit:
    spec = sign_record(
        CLIENT,
        RecordKind.SPEC,
        JobSpec(1, MESH.mesh_id, nonce, "j", "wasm", "function", bytes(32), 1, "", "hearth_task", (), 5),
    )
    replicas = sign_record(CLIENT, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (NODE.node_id,)))
    return Submit(1, spec.raw, replicas.raw)


async def until(condition: Any) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()
            await trio.sleep(0)


async def started(nursery: trio.Nursery, driver: Driver) -> None:
    await nursery.start(driver.run, ())
    driver.feed(PeerConnected(CLIENT.node_id, int(Role.SUBMITTER)))
    await driver.changed()


async def test_acknowledgement_waits_for_the_disk(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    store.gate = trio.Event()
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    await until(lambda: driver.mesh.replica.jobs)
    driver.feed(Received(CLIENT.node_id, Ping(7)))
    await driver.changed()
    assert wire.of(Submitted) == []
    store.gate.set()
    await until(lambda: wire.of(Submitted))
    message, on_disk = next((m, rows) for m, rows in wire.sent if isinstance(m, Submitted))
    assert (message.job_id, int(RecordKind.SPEC), message.job_id) in on_disk


async def test_many_events_share_a_commit(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    store.gate = trio.Event()
    for number in range(20):
        driver.feed(Received(CLIENT.node_id, submission(bytes([number]))))
    await until(lambda: len(driver.mesh.replica.jobs) == 20)
    before = store.commits
    store.gate.set()
    await until(lambda: len(wire.of(Submitted)) == 20)
    assert store.commits - before <= 3


async def test_a_full_disk_acknowledges_nothing_and_recovers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    store.full = True
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    await until(lambda: driver.mesh.replica.storage_failed)
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    driver.feed(Received(CLIENT.node_id, Ping(9)))
    await driver.changed()
    assert wire.of(Submitted) == []
    assert "room" in driver.mesh.replica.storage_failed or "full" in driver.mesh.replica.storage_failed
    store.full = False
    with trio.fail_after(60):
        while driver.mesh.replica.storage_failed:
            await trio.sleep(0.1)
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    with trio.fail_after(60):
        while not wire.of(Submitted):
            await trio.sleep(0.01)
    assert any(kind == int(RecordKind.SPEC) for _, kind, _ in store.rows)


async def test_garbage_is_counted_and_a_repeat_offender_cut_off(nursery: trio.Nursery) -> None:
    driver, _, wire = make()
    await started(nursery, driver)
    for payload in (b"", b"\xff", b"\x01\xc1", encode_message(Delivery(b"x", b"y")), bytes(100)) * 5:
        driver.on_message(CLIENT.node_id, payload)
    await until(lambda: wire.closed)
    assert "broke rules" in wire.closed[0]


async def test_blobs_that_nobody_waits_for_are_no_event_to_fear(nursery: trio.Nursery) -> None:
    driver, _, wire = make()
    await started(nursery, driver)
    driver.feed(BlobsFetched(b"nobody"))
    await driver.settled()
    assert wire.of(Stored) == []


def test_encoded_messages_are_what_the_wire_carries() -> None:
    assert decode_message(encode_message(Ping(3))) == Ping(3)
    with pytest.raises(ValueError):
        decode_message(b"\x02" + encode_message(Ping(3))[1:])


async def test_a_peer_that_floods_waits_for_its_messages_to_be_handled(nursery: trio.Nursery) -> None:
    driver, _, _ = make()
    for number in range(MESSAGES_A_PEER_MAX):
        driver.on_message(CLIENT.node_id, encode_message(Ping(number + 1)))
    with trio.move_on_after(0) as gave_up:
        await driver.room(CLIENT.node_id)
    assert gave_up.cancelled_caught
    with trio.fail_after(60):
        await driver.room(AUTHORITY.node_id)
        await started(nursery, driver)
        await driver.room(CLIENT.node_id)


async def test_gossip_carries_news_and_no_requests(nursery: trio.Nursery) -> None:
    driver, _, wire = make()
    await started(nursery, driver)
    driver.on_gossip(CLIENT.node_id, encode_message(Announce(())))
    driver.on_gossip(CLIENT.node_id, encode_message(Ping(1)))
    driver.on_gossip(CLIENT.node_id, encode_message(submission(b"1")))
    await driver.settled()
    assert wire.of(Ack) == wire.of(Submitted) == []
    assert not driver.mesh.replica.jobs
