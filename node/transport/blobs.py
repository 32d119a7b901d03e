"""Blobs between admitted peers: whoever wants one pulls it, over a stream of its own.

Request: msgpack [digest, offset] behind a u32. Answer: one status byte; if 0, u64 size and the bytes from the offset.
Either side of a connection may ask the other, so a node that accepts no connection serves blobs as well.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Annotated, BinaryIO

import msgspec
import structlog
import trio
from libp2p.abc import INetStream
from msgspec import Meta

from ...crypto.bounded import DecodeError, decode_bounded, encode
from ...crypto.identity import peer_id_text
from ...protocol.limits import Limit
from ..storage.blobs import BlobStore, BlobWriter
from ..storage.errors import BlobMismatch, BlobMissing, StorageError
from .frames import OnLimit, ignore_limit
from .link import STREAM_GONE, ByteStream, shielded
from .streams import bytes_of, node_id_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BLOB_PROTOCOL = "/hearth/blob/1"
CHUNK_BYTES = 1 << 20
# Received, and not yet hashed and written.
CHUNKS_WAITING = 2
REQUEST_BYTES_MAX = 256
SERVES_AT_ONCE = 8
# Of these to one peer.
SERVES_A_PEER = 4
FETCHES_AT_ONCE = 8
REQUEST_S = 5.0
# A busy one is asked again, for so long in all: it may be the only one, and asked for more than it serves at once.
BUSY_S, BUSY_PAUSE_S = 60.0, 0.5
# A source that sends nothing, or takes nothing, for this long is given up.
STALL_S = 10.0

FOUND, MISSING, BUSY, MALFORMED = 0, 1, 2, 3
_REFUSALS = {MISSING: "has it not", BUSY: "is busy", MALFORMED: "did not understand"}
_LENGTH = Struct("!I")
_SIZE = Struct("!Q")

OpenStream = Callable[[bytes, str], Awaitable[INetStream]]


class BlobFetchError(Exception):
    """No source gave the blob. The text says what each of them did."""


class BlobRequest(msgspec.Struct, array_like=True, frozen=True):
    """digest: SHA-256.  offset: bytes that the asker has already."""

    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    offset: Annotated[int, Meta(ge=0, le=1 << 53)]


class _SourceFailed(Exception):
    """This source will not give the rest; the text says why.

    lied: it sent other bytes than it should.  busy: it may give them a little later.
    """

    def __init__(self, reason: str, *, lied: bool = False, busy: bool = False) -> None:
        super().__init__(reason)
        self.lied = lied
        self.busy = busy


class BlobTransfers:
    """Serves the store's blobs, and fetches what lacks.

    open_stream: a stream of a protocol to a peer, made if need be.  on_liar: told of a peer whose bytes had
    another digest.  on_fetched: told of what came, and its size.  find_providers: who else may have it.
    """

    def __init__(self, store: BlobStore, open_stream: OpenStream) -> None:
        self.on_liar: Callable[[bytes, bytes], None] = lambda _peer, _digest: None
        self.on_fetched: Callable[[bytes, int], None] = lambda _digest, _size_bytes: None
        self.on_limit: OnLimit = ignore_limit
        self.find_providers: Callable[[bytes], Awaitable[Sequence[bytes]]] | None = None
        self._store = store
        self._open_stream = open_stream
        self._serving: Counter[bytes] = Counter()
        self._fetching = trio.CapacityLimiter(FETCHES_AT_ONCE)
        self._under_way: dict[bytes, trio.Event] = {}

    # -- serving -------------------------------------------------------------------------------------------

    async def serve(self, stream: INetStream) -> None:
        """Answer one request of an admitted peer."""
        raw, peer = bytes_of(stream), node_id_of(stream.muxed_conn.peer_id) or b""
        try:
            with trio.fail_after(REQUEST_S):
                request = await _read_request(raw)
            if request is None:
                await raw.write(bytes([MALFORMED]))
            elif (limit := self._is_busy(peer)) is not None:
                self.on_limit(limit, peer, "")
                await raw.write(bytes([BUSY]))
            else:
                await self._serve(raw, request, peer)
            await raw.close()
        except (*STREAM_GONE, trio.TooSlowError, StorageError) as error:
            log.debug("blob.serve-ended", reason=str(error) or type(error).__name__)
            await raw.reset()

    def _is_busy(self, peer: bytes) -> Limit | None:
        """Slow readers keep places for long: none may have all of them."""
        if self._serving[peer] >= SERVES_A_PEER:
            return Limit.PEER_BLOBS
        return Limit.BLOBS_SERVED if self._serving.total() >= SERVES_AT_ONCE else None

    async def _serve(self, raw: ByteStream, request: BlobRequest, peer: bytes) -> None:
        self._serving[peer] += 1
        try:
            try:
                size_bytes = self._store.size_bytes(request.digest)
                file = self._store.open(request.digest)
            except BlobMissing:
                await raw.write(bytes([MISSING]))
                return
            with file:
                await _send_file(raw, file, request.offset, size_bytes)
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]

    # -- fetching ------------------------------------------------------------------------------------------

    async def fetch_blob(self, digest: bytes, sources: Sequence[bytes], limit_bytes: int) -> None:
        """The blob is in the store when this returns; one fetch serves all that wait for the same.

        sources: tried in order, then whoever provides it as far as the mesh knows; each goes on where the last
        one ended. Raises BlobFetchError, StorageError.
        """
        while (under_way := self._under_way.get(digest)) is not None:
            await under_way.wait()
        if self._store.has(digest):
            return
        done = self._under_way[digest] = trio.Event()
        try:
            async with self._fetching:
                await self._fetch(digest, sources, limit_bytes)
            self.on_fetched(digest, self._store.size_bytes(digest))
        finally:
            del self._under_way[digest]
            done.set()

    async def _fetch(self, digest: bytes, sources: Sequence[bytes], limit_bytes: int) -> None:
        incoming = _Incoming(self._store, digest, limit_bytes)
        asked = _Asked()
        until_s = trio.current_time() + BUSY_S
        try:
            tried = dict.fromkeys(sources)
            for source in tried:
                if await self._pull(source, incoming, asked):
                    return
            for source in await self._providers(digest):
                if source not in tried and await self._pull(source, incoming, asked):
                    return
            while asked.busy and trio.current_time() < until_s:
                await trio.sleep(BUSY_PAUSE_S)
                waited_for, asked.busy = asked.busy, {}
                for source in waited_for:
                    if await self._pull(source, incoming, asked):
                        return
            raise BlobFetchError("; ".join(asked.reasons.values()) or "nobody is known to have it")
        finally:
            incoming.abort()

    async def _providers(self, digest: bytes) -> Sequence[bytes]:
        return () if self.find_providers is None else await self.find_providers(digest)

    async def _pull(self, source: bytes, incoming: _Incoming, asked: _Asked) -> bool:
        """Take what the source gives. True if the blob is complete and stored."""
        try:
            stream = await self._open_stream(source, BLOB_PROTOCOL)
        except (*STREAM_GONE, trio.TooSlowError) as error:
            asked.reasons[source] = f"{peer_id_text(source)[-8:]} was not reached: {error or type(error).__name__}"
            return False
        raw = bytes_of(stream)
        try:
            await _receive(raw, incoming)
            await incoming.finish()
        except _SourceFailed as failed:
            asked.reasons[source] = f"{peer_id_text(source)[-8:]} {failed}"
            if failed.busy:
                asked.busy[source] = None
            if failed.lied:
                log.warning("blob.liar", peer=peer_id_text(source), digest=incoming.digest.hex())
                self.on_liar(source, incoming.digest)
            return False
        except (*STREAM_GONE, trio.TooSlowError) as error:
            asked.reasons[source] = f"{peer_id_text(source)[-8:]} broke off: {error or type(error).__name__}"
            return False
        finally:
            with shielded(1.0):
                await stream.reset()
        return True


@dataclass(slots=True)
class _Asked:
    """What came of asking. reasons: why each had it not, the last time.  busy: who may be asked again."""

    reasons: dict[bytes, str] = field(default_factory=dict)
    busy: dict[bytes, None] = field(default_factory=dict)


class _Incoming:
    """A blob on its way in, from one source after another."""

    def __init__(self, store: BlobStore, digest: bytes, limit_bytes: int) -> None:
        self.digest = digest
        self._store = store
        self._limit_bytes = limit_bytes
        self._writer: BlobWriter | None = None
        self._size_bytes = -1

    @property
    def offset(self) -> int:
        """Bytes that are here."""
        return 0 if self._writer is None else self._writer.size_bytes

    def expect(self, size_bytes: int) -> None:
        """A source's claim. Raises _SourceFailed for one that cannot be; StorageError without room for it."""
        if size_bytes > self._limit_bytes:
            raise _SourceFailed(f"says {size_bytes} bytes, at most {self._limit_bytes} are taken")
        if self._writer is not None and size_bytes != self._size_bytes:
            # One of the two lied; the digest will tell which. Begin again with this one.
            self.abort()
        if self._writer is None:
            self._writer = self._store.writer(expected_digest=self.digest, expected_size_bytes=size_bytes)
            self._size_bytes = size_bytes

    async def write(self, part: bytes) -> None:
        assert self._writer is not None
        await self._writer.write_async(part)

    async def finish(self) -> None:
        """Verify and store. Raises _SourceFailed if the bytes are others."""
        assert self._writer is not None
        try:
            await self._writer.finish_async()
        except BlobMismatch as error:
            self._writer = None
            raise _SourceFailed(f"sent other bytes: {error}", lied=True) from None

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer = None


async def _read_request(raw: ByteStream) -> BlobRequest | None:
    (length,) = _LENGTH.unpack(await _read_exactly(raw, _LENGTH.size))
    if length > REQUEST_BYTES_MAX:
        return None
    try:
        request: BlobRequest = decode_bounded(
            await _read_exactly(raw, length), BlobRequest, max_bytes=REQUEST_BYTES_MAX, max_items=4
        )
    except DecodeError:
        return None
    return request


async def _read_exactly(raw: ByteStream, size_bytes: int) -> bytes:
    """Raises one of STREAM_GONE if the stream ends before."""
    parts = bytearray()
    while len(parts) < size_bytes:
        data = await raw.read(size_bytes - len(parts))
        if not data:
            raise trio.BrokenResourceError("the stream ended")
        parts += data
    return bytes(parts)


async def _send_file(raw: ByteStream, file: BinaryIO, offset: int, size_bytes: int) -> None:
    """Raises trio.TooSlowError if the asker takes nothing for STALL_S."""
    handle = file.fileno()
    await raw.write(bytes([FOUND]) + _SIZE.pack(size_bytes))
    while offset < size_bytes:
        part = await trio.to_thread.run_sync(os.pread, handle, CHUNK_BYTES, offset)
        if not part:
            raise trio.BrokenResourceError("the file was cut short")
        offset += len(part)
        with trio.fail_after(STALL_S):
            await raw.write(part)


async def _receive(raw: ByteStream, incoming: _Incoming) -> None:
    """Ask, and take all that is to come."""
    offset = incoming.offset
    payload = encode(BlobRequest(incoming.digest, offset))
    with trio.fail_after(STALL_S):
        await raw.write(_LENGTH.pack(len(payload)) + payload)
        status = (await _read_exactly(raw, 1))[0]
        if status != FOUND:
            raise _SourceFailed(_REFUSALS.get(status, "gave no answer that we know"), busy=status == BUSY)
        (size_bytes,) = _SIZE.unpack(await _read_exactly(raw, _SIZE.size))
    incoming.expect(size_bytes)
    if incoming.offset != offset:
        raise _SourceFailed("says another size than the source before; it begins anew with the next")
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[bytes](CHUNKS_WAITING)
        nursery.start_soon(_store_chunks, receive, incoming, failures, nursery.cancel_scope)
        async with send:
            try:
                await _read_chunks(raw, size_bytes - offset, send)
            except (*STREAM_GONE, trio.TooSlowError) as error:
                failures.append(error)  # what has arrived is stored all the same: the next source goes on there
    if failures:
        raise failures[0]


async def _read_chunks(raw: ByteStream, left_bytes: int, send: trio.MemorySendChannel[bytes]) -> None:
    buffer = bytearray()
    while left_bytes > 0:
        with trio.fail_after(STALL_S):
            data = await raw.read(min(left_bytes, CHUNK_BYTES))
        if not data:
            raise trio.BrokenResourceError("the stream ended")
        left_bytes -= len(data)
        buffer += data
        if len(buffer) >= CHUNK_BYTES or not left_bytes:
            await send.send(bytes(buffer))
            buffer.clear()


async def _store_chunks(
    receive: trio.MemoryReceiveChannel[bytes],
    incoming: _Incoming,
    failures: list[Exception],
    scope: trio.CancelScope,
) -> None:
    """Hash and write one chunk, in a thread, while the next arrives."""
    try:
        async for chunk in receive:
            await incoming.write(chunk)
    except StorageError as error:
        failures.append(error)
        scope.cancel()
