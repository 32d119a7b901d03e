"""A confidential job's spec: what the request says goes through twice, once to find its key, once to seal it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ...crypto.envelope import CHUNK_BYTES, Envelope
from ...crypto.identity import Identity
from ...crypto.sealing import SealError
from ...protocol.inputs import input_packs
from ...protocol.records import FileRef, InputPack, JobSpec, Secrecy
from ...protocol.secrecy.hidden import COVER_ENTRY, COVER_NAME, Hidden, cover_name, hide
from ...protocol.secrecy.keys import binding_of, envelope_of, job_key, key_digest, salt_of
from ..storage.blobs import BlobStore
from .errors import ClientError
from .peers_view import as_peers_read
from .request import (
    INLINE_INPUTS_BYTES_MAX,
    INLINE_INPUTS_MAX,
    NO_PROGRAM,
    JobRequest,
    Told,
    inline_or_all,
    only_bytes,
    policy_of,
    spec_of,
)

# An input of the smallest bucket takes so much in the spec.
_INLINE_OVERHEAD_BYTES = 80
# So many small inputs are read between two looks at whether anybody still waits.
_ASKED_EACH = 64


def build_confidential(
    request: JobRequest,
    identity: Identity,
    mesh_id: bytes,
    nodes: tuple[bytes, ...],
    store: BlobStore,
    pin: bytes,
    told: Told = lambda part_bytes: None,
) -> JobSpec:
    """As `build_spec`; all that the store gets is ciphertext. nodes: the only ones that may be given the key, or empty.

    Raises ClientError, OSError, StorageError.
    """
    salt = salt_of(identity, _digest_of(request, told))
    key = job_key(identity, salt)
    sealing = _Sealing(envelope_of(key), salt, store, pin, told)
    try:
        names = sorted(request.files)
        files = tuple(
            FileRef(cover_name(number), *sealing.blob("file", number, request.files[name]))
            for number, name in enumerate(names)
        )
        program, program_bytes = NO_PROGRAM, 0
        if request.runtime == "wasm":
            program, program_bytes = sealing.blob("program", 0, _program(request))
        inline, packs = sealing.inputs(request.inputs)
    except SealError as error:
        raise ClientError(f"a file of the job: {error.reason}; submit it again") from error
    hidden = Hidden(request.name, request.entry, tuple(request.arguments), tuple(names))
    secrecy = Secrecy(
        salt, key_digest(key), hide(hidden, key, salt), request.trust_classes, request.trust_owners, nodes
    )
    command = str(request.program) if request.runtime == "native" else ""
    said = spec_of(request, mesh_id, (program, program_bytes, command), files, inline, packs, str(request.comparator))
    covered = msgspec.structs.replace(
        said, nonce=b"", name=COVER_NAME, entry=COVER_ENTRY, arguments=(), secrecy=secrecy
    )
    return as_peers_read(covered)


class _Sealing:
    def __init__(self, envelope: Envelope, salt: bytes, store: BlobStore, pin: bytes, told: Told) -> None:
        self._envelope = envelope
        self._salt = salt
        self._store = store
        self._pin = pin
        self._told = told

    def blob(self, kind: str, number: int, content: bytes | Path) -> tuple[bytes, int]:
        """Sealed into the store; (digest, size) of the ciphertext. Raises SealError if a file changes meanwhile."""
        binding = binding_of(self._salt, kind, number)
        with self._store.writer(durable=False) as writer:
            size = 0
            for part in self._parts(content, binding):
                writer.write(part)
                if isinstance(content, Path):
                    self._told(len(part))
                size += len(part)
            digest = writer.finish()
        if not self._store.pin(digest, self._pin):
            # A submission that was given up took it away just now; what comes is pinned on arrival.
            return self.blob(kind, number, content)
        return digest, size

    def _parts(self, content: bytes | Path, binding: bytes) -> Iterator[bytes]:
        if isinstance(content, bytes):
            yield self._envelope.seal(content, binding)
            return
        with _opened(content) as file:
            yield from self._envelope.seal_parts(os.fstat(file.fileno()).st_size, _read(file), binding)

    def inputs(self, inputs: Iterable[bytes] | None) -> tuple[tuple[bytes, ...], tuple[InputPack, ...]]:
        """Inline if they are few and small, else in packs; each input alone, or each pack, is an envelope."""
        if inputs is None:
            return (), ()
        head, everything = inline_or_all(inputs, INLINE_INPUTS_MAX, INLINE_INPUTS_BYTES_MAX, _INLINE_OVERHEAD_BYTES)
        if everything is None:
            seal = self._envelope.seal
            return tuple(seal(item, binding_of(self._salt, "input", at)) for at, item in enumerate(head)), ()
        packs = []
        for number, (first, count, data) in enumerate(input_packs(everything)):
            digest, size = self.blob("pack", number, data)
            self._told(size)
            packs.append(InputPack(digest, first, count, size))
        return (), tuple(packs)


def _digest_of(request: JobRequest, told: Told) -> bytes:
    """Of all that the job says, so that the same job has the same key, and no other has."""
    said = [
        request.name,
        request.runtime,
        request.abi,
        request.entry,
        list(request.arguments),
        request.tasks,
        request.limits,
        request.priority,
        request.estimate_us,
        request.deadline_us,
        request.price_limit_micro,
        request.nonce,
        policy_of(request),
        str(request.comparator),
        [request.trust_classes, request.trust_owners, request.trust_streak],
        sorted(request.files),
        request.inputs is not None,
    ]
    hasher = hashlib.sha256(msgspec.msgpack.encode(said))
    for content in (_program(request), *(request.files[name] for name in sorted(request.files))):
        hasher.update(_content_digest(content, told))
    for number, item in enumerate(only_bytes(request.inputs or ())):
        if len(item) >= CHUNK_BYTES or number % _ASKED_EACH == 0:
            told(0)
        hasher.update(hashlib.sha256(item).digest())
    return hasher.digest()


def _program(request: JobRequest) -> bytes | Path:
    """The module; of a native job the command's name."""
    if not isinstance(request.program, str):
        return request.program
    return Path(request.program) if request.runtime == "wasm" else request.program.encode()


def _content_digest(content: bytes | Path, told: Told) -> bytes:
    if not isinstance(content, Path):
        return hashlib.sha256(content).digest()
    hasher = hashlib.sha256()
    with _opened(content) as file:
        for part in _read(file):
            told(0)
            hasher.update(part)
    return hasher.digest()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ClientError(f"{path}: cannot be read: {error.strerror}") from error


def _read(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(CHUNK_BYTES):
        yield part
