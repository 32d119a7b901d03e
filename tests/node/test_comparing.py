"""A submitter's own comparator, run as a task is: bounded, and without a say on whatever it cannot say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from hearthmesh.node.comparing import Comparing
from hearthmesh.node.execution.outcome import ExecutionError

HEAD = """(module (memory (export "memory") 64)
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 1024)
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)"""
# The first bytes of the two outputs are the same.
FIRST_BYTE = (
    HEAD
    + """
  (i32.store8 (i32.const 0) (i32.eq
    (i32.load8_u offset=4 (local.get $at))
    (i32.load8_u offset=4 (i32.add (local.get $at) (i32.load (local.get $at))))))
  i64.const 1))"""
)
# It never ends over an output that begins with "l".
LOOPS_OVER_L = FIRST_BYTE.replace(
    "(i32.store8",
    """(loop $l
    (br_if $l (i32.eq (i32.load8_u offset=4 (local.get $at)) (i32.const 108))))
  (i32.store8""",
    1,
)
TRAPS, LOOPS = HEAD + " unreachable))", HEAD + " (loop $l (br $l)) i64.const 1))"
TALKS = HEAD + " i64.const 65))"


@pytest.fixture
async def comparing(tmp_path: Path) -> AsyncIterator[Comparing]:
    made = Comparing(tmp_path / "cache", tmp_path)
    yield made
    await made.aclose()


def module(tmp_path: Path, wat: str) -> tuple[Path, bytes]:
    content = bytes(wat2wasm(wat))
    path = tmp_path / "module.wasm"
    path.write_bytes(content)
    return path, sha256(content).digest()


async def test_a_module_says_what_is_the_same(tmp_path: Path, comparing: Any) -> None:
    pairs = [(b"apple", b"avocado"), (b"apple", b"banana"), (b"b", b"a"), (b"x" * (1 << 20), b"x" * (1 << 20))] * 40
    assert await comparing.compare(*module(tmp_path, FIRST_BYTE), pairs) == [True, False, False, True] * 40


@pytest.mark.parametrize("wat", [TRAPS, LOOPS, TALKS], ids=["traps", "loops", "says too much"])
async def test_a_module_that_does_not_answer_says_that_they_differ(tmp_path: Path, comparing: Any, wat: str) -> None:
    assert await comparing.compare(*module(tmp_path, wat), [(b"a", b"a")]) == [False]


async def test_those_after_one_that_takes_too_long_are_compared(tmp_path: Path, comparing: Any) -> None:
    pairs = [(b"a", b"a"), (b"l", b"l"), (b"a", b"a"), (b"a", b"b"), (b"l", b"l"), (b"c", b"c")]
    answers = await comparing.compare(*module(tmp_path, LOOPS_OVER_L), pairs)
    assert answers == [True, False, True, False, False, True]


async def test_what_is_no_module_of_this_kind_cannot_be_run(tmp_path: Path, comparing: Any) -> None:
    path, digest = module(tmp_path, "(module)")
    with pytest.raises(ExecutionError):
        await comparing.compare(path, digest, [(b"a", b"b")])
    with pytest.raises(ExecutionError):
        await comparing.compare(path, bytes(32), [(b"a", b"b")])
