"""A handful of `Mesh` machines in one thread with virtual time: the world that transcripts are told in.

The network delivers in order with a fixed delay, disks keep rows, executors take `task_us` a task and answer
with a function of the task's number. Nothing here knows the protocol.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from hearthmesh.crypto.certificates import NOT_VOUCHED, MembershipPolicy, MeshDefinition, Role, Vouched, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import LOCAL, ProtocolConfig
from hearthmesh.protocol.effects import (
    CancelExecution,
    CancelTimer,
    CompareOutputs,
    Effect,
    Execute,
    FetchBlobs,
    Forget,
    Notify,
    Penalise,
    Persist,
    Publish,
    SaveExecution,
    Send,
    SendBatch,
    SetTimer,
    Unpersist,
)
from hearthmesh.protocol.events import (
    AddressesChanged,
    BlobsFetched,
    Event,
    ExecutionSaved,
    GiveBack,
    HeatReading,
    OutputsCompared,
    PeerConnected,
    PeerLost,
    Received,
    ResultsSpoiled,
    ResultsTaken,
    Started,
    StoredRow,
    TaskFinished,
    TimerFired,
)
from hearthmesh.protocol.mesh import Mesh
from hearthmesh.protocol.messages import Delivery, Message
from hearthmesh.protocol.presence import NodeProfile
from hearthmesh.protocol.records import JobSpec, Record, RecordKind, Secrecy, sign_record
from hearthmesh.protocol.result_keeping import COLUMNS_ROW
from hearthmesh.protocol.secrecy.hidden import Hidden, hide, revealed
from hearthmesh.protocol.secrecy.keys import job_key, key_digest, salt_of
from hearthmesh.protocol.secrecy.results import BatchSealer, open_large

WALL_OFFSET_US = 1_800_000_000_000_000
ALL_ROLES = Role.WORKER | Role.REPLICA | Role.SUBMITTER
MS = 1_000
SECOND = 1_000_000


def cold(slots: int = 1, capacity_w: float = 500.0) -> HeatReading:
    return HeatReading(400.0, capacity_w, slots, 100.0, 50.0, True, "room", 17.0)


WARM = HeatReading(-100.0, 500.0, 0, 0.0, 50.0, False, "room", 23.0)


def output_of(index: int) -> bytes:
    return sha256(b"task %d" % index).digest()


@dataclass
class SimNode:
    name: str
    identity: Identity
    mesh: Mesh
    rows: dict[tuple[bytes, int, bytes], bytes] = field(default_factory=dict)
    timers: dict[Any, int] = field(default_factory=dict)
    executions: dict[int, Execute] = field(default_factory=dict)
    executed: list[int] = field(default_factory=list)
    notes: list[Notify] = field(default_factory=list)
    penalties: list[Penalise] = field(default_factory=list)
    alive: bool = True
    frozen: bool = False
    lies: bool = False
    fails: bool = False
    # Of confidential tasks: it seals what cannot be opened; its outputs are blobs; they are not what it says.
    seals_badly: bool = False
    gives_blobs: bool = False
    gives_bad_blobs: bool = False
    varies: bool = False
    # What it computes hangs on the bits that its processor gives a NaN.
    has_nans: bool = False
    # Its module counts the tasks that its instance has run.
    counts: bool = False
    missed: list[Callable[[], None]] = field(default_factory=list)
    results: dict[int, bytes] = field(default_factory=dict)
    signed: list[tuple[int, int, bytes]] = field(default_factory=list)
    batches: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    opened: dict[bytes, str] = field(default_factory=dict)

    @property
    def id(self) -> bytes:
        return self.identity.node_id

    def noted(self, name: str) -> list[dict[str, Any]]:
        return [note.fields for note in self.notes if note.name == name]


class Cluster:
    """Drives the machines; `run_until` stops at a condition or fails at a virtual time."""

    def __init__(self, *, seed: int = 1, config: ProtocolConfig = LOCAL, task_us: int = 20 * MS) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.task_us = task_us
        self.now_us = 1_000_000
        # Of who starts from now on: its clock may be off.
        self.wall_offset_us = WALL_OFFSET_US
        self.authority = Identity.from_seed(bytes([255]) * 32)
        self.mesh_definition = MeshDefinition("test", (self.authority.node_id,))
        self.nodes: dict[bytes, SimNode] = {}
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.log: list[str] = []
        self.delay_us = 500
        self.blocked: Callable[[SimNode, SimNode, Message], bool] = lambda _a, _b, _m: False
        self.cut_off: set[bytes] = set()
        self.sent = 0
        self.compared = 0
        self.compare_us = 10 * MS
        self.blobs: dict[bytes, bytes] = {}
        # What a comparator's module says.
        self.same: Callable[[bytes, bytes], bool] = lambda a, b: a[:-1] == b[:-1]

    # -- building ------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        roles: Role = ALL_ROLES,
        heat: HeatReading | None = None,
        *,
        zone: str = "",
        vouched: Vouched = NOT_VOUCHED,
        machine: str = "",
        linked: Sequence[SimNode] | None = None,
    ) -> SimNode:
        """machine: of one that offers the native command "tool", what it says of itself.  linked: to whom, at first;
        to all, if nobody is named."""
        identity = Identity.from_seed(sha256(name.encode()).digest())
        node = SimNode(name, identity, self._machine(name, identity, roles, zone, vouched, machine))
        self.nodes[node.id] = node
        self.feed(node, Started(()))
        self.feed(node, AddressesChanged((f"/memory/{name}",), ()))
        for other in list(self.nodes.values()) if linked is None else linked:
            if other is not node and other.alive:
                self.connect(node, other)
        if heat is not None:
            self.feed(node, heat)
        return node

    def _machine(
        self,
        name: str,
        identity: Identity,
        roles: Role,
        zone: str = "",
        vouched: Vouched = NOT_VOUCHED,
        machine: str = "",
    ) -> Mesh:
        now_s = (self.now_us + WALL_OFFSET_US) // 1_000_000
        certificate = issue(
            self.authority,
            self.mesh_definition,
            identity.node_id,
            roles,
            now_s - 60,
            now_s + 86_400 * 365,
            name,
            sha256(name.encode()).digest()[:16],
            vouched=vouched,
        )
        return Mesh(
            identity,
            self.config,
            random.Random(self.rng.getrandbits(64)),
            policy=MembershipPolicy(self.mesh_definition, ()),
            certificate=certificate.to_bytes(),
            profile=NodeProfile(
                name,
                roles,
                zone,
                False,
                1,
                1 << 30,
                native_commands=("tool",) if machine else (),
                machine=machine,
                builds=(bytes(8),) if machine else (),
            ),
            incarnation=self.now_us + self.wall_offset_us,
            wall_offset_us=self.wall_offset_us,
        )

    def connect(self, a: SimNode, b: SimNode) -> None:
        self.feed(a, PeerConnected(b.id, int(b.mesh.profile.roles)))
        self.feed(b, PeerConnected(a.id, int(a.mesh.profile.roles)))

    def workers(self, count: int, slots: int = 1) -> list[SimNode]:
        return [self.add(f"w{number}", heat=cold(slots)) for number in range(count)]

    def secret_spec(
        self, client: SimNode, tasks: int, *, terms: dict[str, Any] | None = None, **changes: Any
    ) -> JobSpec:
        """A confidential job of the client's. terms: who may be given its key."""
        salt = salt_of(client.identity, sha256(b"what the job says").digest())
        key = job_key(client.identity, salt)
        hidden = hide(Hidden("taxes", "hearth_task", ("--secret",), ()), key, salt)
        secrecy = Secrecy(salt, key_digest(key), hidden, **(terms or {}))
        return self.spec(tasks, name="confidential", secrecy=secrecy, **changes)

    def client(self, name: str = "client") -> SimNode:
        return self.add(name, Role.SUBMITTER)

    def spec(self, tasks: int, **changes: Any) -> JobSpec:
        fields: dict[str, Any] = dict(
            version=1,
            mesh_id=self.mesh_definition.mesh_id,
            nonce=b"",
            name="job",
            runtime="wasm",
            abi="function",
            program=bytes(32),
            program_bytes=1,
            command="",
            entry="hearth_task",
            arguments=(),
            tasks=tasks,
        )
        fields.update(changes)
        return JobSpec(**fields)

    def signed_spec(self, node: SimNode, tasks: int, **changes: Any) -> Record:
        """As the node's own submitter would sign it."""
        spec = self.spec(tasks, certificate=node.mesh.ctx.certificate, **changes)
        return sign_record(node.identity, RecordKind.SPEC, spec)

    # -- the world -----------------------------------------------------------------------------------------

    def at(self, delay_us: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._count, action))

    def feed(self, node: SimNode, event: Event) -> None:
        if node.frozen:
            node.missed.append(lambda: self.feed(node, event))
        elif node.alive:
            for effect in node.mesh.handle(event, self.now_us):
                self._perform(node, effect)

    def _perform(self, node: SimNode, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                self._send(node, peer, message)
            case SendBatch(peer, job_id, batch_id):
                header = node.rows[job_id, int(RecordKind.BATCH), batch_id]
                columns = node.rows[job_id, COLUMNS_ROW, batch_id]
                self._send(node, peer, Delivery(header, columns))
            case Publish(message):
                for other in self.nodes.values():
                    if other is not node:
                        self._send(node, other.id, message)
            case Persist(job_id, kind, key, body):
                node.rows[job_id, kind, key] = body
            case Unpersist(job_id, kind, key):
                node.rows.pop((job_id, kind, key), None)
            case Forget(job_id):
                node.rows = {key: body for key, body in node.rows.items() if key[0] != job_id}
            case SetTimer(key, at_us):
                node.timers[key] = at_us
                self.at(max(0, at_us - self.now_us), lambda: self._fire(node, key, at_us))
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Execute():
                node.executions[effect.execution_id] = effect
                # What goes on from a checkpoint has half of it left.
                task_us = self.task_us // 2 if effect.checkpoint else self.task_us
                self.at(effect.count * task_us, lambda: self._finish(node, effect))
            case SaveExecution():
                self.at(self.delay_us, lambda: self._save(node, effect.execution_id))
            case CancelExecution(execution_id):
                node.executions.pop(execution_id, None)
            case CompareOutputs():
                answers = tuple((a, b, self.same(first, second)) for a, b, first, second in effect.pairs)
                self.compared += len(answers)
                self.at(self.compare_us, lambda: self.feed(node, OutputsCompared(effect.job_id, answers)))
            case FetchBlobs():
                self.at(self.delay_us, lambda: self.feed(node, BlobsFetched(effect.token)))
            case Notify():
                node.notes.append(effect)
                if effect.name == "job.results":
                    self._take_results(node, effect.fields)
                elif effect.name == "job.wanted":
                    self._give_back(node, effect.fields)
            case Penalise():
                node.penalties.append(effect)
            case _:
                pass

    def _send(self, node: SimNode, peer: bytes, message: Message) -> None:
        other = self.nodes.get(peer)
        if other is None or self.cut_off & {node.id, peer} or self.blocked(node, other, message):
            return
        self.sent += 1
        encoded = encode_message(message)
        self.log.append(f"{node.name}>{other.name} {type(message).__name__}")
        self.at(
            self.delay_us,
            lambda: (
                None
                if self.blocked(node, other, message)
                else self.feed(other, Received(node.id, decode_message(encoded)))
            ),
        )

    def _fire(self, node: SimNode, key: Any, at_us: int) -> None:
        if node.frozen:
            node.missed.append(lambda: self._fire(node, key, at_us))
        elif node.timers.get(key) == at_us:
            del node.timers[key]
            self.feed(node, TimerFired(key))

    def _save(self, node: SimNode, execution_id: int) -> None:
        """Its next checkpoint comes at once."""
        run = node.executions.pop(execution_id, None)
        if run is not None:
            digest = sha256(b"checkpoint %d" % run.first).digest()
            self.feed(node, ExecutionSaved(execution_id, digest, 1_000, digest))

    def _finish(self, node: SimNode, run: Execute) -> None:
        if node.frozen:
            node.missed.append(lambda: self._finish(node, run))
            return
        if node.executions.get(run.execution_id) is not run or not node.alive:
            return
        del node.executions[run.execution_id]
        indices = range(run.first, run.first + run.count)
        node.executed.extend(indices)
        outputs = tuple(
            b"lie of " + node.id
            if node.lies
            else output_of(index)
            + (node.id[:1] if node.varies else b"")
            + (b"nan" if node.has_nans and run.canonical_nans else b"")
            + (b"%d" % (index - run.first) if node.counts else b"")
            for index in indices
        )
        view, box = node.mesh.worker.view(run.job_id), None
        externals: dict[int, tuple[bytes, int]] = {}
        if view is not None and view.spec.secrecy is not None:
            key = node.mesh.worker.keys.key(run.job_id)
            assert key is not None, "a confidential task ran without its key"
            node.opened[run.job_id] = revealed(view.spec, key).name
            sealer = BatchSealer(run.job_id, view.submitter, node.id, self.rng.randbytes(32))
            sealed = [sealer.output(index, output) for index, output in zip(indices, outputs, strict=True)]
            if node.seals_badly:
                sealed = [b"not sealed" for _ in sealed]
            if node.gives_blobs:
                blobs = [b"not sealed either" if node.gives_bad_blobs else blob for blob in sealed]
                sealed = [sealer.mark(index, output) for index, output in zip(indices, outputs, strict=True)]
                externals = {offset: (sha256(blob).digest(), len(blob)) for offset, blob in enumerate(blobs)}
                self.blobs.update((sha256(blob).digest(), blob) for blob in blobs)
            outputs, box = tuple(sealed), sealer.box
        self.feed(
            node,
            TaskFinished(
                run.execution_id,
                exits=(int(node.fails),) * run.count,
                outputs=outputs,
                externals=externals,
                stderrs={},
                fuels=(1,) * run.count,
                cpu_us=(self.task_us,) * run.count,
                energy_mj=run.count * 10,
                useful_mj=run.count * 10,
                measured=False,
                box=box,
            ),
        )

    def _give_back(self, node: SimNode, fields: dict[str, Any]) -> None:
        for batch_id in fields["batch_ids"]:
            kept = node.batches.get(batch_id, (b"", b""))
            event = GiveBack(fields["job_id"], batch_id, fields["replica"], *kept)
            self.at(0, lambda event=event: self.feed(node, event))  # type: ignore[misc]

    def _take_results(self, node: SimNode, fields: dict[str, Any]) -> None:
        header, batch, opened = fields["header"], fields["batch"], fields["opened"]
        node.batches[header.id] = header.raw, fields["columns"]
        marks = opened.marks if opened is not None else {}
        outputs = list(batch.outputs if opened is None else opened.outputs)
        for offset, mark in marks.items():
            blob = self.blobs[batch.externals[offset][0]]
            outputs[offset] = open_large(header, batch.first + offset, mark, opened.key, blob)
        spoiled = []
        for lo, hi in fields["parts"]:
            node.signed.append((lo, hi, header.id))
            for index in range(lo, hi):
                assert index not in node.results, f"task {index} was delivered twice"
                if marks and outputs[index - batch.first] is None:
                    spoiled.append(index)
                else:
                    node.results[index] = outputs[index - batch.first]
        if spoiled:
            self.at(0, lambda: self.feed(node, ResultsSpoiled(fields["job_id"], header.id, tuple(spoiled))))
        self.at(0, lambda: self.feed(node, ResultsTaken(fields["job_id"], fields["header"].id)))

    # -- faults --------------------------------------------------------------------------------------------

    def kill(self, node: SimNode, *, links_reset: bool = True) -> None:
        node.alive = False
        for other in self.nodes.values():
            if links_reset and other is not node:
                self.feed(other, PeerLost(node.id, reset=True))

    def disconnect(self, node: SimNode, *, reset: bool = True) -> None:
        """All links of the node end, and no new one is made until `connect`."""
        self.cut_off.add(node.id)
        for other in self.nodes.values():
            if other is not node:
                self.feed(other, PeerLost(node.id, reset))
                self.feed(node, PeerLost(other.id, reset))

    def thaw(self, node: SimNode) -> None:
        """A frozen process goes on; what it missed comes all at once."""
        node.frozen = False
        missed, node.missed = node.missed, []
        for action in missed:
            action()

    def restart(self, node: SimNode, *, put_right: bool = False) -> None:
        """The same identity and disk, a new life. put_right: its clock is, before it has links."""
        node.alive, node.frozen = True, False
        node.missed.clear()
        node.timers.clear()
        node.executions.clear()
        node.mesh = self._machine(node.name, node.identity, node.mesh.profile.roles, node.mesh.profile.zone)
        rows = tuple(StoredRow(*key, body) for key, body in node.rows.items())
        self.feed(node, Started(rows))
        self.feed(node, AddressesChanged((f"/memory/{node.name}",), ()))
        if put_right:
            node.mesh.ctx.wall_offset_us = WALL_OFFSET_US
        for other in self.nodes.values():
            if other is not node and other.alive:
                self.connect(node, other)

    # -- time ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        if not self._heap:
            return False
        at_us, _, action = heapq.heappop(self._heap)
        self.now_us = max(self.now_us, at_us)
        action()
        return True

    def run(self, duration_us: int) -> None:
        until_us = self.now_us + duration_us
        while self._heap and self._heap[0][0] <= until_us:
            self.step()
        self.now_us = until_us

    def run_until(self, condition: Callable[[], bool], *, within_us: int = 120 * SECOND) -> None:
        until_us = self.now_us + within_us
        while not condition():
            assert self.now_us <= until_us and self.step(), (
                f"not reached within {within_us} us of virtual time; last messages: {self.log[-30:]}"
            )
