"""The driver's one promise: what a message rests on is on disk before the message leaves."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hearthmesh.crypto.certificates import MembershipPolicy, MeshDefinition, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.driver import MESSAGES_A_PEER_MAX, Driver
from hearthmesh.node.fair_queue import QUANTUM
from hearthmesh.node.intake import IntakeLimits
from hearthmesh.node.pipeline import LINGER_S
from hearthmesh.node.ports import monotonic_us
from hearthmesh.node.storage.errors import StorageError, StorageFull
from hearthmesh.node.storage.records import Put, Write
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import CancelTimer, Effect, SetTimer
from hearthmesh.protocol.events import BlobsFetched, Event, PeerConnected, Received
from hearthmesh.protocol.limits import Limit
from hearthmesh.protocol.mesh import Mesh
from hearthmesh.protocol.messages import (
    Ack,
    Announce,
    Delivery,
    Message,
    Ping,
    Records,
    Rejected,
    Stored,
    Submit,
    Submitted,
)
from hearthmesh.protocol.presence import NodeProfile
from hearthmesh.protocol.records import Cancellation, JobSpec, RecordKind, ReplicaSet, sign_record

CLIENT = Identity.from_seed(b"c" * 32)
NODE = Identity.from_seed(b"n" * 32)
AUTHORITY = Identity.from_seed(b"a" * 32)
MESH = MeshDefinition("driver", (AUTHORITY.node_id,))


class SlowStore:
    """A disk whose commits end when the test says so, or fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, int, bytes], bytes] = {}
        self.full = False
        self.commits = 0
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        """From here on commits do not end."""
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for commit in held:
            commit()

    def submit(self, writes: Sequence[Write], done: Callable[[StorageError | None], None]) -> None:
        def commit() -> None:
            if self.full:
                done(StorageFull(Path("journal.db"), 1, 0))
                return
            self.commits += 1
            for write in writes:
                if isinstance(write, Put):
                    self.rows[write.record.job_id, write.record.kind, write.record.key] = write.record.body
            done(None)

        if self._held is None:
            commit()
        else:
            self._held.append(commit)

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        return self.rows.get((job_id, kind, key))


class Wire:
    """Records what left, and what was on disk at that moment."""

    def __init__(self, store: SlowStore) -> None:
        self.store = store
        self.sent: list[tuple[Message, frozenset[tuple[bytes, int, bytes]]]] = []
        self.closed: list[str] = []
        self.writes = 0

    def send(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        self.sent.extend((decode_message(payload), frozenset(self.store.rows)) for payload in payloads)
        self.writes += 1

    def close(self, peer: bytes, reason: str) -> None:
        self.closed.append(reason)

    def publish(self, payload: bytes) -> None: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def recheck(self) -> None: ...

    def source_of(self, peer: bytes) -> str:
        return "192.0.2.1"

    def note_fault(self, peer: bytes) -> None: ...

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message, _ in self.sent if isinstance(message, kind)]


class FullBlobs:
    """A blob store that has no room, until it has."""

    room = False

    def hold(self, digests: Any, pin: bytes) -> bool:
        return False

    async def fetch(self, digests: Any, sources: Any, pin: bytes, sizes: Any = ()) -> None:
        if not self.room:
            raise StorageFull(Path("blobs"), 1, 0)

    def unpin(self, owner: bytes) -> None: ...

    def has_room(self) -> bool:
        return self.room


class NoBlobs:
    def has_room(self) -> bool:
        return True

    def hold(self, digests: Any, pin: bytes) -> bool:
        return True

    async def fetch(self, digests: Any, sources: Any, pin: bytes, sizes: Any = ()) -> None: ...

    def unpin(self, owner: bytes) -> None: ...


def make(kind: type[Mesh] = Mesh) -> tuple[Driver, SlowStore, Wire]:
    certificate = issue(AUTHORITY, MESH, NODE.node_id, Role.REPLICA, 0, 1 << 33, "node")
    mesh = kind(
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


OTHER = Identity.from_seed(b"o" * 32)


def submission(nonce: bytes) -> Submit:
    certificate = issue(AUTHORITY, MESH, CLIENT.node_id, Role.SUBMITTER, 0, 1 << 33, "client", bytes(16)).to_bytes()
    body = JobSpec(1, MESH.mesh_id, nonce, "j", "wasm", "function", bytes(32), 1, "", "hearth_task", (), 5)
    spec = sign_record(CLIENT, RecordKind.SPEC, replace(body, certificate=certificate))
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


async def test_acknowledgement_waits_for_the_disk_and_a_sign_of_life_does_not(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    store.hold()
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    assert driver.mesh.replica.jobs
    driver.feed(Received(CLIENT.node_id, Ping(7)))
    assert wire.of(Submitted) == [] and wire.of(Ack)
    store.release()
    message, on_disk = next((m, rows) for m, rows in wire.sent if isinstance(m, Submitted))
    assert (message.job_id, int(RecordKind.SPEC), message.job_id) in on_disk


async def test_many_events_share_a_commit(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    store.hold()
    for number in range(20):
        driver.feed(Received(CLIENT.node_id, submission(bytes([number]))))
    before = store.commits
    store.release()
    assert len(wire.of(Submitted)) == 20
    assert store.commits - before == 2


async def test_messages_that_come_together_are_answered_in_one_write(nursery: trio.Nursery) -> None:
    driver, _, wire = make()
    await started(nursery, driver)
    before = wire.writes
    driver.on_messages(CLIENT.node_id, [encode_message(Ping(number + 1)) for number in range(10)])
    assert len(wire.of(Ack)) == 10 and wire.writes == before + 1


async def test_what_nobody_waits_for_is_on_disk_a_little_later(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    message = submission(b"1")
    driver.feed(Received(CLIENT.node_id, message))
    job_id = wire.of(Submitted)[0].job_id
    cancellation = sign_record(CLIENT, RecordKind.CANCELLATION, Cancellation(job_id))
    driver.feed(Received(CLIENT.node_id, Records(job_id, (cancellation.raw,))))
    key = (job_id, int(RecordKind.CANCELLATION), cancellation.id)
    assert driver.mesh.replica.jobs[job_id].state.cancellation is not None and key not in store.rows
    await trio.sleep(2 * LINGER_S)
    assert key in store.rows


async def test_settled_waits_for_no_lingering(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    await started(nursery, driver)
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    job_id = wire.of(Submitted)[0].job_id
    cancellation = sign_record(CLIENT, RecordKind.CANCELLATION, Cancellation(job_id))
    driver.feed(Received(CLIENT.node_id, Records(job_id, (cancellation.raw,))))
    await driver.settled()
    assert (job_id, int(RecordKind.CANCELLATION), cancellation.id) in store.rows


async def test_a_fault_of_ours_ends_the_driver_and_not_who_brought_the_event(nursery: trio.Nursery) -> None:
    driver, _, _ = make()
    with pytest.raises(BaseExceptionGroup) as raised:
        async with trio.open_nursery() as inner:
            await started(inner, driver)
            driver.feed(object())  # type: ignore[arg-type]
            returned = True
            await trio.sleep_forever()
    assert returned and raised.group_contains(AssertionError, match="no handler")


async def test_a_timer_that_an_event_sets_fires_in_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Though the driver's own task went to sleep for a later one before."""
    driver, _, wire = make()
    await started(nursery, driver)
    await trio.testing.wait_all_tasks_blocked()
    driver._sleep.deadline = math.inf
    driver._sleeps_until_us = 1 << 62
    driver.feed(Received(CLIENT.node_id, Ping(1)))
    assert driver._sleep.deadline < math.inf


class Told(Mesh):
    """Has the effects that a test wants of a ping, and no timers of its own."""

    wanted: tuple[Effect, ...] = ()

    def handle(self, event: Event, now_us: int) -> list[Effect]:
        if isinstance(event, Received) and isinstance(event.message, Ping):
            return list(self.wanted)
        return [effect for effect in super().handle(event, now_us) if not isinstance(effect, SetTimer)]


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.none() | st.integers(min_value=60, max_value=3_000)),
            min_size=1,
            max_size=3,
        ),
        max_size=6,
    )
)
def test_the_driver_sleeps_until_the_earliest_timer_whatever_was_cancelled(
    turns: list[list[tuple[str, int | None]]],
) -> None:
    """In each turn some timers are set, by seconds from now, or cancelled (None)."""

    async def play() -> None:
        driver, _, _ = make(Told)
        assert isinstance(driver.mesh, Told)
        due_us: dict[str, int] = {}
        async with trio.open_nursery() as nursery:
            await started(nursery, driver)
            for turn in turns:
                # Sometimes the driver's own task has looked since, sometimes it has not.
                effects: list[Effect] = []
                for name, in_s in turn:
                    if in_s is None:
                        due_us.pop(name, None)
                        effects.append(CancelTimer((name, b"")))
                    else:
                        due_us[name] = monotonic_us() + in_s * 1_000_000
                        effects.append(SetTimer((name, b""), due_us[name]))
                driver.mesh.wanted = tuple(effects)
                driver.feed(Received(CLIENT.node_id, Ping(1)))
                if due_us:
                    wait_s = (min(due_us.values()) - monotonic_us()) / 1e6
                    assert driver._sleep.deadline <= trio.current_time() + wait_s + 1
                if len(due_us) == 2:
                    driver._wake.set()
                    await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(play)


async def test_a_banned_peer_is_not_even_decoded(nursery: trio.Nursery) -> None:
    driver, _, wire = make()
    await started(nursery, driver)
    driver.on_messages(CLIENT.node_id, [b"\xff"] * 1000)
    assert len(wire.closed) == 1
    driver.on_messages(CLIENT.node_id, [encode_message(Ping(1))])
    assert wire.of(Ack) == []


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
    assert wire.of(Submitted) == [] and wire.of(Ack)
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
        driver.on_messages(CLIENT.node_id, [payload])
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
        driver.on_messages(CLIENT.node_id, [encode_message(Ping(number + 1))])
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


async def test_a_node_whose_blobs_have_no_room_takes_nothing_until_they_have(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    driver, _, wire = make()
    blobs = FullBlobs()
    driver.attach(wire, blobs, None)
    await started(nursery, driver)
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    await trio.testing.wait_all_tasks_blocked()
    assert "no room" in driver.mesh.replica.storage_failed and "no room" in driver.mesh.worker.storage_failed
    assert [message.reason for message in wire.of(Rejected)] and wire.of(Submitted) == []
    await trio.sleep(10)
    assert driver.mesh.worker.storage_failed
    blobs.room = True
    await trio.sleep(2)
    assert not driver.mesh.worker.storage_failed
    driver.feed(Received(CLIENT.node_id, submission(b"1")))
    await trio.testing.wait_all_tasks_blocked()
    assert wire.of(Submitted)


async def test_a_ping_waits_for_one_turn_of_a_peer_that_floods(nursery: trio.Nursery) -> None:
    driver, _, _ = make()
    driver.on_messages(CLIENT.node_id, [encode_message(Ping(number)) for number in range(MESSAGES_A_PEER_MAX)])
    driver.on_messages(OTHER.node_id, [encode_message(Ping(1))])
    handled: list[bytes] = []
    tell = driver._tell

    def note(event: Any, now_us: int) -> None:
        if isinstance(event, Received):
            handled.append(event.peer)
        tell(event, now_us)

    driver._tell = note  # type: ignore[method-assign]
    await started(nursery, driver)
    await until(lambda: len(handled) == MESSAGES_A_PEER_MAX + 1)
    assert handled.index(OTHER.node_id) <= QUANTUM


async def test_a_peer_over_its_budget_is_read_from_again_once_it_has_some(nursery: trio.Nursery) -> None:
    driver, store, wire = make()
    driver = Driver(driver.mesh, store, intake=IntakeLimits(signatures_burst=5, signatures_a_second=1_000))
    driver.attach(wire, NoBlobs(), None)
    await started(nursery, driver)
    driver.on_messages(CLIENT.node_id, [encode_message(Announce((b"x",) * 8))])
    assert not driver.has_room(CLIENT.node_id) and driver.has_room(OTHER.node_id)
    assert driver.meter.counts[Limit.PEER_SIGNATURES] == 1
    await driver.room(CLIENT.node_id)
    assert driver.has_room(CLIENT.node_id)
