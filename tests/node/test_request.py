"""What a program asks for is held against what a node would take, before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.bench.modules import HASH, module_path
from hearthmesh.node.client import ClientError, JobRequest
from hearthmesh.node.client.confidential import build_confidential
from hearthmesh.node.client.request import build_spec, check_module
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.protocol.records import JobSpec, ResourceLimits

MODULE = module_path(HASH)
IMPORTING = wasmtime.wat2wasm('(module (import "env" "print" (func)) (memory (export "memory") 1))')


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1 << 24, min_free_bytes=0)


def build(store: BlobStore, **said: Any) -> JobSpec:
    request = JobRequest(**({"program": MODULE, "inputs": [b"x"]} | said))
    check_module(request)
    request.is_small()
    return build_spec(request, bytes(32), store, b"pin")


def test_what_is_right_is_taken(store: BlobStore) -> None:
    assert build(store, arguments=["a"], files={"f": b"1"}, priority=9).arguments == ("a",)
    mutable = build(store, program=bytearray(MODULE.read_bytes()), inputs=[bytearray(b"x"), memoryview(b"y")])
    assert mutable.program == build(store).program and mutable.inline_inputs == (b"x", b"y")


def test_a_component_is_for_nodes_to_look_into(store: BlobStore, tmp_path: Path) -> None:
    """Python functions come in one."""
    component = bytes(wasmtime.wat2wasm("(component)"))
    path = tmp_path / "python.wasm"
    path.write_bytes(component)
    assert build(store, program=path).program == build(store, program=component).program


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"inputs": ["x"]}, "inputs[0]: expected bytes; it is 'x'"),
        ({"inputs": [b"x"] * 2000 + [3]}, "inputs[2000]: expected bytes; it is 3"),
        ({"inputs": b"abc"}, "inputs: expected a sequence; it is b'abc'"),
        ({"inputs": 7}, "inputs: expected a sequence; it is 7"),
        ({"inputs": None, "tasks": "3"}, "tasks: expected `int`, got `str`; it is '3'"),
        ({"inputs": None, "tasks": True}, "tasks: expected `int`, got `bool`; it is True"),
        ({"inputs": None, "tasks": 0}, "a job needs at least one task: give tasks or inputs"),
        ({"priority": 12}, "priority: expected `int` <= 9; it is 12"),
        ({"name": ""}, "name: expected `str` of length >= 1; it is ''"),
        ({"name": "n" * 200}, f"name: expected `str` of length <= 128; it is '{'n' * 56}..."),
        ({"nonce": "x"}, "nonce: expected `bytes`, got `str`; it is 'x'"),
        ({"estimate_us": 1.5}, "estimate_us: expected `int`, got `float`; it is 1.5"),
        ({"arguments": "abc"}, "arguments: expected a sequence; it is 'abc'"),
        ({"arguments": [1]}, "arguments[0]: expected `str`, got `int`; it is 1"),
        ({"arguments": ["a", "b\0c"]}, "arguments[1]: expected text without a NUL character"),
        ({"arguments": ["x" * 4096] * 200}, "the job's description cannot be sent: 8"),
        ({"arguments": [os.fsdecode(b"caf\xe9.png")]}, "arguments[0]: expected text in UTF-8"),
        ({"name": "caf\udce9"}, "name: expected text in UTF-8"),
        ({"name": {"a"}}, "name: expected `str`, got `array`; it is set"),
        ({"name": object()}, "name: expected something that can be sent; it is object"),
        ({"files": {"caf\udce9": b"x"}}, "files[0].name: expected text in UTF-8"),
        ({"files": {"a": b"x", "b/c": b"x"}}, "files[1].name: expected `str` matching regex '"),
        ({"files": {"": b"x"}}, "files[0].name: expected `str` of length >= 1; it is ''"),
        ({"files": {1: b"x", "a": b"x"}}, "files: expected names that are text; it is 1"),
        ({"limits": ResourceLimits(wall_us=2e6)}, "limits.wall_us: expected `int`, got `float`; it is 2000000.0"),
        ({"limits": ResourceLimits(wall_us=-5)}, "limits.wall_us: expected `int` >= 0; it is -5"),
        ({"limits": ResourceLimits(memory_bytes="9")}, "limits.memory_bytes: expected `int`, got `str`; it is '9'"),
        ({"limits": ResourceLimits(memory_bytes=1 << 70)}, "limits.memory_bytes: expected an integer below 2 ** 63"),
        ({"deadline_us": 1 << 50_000}, "deadline_us: expected an integer below 2 ** 63; it is an int of 50001 bits"),
        ({"confidential": True, "trust_classes": ("A B",)}, "trust_classes[0]: expected `str` matching regex"),
        ({"confidential": True, "trust_owners": ("\udce9",)}, "trust_owners[0]: expected text in UTF-8"),
        ({"inputs": [b"x", bytes(2_000_000)]}, "inputs[1]: 2000000 bytes, at most 1048568 fit; larger data that tasks"),
        ({"program": "\0"}, "program: expected text without a NUL character; it is"),
        ({"program": "a\0b", "runtime": "native", "abi": "command"}, "program: expected text without a NUL character"),
        ({"program": "\udce9", "runtime": "native", "abi": "command"}, "program: expected text in UTF-8"),
        ({"files": {"a": Path("b\0")}}, 'files["a"]: expected text without a NUL character'),
        ({"program": Path("/dev/zero")}, "program: /dev/zero is no regular file"),
        ({"program": bytes((64 << 20) + 1)}, "program: a module of 67108865 bytes, at most 67108864 are taken"),
        ({"comparator": bytes((1 << 20) + 1)}, "comparator: a module of 1048577 bytes, at most 1048576 are taken"),
        ({"files": {"a": "b"}}, "files[\"a\"]: expected bytes or a Path; it is 'b'"),
        ({"files": ["a"]}, "files: expected a mapping of names; it is list"),
        ({"limits": {}}, "limits: expected ResourceLimits; it is dict"),
        ({"program": 5}, "program: expected bytes, a Path or a name; it is 5"),
        ({"confidential": 1}, "confidential: expected True or False; it is 1"),
        ({"program": b"abc"}, "program: not a valid wasm module: it does not start like a wasm file"),
        ({"program": IMPORTING}, "program: the module wants env.print, which is not offered"),
        ({"entry": "no"}, "program: the function ABI needs an export no: (i64, i32, i32) -> i64, there is none"),
        ({"program": Path("/nowhere")}, "/nowhere: cannot be read: No such file or directory"),
        ({"limits": ResourceLimits(memory_bytes=1)}, "limits.memory_bytes: 1, but the module starts with "),
    ],
)
def test_what_no_node_would_take_is_refused_with_its_name_and_at_once(
    store: BlobStore, said: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ClientError) as raised:
        build(store, **said)
    assert str(raised.value).startswith(complaint)


@pytest.mark.parametrize("confidential", [False, True])
def test_what_the_spec_says_is_checked_before_anything_is_stored(store: BlobStore, confidential: bool) -> None:
    with pytest.raises(ClientError, match="priority: expected `int` <= 9; it is 12"):
        JobRequest(program=MODULE, inputs=[b"x"], priority=12, confidential=confidential)
    with pytest.raises(ClientError, match=r"files\[0\].name"):
        JobRequest(program=MODULE, inputs=[b"x"], files={"a/b": b"x"}, confidential=confidential)


def test_a_confidential_description_is_read_as_peers_will(store: BlobStore) -> None:
    request = JobRequest(program=MODULE, inputs=[b"x"], arguments=["x" * 4000] * 80, confidential=True)
    with pytest.raises(ClientError, match=r"secrecy.hidden: expected `bytes` of length <= 262144"):
        build_confidential(request, Identity.from_seed(bytes(32)), bytes(32), (), store, b"pin")


def test_an_iterator_of_arguments_is_gone_through_once(store: BlobStore) -> None:
    assert build(store, arguments=iter(["a", "b"])).arguments == ("a", "b")


def test_large_views_are_not_small() -> None:
    large = JobRequest(program=MODULE, inputs=[memoryview(bytes(900_000))] * 1_000)
    wide = JobRequest(program=MODULE, inputs=[memoryview(bytes(1 << 16)).cast("Q")])
    assert not large.is_small() and not wide.is_small()
    assert JobRequest(program=MODULE, inputs=[memoryview(b"x")]).is_small()


def test_a_named_pipe_is_no_program_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClientError, match="pipe is no regular file"):
        check_module(JobRequest(program=tmp_path / "pipe", inputs=[b"x"]))


def test_a_huge_module_is_refused_unread(tmp_path: Path) -> None:
    huge = tmp_path / "huge.wasm"
    with huge.open("wb") as file:
        file.write(b"\0asm\x01\0\0\0")
        file.truncate(1 << 41)
    with pytest.raises(ClientError, match="program: a module of 2199023255552 bytes, at most 67108864 are taken"):
        check_module(JobRequest(program=huge, inputs=[b"x"]))
