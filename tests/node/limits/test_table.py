"""Every limit of the table is run into: its counter goes up, and its event is logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.driver import Driver
from hearthmesh.node.intake import Intake, IntakeLimits
from hearthmesh.node.limits import LimitMeter
from hearthmesh.node.transport import blobs as blob_module
from hearthmesh.node.transport import forwarding
from hearthmesh.node.transport.frames import (
    DATA,
    INITIAL_WINDOW_BYTES,
    SYN,
    WINDOW_UPDATE,
    BufferBudget,
    MuxerLimits,
    header,
)
from hearthmesh.node.transport.host import HostConfig
from hearthmesh.node.transport.link import LinkLimits
from hearthmesh.node.transport.relay import RelayLimits, RelayService
from hearthmesh.node.transport.streams import peer_id_of
from hearthmesh.protocol.aggregates import DIGESTS_BURST
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.codec import encode_message
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Effect
from hearthmesh.protocol.events import BlobsFetched, Received
from hearthmesh.protocol.limits import BOUNDS, Limit
from hearthmesh.protocol.messages import (
    Accused,
    Announce,
    CellDigest,
    Delivery,
    FindNodes,
    Granted,
    HeldJob,
    HeldRange,
    Message,
    Ping,
    Records,
    Renew,
    Steal,
    Submit,
    Subscribe,
    TableRows,
    TableSync,
)
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    BatchHeader,
    Grant,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from hearthmesh.protocol.room import REPEATS_MAX
from hearthmesh.protocol.seeking import ANSWERS_BURST
from hearthmesh.protocol.subscriptions import SUBSCRIPTIONS_BURST
from hearthmesh.protocol.tables import SYNCS_BURST
from tests.docs_diagrams import DOCS
from tests.node.test_driver import SlowStore, Wire
from tests.node.transport.hosts import LOOPBACK, raw_peer, running_host, until
from tests.node.transport.village import eventually, linked, village
from tests.protocol.cluster import SECOND, Cluster, SimNode
from tests.protocol.pages import with_limits
from tests.protocol.test_verification import accusation

PEER = b"p" * 32
Hit = Callable[[LimitMeter, pytest.MonkeyPatch, Path], Awaitable[None]]
HITS: dict[Limit, Hit] = {}


def hits(limit: Limit) -> Callable[[Hit], Hit]:
    def add(hit: Hit) -> Hit:
        assert limit not in HITS
        HITS[limit] = hit
        return hit

    return add


@pytest.mark.parametrize("limit", list(Limit), ids=str)
async def test_limit_has_a_row_a_counter_and_an_event(
    limit: Limit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert BOUNDS[limit].most and BOUNDS[limit].then
    meter = LimitMeter()
    with structlog.testing.capture_logs() as logged, trio.fail_after(100):
        await HITS[limit](meter, monkeypatch, tmp_path)
    assert meter.counts[limit] >= 1
    assert meter.shown()[str(limit)] == meter.counts[limit]
    assert [line for line in logged if line["event"] == f"limit.{limit}" and line["log_level"] == "warning"]


def test_a_flood_is_logged_once_a_second_and_counted_whole() -> None:
    now_s = 0.0
    meter = LimitMeter(lambda: now_s)
    with structlog.testing.capture_logs() as logged:
        for _ in range(1000):
            meter.hit(Limit.STREAMS, PEER)
        now_s = 1.0
        meter.hit(Limit.STREAMS, PEER)
    assert meter.counts[Limit.STREAMS] == 1001
    assert [line["hits"] for line in logged] == [1, 1000]


# -- connections -------------------------------------------------------------------------------------------


async def dialled(meter: LimitMeter, limit: Limit, times: int, **bounds: int) -> None:
    """One peer, or a stranger without a handshake, dials a host so often."""
    async with running_host(HostConfig(listen=LOOPBACK, on_limit=meter.hit, **bounds)) as host:  # type: ignore[arg-type]
        port = int(str(host.addresses()[0]).split("/tcp/")[1].split("/")[0])
        strangers = []
        try:
            if limit is Limit.PEER_CONNECTIONS:
                async with running_host() as peer:
                    for _ in range(times):
                        await peer.swarm.dial_once(host.addresses()[0], host.peer_id)
                    await until(lambda: meter.counts[limit])
            else:
                for _ in range(times):
                    strangers.append(await trio.open_tcp_stream("127.0.0.1", port))
                await until(lambda: meter.counts[limit])
        finally:
            for stranger in strangers:
                await stranger.aclose()


@hits(Limit.CONNECTIONS)
async def connections(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    async with (
        running_host(HostConfig(listen=LOOPBACK, on_limit=meter.hit, max_inbound_connections=1)) as host,
        running_host() as first,
    ):
        await first.swarm.dial_once(host.addresses()[0], host.peer_id)
        await until(lambda: host.swarm.inbound_count == 1)
        port = int(str(host.addresses()[0]).split("/tcp/")[1].split("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port):
            await until(lambda: meter.counts[Limit.CONNECTIONS])


@hits(Limit.SOURCE_CONNECTIONS)
async def source_connections(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await dialled(meter, Limit.SOURCE_CONNECTIONS, 3, max_connections_per_source=2)


@hits(Limit.PEER_CONNECTIONS)
async def peer_connections(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await dialled(meter, Limit.PEER_CONNECTIONS, 3, max_connections_per_peer=2)


@hits(Limit.HANDSHAKES)
async def handshakes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await dialled(meter, Limit.HANDSHAKES, 3, max_handshakes=2)


@hits(Limit.LINKS)
async def links(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    async with village() as mesh:
        host = await mesh.settle(max_links=1, meter=meter)
        first, second = await mesh.settle(), await mesh.settle()
        for guest in (first, second):
            guest.knows(host)
        await linked(first, host)
        second.links.connect(host.id)
        await second.seen.until(lambda: second.seen.rejected)


# -- streams and bytes -------------------------------------------------------------------------------------


def opened(stream_id: int) -> bytes:
    return header(WINDOW_UPDATE, SYN, stream_id, 0)


async def muxed(meter: LimitMeter, limit: Limit, pieces: list[bytes], **bounds: int) -> None:
    async with raw_peer(MuxerLimits(**bounds), BufferBudget(1 << 30, meter.hit)) as peer:
        await peer.send(*pieces)
        await until(lambda: meter.counts[limit])


@hits(Limit.STREAMS)
async def streams(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await muxed(meter, Limit.STREAMS, [opened(1), opened(3)], max_inbound_streams=1)


@hits(Limit.STREAM_RATE)
async def stream_rate(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await muxed(meter, Limit.STREAM_RATE, [opened(1), opened(3)], max_opened_streams=1)


@hits(Limit.WINDOW)
async def window(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    size = INITIAL_WINDOW_BYTES + 1
    await muxed(meter, Limit.WINDOW, [opened(1), header(DATA, 0, 1, size) + bytes(size)])


@hits(Limit.UNREAD_BYTES)
async def unread_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await muxed(meter, Limit.UNREAD_BYTES, [opened(1), header(DATA, 0, 1, 999) + bytes(999)], max_buffered_bytes=500)


@hits(Limit.MUXER_FRAMES)
async def muxer_frames(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await muxed(meter, Limit.MUXER_FRAMES, [opened(1)] * 2)


@hits(Limit.FRAME_BYTES)
async def frame_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    async with village() as mesh:
        one, other = await mesh.settle(), await mesh.settle(limits=LinkLimits(max_frame_bytes=100), meter=meter)
        one.knows(other)
        await linked(one, other)
        one.links.send(other.id, [bytes(200)])
        await eventually(lambda: meter.counts[Limit.FRAME_BYTES])


@hits(Limit.SEND_QUEUE)
async def send_queue(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    async with village() as mesh:
        one, other = await mesh.settle(limits=LinkLimits(queue_bytes=100), meter=meter), await mesh.settle()
        one.knows(other)
        await linked(one, other)
        one.links.send(other.id, [bytes(200)])


# -- messages ----------------------------------------------------------------------------------------------


def driver_of(meter: LimitMeter, node: SimNode, **rates: Any) -> Driver:
    """Not running: what comes in waits."""
    driver = Driver(node.mesh, SlowStore(), meter=meter, intake=IntakeLimits(**rates))
    driver.attach(Wire(SlowStore()), None, None)
    return driver


@hits(Limit.PEER_MESSAGES)
async def peer_messages(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    driver = driver_of(meter, Cluster().add("n"))
    driver.on_messages(PEER, [encode_message(Ping(1))] * 64)
    assert not driver.has_room(PEER) and driver.has_room(b"q" * 32)


async def charged(meter: LimitMeter, size_bytes: int, signatures: int, source: str, **rates: int) -> None:
    intake = Intake(IntakeLimits(**rates), meter, lambda _: source)
    intake.charge(PEER, size_bytes, signatures, 0)
    wait_us = intake.overdrawn_us(PEER, 0)
    assert wait_us > 0 and intake.overdrawn_us(PEER, wait_us) == 0


@hits(Limit.PEER_BYTES)
async def peer_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await charged(meter, 101, 0, "", bytes_burst=100)


@hits(Limit.PEER_SIGNATURES)
async def peer_signatures(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await charged(meter, 1, 11, "", signatures_burst=10)


@hits(Limit.SOURCE_BYTES)
async def source_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await charged(meter, 401, 0, "192.0.2.1", bytes_burst=100)


@hits(Limit.SOURCE_SIGNATURES)
async def source_signatures(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    await charged(meter, 1, 41, "192.0.2.1", signatures_burst=10)


@hits(Limit.PENALTIES)
async def penalties(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    driver_of(meter, Cluster().add("n")).on_messages(PEER, [b"junk"] * 20)


# -- gossip ------------------------------------------------------------------------------------------------


@hits(Limit.GOSSIP_SOURCE)
async def gossip_source(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    driver = driver_of(meter, Cluster().add("n"), gossip_burst=2)
    for _ in range(3):
        driver.on_gossip(PEER, encode_message(Announce(())))


@hits(Limit.GOSSIP_FORWARDER)
async def gossip_forwarder(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(forwarding, "FORWARDS_BURST", 1)
    patch.setattr(forwarding, "FORWARDS_A_SECOND", 1)
    async with village() as mesh:
        one, other = await mesh.settle(), await mesh.settle(meter=meter)
        one.knows(other)
        await linked(one, other)
        await eventually(lambda: other.id in one.links._gossip.peers)
        for number in range(4):
            one.links.publish(bytes([number]))
        await eventually(lambda: meter.counts[Limit.GOSSIP_FORWARDER])


@hits(Limit.GOSSIP_STRANGERS)
async def gossip_strangers(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A chain: the last node does not know the first, and hears of it by the second."""
    for name in ("STRANGERS_BURST", "STRANGERS_A_SECOND", "STRANGERS_EACH_BURST", "STRANGERS_EACH_A_SECOND"):
        patch.setattr(forwarding, name, 1)
    async with village() as mesh:
        first, second, last = await mesh.settle(), await mesh.settle(), await mesh.settle(meter=meter)
        first.knows(second)
        second.knows(last)
        await linked(first, second)
        await linked(second, last)
        await eventually(lambda: len(list(second.links._gossip.peers)) == 2)
        await eventually(lambda: second.id in first.links._gossip.peers)
        for number in range(10):
            first.links.publish(b"%d" % number)
        await eventually(lambda: meter.counts[Limit.GOSSIP_STRANGERS])
        second.links.publish(b"known")
        await last.seen.until(lambda: (second.id, b"known") in last.seen.gossip)


@hits(Limit.GOSSIP_BYTES)
async def gossip_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    async with village() as mesh:
        node = await mesh.settle(meter=meter)
        message = rpc_pb2.Message(data=bytes(64 * 1024 + 1), topicIDs=[node.links._gossip.topic])
        assert not node.links._gossip._is_valid(peer_id_of(Identity.generate().node_id), message)


# -- services ----------------------------------------------------------------------------------------------


async def refused_blob(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(blob_module, "BUSY_S", 0.0)
    async with village() as mesh:
        server = await mesh.settle(store=folder / "server", meter=meter)
        asker = await mesh.settle(store=folder / "asker")
        asker.knows(server)
        await linked(asker, server)
        with pytest.raises(blob_module.BlobFetchError):
            await asker.links.fetch_blob(bytes(32), [server.id], 1000)


@hits(Limit.BLOBS_SERVED)
async def blobs_served(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(blob_module, "SERVES_AT_ONCE", 0)
    await refused_blob(meter, patch, folder)


@hits(Limit.PEER_BLOBS)
async def peer_blobs(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(blob_module, "SERVES_A_PEER", 0)
    await refused_blob(meter, patch, folder)


class Sink:
    """A stream that takes an answer."""

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


class Everybody:
    def is_linked(self, peer: bytes) -> bool:
        return True


@hits(Limit.RELAY_RESERVATIONS)
async def relay_reservations(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    relay = RelayService(Everybody(), RelayLimits(reservations=0), meter.hit)  # type: ignore[arg-type]
    await relay._reserve(Sink(), PEER)  # type: ignore[arg-type]


@hits(Limit.RELAY_CIRCUITS)
async def relay_circuits(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    relay = RelayService(Everybody(), RelayLimits(circuits=0), meter.hit)  # type: ignore[arg-type]
    target = Identity.from_seed(b"t" * 32).node_id
    await relay._reserve(Sink(), target)  # type: ignore[arg-type]
    request = HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer_id_of(target).to_bytes()))
    await relay._connect(Sink(), PEER, request)  # type: ignore[arg-type]


# -- the protocol ------------------------------------------------------------------------------------------


class Scene:
    """A keeper, a client and others, whose machine's effects a driver performs."""

    def __init__(self, meter: LimitMeter, **config: int) -> None:
        self.cluster = Cluster(config=replace(LOCAL, **config))
        self.keeper = self.cluster.add("keeper")
        self.client, self.member = self.cluster.client(), self.cluster.add("member")
        self.cluster.run(SECOND)
        self._driver = driver_of(meter, self.keeper)
        self._driver._perform_outside = self._outside  # type: ignore[method-assign]

    def _outside(self, effect: Effect) -> None:
        if type(effect).__name__ in ("Limited", "Penalise"):
            Driver._perform_outside(self._driver, effect)

    def tell(self, peer: SimNode, *messages: Message) -> None:
        for message in messages:
            self._driver._perform(self.keeper.mesh.handle(Received(peer.id, message), self.cluster.now_us))

    def submit(self, nonce: bytes = b"", tasks: int = 4, **changes: Any) -> Submit:
        spec = self.cluster.signed_spec(self.client, tasks, nonce=nonce, **changes)
        replicas = ReplicaSet(spec.id, 0, (self.keeper.id,))
        return Submit(1, spec.raw, sign_record(self.client.identity, RecordKind.REPLICA_SET, replicas).raw)

    def keep(self, nonce: bytes = b"", **changes: Any) -> bytes:
        self.tell(self.client, self.submit(nonce, **changes))
        (job_id,) = self.keeper.mesh.replica._pending
        self.keeper.mesh.handle(BlobsFetched(job_id), self.cluster.now_us)
        return job_id

    def records(self, kind: RecordKind, *bodies: Any) -> tuple[bytes, ...]:
        return tuple(sign_record(self.member.identity, kind, body).raw for body in bodies)


@hits(Limit.JOBS)
async def jobs(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, jobs_max=1)
    scene.keep(b"1")
    scene.tell(scene.client, scene.submit(b"2"))


@hits(Limit.TASKS_A_JOB)
async def tasks_a_job(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, tasks_per_job_max=3)
    scene.tell(scene.client, scene.submit())


@hits(Limit.SPEC_BYTES)
async def spec_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, spec_bytes_max=100)
    scene.tell(scene.client, scene.submit())


@hits(Limit.QUOTA)
async def quota(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, submitter_tasks_max=3)
    scene.tell(scene.client, scene.submit())


@hits(Limit.HELD_QUOTA)
async def held_quota(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, submitter_tasks_max=3)
    spec = scene.cluster.signed_spec(scene.client, 9)
    replicas = ReplicaSet(spec.id, 0, (scene.member.id,))
    grant = Grant(spec.id, 0, 9, 1, scene.keeper.id, SECOND)
    context = (spec.raw, sign_record(scene.client.identity, RecordKind.REPLICA_SET, replicas).raw)
    scene.tell(scene.member, Granted(0, scene.records(RecordKind.GRANT, grant), context))


@hits(Limit.SUBMISSIONS)
async def submissions(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    patch.setattr("hearthmesh.protocol.replica.PENDING_MAX", 1)
    scene.tell(scene.client, scene.submit(b"1"), scene.submit(b"2"))


@hits(Limit.RECORDS_A_JOB)
async def records_a_job(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, records_per_job_max=0)
    job_id, parts = scene.keep(), (AcceptedBatch(bytes(32), 0, 1),)
    scene.tell(scene.member, Records(job_id, scene.records(RecordKind.ACCEPTANCE, Acceptance(job_id, parts))))


@hits(Limit.REPEATS)
async def repeats(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    job_id, certificate = scene.keep(), scene.member.mesh.ctx.certificate
    for epoch in range(REPEATS_MAX + 1):
        batch = Batch(0, epoch, (0,), (b"",), (0,), (0,), {}, {})
        body = BatchHeader(job_id, 0, 1, epoch, batch.root(), 0, 0, 0, 0, 0, False, certificate)
        (raw,) = scene.records(RecordKind.BATCH, body)
        scene.tell(scene.member, Delivery(raw, encode_columns(batch)))


@hits(Limit.BATCHES_FETCHING)
async def batches_fetching(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    job_id, one = scene.keep(), (0,)
    patch.setattr("hearthmesh.protocol.result_keeping.FETCHING_MAX", 0)
    batch = Batch(0, 1, one, (b"",), one, one, {0: (b"o" * 32, 1 << 20)}, {})
    certificate = scene.member.mesh.ctx.certificate
    body = BatchHeader(job_id, 0, 1, 1, batch.root(), 0, 0, 0, 0, 0, False, certificate)
    (raw,) = scene.records(RecordKind.BATCH, body)
    scene.tell(scene.member, Delivery(raw, encode_columns(batch)))


@hits(Limit.FOLLOWERS)
async def followers(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, subscribers_max=0)
    scene.tell(scene.member, Subscribe(scene.keep(), (), False, 1))


@hits(Limit.SUBSCRIPTIONS)
async def subscriptions(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.member, *[Subscribe(scene.keep(), (), True, 1)] * (SUBSCRIPTIONS_BURST + 1))


@hits(Limit.RENEWALS)
async def renewals(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    patch.setattr("hearthmesh.protocol.granter.RENEWAL_STEPS_MAX", 0)
    scene.tell(scene.member, Renew((HeldJob(scene.keep(), (HeldRange(0, 4, 1),)),)))


@hits(Limit.LIFELINES)
async def lifelines(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, lifelines_held_max=0)
    scene.tell(scene.member, Steal(1, 1, 1, 1, 1, (), True))


@hits(Limit.TABLE_SYNCS)
async def table_syncs(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.member, *[TableSync(number, 0, 0, (), ()) for number in range(SYNCS_BURST + 1)])


@hits(Limit.TABLE_ROWS)
async def table_rows(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter, table_entries_max=10)
    scene.tell(scene.member, *[TableRows(0, False, (b"x",) * 12, (), (), ())] * 2)


@hits(Limit.ROW_BYTES)
async def row_bytes(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.member, TableRows(0, False, (bytes(10_000),), (), (), ()))


@hits(Limit.LOOKUPS)
async def lookups(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.member, *[FindNodes(number, bytes(8)) for number in range(ANSWERS_BURST + 1)])


@hits(Limit.CELL_DIGESTS)
async def cell_digests(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.member, *[CellDigest(0, 0, 1, 0, 0, 0, 0, ())] * (DIGESTS_BURST + 1))


@hits(Limit.ACCUSATIONS)
async def accusations(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr("hearthmesh.protocol.verification.court.WAITING_MAX", 0)
    scene = Scene(meter)
    liar = scene.cluster.add("liar")
    raw = accusation(scene.cluster, scene.member, named=liar, other=scene.member, lie_of=liar)
    scene.tell(scene.member, Accused(raw))


@hits(Limit.ROLE)
async def role(meter: LimitMeter, patch: pytest.MonkeyPatch, folder: Path) -> None:
    scene = Scene(meter)
    scene.tell(scene.client, Steal(1, 1, 1, 1, 1, (), False))


def test_every_limit_is_run_into() -> None:
    assert set(HITS) == set(Limit) == set(BOUNDS)


def test_the_page_has_every_limit_as_it_is() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    assert page == with_limits(page) and f"`{Limit.QUOTA}`" in page, "python -m tests.protocol.pages"
