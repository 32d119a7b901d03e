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
