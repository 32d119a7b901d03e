"""OCI archives made here, from this machine's own programs: no registry, no network, no podman."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class Archive:
    """An archive in the making. `seal` gives the image's digest; what a test changes before is as wrong as it says.

    pack: how layers are packed.  unpacked: their digests as the configuration has them; None for what they are.
    """

    layers: list[bytes] = field(default_factory=list)
    command: Sequence[str] = ("/bin/sh",)
    environment: Sequence[str] = ("COLOUR=red",)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[dict[str, object]] = field(default_factory=list)
    pack: Callable[[bytes], bytes] = bytes
    unpacked: Sequence[str] | None = None

    def put(self, content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def seal(self) -> str:
        """Make the manifest. Returns its digest."""
        layers = [self.put(self.pack(layer), LAYER) for layer in self.layers]
        unpacked = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in self.layers]
        about = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Env": list(self.environment), "Cmd": list(self.command)},
            "rootfs": {"type": "layers", "diff_ids": unpacked if self.unpacked is None else self.unpacked},
        }
        config = self.put(json.dumps(about).encode(), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        self.manifests.append(self.put(json.dumps(manifest).encode(), MANIFEST))
        return str(self.manifests[-1]["digest"])

    def write(self, path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": self.manifests}).encode())
            for digest, content in self.blobs.items():
                _add(archive, f"blobs/sha256/{digest}", content)


def layer(files: Mapping[str, bytes], owner: int = 0, mode: int = 0o755) -> bytes:
    """A layer of these files; names are paths without a leading slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            _add(archive, name, content, owner, mode)
    return buffer.getvalue()


def programs(*names: str) -> dict[str, bytes]:
    """Programs of this machine under /bin, with the libraries that they are linked with."""
    files: dict[str, bytes] = {}
    for name in names:
        path = Path("/usr/bin") / name
        files[f"bin/{name}"] = path.read_bytes()
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for word in linked.split():
            if word.startswith("/"):
                files[word.lstrip("/")] = Path(word).read_bytes()
    return dict(sorted(files.items()))


def shell_image(*names: str, **more: Sequence[str]) -> Archive:
    """An image of a shell and a few programs."""
    return Archive([layer(programs("sh", *names))], **more)  # type: ignore[arg-type]


def hide_another_image(path: Path, archive: Archive, other: bytes, hide: Callable[[bytes], bytes]) -> None:
    """Append to what `archive` wrote an index of an image with the same configuration and another layer.
    hide: makes, of the index, members that some readers take for `index.json`."""
    manifest = json.loads(archive.blobs[str(archive.manifests[0]["digest"]).removeprefix("sha256:")])
    behind = Archive()
    manifest["layers"] = [behind.put(other, LAYER)]
    manifests = [behind.put(json.dumps(manifest).encode(), MANIFEST)]
    blobs = b"".join(member(f"blobs/sha256/{digest}", content) for digest, content in behind.blobs.items())
    hidden = hide(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
    with path.open("r+b") as file:
        with tarfile.open(fileobj=file, mode="a") as written:
            end = written.offset
        file.seek(end)
        file.write(blobs + hidden + bytes(20 * 512))
        file.truncate()


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Header and content of one member, and its padding."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode = kind, len(content), 0o644
    header = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    padding = bytes(-len(content) % 512)
    return _signed(header) + content + padding


def _signed(header: bytearray) -> bytes:
    """With the sum that a reader checks."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _in_a_folder(index: bytes) -> bytes:
    """A folder has no content: who goes by its header's size passes over the member, who knows that finds it."""
    inner = member("index.json", index)
    folder = bytearray(member("blobs/", b"", tarfile.DIRTYPE)[:512])
    folder[:100] = b"blobs/".ljust(100, b"\0")
    folder[124:136] = b"%011o\0" % len(inner)
    return _signed(folder) + inner


HIDINGS: dict[str, Callable[[bytes], bytes]] = {
    "path to be cleaned": lambda index: member("blobs/../index.json", index),
    "slash at the end": lambda index: member("index.json/", index),
    "two slashes": lambda index: member(".//index.json", index),
    "in a folder's content": _in_a_folder,
    "renamed by GNU": lambda index: (
        member("././@LongLink", b"index.json\0", b"L") + member(f"blobs/sha256/{'0' * 64}", index)
    ),
    "renamed by PAX": lambda index: (
        member("x", b"19 path=index.json\n", b"x") + member(f"blobs/sha256/{'0' * 64}", index)
    ),
    "by a symbolic link": lambda index: (
        _link("index.json", hashlib.sha256(index).hexdigest())
        + member(f"blobs/sha256/{hashlib.sha256(index).hexdigest()}", index)
    ),
}


def _link(name: str, digest: str) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, f"blobs/sha256/{digest}"
    return entry.tobuf(tarfile.USTAR_FORMAT)


def _add(archive: tarfile.TarFile, name: str, content: bytes, owner: int = 0, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
    archive.addfile(entry, io.BytesIO(content))
