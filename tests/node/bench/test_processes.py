"""What processes use, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from hearthmesh.node.bench.processes import Usage, descendants, machine_cpu_us, read_usage
from hearthmesh.node.bench.workloads import others_cores


def test_cpu_time_and_memory_of_a_child_count_for_its_parent() -> None:
    # 32 MiB and half a second of CPU in a grandchild of this process.
    work = "import time; held = bytes(range(256)) * (1 << 17)\nwhile time.process_time() < 0.5: pass"
    grandchild = f"{work}\nprint(flush=True); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    before, machine_us = read_usage(os.getpid()), machine_cpu_us()
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(descendants(process.pid))) == 1
        during, machine_us = read_usage(os.getpid()), machine_cpu_us() - machine_us
        seen = read_usage(process.pid)
        process.communicate(b"\n")
    after = read_usage(os.getpid())
    assert seen.children_cpu_us >= 450_000 > seen.cpu_us
    assert during.cpu_since(before)[1] >= 450_000 and after.cpu_since(before)[1] >= 450_000
    assert seen.rss_bytes > 32 << 20
    assert machine_us >= 450_000


def test_a_process_that_is_gone_is_said_to_be_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(ProcessLookupError):
        read_usage(process.pid)
    assert list(descendants(process.pid)) == []


def test_what_the_nodes_used_is_not_what_others_used() -> None:
    # Of 4 s of CPU within 2 s, the client used 1 s and the nodes, its descendants, 2 s: half a core is left.
    before, after = Usage(500_000, 0, 0), Usage(1_500_000, 2_000_000, 0)
    assert others_cores(before, after, 4_000_000, 2.0) == 0.5
    assert others_cores(before, after, 2_900_000, 2.0) == 0.0


def test_a_busy_program_beside_us_is_seen_as_others() -> None:
    # Not our descendant's: this process itself burns, and is left out of "before" and "after".
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as quiet:
        before, machine_us = read_usage(quiet.pid), machine_cpu_us()
        began_s, burnt_s = time.perf_counter(), time.process_time()
        while time.process_time() - burnt_s < 0.5:
            pass
        seconds = time.perf_counter() - began_s
        after, machine_us = read_usage(quiet.pid), machine_cpu_us() - machine_us
        quiet.communicate(b"\n")
    assert others_cores(before, after, machine_us, seconds) * seconds >= 0.4
