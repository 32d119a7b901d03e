"""What a module may import: functions of WASI preview 1, and AssemblyScript's abort. No engine: clients look too.

Source: WebAssembly/WASI, legacy/preview1/docs.md (snapshot_preview1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wasm_sections import Import

NAMESPACE = "wasi_snapshot_preview1"
# By name, the kinds of the parameters: i for i32, I for i64.
SIGNATURES = {
    "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
    "clock_res_get": "ii", "clock_time_get": "iIi", "random_get": "ii", "sched_yield": "",
    "proc_exit": "i", "proc_raise": "i",
    "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i", "fd_sync": "i",
    "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii", "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi",
    "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii", "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii",
    "path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
}  # fmt: skip
ABORT_NAMESPACE, ABORT_NAME, ABORT_SIGNATURE = "env", "abort", "iiii"


def _host_signatures() -> dict[tuple[str, str], str]:
    """All that a module may import: (module, name) → signature as `wasm_sections` writes it."""
    known = {(NAMESPACE, name): _written(kinds, name != "proc_exit") for name, kinds in SIGNATURES.items()}
    known[ABORT_NAMESPACE, ABORT_NAME] = _written(ABORT_SIGNATURE, False)
    return known


def unoffered(imports: Iterable[Import]) -> str | None:
    """What is wrong with a module's imports, in one line; None where all are offered as they are wanted."""
    for wanted in imports:
        name = f"{wanted.module}.{wanted.name}"
        known = _KNOWN.get((wanted.module, wanted.name))
        if known is None:
            return f"the module wants {name}, which is not offered"
        if wanted.signature != known:
            return f"the module wants {name} as {wanted.signature or wanted.kind}, it is {known}"
    return None


def _written(kinds: str, returns: bool) -> str:
    parameters = ", ".join("i32" if kind == "i" else "i64" for kind in kinds)
    return f"({parameters}) -> {'i32' if returns else '()'}"


_KNOWN = _host_signatures()
