"""A real task moves: it is stopped at a checkpoint on one node, and goes on from there on another."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import wasmtime

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.execution.checkpoints import CheckpointError, pack_folder, state_of, unpack_folder
from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeCommand, NativeRuntimeConfig
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.tasks import NodeBlobs, TaskRunner
from hearthmesh.node.transport.blobs import BlobFetchError
from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.events import Event, ExecutionSaved, TaskFinished
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import JobSpec, RecordKind, ResourceLimits, sign_record
from tests.protocol.arena import identity

WAT = Path(__file__).parents[1] / "wasm" / "command.wat"
# Appends a letter to its checkpoint and then never ends, until there are three.
PATIENT = WAT.read_text().replace("(then unreachable)", "(then (loop $on (br $on)))")
MODULE = bytes(wasmtime.wat2wasm(PATIENT))
SPEC = JobSpec(
    1,
    bytes(32),
    b"",
    "job",
    "wasm",
    "command",
    hashlib.sha256(MODULE).digest(),
    len(MODULE),
    "",
    "_start",
    (),
    1,
    inline_inputs=(b"c",),
    checkpoint_us=1_000,
    limits=ResourceLimits(memory_bytes=16 << 20),
)
STATE = JobState(sign_record(identity(9), RecordKind.SPEC, SPEC))


class Others:
    """Fetches from the stores of the nodes that are named."""

    def __init__(self, nodes: dict[bytes, BlobStore], own: bytes) -> None:
        self._nodes, self._own = nodes, own

    async def fetch_blob(self, digest: bytes, sources: Sequence[bytes], limit_bytes: int) -> None:
        for source in sources:
            if source in self._nodes and source != self._own and self._nodes[source].pin(digest, b"t"):
                self._nodes[self._own].put_bytes(await self._nodes[source].read_async(digest))
                return
        raise BlobFetchError("nobody has it")


class Node:
    """A task runner with a disk of its own; what it tells its machine comes out of `events`."""

    def __init__(self, name: bytes, runner: TaskRunner, events: trio.MemoryReceiveChannel[Event], root: Path) -> None:
        self.name, self.runner, self.events, self.root = name, runner, events, root

    def checkpoint(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.root.rglob("ckpt/*/*/state")))


@asynccontextmanager
async def nodes(tmp_path: Path, *names: bytes) -> AsyncIterator[list[Node]]:
    stores: dict[bytes, BlobStore] = {}
    found: list[Node] = []
    async with trio.open_nursery() as nursery:
        pools: list[WasmPool] = []
        for name in names:
            root = tmp_path / name.decode()
            stores[name] = BlobStore(root / "blobs", 1 << 28)
            stores[name].put_bytes(MODULE)
            send, receive = trio.open_memory_channel[Event](8)
            pools.append(WasmPool(ChildConfig(tmp_path / "cache", memory_bytes=1 << 30), 1))
            runner = TaskRunner(
                nursery,
                send.send_nowait,
                lambda _job_id: STATE,
                NodeBlobs(stores[name], Others(stores, name), 1 << 20),
                {"wasm": pools[-1]},
                NoHeater(HeaterSettings(cores=1), 0),
                lambda: 0,
                disk_full=lambda reason: pytest.fail(reason),
                inline_output_bytes=1 << 14,
                inline_batch_bytes=1 << 16,
                checkpoints=root / "ckpt",
            )
            found.append(Node(name, runner, receive, root))
        try:
            yield found
        finally:
            for pool in pools:
                await pool.aclose()
            nursery.cancel_scope.cancel()


async def test_a_task_goes_on_from_node_to_node_and_ends_with_all_of_its_work(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room", b"hall", b"attic") as (room, hall, attic):
        run = Execute(1, STATE.job_id, 0, 1, 1)
        for node, letters in ((room, b"a"), (hall, b"ab")):
            node.runner.start(run)
            node.runner.save(1)
            with trio.fail_after(30):
                saved = await node.events.receive()
            assert isinstance(saved, ExecutionSaved) and saved.digest and node.checkpoint() == letters
            run = Execute(1, STATE.job_id, 0, 1, run.epoch + 1, checkpoint=saved.digest, sources=(node.name,))
        attic.runner.start(run)
        with trio.fail_after(30):
            ended = await attic.events.receive()
    assert isinstance(ended, TaskFinished) and ended.exits == (0,)
    assert msgspec.msgpack.decode(ended.outputs[0]) == [b"abc", {}]
    assert attic.checkpoint() == b""


async def test_of_a_task_that_moved_nothing_stays_on_the_donors_disk(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room", b"hall") as (room, hall):
        room.runner.start(Execute(1, STATE.job_id, 0, 1, 1))
        room.runner.save(1)
        with trio.fail_after(30):
            saved = await room.events.receive()
            assert isinstance(saved, ExecutionSaved) and room.checkpoint() == b"a"
            room.runner.drop_checkpoint(STATE.job_id, 0)
            hall.runner.start(Execute(1, STATE.job_id, 0, 1, 2, checkpoint=saved.digest, sources=(room.name,)))
            hall.runner.save(1)
            await hall.events.receive()
    # What was begun in threads has ended.
    assert list((room.root / "ckpt").iterdir()) == [] and hall.checkpoint() == b"ab"


async def test_a_checkpoint_goes_when_the_task_that_writes_it_has_ended(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room") as (room,):
        room.runner.start(Execute(1, STATE.job_id, 0, 1, 1))
        room.runner.save(1)
        room.runner.drop_checkpoint(STATE.job_id, 0)
        with trio.fail_after(30):
            saved = await room.events.receive()
    assert isinstance(saved, ExecutionSaved) and saved.digest and list((room.root / "ckpt").iterdir()) == []


async def test_a_checkpoint_goes_although_the_node_ends_at_once(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room") as (room,):
        folder = room.root / "ckpt" / STATE.job_id.hex() / "0"
        folder.mkdir(parents=True)
        async with trio.open_nursery() as nursery:
            room.runner._nursery = nursery
            room.runner.drop_checkpoint(STATE.job_id, 0)
            nursery.cancel_scope.cancel()
    assert list(folder.parent.parent.iterdir()) == []


async def test_who_cannot_wait_for_the_next_checkpoint_takes_the_last(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room") as (room,):
        room.runner.start(Execute(1, STATE.job_id, 0, 1, 1))
        with trio.fail_after(30):
            while room.checkpoint() != b"a":
                await trio.sleep(0.01)
            # It never writes another.
            room.runner.save(1, 0.1)
            saved = await room.events.receive()
    assert isinstance(saved, ExecutionSaved) and saved.digest and room.checkpoint() == b"a"


async def test_a_checkpoint_that_nobody_has_any_more_costs_work_and_no_result(tmp_path: Path) -> None:
    async with nodes(tmp_path, b"room") as (room,):
        room.runner.start(Execute(1, STATE.job_id, 0, 1, 1, checkpoint=bytes(32), sources=(b"gone",)))
        room.runner.save(1)
        with trio.fail_after(30):
            saved = await room.events.receive()
    assert isinstance(saved, ExecutionSaved) and room.checkpoint() == b"a"


async def test_without_a_checkpoint_nothing_of_another_node_is_gone_on_from(tmp_path: Path) -> None:
    """Or its heir would sign alone for what it left, and be convicted for it."""
    async with nodes(tmp_path, b"room", b"hall") as (room, hall):

        async def saved_by(node: Node, checkpoint: bytes) -> tuple[bytes, bytes]:
            """What is in the folder then, and its digest."""
            node.runner.start(Execute(1, STATE.job_id, 0, 1, 1, checkpoint=checkpoint, sources=(room.name,)))
            node.runner.save(1)
            with trio.fail_after(30):
                saved = await node.events.receive()
            assert isinstance(saved, ExecutionSaved)
            return node.checkpoint(), saved.digest

        left, digest = await saved_by(room, b"")
        assert left == b"a"
        assert (await saved_by(hall, digest))[0] == b"ab"
        assert (await saved_by(hall, b""))[0] == b"a"
        assert (await saved_by(hall, b""))[0] == b"ab"


# -- native -------------------------------------------------------------------------------------------------

# Appends a letter to its checkpoint, written aside and renamed, and then waits for ever, until there are three.
LETTERS = (
    's=$(cat /ckpt/state 2>/dev/null || :); case "$s" in "") n=a;; a) n=ab;; *) printf abc; exit 0;; esac; '
    "printf $n > /ckpt/state.new~; mv /ckpt/state.new~ /ckpt/state; while :; do sleep 1; done"
)
SHELL = msgspec.structs.replace(
    SPEC,
    runtime="native",
    program=hashlib.sha256(b"").digest(),
    program_bytes=0,
    command="sh",
    entry="sh",
    arguments=(LETTERS,),
    inline_inputs=(b"",),
    limits=ResourceLimits(memory_bytes=128 << 20, scratch_bytes=1 << 20),
)


@asynccontextmanager
async def shells(*names: bytes) -> AsyncIterator[list[Node]]:
    """As `nodes`, of which each has a sandbox. Skips where there is none."""
    state = JobState(sign_record(identity(9), RecordKind.SPEC, SHELL))
    stores: dict[bytes, BlobStore] = {}
    found: list[Node] = []
    # A user who may see little has to reach them, and cannot reach pytest's own folder.
    base = Path(tempfile.mkdtemp(prefix="hearthmesh-test-", dir="/var/tmp"))
    base.chmod(0o711)
    executors: list[NativeExecutor] = []
    try:
        async with trio.open_nursery() as nursery:
            for number, name in enumerate(names):
                root = base / name.decode()
                root.mkdir(mode=0o711)
                commands = {"sh": NativeCommand(Path("/usr/bin/sh"), arguments=("-c",), processes=40)}
                executor = NativeExecutor(NativeRuntimeConfig(commands=commands, uid_base=64_700 + 10 * number), root)
                is_available, reason = await executor.available()
                if not is_available:
                    pytest.skip(reason)
                executors.append(executor)
                stores[name] = BlobStore(root / "blobs", 1 << 28)
                send, receive = trio.open_memory_channel[Event](8)
                runner = TaskRunner(
                    nursery,
                    send.send_nowait,
                    lambda _job_id: state,
                    NodeBlobs(stores[name], Others(stores, name), 1 << 20),
                    {"native": executor},
                    NoHeater(HeaterSettings(cores=1), 0),
                    lambda: 0,
                    disk_full=lambda reason: pytest.fail(reason),
                    inline_output_bytes=1 << 14,
                    inline_batch_bytes=1 << 16,
                    checkpoints=root / "ckpt",
                )
                found.append(Node(name, runner, receive, root))
            yield found
            for executor in executors:
                await executor.aclose()
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(base, ignore_errors=True)


async def test_a_native_task_goes_on_from_node_to_node_as_well() -> None:
    job_id = sign_record(identity(9), RecordKind.SPEC, SHELL).id
    async with shells(b"room", b"hall", b"attic") as (room, hall, attic):
        run = Execute(1, job_id, 0, 1, 1)
        for node, letters in ((room, b"a"), (hall, b"ab")):
            node.runner.start(run)
            node.runner.save(1)
            with trio.fail_after(60):
                saved = await node.events.receive()
            assert isinstance(saved, ExecutionSaved) and saved.digest and node.checkpoint() == letters
            run = Execute(1, job_id, 0, 1, run.epoch + 1, checkpoint=saved.digest, sources=(node.name,))
        attic.runner.start(run)
        with trio.fail_after(60):
            ended = await attic.events.receive()
    assert isinstance(ended, TaskFinished) and ended.exits == (0,)
    assert msgspec.msgpack.decode(ended.outputs[0]) == [b"abc", {}]


# -- the blob -----------------------------------------------------------------------------------------------


def test_a_folder_comes_out_as_it_went_in(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "data").write_bytes(b"\0\1")
    (source / "state").write_bytes(b"x" * 1000)
    (source / "state.new~").write_bytes(b"half")
    (source / "link").symlink_to("/etc/passwd")
    packed = pack_folder(source, 1 << 20)
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_bytes(b"gone")
    unpack_folder(packed, target, 1 << 20)
    assert [str(path.relative_to(target)) for path in sorted(target.rglob("*")) if path.is_file()] == [
        "deep/er/data",
        "state",
    ]
    assert pack_folder(target, 1 << 20) == packed and len(state_of(target)) == 2


def test_what_is_too_much_or_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"x" * 1000)
    with pytest.raises(CheckpointError, match="more than 1000 bytes"):
        pack_folder(tmp_path, 1000)
    with pytest.raises(CheckpointError, match="there is none"):
        pack_folder(tmp_path / "absent", 1000)
    assert state_of(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    "files",
    [
        [("../out", b"")],
        [("/etc/passwd", b"")],
        [("a/../../b", b"")],
        [("", b"")],
        [("a\0b", b"")],
        [("a", b""), ("a", b"")],
        [("a", b""), ("a/b", b"")],
        [("/".join("abcdefghi"), b"")],
        [("big", b"x" * 4096)],
        [(f"n{n}", b"") for n in range(1001)],
        "no list",
        [("a", "text")],
    ],
)
def test_a_hostile_checkpoint_writes_nothing_outside_and_is_refused(tmp_path: Path, files: object) -> None:
    folder = tmp_path / "ckpt" / "0"
    with pytest.raises(CheckpointError):
        unpack_folder(msgspec.msgpack.encode(files), folder, 4096)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
