"""What a module may be: validation, imports, counts, the cache of compiled code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.execution.outcome import ExecutionError, ExecutionFault
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_cache import CompiledCache
from hearthmesh.node.execution.wasm_sections import MAX_EXPORTS, MAX_IMPORTS, read_shape

HEAD = b"\0asm\1\0\0\0"
WHOLE = bytes(wasmtime.wat2wasm('(module (import "env" "f" (func (param i32))) (memory (export "memory") 3))'))


def leb(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


async def refusal(pool: WasmPool, request: Any) -> ExecutionError:
    with pytest.raises(ExecutionError) as caught:
        await pool.run(request)
    assert "\n" not in caught.value.detail
    return caught.value


async def test_a_report_says_what_the_module_offers_and_wants(pool: WasmPool, wasm: Any) -> None:
    path, digest = wasm.file("seeded")
    report = await pool.check_module(path, digest)
    assert report.digest == digest
    assert report.abis == ("function",)
    assert report.imports == (("wasi_snapshot_preview1", "random_get"), ("wasi_snapshot_preview1", "clock_time_get"))
    assert report.exports["hearth_task"] == "(i64, i32, i32) -> i64"
    assert report.memory_bytes == 2 * 65_536
    assert (await pool.check_module(*wasm.file("command"))).abis == ("command",)
    assert (await pool.check_module(*wasm.file("(module)"))).abis == ()


@pytest.mark.parametrize(
    ("module", "reason", "words"),
    [
        pytest.param(b"MZ not wasm", ExecutionFault.INVALID_MODULE, "does not start like", id="other file"),
        pytest.param(b"", ExecutionFault.INVALID_MODULE, "does not start like", id="empty file"),
        pytest.param(b"\0asm\x0d\0\1\0", ExecutionFault.WRONG_SIGNATURE, "component", id="component without exports"),
        pytest.param(b"\0asm\x0d\0\1\0\xff", ExecutionFault.INVALID_MODULE, "", id="component that is cut off"),
        pytest.param(HEAD + b"\x0a\x04\1\2\0\x0b", ExecutionFault.INVALID_MODULE, "", id="code without a function"),
        pytest.param(WHOLE[:-3], ExecutionFault.INVALID_MODULE, "", id="cut off"),
        pytest.param(
            '(module (import "env" "print" (func)))', ExecutionFault.MISSING_IMPORT, "env.print", id="unknown import"
        ),
        pytest.param(
            '(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))))',
            ExecutionFault.MISSING_IMPORT,
            "fd_write as (i32) -> ()",
            id="import of another type",
        ),
        pytest.param(
            '(module (import "wasi_snapshot_preview1" "memory" (memory 1)))',
            ExecutionFault.MISSING_IMPORT,
            "memory",
            id="imported memory",
        ),
        pytest.param("(module)", ExecutionFault.WRONG_SIGNATURE, "hearth_task", id="no entry"),
        pytest.param(
            '(module (memory (export "memory") 1) (func (export "hearth_task") (param i32)))',
            ExecutionFault.WRONG_SIGNATURE,
            "it is (i32) -> ()",
            id="entry of another type",
        ),
        pytest.param("(module (memory i64 1))", ExecutionFault.INVALID_MODULE, "64-bit", id="64-bit memory"),
        pytest.param("(module (memory 1 2 shared))", ExecutionFault.INVALID_MODULE, "shared", id="shared memory"),
        pytest.param(
            HEAD + section(7, leb(20_000)), ExecutionFault.TOO_BIG, f"at most {MAX_EXPORTS}", id="20,000 exports"
        ),
        pytest.param(
            HEAD + section(2, leb(1 << 31)), ExecutionFault.TOO_BIG, f"at most {MAX_IMPORTS}", id="2^31 imports"
        ),
    ],
)
async def test_a_module_that_cannot_run_is_refused_in_one_line(
    pool: WasmPool, wasm: Any, module: str | bytes, reason: ExecutionFault, words: str
) -> None:
    error = await refusal(pool, wasm.request(module))
    assert error.reason is reason
    assert words in error.detail
    assert not error.is_ours
    assert (await pool.run(wasm.request("echo", [b"x"]))).outputs == [b"x"]


async def test_a_module_of_20_000_exports_is_refused_before_it_is_compiled(pool: WasmPool, wasm: Any) -> None:
    exports = " ".join(f'(export "e{n}" (func 0))' for n in range(20_000))
    error = await refusal(pool, wasm.request(f"(module (func) {exports})"))
    assert error.reason is ExecutionFault.TOO_BIG


async def test_a_missing_module_is_this_nodes_fault(pool: WasmPool, wasm: Any) -> None:
    request = wasm.request("echo")
    request.program.unlink()
    error = await refusal(pool, request)
    assert error.reason is ExecutionFault.UNAVAILABLE
    assert error.is_ours


async def test_a_module_with_other_bytes_than_its_digest_is_refused(pool: WasmPool, wasm: Any) -> None:
    request = wasm.request("echo")
    request.program.write_bytes(wasm.file("acts")[0].read_bytes())
    assert (await refusal(pool, request)).reason is ExecutionFault.UNAVAILABLE


async def test_a_missing_input_file_is_this_nodes_fault(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    request = wasm.request("command", [b"e"], abi="command", files={"data": tmp_path / "absent"})
    assert (await refusal(pool, request)).reason is ExecutionFault.UNAVAILABLE


async def test_compiled_code_is_kept_for_us_alone(make_pool: Any, wasm: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    await make_pool(cache_dir=cache).run(wasm.request("echo", [b"x"]))
    (entry,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600


async def test_damaged_compiled_code_is_compiled_again(make_pool: Any, wasm: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    await make_pool(cache_dir=cache).run(wasm.request("echo", [b"x"]))
    (entry,) = cache.iterdir()
    intact = entry.read_bytes()
    entry.write_bytes(intact[:100] + bytes([intact[100] ^ 1]) + intact[101:])
    outcome = await make_pool(cache_dir=cache).run(wasm.request("echo", [b"x"]))
    assert outcome.outputs == [b"x"]
    assert entry.read_bytes()[:100] == intact[:100]


def test_a_cache_folder_that_others_could_write_is_emptied(tmp_path: Path) -> None:
    CompiledCache(tmp_path / "c", 1 << 20).store("key", b"native code")
    os.chmod(tmp_path / "c", 0o777)
    assert CompiledCache(tmp_path / "c", 1 << 20).load("key") is None


def test_a_cached_file_that_is_a_link_or_open_to_others_is_not_taken(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "c", 1 << 20)
    cache.store("key", b"native code")
    assert cache.load("key") == b"native code"
    path = tmp_path / "c" / "key.native"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert cache.load("key") is None
    path.unlink()
    (tmp_path / "moved").rename(path)
    path.chmod(0o644)
    assert cache.load("key") is None


def test_the_cache_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "c", 3_000)
    for number, key in enumerate(("a", "b")):
        cache.store(key, bytes(1_000))
        os.utime(tmp_path / "c" / f"{key}.native", (number, number))
    cache.load("a")
    cache.store("c", bytes(1_000))
    assert [key for key in "abc" if cache.load(key) is not None] == ["a", "c"]


def test_the_shape_is_read_without_wasmtime() -> None:
    shape = read_shape(WHOLE)
    assert [(wanted.module, wanted.name, wanted.signature) for wanted in shape.imports] == [("env", "f", "(i32) -> ()")]
    assert shape.exports == {"memory": "memory"}
    assert shape.memory_bytes == 3 * 65_536


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    try:
        read_shape(HEAD + tail)
    except ExecutionError as error:
        assert error.reason in (ExecutionFault.INVALID_MODULE, ExecutionFault.TOO_BIG)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_any_one_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    try:
        read_shape(WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])
    except ExecutionError as error:
        assert error.reason in (ExecutionFault.INVALID_MODULE, ExecutionFault.TOO_BIG)
