"""The table of attacks in docs/isolation.md: what is tried, what stops it, and the test that tries it.

`python -m tests.node.isolation.attacks` puts the table into the page; a test compares, and looks for each test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "isolation.md"
_PART = re.compile(r"(?<=<!-- attacks -->\n).*(?=<!-- end of attacks -->)", re.DOTALL)
_EXECUTION, _ISOLATION = "tests/node/execution", "tests/node/isolation"


@dataclass(frozen=True, slots=True)
class Try:
    """held_by: what stops it.  test: FILE::NAME, or FILE::NAME[id] for one case of it."""

    held_by: str
    test: str

    @property
    def file(self) -> Path:
        return ROOT / self.test.partition("::")[0]

    @property
    def function(self) -> str:
        return self.test.partition("::")[2].partition("[")[0]

    @property
    def case(self) -> str:
        return self.test.partition("[")[2].removesuffix("]")


def _wasm(held_by: str, file: str, name: str) -> Try:
    return Try(held_by, f"{_EXECUTION}/test_{file}.py::{name}")


def _native(held_by: str, name: str) -> Try:
    return Try(held_by, f"{_EXECUTION}/test_native_executor.py::{name}")


def _oci(held_by: str, name: str) -> Try:
    return Try(held_by, f"{_EXECUTION}/test_oci_executor.py::{name}")


def _image(held_by: str, name: str) -> Try:
    return Try(held_by, f"{_EXECUTION}/test_oci_images.py::{name}")


def _escaped(held_by: str, attempt: str) -> Try:
    return Try(held_by, f"{_ISOLATION}/test_attempts.py::test_a_guest_that_left_wasmtime_is_refused[{attempt}]")


def _inside(held_by: str, attempt: str) -> Try:
    return Try(held_by, f"{_ISOLATION}/test_attempts.py::test_a_native_task_is_refused[{attempt}]")


_LAST = "test_an_end_that_hangs_on_the_machine_is_the_last_of_its_batch"
_CALL, _COMMAND = (
    "test_an_attack_ends_one_task_and_the_batch_goes_on",
    "test_an_attack_gets_its_code_and_the_next_task_runs",
)
_REFUSED = "test_a_module_that_cannot_run_is_refused_in_one_line"
_FLOOD = "test_a_flood_of_output_ends_the_task"
_ALL, _BOTH = "namespace, Landlock", "namespace, filter"

# attack: (wasm, native). A guest of wasm that would need a system call first has to get out of wasmtime: what is
# tested is a process confined as a worker is, which tries it natively.
ATTACKS: dict[str, tuple[Try | None, Try | None]] = {
    "endless loop": (
        _wasm("wall limit", "wasm_function", f"{_LAST}[endless loop]"),
        _native("wall limit", "test_the_wall_limit_ends_a_task"),
    ),
    "start function that never ends": (
        _wasm("wall limit", "wasm_function", "test_a_start_function_that_never_ends_hits_the_wall"),
        None,
    ),
    "memory bomb": (
        _wasm("store's limit", "wasm_function", f"{_CALL}[memory bomb]"),
        _native("RLIMIT_AS", "test_one_allocation_above_the_limit_fails"),
    ),
    "memory in many processes": (None, _native("metered", "test_memory_that_grows_in_many_processes_ends_the_task")),
    "endless recursion": (
        _wasm("stack limit", "wasm_function", f"{_LAST}[endless recursion]"),
        _native("memory limit", "test_endless_recursion_ends_the_task"),
    ),
    "huge table": (_wasm("store's limit", "wasm_function", f"{_CALL}[huge table]"), None),
    "20,000 exports": (_wasm("read before it is compiled", "wasm_modules", f"{_REFUSED}[20,000 exports]"), None),
    "compile bomb: time": (
        _wasm("killed", "pool", "test_a_module_that_compiles_for_too_long_is_refused_and_its_worker_killed"),
        None,
    ),
    "compile bomb: memory": (
        _wasm("RLIMIT_DATA", "pool", "test_a_module_whose_compilation_ends_a_warm_worker_is_refused"),
        None,
    ),
    "forged compiled code": (
        _wasm(
            "own folder, own digest", "wasm_modules", "test_a_cached_file_that_is_a_link_or_open_to_others_is_not_taken"
        ),
        None,
    ),
    "an image that is not what it is called": (None, None),
    "an image behind an allowed one's name": (None, None),
    "flood of output": (
        _wasm("output limit", "wasm_command", f"{_COMMAND}[stdout flood]"),
        _native("output limit", f"{_FLOOD}[yes]"),
    ),
    "flood of stderr": (
        _wasm("the tail is kept", "wasm_command", "test_stderr_is_kept_to_its_tail"),
        _native("64 MiB in all", f"{_FLOOD}[yes >&2]"),
    ),
    "filling the disk": (
        _wasm("scratch limit", "wasm_command", f"{_COMMAND}[one file that fills /out]"),
        _native("sized tmpfs", "test_scratch_space_ends_at_its_size"),
    ),
    "a huge sparse file": (
        _wasm("scratch limit", "wasm_command", f"{_COMMAND}[a sparse file of 1 TiB]"),
        _native("RLIMIT_FSIZE", "test_a_huge_sparse_file_costs_the_node_nothing"),
    ),
    "countless empty files": (
        _wasm("each costs 256 bytes", "wasm_command", f"{_COMMAND}[many empty files in /out]"),
        _native("counted", "test_uncounted_empty_files_end_the_task"),
    ),
    "writing to the job's inputs": (
        _wasm("read-only", "wasm_command", f"{_COMMAND}[writing to /in]"),
        _native("read-only binds", "test_the_jobs_files_are_read_only_under_in"),
    ),
    "fork bomb": (
        _escaped("filter: no new process", "start a program"),
        _native("RLIMIT_NPROC", "test_a_fork_bomb_meets_the_limit_and_dies_with_its_task"),
    ),
    "sleeping for ever": (
        _wasm("poll answers ENOTSUP", "wasm_command", f"{_COMMAND}[sleep through poll_oneoff]"),
        _native("wall limit", "test_the_wall_limit_ends_a_task"),
    ),
    "way out by `..`": (
        _wasm("no folder above", "wasm_command", f"{_COMMAND}[dots out of /out]"),
        _native("nothing there to reach", "test_the_hosts_files_and_environment_are_out_of_sight"),
    ),
    "way out by a symlink": (
        _wasm("no symlinks", "wasm_command", f"{_COMMAND}[a symlink]"),
        _native("links are no output", "test_links_pipes_and_folders_in_out_are_not_outputs"),
    ),
    "a symlink planted in a checkpoint": (
        _wasm("O_NOFOLLOW", "wasm_command", "test_a_planted_symlink_in_a_checkpoint_is_not_followed"),
        _inside("namespace", "follow a symlink out"),
    ),
    "the owner's files": (_escaped(_ALL, "read a file of the owner"), _inside("namespace", "read a file of the owner")),
    "writing beside them": (_escaped(_ALL, "write beside it"), _inside("namespace", "write beside it")),
    "the system's files": (_escaped(_ALL, "write to the system"), _inside("read-only", "write to the system")),
    "devices": (_escaped(_ALL, "open a device"), _inside("five harmless ones", "open a device")),
    "making a device": (_escaped(_BOTH, "make a device"), _inside("no rights", "make a device")),
    "ptrace": (_escaped(_BOTH, "trace the node"), _inside(_BOTH, "trace the node")),
    "another process's memory": (_escaped(_BOTH, "read the nodes memory"), _inside(_BOTH, "read the nodes memory")),
    "user namespace": (_escaped(_BOTH, "make a user namespace"), _inside(_BOTH, "make a user namespace")),
    "mounting": (_escaped("filter", "mount a filesystem"), _inside("filter", "mount a filesystem")),
    "io_uring": (_escaped("filter", "set up io uring"), _inside("filter", "set up io uring")),
    "bpf": (_escaped("filter", "load a bpf program"), _inside("filter", "load a bpf program")),
    "page faults handled by itself": (
        _escaped("filter", "handle page faults"),
        _inside("filter", "handle page faults"),
    ),
    "the machine's counters": (_escaped("filter", "watch the machine"), _inside("filter", "watch the machine")),
    "network namespace": (_escaped(_BOTH, "make a network namespace"), _inside(_BOTH, "make a network namespace")),
    "key rings": (_escaped("filter", "use the key rings"), _inside("filter", "use the key rings")),
    "TCP": (_escaped("namespace, filter, Landlock", "reach the network"), _inside(_BOTH, "reach the network")),
    "UDP": (_escaped(_BOTH, "send a datagram"), _inside(_BOTH, "send a datagram")),
    "a signal to the node": (
        _escaped("namespace, filter, Landlock", "signal the node"),
        _inside("namespace", "signal the node"),
    ),
    "/proc: environment": (
        _escaped(_ALL, "see the nodes environment"),
        _inside("namespace", "see the nodes environment"),
    ),
    "/proc: other processes": (
        _escaped("namespace", "list other processes"),
        _inside("namespace", "list other processes"),
    ),
    "capabilities": (_escaped("dropped", "gain rights"), _inside("dropped", "gain rights")),
    "a second system-call ABI": (None, _native("filter", "test_the_x32_abi_is_closed")),
    "stopping itself to outlast the clock": (
        None,
        _native("wall limit", "test_stopping_ones_own_group_runs_into_the_wall_limit"),
    ),
    "what is left after the task": (
        _wasm("nothing", "pool", "test_nothing_is_left_open"),
        _native("the namespace ends", "test_what_a_task_leaves_running_ends_with_it"),
    ),
    "what is left after the node is killed": (
        _wasm("dies with it", "pool", "test_workers_die_with_their_parent"),
        _native("dies with it", "test_a_killed_node_takes_its_tasks_along"),
    ),
    "what is left after a kill in mid-start": (
        _wasm("waited for", "pool", "test_a_worker_killed_at_any_moment_of_its_start_leaves_nothing"),
        _native("waited for", "test_cancelling_at_any_moment_of_the_start_leaves_nothing"),
    ),
}


# What holds the same attacks in containers. Those that natively are an attempt are the same attempt there.
_IN_CONTAINERS: dict[str, Try] = {
    "endless loop": _oci("wall limit", "test_the_wall_limit_ends_a_task"),
    "memory bomb": _oci("RLIMIT_DATA", "test_one_allocation_above_the_limit_fails"),
    "memory in many processes": _oci("metered", "test_memory_that_grows_in_many_processes_ends_the_task"),
    "endless recursion": _oci("memory limit", "test_endless_recursion_ends_the_task"),
    "an image that is not what it is called": _image(
        "digests of all parts", "test_a_changed_layer_is_refused_and_leaves_nothing"
    ),
    "an image behind an allowed one's name": _image(
        "plain archives only", "test_an_image_behind_an_allowed_ones_name_never_runs_and_is_not_kept"
    ),
    "flood of output": _oci("output limit", f"{_FLOOD}[yes]"),
    "flood of stderr": _oci("64 MiB in all", f"{_FLOOD}[yes >&2]"),
    "filling the disk": _oci("sized tmpfs; images: quota", "test_scratch_space_ends_at_its_size"),
    "a huge sparse file": _oci("RLIMIT_FSIZE", "test_a_huge_sparse_file_costs_the_node_nothing"),
    "countless empty files": _oci("counted", "test_uncounted_empty_files_end_the_task"),
    "writing to the job's inputs": _oci("read-only binds", "test_the_jobs_files_are_read_only_under_in"),
    "fork bomb": _oci("RLIMIT_NPROC", "test_a_fork_bomb_meets_the_limit_and_dies_with_its_task"),
    "sleeping for ever": _oci("wall limit", "test_the_wall_limit_ends_a_task"),
    "way out by `..`": _oci("nothing there to reach", "test_the_hosts_files_and_environment_are_out_of_sight"),
    "way out by a symlink": _oci("links are no output", "test_links_pipes_and_folders_in_out_are_not_outputs"),
    "a second system-call ABI": _oci("both filters", "test_the_x32_abi_is_closed"),
    "stopping itself to outlast the clock": _oci("wall limit", "test_stopping_itself_runs_into_the_wall_limit"),
    "what is left after the task": _oci("the enclosure ends", "test_what_a_task_leaves_running_ends_with_it"),
    "what is left after the node is killed": _oci(
        "dies with it; records in its tmpfs", "test_a_killed_node_takes_its_containers_along"
    ),
    "what is left after a kill in mid-start": _oci(
        "waited for", "test_cancelling_at_any_moment_of_the_start_leaves_nothing"
    ),
}
_ATTEMPT = "test_a_native_task_is_refused"


def tries(attack: str) -> tuple[Try | None, Try | None, Try | None]:
    """wasm, native, oci."""
    wasm, native = ATTACKS[attack]
    contained = _IN_CONTAINERS.get(attack)
    if native is not None and native.function == _ATTEMPT:
        contained = Try(native.held_by, native.test.replace(_ATTEMPT, "test_a_container_is_refused"))
    return wasm, native, contained


def _short(test: str) -> str:
    """A test's id without its folders; a slash in its parameters is none."""
    path, _, function = test.partition("::")
    return f"{path.rpartition('/')[2]}::{function}"


def table() -> str:
    lines = [
        "| attack | wasm: what holds | native: what holds | oci: what holds | tested by |",
        "|---|---|---|---|---|",
    ]
    for attack in ATTACKS:
        found = tries(attack)
        held = " | ".join(one.held_by if one is not None else "–" for one in found)
        tests = dict.fromkeys(f"`{_short(one.test)}`" for one in found if one is not None)
        lines.append(f"| {attack} | {held} | {'<br>'.join(tests)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page as it should be."""
    return _PART.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
