"""Components that nobody built as Python's are: whatever they answer is the job's affair, and its task's alone."""

from typing import Any

import pytest
import wasmtime

from hearthmesh.node.execution.outcome import ExecutionError, ExecutionFault

TYPES = "(result (tuple u32 string string))"
# The first result with its output, "ok" or two characters that are no bytes, at 64; all the rest is empty.
COMPONENT = """
(component
  (core module $guest
    (memory (export "memory") 1)
    (data (i32.const 64) "ok")
    (data (i32.const 72) "\\e2\\82\\ac")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "init") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "run") (param i64 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 20) (select (i32.const 72) (i32.const 64) (i64.eq (local.get 0) (i64.const 1))))
      (i32.store (i32.const 24) (select (i32.const 3) (i32.const 2) (i64.eq (local.get 0) (i64.const 1))))
      (i32.const 16)))
  (core instance $it (instantiate $guest))
  (func (export "init") (param "source" string) (param "entry" string) (result string)
    (canon lift (core func $it "init") (memory (core memory $it "memory")) (realloc (core func $it "realloc"))))
  (func (export "run") (param "index" u64) (param "seed" string) (param "entry" string) (param "argument" string) TYPES
    (canon lift (core func $it "run") (memory (core memory $it "memory")) (realloc (core func $it "realloc")))))
"""


def component(types: str = TYPES) -> bytes:
    return bytes(wasmtime.wat2wasm(COMPONENT.replace("TYPES", types)))


async def test_an_output_that_is_no_bytes_fails_its_task_and_no_other(pool: Any, wasm: Any) -> None:
    outcome = await pool.run(wasm.request(component(), [b"", b"", b""]))
    assert (outcome.exits, [*map(bytes, outcome.outputs)]) == ([0, 3, 0], [b"ok", b"", b"ok"])


@pytest.mark.parametrize("types", ["(tuple u32 string u32)", "(tuple string string string)", "u32"])
async def test_an_answer_of_other_types_is_the_jobs_fault(pool: Any, wasm: Any, types: str) -> None:
    result = f"(result {types})"
    with pytest.raises(ExecutionError) as caught:
        await pool.run(wasm.request(component(result), [b"", b""]))
    assert caught.value.reason is ExecutionFault.WRONG_SIGNATURE


async def test_what_a_confidential_job_compiled_is_not_kept(make_pool: Any, wasm: Any, tmp_path: Any) -> None:
    pool = make_pool(cache_dir=tmp_path / "compiled")
    await pool.run(wasm.request(component(), [b""], private=tmp_path))
    assert not [path for path in (tmp_path / "compiled").rglob("*") if path.is_file()]
    await pool.run(wasm.request(component(), [b""]))
    assert [path for path in (tmp_path / "compiled").rglob("*") if path.is_file()]


async def test_a_nan_that_is_computed_has_the_same_bits_on_every_processor(pool: Any, wasm: Any) -> None:
    """Of 0 / 0, and of a NaN with a payload plus 1: canonical, so that no byte of it is 0xff or of the payload."""
    store = """
      (local $zero f64)
      (f64.store (i32.const 80) (f64.div (local.get $zero) (local.get $zero)))
      (f64.store (i32.const 88) (f64.add (f64.reinterpret_i64 (i64.const -2251799813553918)) (f64.const 1)))
      (i32.store (i32.const 20) (i32.const 96))
      (i32.store (i32.const 24) (i32.const 4))
      (i32.store8 (i32.const 96) (i32.eq (i32.load8_u (i32.const 87)) (i32.const 0x7f)))
      (i32.store8 (i32.const 97) (i32.eq (i32.load8_u (i32.const 95)) (i32.const 0x7f)))
      (i32.store8 (i32.const 98) (i32.load8_u (i32.const 80)))
      (i32.store8 (i32.const 99) (i32.load8_u (i32.const 88)))
      (i32.const 16)))"""
    head, tail = COMPONENT.index("      (i32.store (i32.const 20)"), COMPONENT.index("  (core instance $it")
    text = COMPONENT[:head] + store + "\n" + COMPONENT[tail:]
    outcome = await pool.run(wasm.request(bytes(wasmtime.wat2wasm(text.replace("TYPES", TYPES))), [b""]))
    assert [*map(bytes, outcome.outputs)] == [b"\1\1\0\0"]


# A task's exit is how many of three more memories took so many pages more; the guest's own has one.
MEMORIES = """
(component
  (core module $more
    (memory 1)
    (func (export "grow") (param i32) (result i32) (i32.ge_s (memory.grow (local.get 0)) (i32.const 0))))
  (core instance $a (instantiate $more))
  (core instance $b (instantiate $more))
  (core instance $c (instantiate $more))
  (core module $guest
    (import "a" "grow" (func $a (param i32) (result i32)))
    (import "b" "grow" (func $b (param i32) (result i32)))
    (import "c" "grow" (func $c (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "init") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "run") (param i64 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 16) (i32.add (call $a (i32.const PAGES))
        (i32.add (call $b (i32.const PAGES)) (call $c (i32.const PAGES)))))
      (i32.const 16)))
  (core instance $it (instantiate $guest (with "a" (instance $a)) (with "b" (instance $b)) (with "c" (instance $c))))
"""


@pytest.mark.parametrize(("pages", "grown"), [(100, 0), (64, 0), (63, 3)])
async def test_all_memories_of_a_component_share_its_limit(pool: Any, wasm: Any, pages: int, grown: int) -> None:
    text = (
        MEMORIES.replace("PAGES", str(pages)) + COMPONENT[COMPONENT.index('  (func (export "init") (param "source') :]
    )
    made = bytes(wasmtime.wat2wasm(text.replace("TYPES", TYPES)))
    outcome = await pool.run(wasm.request(made, [b"", b""], limits={"memory_bytes": 4 * 64 << 16}))
    assert outcome.exits == [grown, grown]
