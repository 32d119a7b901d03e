"""What a confidential job leaves on the disks of a mesh of real processes, and on its wires: nothing to read.

A plain job of the same programs, in the same mesh, leaves all of it: that the search finds it shows that it searches.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from wasmtime import wat2wasm

from hearthmesh.node.client import Client, JobRequest
from hearthmesh.node.client.session import Job
from hearthmesh.node.secrecy.folder import SHARED_MEMORY
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.network import Testnet
from tests.end_to_end.jobs import HASH, MODULES, WITHIN_S, cold, session

TAP = Path(__file__).parent / "tap"
KEPT_OF_A_CLIENT = ("identity.key", "certificate")
ECHO = bytes(wat2wasm((MODULES / "echo.wat").read_text()))
TELLS = bytes(wat2wasm((MODULES / "tells.wat").read_text()))


class Words:
    """Texts by which a job's parts are found again; 24 characters, drawn, so that none is there by chance."""

    def __init__(self) -> None:
        for part in ("program", "input", "name", "argument", "file"):
            setattr(self, part, f"{part}-{os.urandom(12).hex()}".encode()[:32])

    program: bytes
    input: bytes
    name: bytes
    argument: bytes
    file: bytes

    @property
    def small(self) -> list[bytes]:
        """Inputs that ride in the job's description."""
        return [self.input + b" %d" % index for index in range(12)]

    @property
    def large(self) -> list[bytes]:
        """Those that go into packs, and come back as large outputs."""
        return [(self.input + b" ") * 1_800 for _ in range(4)]

    @property
    def outputs(self) -> list[bytes]:
        return [hashlib.sha256(item).digest() for item in self.small]

    @property
    def told(self) -> tuple[bytes, bytes]:
        """What `tells.wat` makes of the input: in its log, and in its file."""
        return bytes(byte ^ 1 for byte in self.input), bytes(byte ^ 2 for byte in self.input)

    def sought(self) -> dict[str, Sequence[bytes]]:
        return {
            "program": [self.program],
            "input": [self.input],
            "name": [self.name],
            "argument": [self.argument],
            "file": [self.file],
            "output": self.outputs,
            "log": self.told[:1],
            "written": self.told[1:],
        }


def marked(module: bytes, mark: bytes) -> bytes:
    """The module with a section that means nothing and holds the mark."""
    content = b"\x04mark" + mark
    return module + b"\0" + bytes([len(content)]) + content


def request(words: Words, *, large: bool, confidential: bool) -> JobRequest:
    return JobRequest(
        program=marked(ECHO if large else HASH.read_bytes(), words.program),
        name=words.name.decode(),
        arguments=[words.argument.decode()],
        inputs=words.large if large else words.small,
        files={"init" if large else "table": words.file * 100},
        confidential=confidential,
        verification="none",
    )


def telling(words: Words, *, confidential: bool) -> JobRequest:
    """A command that fails, once it has said in all ways what it knows."""
    return JobRequest(
        program=marked(TELLS, words.program),
        abi="command",
        name=words.name.decode(),
        inputs=[words.input],
        confidential=confidential,
        verification="none",
    )


async def check_telling(job: Job, words: Words) -> None:
    with trio.fail_after(WITHIN_S):
        (result,) = [result async for result in job.results()]
    log, written = words.told
    assert (result.exit_code, result.stderr, result.files) == (7, log, {"copy": written})


def files_of(net: Testnet, sent: Path) -> Iterator[Path]:
    """All that nodes wrote, and what they sent."""
    for folder in (net.folder / "nodes", sent):
        yield from (path for path in folder.rglob("*") if path.is_file())


def found(net: Testnet, sent: Path, words: Words) -> dict[str, dict[str, list[str]]]:
    """By place (disk, wire) and part, the files that hold it in the clear."""
    places: dict[str, dict[str, list[str]]] = {"disk": {}, "wire": {}}
    for path in files_of(net, sent):
        content = path.read_bytes()
        for part, texts in words.sought().items():
            if any(text in content for text in texts):
                place = "wire" if path.parent == sent else "disk"
                places[place].setdefault(part, []).append(str(path))
    return places


async def outputs_of(job: Job) -> dict[int, bytes]:
    with trio.fail_after(WITHIN_S):
        return {result.index: result.output async for result in job.results()}


def hearth(net: Testnet, *arguments: str) -> str:
    environment = os.environ | {"HEARTH_CLIENT": str(net.client_config)}
    command = [sys.executable, "-P", "-m", "hearthmesh.node", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_nodes_disks_and_wires_hold_nothing_of_a_confidential_job(
    testnet: MakeTestnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(TAP))
    monkeypatch.setenv("HEARTH_TAP", str(sent))
    secret, plain, folder = Words(), Words(), tmp_path / "results"
    async with testnet(rooms=cold(5)) as net:
        monkeypatch.delenv("HEARTH_TAP")
        async with session(net) as client:
            small = await client.submit(request(secret, large=False, confidential=True))
            assert small.is_confidential and await outputs_of(small) == dict(enumerate(secret.outputs))
            large = await client.submit(request(secret, large=True, confidential=True))
            assert await outputs_of(large) == dict(enumerate(secret.large))
            again = await client.submit(request(secret, large=False, confidential=True))
            assert again.id == small.id
            await check_telling(await client.submit(telling(secret, confidential=True)), secret)
        status = json.loads(await trio.to_thread.run_sync(hearth, net, "status", small.id[:12], "--json"))
        assert status["confidential"] and status["name"] == secret.name.decode()
        await trio.to_thread.run_sync(hearth, net, "results", small.id[:12], "--folder", str(folder))
        where = found(net, sent, secret)
        assert where == {"disk": {}, "wire": {}}
        for node in net.nodes.values():
            # No core is written, by whatever limit its parent had.
            assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{node.pid}/limits").read_text())
        in_memory = [path for path in SHARED_MEMORY.glob("hearthmesh-*/*/*") if secret.program in path.read_bytes()]
        assert not in_memory, "a finished job's program is still in memory"

        async with session(net) as client:
            for is_large in (False, True):
                await outputs_of(await client.submit(request(plain, large=is_large, confidential=False)))
            await check_telling(await client.submit(telling(plain, confidential=False)), plain)
        where = found(net, sent, plain)
        assert set(where["disk"]) == set(where["wire"]) == set(plain.sought())
        # A client that lost its disk, but not its key, reads its results.
        state = net.client_config.parent / "state"
        for path in [path for path in state.iterdir() if path.is_file() and path.name not in KEPT_OF_A_CLIENT]:
            path.unlink()
        async with Client.connect(net.client_config) as client:
            found_again = await client.job(small.id)
            assert found_again.spec.name == secret.name.decode()
            assert sorted((await outputs_of(found_again)).items()) == list(enumerate(secret.outputs))
    assert [path.read_bytes() for path in sorted(folder.glob("*.out"))] == secret.outputs
    report = json.loads(await trio.to_thread.run_sync(hearth, net, "verify", str(folder), "--json"))
    assert report["ok"] and report["confidential"] and report["accepted"] == 12
    next(folder.glob("*.out")).write_bytes(plain.outputs[0])
    with pytest.raises(AssertionError, match="is not what the worker signed"):
        hearth(net, "verify", str(folder))
