"""What is fuzzed: each target takes bytes, raises what no byte may cause, and returns.

A target that keeps a world (`mesh`, `restore`) begins it anew every few inputs; `session` has the inputs since then, in
order, which is what replays a finding.
"""

from __future__ import annotations

import atexit
import gzip
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.pubsub.pb import rpc_pb2

from hearthmesh.crypto.bounded import DecodeError
from hearthmesh.crypto.certificates import Certificate, CertificateError, MembershipPolicy, MeshDefinition
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import unpack_lists
from hearthmesh.node.config import load_client_config, load_node_config
from hearthmesh.node.execution.native_archive import ArchiveFault, read_archive
from hearthmesh.node.execution.oci_archive import ImageFault, check_layers, read_image
from hearthmesh.node.execution.oci_config import is_image_digest
from hearthmesh.node.execution.outcome import ExecutionError, is_file_name
from hearthmesh.node.execution.wasm_sections import read_shape
from hearthmesh.node.execution.wasm_wire import Done, decode_from_worker, split, unpack_column
from hearthmesh.node.jobfile import load_job_file
from hearthmesh.node.meshfile import load_mesh_file
from hearthmesh.node.python.guest.hearth_values import ValueRefused, pack, unpack
from hearthmesh.node.storage.errors import StorageError
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import Put, StoredRecord
from hearthmesh.node.toml import ConfigError
from hearthmesh.node.transport.blobs import _read_request
from hearthmesh.node.transport.frames import BufferBudget, MuxerLimits, ProtocolViolation
from hearthmesh.node.transport.gate import Gate, GreetingFailed, RefusedByPeer
from hearthmesh.node.transport.gossip import _is_signed
from hearthmesh.node.transport.guards import BoundedCommunicator
from hearthmesh.node.transport.hello import Refused, decode_greeting
from hearthmesh.node.transport.link import STREAM_GONE, FrameBuffer, FrameError
from hearthmesh.node.transport.muxer import YamuxConnection
from hearthmesh.protocol.batches import BatchError, decode_columns
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.events import PeerConnected, PeerLost, Received, Started, StoredRow, TimerFired
from hearthmesh.protocol.mesh import Mesh
from hearthmesh.protocol.records import RecordError, RecordKind, open_record, sign_record
from hearthmesh.protocol.verification.comparators import parse_comparator
from tests.fuzz.choices import Choices
from tests.node.execution.images import Archive, layer
from tests.node.transport.hosts import PEER, memory_channels
from tests.protocol.cluster import MS, SimNode
from tests.protocol.hostile import Liar
from tests.protocol.test_hostile import busy_mesh, sizes
from tests.protocol.wire import BODIES, MESSAGES, SIGNER, example_of

# What a message of a member may make a node say, and what anything in it may grow to.
SAID_MAX = 64
HELD_MAX = 2_500
SESSION_MAX = 150
WASM = Path(__file__).parent.parent / "wasm"


class Finding(AssertionError):
    """Something that no input may cause."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(what)


@dataclass
class Target:
    """run: raises if the bytes did harm.  seeds: inputs that get far.  session: inputs of the present world."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    session: list[bytes] = field(default_factory=list)


TARGETS: dict[str, Target] = {}


def target(seeds: Callable[[], list[bytes]]) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    def add(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        name = run.__name__.replace("_", "-")
        TARGETS[name] = Target(name, run, seeds)
        return run

    return add


# -- codec -------------------------------------------------------------------------------------------------


def _encoded() -> list[bytes]:
    messages = [encode_message(example_of(message)) for message in MESSAGES]
    records = [sign_record(SIGNER, kind, example_of(body)).raw for kind, body in BODIES.items()]
    return messages + records


@target(_encoded)
def codec(data: bytes) -> None:
    """Messages, records, certificates, lists, greetings and columns: decoded to what encodes again, or refused."""
    with suppress(DecodeError):
        message = decode_message(data)
        require(decode_message(encode_message(message)) == message, "a message that is another one again")
    for check in (True, False):
        with suppress(RecordError):
            record = open_record(data, check_signature=check)
            if record.kind is RecordKind.BATCH:
                with suppress(BatchError):
                    decode_columns(record.body, data)
    with suppress(CertificateError):
        require(Certificate.from_bytes(data).to_bytes() == data, "a certificate with two encodings")
    with suppress(CertificateError):
        unpack_lists(data)
    with suppress(DecodeError):
        MeshDefinition.from_bytes(data)
    with suppress(DecodeError):
        decode_greeting(data)


# -- the machine -------------------------------------------------------------------------------------------


class _Besieged:
    """A mesh in the middle of a job, one of whose members says what the bytes say."""

    def __init__(self) -> None:
        self.cluster, self.workers, self.client, self.member = busy_mesh(1)
        self.member.frozen = True
        self.world = [*self.workers, self.client]
        self.liar = Liar(0, self.member.identity, self.world, self.member.mesh.ctx.certificate)
        self.honest = {node.id for node in self.world}
        self.ran: dict[bytes, set[int]] = {}

    def hear(self, data: bytes) -> None:
        choices = Choices(data)
        self.liar.dice = choices  # type: ignore[assignment]
        node = choices.choice(self.world)
        while choices.left:
            before = len(self.cluster.log)
            kind = choices.randrange(16)
            if kind == 0:
                self.cluster.feed(node, PeerLost(self.member.id, bool(choices.randrange(2))))
                self.cluster.feed(node, PeerConnected(self.member.id, int(self.member.mesh.profile.roles)))
            elif kind == 1:
                self.cluster.run(choices.randrange(2_000) * MS)
            else:
                self.cluster.feed(node, Received(self.member.id, self.liar.message()))
            said = sum(line.startswith(f"{node.name}>") for line in self.cluster.log[before:])
            require(kind == 1 or said <= SAID_MAX, f"one message made it say {said}")
            self.check(node)

    def check(self, node: SimNode) -> None:
        grown = {name: size for name, size in sizes(node).items() if size > HELD_MAX}
        require(not grown, f"grew without bound: {grown}")
        # What runs when a room gets warm is let finish, so only what is new has to fit.
        begun = node.executions.keys() - self.ran.get(node.id, set())
        require(not begun or len(node.executions) <= max(1, node.mesh.worker.slots), "begins more than it has slots")
        self.ran[node.id] = set(node.executions)
        blamed = [penalty for penalty in node.penalties if penalty.peer in self.honest]
        require(not blamed, f"blames an honest node: {blamed[:1]}")
        for kept in node.mesh.replica.jobs.values():
            state = kept.state
            require(state.done.total <= state.spec.tasks, "more done than there is")
            require(state.accepted_tasks.total <= state.spec.tasks, "more accepted than there is")
        del self.cluster.log[:]


_worlds: dict[str, Any] = {}


def _session(name: str, data: bytes, begin: Callable[[], Any]) -> Any:
    session = TARGETS[name].session
    if name not in _worlds or len(session) >= SESSION_MAX:
        _worlds[name] = begin()
        session.clear()
    session.append(data)
    return _worlds[name]


def _dice() -> list[bytes]:
    return [bytes([node, *([2 + at] * 60)]) for node in range(3) for at in range(0, 250, 25)]


@target(_dice)
def mesh(data: bytes) -> None:
    """Every handler of `Mesh`, through `handle`, from a member with a valid certificate that signs what it likes."""
    _session("mesh", data[:2048], _Besieged).hear(data[:2048])


@target(_encoded)
def mesh_bytes(data: bytes) -> None:
    """The same, with messages as they come off the wire."""
    world: _Besieged = _session("mesh-bytes", data, _Besieged)
    with suppress(DecodeError):
        message = decode_message(data)
        for node in world.world:
            world.cluster.feed(node, Received(world.member.id, message))
            world.check(node)
        world.cluster.run(MS)


class _Library:
    """Rows that a replica, a worker and a client wrote."""

    def __init__(self) -> None:
        _, workers, client, _ = busy_mesh(1)
        self.nodes = [*workers, client]
        self.rows = [
            [StoredRow(job_id, kind, key, body) for (job_id, kind, key), body in node.rows.items()]
            for node in self.nodes
        ]


@target(_dice)
def restore(data: bytes) -> None:
    """What a disk gives back: rows lost, mixed up, cut, or with bytes changed."""
    library: _Library = _worlds.setdefault("restore", None) or _Library()
    _worlds["restore"] = library
    choices = Choices(data[:1024])
    at = choices.randrange(len(library.nodes))
    node, rows = library.nodes[at], list(library.rows[at])
    for _ in range(min(40, choices.left // 4)):
        if rows:
            number = choices.randrange(len(rows))
            rows[number : number + 1] = _damaged(rows[number], choices)
    life = Mesh(
        node.identity,
        node.mesh.ctx.config,
        choices,
        policy=MembershipPolicy(node.mesh.ctx.policy.mesh),
        certificate=node.mesh.ctx.certificate,
        profile=node.mesh.profile,
        incarnation=2_000_000,
        wall_offset_us=node.mesh.ctx.wall_offset_us,
    )
    life.handle(Started(tuple(rows)), 10_000_000)
    for at_us, key in ((11_000_000, ("sync", b"")), (13_000_000, ("reconcile", b""))):
        life.handle(TimerFired(key), at_us)


def _damaged(row: StoredRow, choices: Choices) -> list[StoredRow]:
    match choices.randrange(6):
        case 0:
            return []
        case 1:
            return [row, StoredRow(row.job_id, choices.randrange(1, 112), row.key, row.body)]
        case 2:
            return [StoredRow(choices.randbytes(32), row.kind, row.key, row.body)]
        case 3:
            return [StoredRow(row.job_id, row.kind, row.key, row.body[: choices.randrange(1 + len(row.body))])]
        case 4:
            return [StoredRow(row.job_id, row.kind, choices.randbytes(32), row.body)]
        case _:
            changed = bytearray(row.body)
            for _ in range(1 + choices.randrange(4)):
                if changed:
                    changed[choices.randrange(len(changed))] ^= 1 << choices.randrange(8)
            return [StoredRow(row.job_id, row.kind, row.key, bytes(changed))]


# -- streams -----------------------------------------------------------------------------------------------


class Pieces:
    """A stream that gives the bytes in pieces, then its end; what is written is thrown away."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.muxed_conn: Any = None
        self.on_readable = None

    async def read(self, n: int | None = None) -> bytes:
        size = len(self._data) if n is None else min(n, 1 + len(self._data) // 3)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


def ran(coroutine: Coroutine[Any, Any, Any]) -> None:
    """To its end, or to where it waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()


def _streams() -> list[bytes]:
    hello = b"\x80\0\0\1\xc0"
    negotiation = b"\x13/multistream/1.0.0\n\x0e/hearth/link/1\n"
    muxed = bytes.fromhex("000100010000000100000000" + "000000000000000100000005") + b"hello"
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x", topicIDs=["t"], from_id=PEER.to_bytes(), seqno=b"1")])
    return [hello, negotiation, muxed, rpc.SerializeToString(), b"\0\0\0\x23\x92\xc4\x20" + bytes(32) + b"\0"]


_AUTHORITY = Identity.from_seed(b"f" * 32)
_MESH = MeshDefinition("fuzz", (_AUTHORITY.node_id,))


@target(_streams)
def streams(data: bytes) -> None:
    """Frames, the muxer, negotiation, greetings, blob requests, gossip: as a peer or a stranger sends them."""
    frames = FrameBuffer(4096)
    frames.feed(data)
    with suppress(FrameError):
        while frames.next() is not None:
            pass
    _, ours = memory_channels(pieces=4)
    muxer = YamuxConnection(ours, PEER, MuxerLimits(max_inbound_streams=8), BufferBudget(1 << 20))
    with suppress(ProtocolViolation):
        for at in range(0, len(data), 37):
            muxer.feed(data[at : at + 37])
    require(muxer.stream_count <= 8, "more streams than the limit")
    require(muxer.buffered_bytes <= len(data), "more buffered than came")
    for dialled in (False, True):
        gate = Gate(b"", MembershipPolicy(_MESH), has_room=lambda: True, now_s=lambda: 0)
        with suppress(Refused, RefusedByPeer, GreetingFailed, trio.Cancelled, *STREAM_GONE):
            ran(gate.greet(Pieces(data), PEER.to_bytes()[-32:], dialled=dialled))
    with suppress(MultiselectCommunicatorError):
        ran(BoundedCommunicator(Pieces(data)).read())  # type: ignore[arg-type]
    with suppress(trio.TooSlowError, *STREAM_GONE):
        ran(_read_request(Pieces(data)))
    message = rpc_pb2.Message()
    with suppress(Exception):  # protobuf's own: the guard of each gossip stream catches it
        message.ParseFromString(data)
    _is_signed(message)


# -- files -------------------------------------------------------------------------------------------------

_folder = Path(tempfile.mkdtemp(prefix="hearth-fuzz-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def _settings() -> list[bytes]:
    return [
        b'name = "x"\nprogram = "a.wasm"\ntasks = 3\nverification = "quorum(2)"\ndeadline = "+2h"\n[limits]\nfuel=5',
        b'[mesh]\ndefinition = "mesh.toml"\n[node]\nname = "k"\nlisten = ["/ip4/0.0.0.0/tcp/4001"]\n',
        b'[mesh]\ndefinition = "mesh.toml"\n[client]\nbootstrap = []\nmdns = true\n',
        b'name = "m"\nauthorities = ["12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"]\nrevocation_quorum = 1\n',
        b"[heater]\nsetpoint_c = nan\n[heater.schedule]\nmonday = ['06:00 21']\n[limits]\njobs = 0x10\n",
    ]


@target(_settings)
def files(data: bytes) -> None:
    """Job files and settings: one line that says what is wrong, or values within their bounds."""
    path = _folder / "file.toml"
    path.write_bytes(data)
    for load in (load_job_file, load_node_config, load_client_config, load_mesh_file):
        try:
            load(path)
        except ConfigError as error:
            require("\n" not in str(error), "an error of two lines")


# -- what tasks and submitters hand over -----------------------------------------------------------------------------


def _archives() -> list[bytes]:
    image = Archive([layer({"bin/tool": b"#!"})])
    image.seal()
    image.write(_folder / "image.tar")
    packed = Archive([layer({"bin/tool": b"#!"})], pack=gzip.compress)
    packed.seal()
    packed.write(_folder / "packed.tar")
    both = [(_folder / name).read_bytes() for name in ("image.tar", "packed.tar")]
    return [*both, layer({"a.txt": b"1", "b.png": b"2"})]


@target(_archives)
def archives(data: bytes) -> None:
    """An image's archive, and the one in which a sandbox hands out its files."""
    path = _folder / "any.tar"
    path.write_bytes(data)
    with suppress(ImageFault):
        image = read_image(path)
        require(is_image_digest(image.digest) and is_image_digest(image.config), "an image without a digest")
        check_layers(path, lambda unpacked: require(unpacked < 64 << 20, "a layer that unpacks without end"))
    with suppress(ArchiveFault):
        kept = read_archive(data, 1_000)
        require(sum(map(len, kept.values())) <= 1_000 and all(map(is_file_name, kept)), "more than may be handed out")


COMPARED = [
    parse_comparator(how, parts=parts)
    for how in ("pixels", "numeric(abs=1, rel.1=0.5)", "values(rel=0.5)")
    for parts in (False, True)
]


def _outputs() -> list[bytes]:
    values = [pack([1.5, {"x": (2.0, 1 + 2j)}]), pack([1.25, {"x": (2.5, 1 + 2j)}])]
    packed = [msgspec.msgpack.encode([value, {"sums": b"1 2\n"}]) for value in values]
    picture = b"P5 2 2 255\n" + bytes(4)
    return [bytes([128]) + one + other for one, other in (values, packed, (b"1 2\n3", b"1 2.5\n3"), (picture, picture))]


@target(_outputs)
def outputs(data: bytes) -> None:
    """Two outputs of a task, of any worker's making, before a comparator: told to be the same, or not."""
    cut = 1 + len(data[1:]) * data[0] // 256 if data else 0
    one, other = data[1:cut], data[cut:]
    for comparator in COMPARED:
        forth, back = comparator.same_output(one, other), comparator.same_output(other, one)
        require(forth == back, f"{comparator.kind} has a side")
    with suppress(ValueRefused):
        value = unpack(one)
        require(unpack(pack(value)) == value or b"\x7f" in one or b"\xff" in one, "a value that packing changes")


# -- wasm --------------------------------------------------------------------------------------------------


def _modules() -> list[bytes]:
    return [path.read_bytes() for path in sorted(WASM.glob("*.wasm"))] + [b"\0asm\1\0\0\0"]


@target(_modules)
def wasm(data: bytes) -> None:
    """A stranger's module before anything compiles it, and what a worker process that it took over answers."""
    with suppress(ExecutionError):
        read_shape(data)
    with suppress(ValueError, msgspec.MsgspecError):
        answer = decode_from_worker(data)
        if isinstance(answer, Done):
            for kind, column in (("h", answer.exits), ("Q", answer.fuels), ("Q", answer.cpu_us)):
                with suppress(ValueError):
                    unpack_column(kind, column, len(column) // 2)
            split(answer.outputs, [len(answer.outputs)])


# -- the journal -------------------------------------------------------------------------------------------


def _journal_file() -> bytes:
    path = _folder / "written" / "journal.db"
    path.parent.mkdir(exist_ok=True)
    journal = Journal.open(path)
    done: list[object] = []
    puts = [Put(StoredRecord(bytes([n]) * 32, 1 + n % 7, bytes([n]) * 32, bytes(200 + n))) for n in range(20)]
    journal.submit(puts, done.append)
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


@target(_dice)
def journal(data: bytes) -> None:
    """A database whose bytes were changed: read whole, or set aside with a notice; and it takes writes again."""
    whole: bytes = _worlds.setdefault("journal", None) or _journal_file()
    _worlds["journal"] = whole
    choices, changed = Choices(data[:256]), bytearray(whole)
    for _ in range(1 + choices.left // 5):
        at = choices.randrange(len(changed)) if choices.randrange(2) else choices.randrange(200)
        changed[at] = choices.randrange(256)
    if choices.randrange(8) == 0:
        del changed[choices.randrange(len(changed)) :]
    folder = _folder / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "journal.db").write_bytes(changed)
    with suppress(StorageError):
        opened = Journal.open(folder / "journal.db")
        try:
            list(opened.load())
            opened.counts()
        finally:
            opened.close()


def found(folder: Path = Path(__file__).parent / "found") -> list[tuple[str, list[bytes]]]:
    """Sessions that did harm once, by target."""
    sessions = []
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        sessions.append((told["target"], [bytes.fromhex(each) for each in told["inputs"]]))
    return sessions
