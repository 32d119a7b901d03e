"""What an archive says of its image: right ones are read, and whatever is odd is refused by name."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.execution import seccomp
from hearthmesh.node.execution.oci_archive import ImageFault, read_image
from hearthmesh.node.execution.oci_config import OciRuntimeConfig
from hearthmesh.node.execution.oci_seccomp import stricter
from tests.node.execution.images import Archive, layer

FILES = {"bin/tool": b"#!", "etc/name": b"x"}


def made() -> Archive:
    return Archive([layer(FILES)], command=("/bin/tool", "-v"), environment=("A=1",))


def test_an_image_is_known_by_its_manifest_and_tells_its_command(tmp_path: Path) -> None:
    archive = made()
    digest = archive.seal()
    archive.write(tmp_path / "image.tar")
    image = read_image(tmp_path / "image.tar")
    assert (image.digest, image.command, image.environment) == (digest, ("/bin/tool", "-v"), ("A=1",))
    assert hashlib.sha256(archive.blobs[image.config[7:]]).hexdigest() == image.config[7:]


def two_images(archive: Archive) -> None:
    archive.command = ("/bin/other",)
    archive.seal()


def list_of_platforms(archive: Archive) -> None:
    archive.manifests[0]["mediaType"] = "application/vnd.oci.image.index.v1+json"


def another_manifest(archive: Archive) -> None:
    digest = str(archive.manifests[0]["digest"])[7:]
    archive.blobs[digest] = archive.blobs[digest].replace(b"schemaVersion", b"schemeVersion")


def no_manifest(archive: Archive) -> None:
    del archive.blobs[str(archive.manifests[0]["digest"])[7:]]


def path_as_digest(archive: Archive) -> None:
    archive.manifests[0]["digest"] = "sha256:../../../etc/passwd"


def manifest_that_is_none(archive: Archive) -> None:
    archive.manifests = [archive.put(b"[" * 3_000, str(archive.manifests[0]["mediaType"]))]


def huge_manifest(archive: Archive) -> None:
    archive.manifests = [archive.put(b" " * (5 << 20), str(archive.manifests[0]["mediaType"]))]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (two_images, "an archive of 2 images; one is needed"),
        (list_of_platforms, "is no image's manifest: archive it for one platform"),
        (another_manifest, "a blob that is not sha256:"),
        (no_manifest, "no OCI archive: it has no blobs/sha256/"),
        (path_as_digest, "is no sha256 digest"),
        (manifest_that_is_none, "the manifest cannot be read"),
        (huge_manifest, "is longer than 4194304 bytes"),
    ],
)
def test_what_is_odd_is_refused_in_one_line(tmp_path: Path, change: object, words: str) -> None:
    archive = made()
    archive.seal()
    change(archive)  # type: ignore[operator]
    archive.write(tmp_path / "image.tar")
    with pytest.raises(ImageFault, match=words) as caught:
        read_image(tmp_path / "image.tar")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "environment", "words"),
    [
        pytest.param(("/bin/tool",), ("=x",), "a variable without a name: '=x'", id="no name"),
        pytest.param(("/bin/tool",), ("A=1", " =x"), "a variable without a name: ' =x'", id="a blank name"),
        pytest.param(("/bin/tool", "x" * (128 << 10)), (), "too long a command or environment", id="a long word"),
        pytest.param(("/bin/tool",), ("A=" + "é" * (64 << 10),), "too long a command", id="a long word of bytes"),
        pytest.param(("/bin/tool",), ["A=" + "x" * 1_000] * 200, "too long a command", id="much environment"),
    ],
)
def test_what_no_node_could_hand_to_a_program_is_the_images_fault(
    tmp_path: Path, command: tuple[str, ...], environment: tuple[str, ...], words: str
) -> None:
    archive = Archive([layer(FILES)], command=command, environment=environment)
    archive.seal()
    archive.write(tmp_path / "image.tar")
    with pytest.raises(ImageFault, match=words):
        read_image(tmp_path / "image.tar")


def test_a_name_twice_is_refused_since_podman_would_read_the_other(tmp_path: Path) -> None:
    archive = made()
    archive.seal()
    archive.write(tmp_path / "one.tar")
    archive.manifests[0]["digest"] = f"sha256:{'0' * 64}"
    archive.write(tmp_path / "two.tar")
    one = (tmp_path / "one.tar").read_bytes().rstrip(b"\0")
    whole = one + bytes(-len(one) % 512) + (tmp_path / "two.tar").read_bytes()
    (tmp_path / "both.tar").write_bytes(whole)
    with pytest.raises(ImageFault, match="twice"):
        read_image(tmp_path / "both.tar")


@pytest.mark.parametrize("kind", ["gzip", "first part of a path"])
def test_an_archive_that_podman_would_read_otherwise_is_refused(tmp_path: Path, kind: str) -> None:
    archive = made()
    archive.seal()
    archive.write(tmp_path / "image.tar")
    content = bytearray((tmp_path / "image.tar").read_bytes())
    if kind == "gzip":
        content[:2] = b"\x1f\x8b"
    else:
        at = content.index(b"blobs/sha256/")
        digest = content[at + 13 : at + 77]
        content[at : at + 100] = digest.ljust(100, b"\0")
        content[at + 345 : at + 357] = b"blobs/sha256"
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(ImageFault, match="has no place in one"):
        read_image(tmp_path / "image.tar")


@given(st.binary(max_size=3_000))
def test_any_bytes_are_an_image_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(content)
    with pytest.raises(ImageFault):
        read_image(path)


@pytest.mark.parametrize(
    "name", ["busybox", "busybox:1.36", "sha256:12", f"sha256:{'G' * 64}", f"docker://x@sha256:{'0' * 64}"]
)
def test_an_owner_names_images_by_digest_only(name: str) -> None:
    with pytest.raises(ValueError, match="is no image digest"):
        OciRuntimeConfig(images=(name,))


def test_the_filter_is_podmans_less_what_no_task_may() -> None:
    default = json.loads(
        """{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"]}],
        "syscalls": [{"names": ["read", "mount", "clone"], "action": "SCMP_ACT_ALLOW", "args": []},
                     {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": []}]}"""
    )
    rules = stricter(default)["syscalls"]
    allowed = {name: rule["args"] for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert set(allowed) == {"read", "clone", "socket"}
    assert allowed["read"] == [] and allowed["clone"] and allowed["socket"]
    refused = {name for rule in rules if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]}
    assert refused == {*seccomp.DENIED, "socket"}
    assert stricter(default)["archMap"] == [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}]
    with pytest.raises(KeyError):
        stricter({**default, "defaultAction": "SCMP_ACT_ALLOW"})


def test_what_is_no_tar_file_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "m.wasm"
    path.write_bytes(b"\0asm\1\0\0\0" + b"code" * 200)
    with pytest.raises(ImageFault, match="^no OCI archive: it is no tar file$"):
        read_image(path)
