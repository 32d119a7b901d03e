"""Native commands, WASI programs and hidden nodes, on a mesh inside this process."""

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from PIL import Image

from hearthmesh.crypto.certificates import Role
from hearthmesh.node import service
from hearthmesh.node.client import Client, JobRequest
from hearthmesh.node.client.errors import JobFailed
from hearthmesh.node.config import NativeCommandSettings, NativeSettings, OciSettings
from hearthmesh.node.execution import oci, sandboxed
from hearthmesh.node.execution.native_folders import sandbox_tag
from hearthmesh.node.isolation.container_trial import try_container
from hearthmesh.node.jobfile import load_job_file
from hearthmesh.node.service import Node
from hearthmesh.protocol.records import RecordKind
from tests.end_to_end.inside import inside, until_linked
from tests.node.execution.images import shell_image

ROOT = Path(__file__).parents[2]
RENDER = ROOT / "examples" / "render"
sys.path.insert(0, str(RENDER))

from stitch import differing_pixels, stitch  # noqa: E402
from tiles import cut, settings  # noqa: E402

HELLO = ROOT / "examples" / "hello" / "hello.wasm"
HASH = ROOT / "tests" / "wasm" / "hash.wasm"
WITHIN_S = 240


def allow(name: str, program: str) -> NativeSettings:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return NativeSettings(enabled=True, commands={name: NativeCommandSettings(path=Path(path))})


async def test_wasi_program_gets_its_number_and_leaves_files(tmp_path: Path) -> None:
    async with inside(tmp_path) as mesh:
        await mesh.start("only")
        async with Client.connect(mesh.client()) as client:
            job = await client.submit(JobRequest(program=HELLO, abi="command", tasks=5))
            results = {result.index: result async for result in job.results()}
            assert all(b"hello from task %d" % index in result.stdout for index, result in results.items())
            assert all("hello.txt" in result.files for result in results.values())
            assert all(result.ok for result in results.values())


async def test_allowed_command_runs_and_others_do_not(tmp_path: Path) -> None:
    native = allow("say", "echo")
    async with inside(tmp_path) as mesh:
        await mesh.start("only", native=native)
        async with Client.connect(mesh.client()) as client:
            request = JobRequest(
                program="say", runtime="native", abi="command", tasks=3, arguments=("task {index} of {count}",)
            )
            job = await client.submit(request)
            with trio.fail_after(WITHIN_S):
                said = {result.index: result.stdout async for result in job.results()}
            assert said == {index: b"task %d of 3\n" % index for index in range(3)}


async def test_containers_of_an_allowed_image_run_on_two_nodes_and_agree(tmp_path: Path) -> None:
    """The image is made here, travels as a blob, is loaded by each node once, and its results are compared."""
    why = try_container()
    if why:
        pytest.skip(f"no container starts here: {why}")
    archive = shell_image("cat")
    digest = archive.seal()
    archive.write(tmp_path / "image.tar")
    allowed = OciSettings(enabled=True, images=(digest,))
    async with inside(tmp_path) as mesh:
        nodes = [await mesh.start(name, oci=allowed) for name in ("one", "two")]
        await until_linked(nodes[1], 1)
        for node in nodes:
            await until_offered(node, digest)
        async with Client.connect(mesh.client()) as client:
            request = JobRequest(
                program=tmp_path / "image.tar",
                runtime="oci",
                abi="command",
                arguments=("sh", "-c", "cat /in/name; cat; echo {index} >number"),
                inputs=[b" a", b" b", b" c", b" d"],
                files={"name": b"task"},
                verification="quorum(2)",
            )
            job = await client.submit(request)
            with trio.fail_after(WITHIN_S):
                results = {result.index: result async for result in job.results()}
            assert {index: result.stdout for index, result in results.items()} == {
                0: b"task a",
                1: b"task b",
                2: b"task c",
                3: b"task d",
            }
            assert all(result.files == {"number": b"%d\n" % index} for index, result in results.items())
        for node in nodes:
            assert node.oci is not None and node.oci.images is not None and node.oci.cpu_us > 0
            assert tuple(node.oci.images.kept()) == (digest,)
            # Of a root node, whose state folder the containers' user cannot enter.
            shutil.rmtree(Path("/var/tmp") / sandbox_tag(node.folder.root / "oci"), ignore_errors=True)
            record = next(row.body for row in node.mesh.tables.rows(RecordKind.MEMBER) if row.body.commands)
            assert record.commands == (digest,) and record.builds == (bytes.fromhex(digest[7:23]),)


async def until_offered(node: Node, digest: str) -> None:
    with trio.fail_after(WITHIN_S):
        while digest not in node.mesh.profile.native_commands:
            await node.driver.changed()


async def test_a_node_is_there_while_podman_is_not_and_offers_images_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = try_container()
    if why:
        pytest.skip(f"no container starts here: {why}")
    digest = f"sha256:{'ab' * 32}"
    monkeypatch.setattr(service, "RETRY_S", 0.1)
    monkeypatch.setattr(sandboxed, "RETRY_S", 0.1)
    async with inside(tmp_path) as mesh:
        with pytest.MonkeyPatch.context() as hanging:
            hanging.setattr(oci, "PROBE_LIMITS", dataclasses.replace(sandboxed.PROBE_LIMITS, wall_us=1))
            node = await mesh.start("only", oci=OciSettings(enabled=True, images=(digest,)))
            async with Client.connect(mesh.client()) as client:
                job = await client.submit(JobRequest(program=HELLO, abi="command", tasks=2))
                assert all([result.ok async for result in job.results()])
            assert not node.mesh.profile.native_commands
        await until_offered(node, digest)
        shutil.rmtree(Path("/var/tmp") / sandbox_tag(node.folder.root / "oci"), ignore_errors=True)


async def test_an_image_that_no_owner_allows_is_refused_at_once(tmp_path: Path) -> None:
    archive = shell_image()
    archive.seal()
    archive.write(tmp_path / "image.tar")
    async with inside(tmp_path) as mesh:
        await mesh.start("only")
        async with Client.connect(mesh.client()) as client:
            request = JobRequest(program=tmp_path / "image.tar", runtime="oci", abi="command", tasks=1)
            with pytest.raises(JobFailed, match='allows the image "sha256:'):
                await client.submit(request)


async def test_render_in_tiles_equals_one_piece(tmp_path: Path) -> None:
    """The example as it is shipped, but for the number of its pixels and tiles."""
    native = allow("povray", "povray")
    width, height = 96, 72
    tiles = cut(width, height, 3, 2)
    for name in ("job.toml", "room.pov"):
        shutil.copy(RENDER / name, tmp_path)
    (tmp_path / "tiles.ini").write_text(settings(width, height, tiles))
    job_file = JobRequest.from_file(load_job_file(tmp_path / "job.toml"), now_us=0)
    tiles_job = dataclasses.replace(job_file, tasks=len(tiles))
    whole_job = dataclasses.replace(tiles_job, arguments=("/in/tiles.ini[whole]", "+Owhole.png"), tasks=1)
    async with inside(tmp_path) as mesh:
        await mesh.start("only", native=native)
        async with Client.connect(mesh.client()) as client:
            images: dict[str, bytes] = {}
            with trio.fail_after(WITHIN_S):
                for request in (tiles_job, whole_job):
                    job = await client.submit(request)
                    async for result in job.results():
                        assert result.ok, result.stderr.decode()
                        images.update(result.files)
    numbered = {index: images[f"tile-{index}.png"] for index in range(len(tiles))}
    whole = Image.open(io.BytesIO(images["whole.png"])).convert("RGB")
    assert differing_pixels(stitch(width, height, tiles, numbered), whole) == 0


async def test_a_node_without_listener_runs_tasks(tmp_path: Path) -> None:
    async with inside(tmp_path) as mesh:
        relay = await mesh.start("relay", Role.REPLICA | Role.RELAY, relay_service=True)
        other = await mesh.start("other", Role.REPLICA)
        hidden = await mesh.start("hidden", Role.WORKER, listen=(), relay_through=tuple(relay.links.addresses))
        await until_linked(hidden, 2)
        await until_linked(other, 2)
        async with Client.connect(mesh.client()) as client:
            outputs = await client.map(HASH, [os.urandom(10) for _ in range(50)])
        assert len(outputs) == 50
        assert hidden.mesh.worker.tasks_done == 50
        with trio.fail_after(WITHIN_S):
            while not any("p2p-circuit" in address for address in hidden.links.addresses):
                await hidden.links.addresses_changed()


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system of its own, so that filling it hurts nobody."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_node_with_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 24) as disk:
        async with inside(tmp_path) as mesh:
            poor = await mesh.start("poor", state=disk / "state")
            await mesh.start("second")
            third = await mesh.start("third")
            await until_linked(third, 2)
            async with Client.connect(mesh.client()) as client:
                first = [os.urandom(2_000) for _ in range(100)]
                assert len(await client.map(HASH, first)) == 100
                filler = disk / "filler"
                # Without a buffer: one would be written once more when the file is closed, and raise again.
                with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(64 * 1024))
                inputs = [os.urandom(4_000) for _ in range(300)]
                with trio.fail_after(WITHIN_S):
                    outputs = await client.map(HASH, inputs)
                assert outputs == [hashlib.sha256(item).digest() for item in inputs]
                with trio.fail_after(WITHIN_S):
                    while not poor.mesh.worker.storage_failed:
                        await client.submit(JobRequest(program=HASH, inputs=[os.urandom(9)]))
                filler.unlink()
                with trio.fail_after(WITHIN_S):
                    while poor.mesh.worker.storage_failed:
                        await trio.sleep(0.1)
