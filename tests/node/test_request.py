"""What a program asks for is held against what a node would take, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

from hearthmesh.node.bench.modules import HASH, module_path
from hearthmesh.node.client import ClientError, JobRequest
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
        ({"arguments": [1]}, "arguments: expected `str`, got `int` - at `$[0]`; it is tuple"),
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
