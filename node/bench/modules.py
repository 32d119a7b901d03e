"""The two programs that the benchmarks run, as they were built from `tests/wasm/src`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..cli.errors import UserError

_FOLDER = Path(__file__).with_name("modules")
# Output: the SHA-256 of the input.
HASH = "hash.wasm"
# Input: a little-endian u32, the rounds of xorshift64* to burn.
SPIN = "spin.wasm"
SHA256 = {
    HASH: "8d52d7982d4ca4f8c1571841a72c61682208a67559e39a210757f2fc5f1e43fb",
    SPIN: "36f52ec257abcaee83b91eeb93090891e553bde44c8f88c71aadd78ee8723c73",
}


def module_path(name: str) -> Path:
    """Where the module is, after its digest was checked. Raises UserError."""
    path = _FOLDER / name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; install hearthmesh again") from error
    if digest != SHA256[name]:
        raise UserError(f"{path}: is not the module that was shipped; install hearthmesh again")
    return path


def module_digest(name: str) -> bytes:
    return bytes.fromhex(SHA256[name])
