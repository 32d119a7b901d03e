"""Layers hold what an image's configuration says, and archives that other programs make are taken, or told apart."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from hearthmesh.node.execution.oci_archive import PIECE_BYTES, ImageFault, check_layers, read_image
from hearthmesh.node.execution.outcome import ExecutionError
from tests.node.execution.containers import Ask, opened, result
from tests.node.execution.images import Archive, layer, member, shell_image

BASE, UPPER = layer({"bin/tool": b"#!", "etc/name": b"x"}), layer({"etc/name": b"y" * 3 * PIECE_BYTES})


def packed(content: bytes) -> bytes:
    """Each time the same bytes."""
    return gzip.compress(content, mtime=0)


def in_two_parts(content: bytes) -> bytes:
    return gzip.compress(content[:1000]) + gzip.compress(content[1000:])


def written(folder: Path, archive: Archive) -> Path:
    archive.seal()
    archive.write(folder / "image.tar")
    return folder / "image.tar"


def checked(path: Path) -> list[int]:
    seen: list[int] = []
    check_layers(path, seen.append)
    return seen


@pytest.mark.parametrize("pack", [bytes, gzip.compress, in_two_parts])
def test_layers_are_what_the_configuration_says_however_they_are_packed(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    seen = checked(written(tmp_path, Archive([BASE, UPPER], pack=pack)))
    assert seen[-1] == len(BASE) + len(UPPER)
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        pytest.param(lambda content: gzip.compress(content)[:-20], "layer 0 cannot be unpacked", id="cut off"),
        pytest.param(lambda content: gzip.compress(content) + b"more", "layer 0 cannot be unpacked", id="more after"),
        pytest.param(lambda content: b"\x1f\x8b" + content, "layer 0 cannot be unpacked", id="no gzip"),
        pytest.param(lambda content: b"\x28\xb5\x2f\xfd" + content, "layer 0 is packed with zstd", id="zstd"),
        pytest.param(lambda content: b"\xfd7zXZ\0" + content, "layer 0 is packed with xz", id="xz"),
        pytest.param(lambda content: b"BZh9" + content, "layer 0 is packed with bzip2", id="bzip2"),
        pytest.param(lambda content: gzip.compress(content + bytes(512)), "holds something else", id="another"),
    ],
)
def test_a_layer_that_is_not_that_is_refused_in_one_line(
    tmp_path: Path, pack: Callable[[bytes], bytes], words: str
) -> None:
    path = written(tmp_path, Archive([BASE], pack=pack))
    read_image(path)  # by its digests it is the image that it is called
    with pytest.raises(ImageFault, match=words) as caught:
        checked(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unpacked", [[], ["sha256:" + "0" * 64], ["", ""], ["sha256:" + "0" * 64] * 3])
def test_a_configuration_of_other_layers_is_refused(tmp_path: Path, unpacked: Sequence[str]) -> None:
    with pytest.raises(ImageFault, match="layers, and the configuration knows|holds something else"):
        checked(written(tmp_path, Archive([BASE, UPPER], unpacked=unpacked)))


def test_what_is_looked_at_meanwhile_may_end_it(tmp_path: Path) -> None:
    path, looks = written(tmp_path, Archive([UPPER], pack=gzip.compress)), []

    def look(unpacked_bytes: int) -> None:
        looks.append(unpacked_bytes)
        raise trio.TooSlowError

    with pytest.raises(trio.TooSlowError):
        check_layers(path, look)
    assert looks == [0]


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(b"\x1f\x8b\x08\x08" + bytes(6) + b"A" * 3 * PIECE_BYTES, id="a name without end"),
        pytest.param(gzip.compress(b"") * (3 * PIECE_BYTES // 20), id="members of nothing"),
        pytest.param(gzip.compress(UPPER, compresslevel=1), id="the same content, packed in another way"),
    ],
)
def test_only_bytes_that_the_manifest_names_are_unpacked(tmp_path: Path, blob: bytes) -> None:
    archive, seen = Archive([UPPER], pack=packed), list[int]()
    archive.seal()
    archive.blobs[hashlib.sha256(packed(UPPER)).hexdigest()] = blob
    archive.write(tmp_path / "image.tar")
    with pytest.raises(ImageFault, match="layer 0 is another blob than the manifest says"):
        check_layers(tmp_path / "image.tar", seen.append)
    assert set(seen) == {0} and len(seen) > len(blob) // PIECE_BYTES


def behind_a_name(content: bytes) -> bytes:
    packed = gzip.compress(content)
    return packed[:3] + b"\x08" + packed[4:10] + b"A" * PIECE_BYTES + b"\0" + packed[10:]


def behind_nothing(content: bytes) -> bytes:
    return gzip.compress(b"") * (PIECE_BYTES // 20) + gzip.compress(content)


@pytest.mark.parametrize("pack", [behind_a_name, behind_nothing])
def test_what_gives_nothing_is_looked_at_too_while_it_is_unpacked(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    seen = checked(written(tmp_path, Archive([BASE], pack=pack)))
    assert seen.count(0) > 2 * len(pack(BASE)) // PIECE_BYTES and seen[-1] == len(BASE)


async def test_an_image_of_other_layers_never_runs_and_is_not_kept(state: Path, tmp_path: Path, ask: Ask) -> None:
    """Podman takes it: it looks at packed layers alone."""
    made = shell_image("cat")
    made.unpacked = ["sha256:" + "0" * 64]
    digest = made.seal()
    made.write(tmp_path / "image.tar")
    executor = await opened((digest,), state)
    with pytest.raises(ExecutionError, match="layer 0 holds something else") as caught:
        await executor.run(ask.sh("true", entry=digest, program=tmp_path / "image.tar"))
    assert not caught.value.is_ours and list((state / "images").iterdir()) == []
    await executor.aclose()


# -- archives of others --------------------------------------------------------------------------------------------


def docker_archive(path: Path, *, first: str) -> None:
    """As `docker save` writes one. first: which of its members comes first; they do so in any order."""
    digest, config = hashlib.sha256(BASE).hexdigest(), b'{"rootfs":{"type":"layers","diff_ids":[]}}'
    named = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{named}.json", "RepoTags": ["tool:1"], "Layers": [f"{digest}/layer.tar"]}]
    members = {
        "manifest.json": json.dumps(manifest).encode(),
        "repositories": b'{"tool":{"1":"' + digest.encode() + b'"}}',
        f"{named}.json": config,
        f"{digest}/VERSION": b"1.0",
        f"{digest}/json": b"{}",
        f"{digest}/layer.tar": BASE,
        f"{digest}.tar": BASE,
    }
    order = sorted(members, key=lambda name: not name.endswith(first))
    path.write_bytes(b"".join(member(name, members[name]) for name in order) + bytes(1024))


@pytest.mark.parametrize("first", ["manifest.json", "repositories", ".json", "/VERSION", "/json", "/layer.tar", ".tar"])
def test_a_docker_archive_is_called_one_and_how_to_repack_it_is_said(tmp_path: Path, first: str) -> None:
    docker_archive(tmp_path / "image.tar", first=first)
    with pytest.raises(ImageFault, match="a docker-archive; repack it: skopeo copy docker-archive:"):
        read_image(tmp_path / "image.tar")


def skopeo(*words: str) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    subprocess.run([program, "--insecure-policy", "copy", "-q", *words], check=True)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="as it is"),
        pytest.param(("--dest-compress", "--dest-compress-format", "gzip"), id="packed with gzip"),
        pytest.param(("--format", "v2s2"), id="Docker's kind of manifest"),
    ],
)
async def test_an_archive_that_skopeo_makes_runs(
    state: Path, tmp_path: Path, ask: Ask, options: tuple[str, ...]
) -> None:
    made = written(tmp_path, shell_image("cat"))
    skopeo(*options, f"oci-archive:{made}", f"oci-archive:{tmp_path}/theirs.tar:tool:1")
    theirs = tmp_path / "theirs.tar"
    digest = read_image(theirs).digest
    executor = await opened((digest,), state)
    assert (await result(executor, ask.sh("echo here", entry=digest, program=theirs)))[:2] == (0, "here\n")
    await executor.aclose()


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("docker-archive", (), "a docker-archive; repack it"),
        ("oci-archive", ("--dest-compress", "--dest-compress-format", "zstd"), "packed with zstd; pack it anew"),
    ],
)
def test_what_skopeo_makes_that_is_refused_is_taken_once_it_is_repacked_as_told(
    tmp_path: Path, kind: str, options: tuple[str, ...], words: str
) -> None:
    skopeo(*options, f"oci-archive:{written(tmp_path, shell_image('cat'))}", f"{kind}:{tmp_path}/theirs.tar")
    with pytest.raises(ImageFault, match=words) as caught:
        read_image(tmp_path / "theirs.tar")
        checked(tmp_path / "theirs.tar")
    said = str(caught.value).partition("skopeo copy ")[2]
    told = said.replace("IMAGE.tar", f"{tmp_path}/theirs.tar").replace("NEW.tar", f"{tmp_path}/new.tar")
    skopeo(*told.split())
    read_image(tmp_path / "new.tar")
    checked(tmp_path / "new.tar")
