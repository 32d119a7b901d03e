"""Reads what an OCI archive says of its image, before podman unpacks it: manifest, configuration, and its layers.

An archive is a stranger's: a tar file that holds `index.json` and `blobs/sha256/…`. `read_image` reads as much as tells
which image it is. `check_layers` compares each layer, as it is packed, with its digest in the manifest, so that only
bytes that an owner allowed are unpacked; podman does that too. What it holds once unpacked is said in the
configuration, and podman does not look: `check_layers` does. Podman reads the archive once more, with a reader that
cleans paths and lets later members replace earlier ones; so that both read the same, whatever a plain archive does not
have is a fault.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from .native_archive import BLOCK_BYTES, ArchiveFault, member_path, member_size
from .oci_config import is_image_digest

MAX_MEMBERS = 4_096
MAX_TEXT_BYTES = 4 << 20
MAX_COMMAND_WORDS = 1_024
MAX_COMMAND_BYTES = 128 << 10  # as long as Linux lets one word be
WORD_OVERHEAD_BYTES = 16  # its pointer, its end, and podman's option before it
_INDEX = "index.json"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REGULAR = (b"0", b"\0")
_FOLDER = b"5"
_FILES = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_FOLDERS = ("blobs/", "blobs/sha256/")
# What `docker save`, and skopeo's and podman's docker-archive, have besides, or in place of it.
_DOCKERS = re.compile(r"manifest\.json|repositories|[0-9a-f]{64}(\.tar|\.json|/|/layer\.tar|/VERSION|/json)")
_REPACK = "a docker-archive; repack it: skopeo copy docker-archive:IMAGE.tar oci-archive:NEW.tar"
# A layer may be packed with gzip, or not at all.
_OTHER_PACKINGS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
PIECE_BYTES = 1 << 20
_PREFIX_AT = 345  # where a header has the first part of a long path: read by some formats, passed over by others

T = TypeVar("T")


class ImageFault(Exception):
    """The file is no image, or another one than was named; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Image:
    """digest: the manifest's, which names the image.  config: the configuration's digest, by which podman knows it.
    environment: NAME=VALUE, and command: what runs where a job names nothing; both as the image has them."""

    digest: str
    config: str
    environment: tuple[str, ...]
    command: tuple[str, ...]


class _Descriptor(msgspec.Struct):
    digest: str
    media_type: str = msgspec.field(name="mediaType", default="")


class _Index(msgspec.Struct):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct):
    config: _Descriptor
    layers: list[_Descriptor]


class _Process(msgspec.Struct):
    environment: list[str] | None = msgspec.field(name="Env", default=None)
    entrypoint: list[str] | None = msgspec.field(name="Entrypoint", default=None)
    command: list[str] | None = msgspec.field(name="Cmd", default=None)


class _Layers(msgspec.Struct):
    unpacked: list[str] = msgspec.field(name="diff_ids")


class _Configuration(msgspec.Struct):
    rootfs: _Layers
    config: _Process | None = None


@dataclass(frozen=True, slots=True)
class _Contents:
    members: dict[str, tuple[int, int]]
    digest: str
    manifest: _Manifest
    about: _Configuration


def read_image(path: Path) -> Image:
    """What the archive's one image is. Reads the file's index; call it from a thread. Raises ImageFault, OSError."""
    with path.open("rb") as file:
        contents = _contents(file)
    process = contents.about.config or _Process()
    command = (*(process.entrypoint or ()), *(process.command or ()))
    environment = tuple(process.environment or ())
    _check_words(command, environment)
    return Image(contents.digest, contents.manifest.config.digest, environment, command)


def check_layers(path: Path, look: Callable[[int], object]) -> None:
    """That each layer is what the manifest says, and unpacked what the configuration says. Reads all of the file, up to
    twice, so call it from a thread.
    look: called with how many bytes were unpacked, at least for each megabyte that is read or unpacked; what it raises
    ends it.

    Raises ImageFault, OSError.
    """
    with path.open("rb") as file:
        contents = _contents(file)
        packed, unpacked = contents.manifest.layers, contents.about.rootfs.unpacked
        if len(packed) != len(unpacked):
            raise ImageFault(f"{len(packed)} layers, and the configuration knows {len(unpacked)}")
        total_bytes = 0

        def look_again() -> None:
            look(total_bytes)

        for number, (layer, digest) in enumerate(zip(packed, unpacked, strict=True)):
            start, size_bytes = _find(contents.members, _blob_name(layer.digest))
            part = _Part(file, start, size_bytes, look_again)
            # First: a stranger's gzip may be a name of gigabytes, or members of nothing, which take long to read.
            if _digest(_pieces(part)) != layer.digest:
                raise ImageFault(f"layer {number} is another blob than the manifest says: not {layer.digest[:19]}…")
            found = hashlib.sha256()
            for piece in _unpacked(part, number):
                total_bytes += len(piece)
                look(total_bytes)
                found.update(piece)
            if f"sha256:{found.hexdigest()}" != digest:
                raise ImageFault(f"layer {number} holds something else than the configuration says: not {digest[:19]}…")


def _unpacked(part: _Part, number: int) -> Iterator[bytes]:
    """As podman unpacks it: by how it begins, whatever its media type says."""
    part.seek(0)
    head = part.read(8)
    for magic, name in _OTHER_PACKINGS.items():
        if head.startswith(magic):
            raise ImageFault(
                f"layer {number} is packed with {name}; pack it anew: "
                "skopeo copy --dest-compress --dest-compress-format gzip oci-archive:IMAGE.tar oci-archive:NEW.tar"
            )
    part.seek(0)
    if not head.startswith(b"\x1f\x8b"):
        yield from _pieces(part)
        return
    try:
        with gzip.GzipFile(fileobj=part) as unpacking:
            yield from _pieces(unpacking)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImageFault(f"layer {number} cannot be unpacked: {error}") from error


def _pieces(file: io.RawIOBase | gzip.GzipFile) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _digest(pieces: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return f"sha256:{found.hexdigest()}"


class _Part(io.RawIOBase):
    """A stretch of a file, as a file. look: called at each read."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int, look: Callable[[], object]) -> None:
        self._file, self._start, self._at, self._end, self._look = file, start, start, start + size_bytes, look

    def readable(self) -> bool:
        return True

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._at = self._start + at
        return at

    def read(self, size_bytes: int = -1) -> bytes:
        self._look()
        left_bytes = self._end - self._at
        self._file.seek(self._at)
        piece = self._file.read(left_bytes if size_bytes < 0 else min(size_bytes, left_bytes))
        self._at += len(piece)
        return piece


def _contents(file: BinaryIO) -> _Contents:
    """Raises ImageFault."""
    try:
        members = _members(file)
    except ArchiveFault as fault:
        raise ImageFault(f"no OCI archive: {fault}") from fault
    index = _parse(_text(file, members, _INDEX), _Index, _INDEX)
    if len(index.manifests) != 1:
        raise ImageFault(f"an archive of {len(index.manifests)} images; one is needed")
    named = index.manifests[0]
    if named.media_type not in _MANIFESTS:
        raise ImageFault(f"{named.media_type[:80]!r} is no image's manifest: archive it for one platform")
    manifest = _parse(_blob(file, members, named.digest), _Manifest, "the manifest")
    about = _parse(_blob(file, members, manifest.config.digest), _Configuration, "the configuration")
    return _Contents(members, named.digest, manifest, about)


def _check_words(command: tuple[str, ...], environment: tuple[str, ...]) -> None:
    """Raises ImageFault for what no node could hand to a program."""
    words = (*command, *environment)
    size_bytes = sum(len(word.encode()) + WORD_OVERHEAD_BYTES for word in words)
    if len(words) > MAX_COMMAND_WORDS or size_bytes > MAX_COMMAND_BYTES or any("\0" in word for word in words):
        raise ImageFault("a configuration with too long a command or environment")
    for pair in environment:
        name, is_assigned, _ = pair.partition("=")
        if is_assigned and not name.strip():
            raise ImageFault(f"a configuration with a variable without a name: {pair[:80]!r}")


def _members(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Name → (start, size) of the regular files. Raises ArchiveFault where another reader might find other ones."""
    members: dict[str, tuple[int, int]] = {}
    position = 0
    for _ in range(MAX_MEMBERS):
        file.seek(position)
        header = file.read(BLOCK_BYTES)
        if len(header) < BLOCK_BYTES or header == bytes(BLOCK_BYTES):
            return members
        try:
            size_bytes, name = member_size(header), member_path(header)
        except ArchiveFault as fault:
            raise ArchiveFault("it is no tar file" if position == 0 else "it is damaged") from fault
        if _DOCKERS.fullmatch(name):
            raise ArchiveFault(_REPACK)
        if not _is_expected(header, name, size_bytes):
            raise ArchiveFault(f"{name[:80]!r} has no place in one")
        if header[156:157] in _REGULAR:
            if name in members:
                raise ArchiveFault(f"{name[:80]!r} twice")
            members[name] = (position + BLOCK_BYTES, size_bytes)
        position += BLOCK_BYTES + -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
    raise ArchiveFault(f"more than {MAX_MEMBERS} files")


def _is_expected(header: bytes, name: str, size_bytes: int) -> bool:
    """Whether each reader of tar takes the member for the same: a file or folder of the layout, under its plain name.

    Not so with links, headers that rename the next member, folders that claim content (which podman reads as more
    members), and an archive that begins as compressed ones do.
    """
    if header[_PREFIX_AT]:
        return False
    kind = header[156:157]
    if kind in _REGULAR:
        return _FILES.fullmatch(name) is not None
    return kind == _FOLDER and name in _FOLDERS and size_bytes == 0


def _blob(file: BinaryIO, members: dict[str, tuple[int, int]], digest: str) -> bytes:
    text = _text(file, members, _blob_name(digest))
    if hashlib.sha256(text).hexdigest() != digest.removeprefix("sha256:"):
        raise ImageFault(f"a blob that is not {digest[:19]}…")
    return text


def _text(file: BinaryIO, members: dict[str, tuple[int, int]], name: str) -> bytes:
    start, size_bytes = _find(members, name)
    if size_bytes > MAX_TEXT_BYTES:
        raise ImageFault(f"{name[:80]} is longer than {MAX_TEXT_BYTES} bytes")
    file.seek(start)
    return file.read(size_bytes)


def _blob_name(digest: str) -> str:
    if not is_image_digest(digest):
        raise ImageFault(f"{digest[:80]!r} is no sha256 digest")
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _find(members: dict[str, tuple[int, int]], name: str) -> tuple[int, int]:
    if name not in members:
        raise ImageFault(f"no OCI archive: it has no {name[:80]}")
    return members[name]


def _parse(text: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ImageFault(f"{what} cannot be read: {error}") from error
