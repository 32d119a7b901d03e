"""Names and signatures of the two task ABIs; docs/abi.md tells users. Imports nothing, parent and worker share it."""

from __future__ import annotations

from collections.abc import Mapping

ENTRY_SIGNATURE = "(i64, i32, i32) -> i64"
ALLOC, ALLOC_SIGNATURE = "hearth_alloc", "(i32) -> i32"
INIT, INIT_SIGNATURE = "hearth_init", "(i32, i32) -> i32"
INITIALIZE, INITIALIZE_SIGNATURE = "_initialize", "() -> ()"
START, START_SIGNATURE = "_start", "() -> ()"
MEMORY = "memory"
COMPONENT_HEAD = b"\0asm\x0d\0\1\0"


def offered_abis(exports: Mapping[str, str]) -> tuple[str, ...]:
    """What a module could be run as; any export of the right type can be a function's entry."""
    abis = []
    if exports.get(MEMORY) == MEMORY:
        if exports.get(ALLOC) == ALLOC_SIGNATURE and ENTRY_SIGNATURE in exports.values():
            abis.append("function")
        if exports.get(START) == START_SIGNATURE:
            abis.append("command")
    return tuple(abis)


def misfit(exports: Mapping[str, str], abi: str, entry: str) -> str | None:
    """What is wrong with a module's exports for this ABI, in one line; None where it fits."""
    needed = {entry: ENTRY_SIGNATURE, ALLOC: ALLOC_SIGNATURE} if abi == "function" else {START: START_SIGNATURE}
    needed[MEMORY] = MEMORY
    optional = {INIT: INIT_SIGNATURE, INITIALIZE: INITIALIZE_SIGNATURE} if abi == "function" else {}
    needed |= {name: signature for name, signature in optional.items() if name in exports}
    for name, signature in needed.items():
        found = exports.get(name)
        if found != signature:
            return f"the {abi} ABI needs an export {name}: {signature}, " + (
                f"it is {found}" if found else "there is none"
            )
    return None
