"""What a batch is made of: program, files, inputs; as the store has them, or opened with a confidential job's key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import trio

from ...crypto.envelope import CHUNK_BYTES, Envelope
from ...protocol.jobs import JobState
from ...protocol.records import JobSpec
from ...protocol.secrecy.hidden import revealed
from ...protocol.secrecy.keys import binding_of, envelope_of
from ..storage.blobs import BlobStore
from .folder import SecretFolder, SecretFolderError

# Programs and files of one job in the clear, together: they lie in memory.
OPENED_BYTES_MAX = 1 << 30


class Material(Protocol):
    """spec: as its submitter wrote it."""

    spec: JobSpec

    @property
    def program_digest(self) -> bytes:
        """Of the module in the clear, once `path` has opened it."""

    async def path(self, kind: str, number: int, digest: bytes) -> Path:
        """A file with what a blob holds."""

    async def read(self, kind: str, number: int, digest: bytes) -> bytes: ...

    def inline(self, lo: int, hi: int) -> Sequence[bytes]:
        """Inputs that ride in the spec."""


class PlainMaterial:
    """Of a job that anybody may read."""

    def __init__(self, spec: JobSpec, store: BlobStore) -> None:
        self.spec = spec
        self._store = store

    @property
    def program_digest(self) -> bytes:
        return self.spec.program

    async def path(self, kind: str, number: int, digest: bytes) -> Path:
        return self._store.path(digest)

    async def read(self, kind: str, number: int, digest: bytes) -> bytes:
        return await self._store.read_async(digest)

    def inline(self, lo: int, hi: int) -> Sequence[bytes]:
        return self.spec.inline_inputs[lo:hi]


class SecretMaterial:
    """Of a confidential job, with its key. What it opens into files stays until the folder forgets the job."""

    def __init__(self, view: JobState, key: bytes | bytearray, store: BlobStore, folder: SecretFolder) -> None:
        """Raises SealError: the key is another job's."""
        assert view.spec.secrecy is not None
        self._job_id = view.job_id
        self._salt = view.spec.secrecy.salt
        self._envelope = envelope_of(key)
        self._store = store
        self._folder = folder
        self._paths: dict[tuple[str, int], Path] = {}
        self._program_digest = b""
        self._opening = trio.Lock()
        self.spec = revealed(view.spec, key)

    @property
    def envelope(self) -> Envelope:
        return self._envelope

    @property
    def salt(self) -> bytes:
        return self._salt

    @property
    def program_digest(self) -> bytes:
        return self._program_digest

    async def path(self, kind: str, number: int, digest: bytes) -> Path:
        """Raises SealError, SecretFolderError, StorageError."""
        async with self._opening:
            known = self._paths.get((kind, number))
            if known is None:
                total = sum(ref.size_bytes for ref in self.spec.files) + self.spec.program_bytes
                if total > OPENED_BYTES_MAX:
                    raise SecretFolderError(f"program and files of {total} bytes, at most {OPENED_BYTES_MAX} in memory")
                known = await trio.to_thread.run_sync(self._open_file, kind, number, digest)
                self._paths[kind, number] = known
            return known

    def _open_file(self, kind: str, number: int, digest: bytes) -> Path:
        hasher = sha256()

        def parts() -> Iterator[bytes]:
            for part in self._envelope.open_parts(self._blob(digest), binding_of(self._salt, kind, number)):
                hasher.update(part)
                yield part

        path = self._folder.write(self._job_id, f"{kind}-{number}", parts())
        if kind == "program":
            self._program_digest = hasher.digest()
        return path

    def _blob(self, digest: bytes) -> Iterator[bytes]:
        with self._store.open(digest) as file:
            while part := file.read(CHUNK_BYTES):
                yield part

    async def read(self, kind: str, number: int, digest: bytes) -> bytes:
        """Raises SealError, StorageError."""
        sealed = await self._store.read_async(digest)
        return self._envelope.open(sealed, binding_of(self._salt, kind, number))

    def inline(self, lo: int, hi: int) -> Sequence[bytes]:
        """Raises SealError."""
        sealed = self.spec.inline_inputs[lo:hi]
        return [
            self._envelope.open(item, binding_of(self._salt, "input", index)) for index, item in enumerate(sealed, lo)
        ]


class SecretMaterials:
    """Those of the jobs whose key is here."""

    def __init__(self, store: BlobStore, folder: SecretFolder | None, reason: str = "") -> None:
        """folder: None where there is no memory for files, for the reason."""
        self._store = store
        self._folder = folder
        self._reason = reason
        self._jobs: dict[bytes, SecretMaterial] = {}

    def of(self, view: JobState, key: bytes | bytearray) -> SecretMaterial:
        """Raises SealError, SecretFolderError."""
        if self._folder is None:
            raise SecretFolderError(self._reason)
        found = self._jobs.get(view.job_id)
        if found is None:
            found = self._jobs[view.job_id] = SecretMaterial(view, key, self._store, self._folder)
        return found

    def folder_of(self, job_id: bytes) -> Path:
        """Where the job's files lie. Raises SecretFolderError."""
        if self._folder is None:
            raise SecretFolderError(self._reason)
        return self._folder.job(job_id)

    def forget(self, job_id: bytes) -> None:
        """The job's key is wiped: what it opened goes."""
        self._jobs.pop(job_id, None)
        if self._folder is not None:
            self._folder.forget(job_id)
