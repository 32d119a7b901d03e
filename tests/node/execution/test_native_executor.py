"""The native runtime against what strangers' tasks may try. Needs bubblewrap; skips, with the reason, without."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import trio
import trio.testing

from hearthmesh.node.execution import seccomp
from hearthmesh.node.execution.bubblewrap import kill_orphans
from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeCommand, NativeRuntimeConfig
from hearthmesh.node.execution.native_folders import SandboxFolders
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit, Limits

SH = NativeCommand(Path("/usr/bin/sh"), arguments=("-c",), job_environment=("COLOUR",), processes=40)
PERL = NativeCommand(Path("/usr/bin/perl"), arguments=("-e",), memory_bytes=1 << 30, processes=40)
CONFIG = NativeRuntimeConfig(commands={"sh": SH, "perl": PERL}, slots=2, uid_base=64_900)
LIMITS = Limits(
    memory_bytes=128 << 20, wall_us=20_000_000, output_bytes=1 << 20, stderr_bytes=4096, scratch_bytes=4 << 20
)
PATIENCE_S = 240
SPIN = "while :; do :; done"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap needs Linux")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that an unprivileged user can reach, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="hearthmesh-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def executor(state: Path) -> AsyncIterator[NativeExecutor]:
    executor = NativeExecutor(CONFIG, state)
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    with trio.fail_after(PATIENCE_S):
        yield executor
        await executor.aclose()


def ask(script: str, entry: str = "sh", limits: Limits = LIMITS, **more: Any) -> BatchRequest:
    request = BatchRequest(b"job", "native", "command", Path(), b"", 0, 1, b"seed", entry, (script,), limits=limits)
    return replace(request, **more)


async def result(executor: NativeExecutor, request: BatchRequest) -> tuple[int, str, dict[str, bytes], str]:
    """(exit, stdout, files, stderr) of a batch of one."""
    outcome = await executor.run(request)
    stdout, files = msgspec.msgpack.decode(outcome.outputs[0]) if outcome.outputs[0] else (b"", {})
    return outcome.exits[0], stdout.decode(), files, outcome.stderrs.get(0, b"").decode()


def living(marker: str) -> list[int]:
    """Processes, zombies aside, that have the marker on their command line."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(int(number))
        except OSError:
            continue
    return found


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.01)


async def test_a_task_gets_its_input_and_hands_out_status_stdout_files_and_stderr(executor: NativeExecutor) -> None:
    script = "cat; echo warm >b.txt; printf cold >a.txt; echo oh >&2; exit 7"
    outcome = await executor.run(ask(script, inputs=[b"in\n"]))
    assert outcome == BatchOutcome(
        first=0,
        exits=[7],
        outputs=[msgspec.msgpack.encode([b"in\n", {"a.txt": b"cold", "b.txt": b"warm\n"}])],
        stderrs={0: b"oh\n"},
        fuels=[0],
        cpu_us=outcome.cpu_us,
    )
    assert outcome.cpu_us[0] > 0


async def test_each_task_of_a_batch_finds_its_index_and_an_empty_folder(executor: NativeExecutor) -> None:
    outcome = await executor.run(ask("echo {index}; ls; touch left", first=41, count=3))
    assert [msgspec.msgpack.decode(output)[0] for output in outcome.outputs] == [b"41\n", b"42\n", b"43\n"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tasks run as another user")
@pytest.mark.parametrize("has_files", [True, False])
async def test_what_a_confidential_task_could_not_enter_is_refused_and_nothing_is_put_elsewhere(
    executor: NativeExecutor, state: Path, has_files: bool
) -> None:
    """As in root's own run-time folder, where there is no tmpfs for all."""
    base = state / "run"
    private = base / "hearthmesh-0" / "job"
    private.mkdir(parents=True)
    base.chmod(0o700)
    (private / "file-0").write_bytes(b"a secret")
    files = {"scene.pov": private / "file-0"} if has_files else {}
    before = sorted(state.rglob("*"))
    request = ask("cat /in/* >/ckpt/state", files=files, private=private, checkpoint_root=private / "checkpoints")
    with pytest.raises(ExecutionError, match="a tmpfs is needed at /dev/shm") as caught:
        await executor.run(request)
    assert caught.value.is_ours and sorted(state.rglob("*")) == before
    for folder in (base, private.parent, private):
        folder.chmod(0o711)
    (private / "file-0").chmod(0o444)
    assert (await executor.run(replace(request, arguments=("cat /in/* >&2",)))).exits == [0 if has_files else 1]


async def test_the_jobs_files_are_read_only_under_in(executor: NativeExecutor, tmp_path: Path) -> None:
    scene = tmp_path / "blob"
    scene.write_bytes(b"sphere")
    scene.chmod(0o600)
    script = "cat /in/scene.pov; for f in /in/scene.pov /in/new /input; do echo x 2>/dev/null >$f && echo wrote; done"
    code, stdout, _, _ = await result(executor, ask(script, files={"scene.pov": scene}))
    assert (stdout, scene.read_bytes()) == ("sphere", b"sphere")
    assert code != 0


async def test_nothing_outside_of_the_tasks_own_folders_can_be_written(executor: NativeExecutor) -> None:
    script = "for d in / /dev /etc /usr /in /proc /proc/sys/kernel; do touch $d/x 2>/dev/null && echo $d; done; exit 0"
    assert await result(executor, ask(script)) == (0, "", {}, "")


async def test_the_hosts_files_and_environment_are_out_of_sight(executor: NativeExecutor) -> None:
    code, stdout, _, _ = await result(executor, ask("ls -d /root /home /work /etc/passwd /var 2>/dev/null; env"))
    names = {line.split("=")[0] for line in stdout.splitlines()}
    assert (code, names) == (0, {"HOME", "LANG", "PATH", "PWD", "TMPDIR"})


async def test_a_job_sets_only_variables_that_the_owner_listed(executor: NativeExecutor) -> None:
    assert (await result(executor, ask("echo $COLOUR", environment={"COLOUR": "red"})))[1] == "red\n"
    with pytest.raises(ExecutionError, match="may not set the variable 'LD_PRELOAD' for sh"):
        await executor.run(ask("true", environment={"LD_PRELOAD": "/in/evil.so"}))


async def test_what_the_owner_did_not_list_is_refused(executor: NativeExecutor) -> None:
    with pytest.raises(ExecutionError, match=r"'bash' is not offered here \(offered: perl, sh\)") as caught:
        await executor.run(ask("true", entry="bash"))
    assert caught.value.reason is ExecutionFault.UNAVAILABLE


async def test_more_memory_than_the_owner_gives_is_refused(executor: NativeExecutor) -> None:
    with pytest.raises(ExecutionError, match="sh gets at most 1073741824 bytes of memory here"):
        await executor.run(ask("true", limits=replace(LIMITS, memory_bytes=2 << 30)))


async def test_a_listed_program_that_is_absent_is_not_offered(state: Path) -> None:
    executor = NativeExecutor(NativeRuntimeConfig(commands={"gone": NativeCommand(Path("/usr/bin/gone"))}), state)
    assert executor.commands() == ()
    with pytest.raises(ExecutionError, match="/usr/bin/gone is not a program on this node"):
        await executor.run(ask("true", entry="gone"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_roots_tasks_run_as_the_slots_own_user(executor: NativeExecutor) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, ask("exec sleep 41.0017"))
        await until(lambda: living("sleep\x0041.0017"))
        [pid] = living("sleep\x0041.0017")
        assert Path(f"/proc/{pid}").stat().st_uid in (64_900, 64_901)
        nursery.cancel_scope.cancel()


async def test_scratch_space_ends_at_its_size(executor: NativeExecutor) -> None:
    script = "head -c 40M /dev/zero | split -b 1M - /tmp/f; du -sm /tmp | cut -f1"
    _, stdout, _, stderr = await result(executor, ask(script))
    assert int(stdout) <= 4
    assert "No space left" in stderr


async def test_a_file_above_the_limit_ends_its_writer(executor: NativeExecutor) -> None:
    assert (await result(executor, ask("exec head -c 40M /dev/zero >/tmp/f")))[0] in (Exit.OUTPUT, 1)


async def test_uncounted_empty_files_end_the_task(executor: NativeExecutor) -> None:
    script = "for (1..100000) { mkdir qq(/tmp/$_) or sleep 1 } sleep 100"
    code, _, _, stderr = await result(executor, ask(script, entry="perl"))
    assert (code, stderr.splitlines()[-1]) == (Exit.OUTPUT, "hearthmesh: more than 20000 files in /tmp and /out")


async def test_what_a_task_leaves_running_ends_with_it(executor: NativeExecutor) -> None:
    script = "sleep 41.0018 & (sleep 41.0018 &) ; nohup sleep 41.0018 & echo done"
    assert (await result(executor, ask(script)))[:2] == (0, "done\n")
    assert living("41.0018") == []


async def test_a_fork_bomb_meets_the_limit_and_dies_with_its_task(executor: NativeExecutor) -> None:
    script = "bomb_410019() { bomb_410019 | bomb_410019 & }; bomb_410019; sleep 100"
    limits = replace(LIMITS, wall_us=1_000_000)
    async with trio.open_nursery() as nursery:
        codes: list[int] = []

        async def explode() -> None:
            codes.append((await result(executor, ask(script, limits=limits)))[0])

        nursery.start_soon(explode)
        while not codes:
            assert len(living("bomb_410019")) <= SH.processes + 3  # the launchers' own
            await trio.sleep(0.05)
    assert codes[0] != 0
    assert living("bomb_410019") == []


async def test_there_is_no_network(executor: NativeExecutor) -> None:
    script = (
        "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0) and print 'made'; print $!+0, qq(\\n);"
        "open(my $f, '<', '/proc/net/dev'); print grep { /:/ && !/lo:/ } <$f>"
    )
    assert (await result(executor, ask(script, entry="perl")))[:2] == (0, "13\n")


async def test_every_denied_system_call_is_refused_inside(executor: NativeExecutor) -> None:
    column = seccomp.ARCHITECTURES[os.uname().machine].column
    numbers = {name: row[column] for name, row in seccomp.DENIED.items() if row[column] is not None}
    words = " ".join(f"{name} {number}" for name, number in numbers.items())
    loop = "for (sort keys %n) { $! = 0; syscall($n{$_}, 0, 0, 0, 0); print $_, ' ', $!+0, qq(\\n) }"
    script = f"my %n = qw({words}); {loop}"
    code, stdout, _, _ = await result(executor, ask(script, entry="perl"))
    expected = [f"{name} {seccomp.DENIED[name][2]}" for name in sorted(numbers)]
    assert (code, stdout.splitlines()) == (0, expected)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an ABI of x86-64")
async def test_the_x32_abi_is_closed(executor: NativeExecutor) -> None:
    script = "print syscall(0x40000000 + 39), ' ', $!+0"
    assert (await result(executor, ask(script, entry="perl")))[:2] == (0, "-1 1")


async def test_a_new_namespace_cannot_be_made(executor: NativeExecutor) -> None:
    code, _, _, stderr = await result(executor, ask("unshare -U true"))
    assert code != 0 and "Operation not permitted" in stderr


async def test_killing_everything_in_sight_reaches_only_the_task(executor: NativeExecutor) -> None:
    assert (await result(executor, ask("kill -9 -1; kill -9 1; echo alive")))[:2] == (0, "alive\n")
    assert (await result(executor, ask("kill -9 0")))[0] == Exit.KILLED
    assert (await result(executor, ask("echo next")))[:2] == (0, "next\n")


async def test_stopping_ones_own_group_runs_into_the_wall_limit(executor: NativeExecutor) -> None:
    limits = replace(LIMITS, wall_us=400_000)
    assert (await result(executor, ask("kill -STOP 0", limits=limits)))[0] == Exit.WALL


async def test_a_signal_of_its_own_making_is_a_trap(executor: NativeExecutor) -> None:
    assert (await result(executor, ask("kill -SEGV $$")))[0] == Exit.TRAP


@pytest.mark.parametrize("script", ["yes", "yes >&2", "head -c 2M /dev/zero >f"])
async def test_a_flood_of_output_ends_the_task(executor: NativeExecutor, script: str) -> None:
    code, _, _, stderr = await result(executor, ask(f"exec {script}" if "yes" in script else script))
    assert code == Exit.OUTPUT
    assert "bytes" in stderr.splitlines()[-1] and len(stderr) <= LIMITS.stderr_bytes


async def test_only_the_end_of_stderr_is_kept(executor: NativeExecutor) -> None:
    code, _, _, stderr = await result(executor, ask("seq 100000 >&2"))
    assert (code, len(stderr), stderr[-7:]) == (0, LIMITS.stderr_bytes, "100000\n")


@pytest.mark.parametrize("script", ["exec sleep 41.0020", SPIN])
async def test_the_wall_limit_ends_a_task(executor: NativeExecutor, script: str) -> None:
    code, _, _, stderr = await result(executor, ask(script, limits=replace(LIMITS, wall_us=300_000)))
    assert (code, stderr) == (Exit.WALL, "hearthmesh: ran longer than 0.3 s\n")


async def test_one_allocation_above_the_limit_fails(executor: NativeExecutor) -> None:
    assert (await result(executor, ask("my $x = 'x' x (1 << 30); print 'got it'", entry="perl")))[:2] != (0, "got it")


async def test_endless_recursion_ends_the_task(executor: NativeExecutor) -> None:
    code = (await result(executor, ask("sub f { f(@_, 1) } f()", entry="perl")))[0]
    assert code in (Exit.MEMORY, Exit.TRAP, 1)


async def test_memory_that_grows_in_many_processes_ends_the_task(executor: NativeExecutor) -> None:
    script = "for (1..4) { fork or do { my $x = 'x' x (48 << 20); sleep 100 } } sleep 100"
    code, _, _, stderr = await result(executor, ask(script, entry="perl"))
    assert (code, stderr) == (Exit.MEMORY, "hearthmesh: needs more than 134217728 bytes of memory\n")


async def test_links_pipes_and_folders_in_out_are_not_outputs(executor: NativeExecutor) -> None:
    script = (
        "ln -s /etc/shadow a; ln -s /proc/1/environ b; ln -s . c; mkfifo d; mkdir e; echo deep >e/f;"
        "echo real >g; ln g h; ln -s /proc/self/root i"
    )
    assert await result(executor, ask(script)) == (0, "", {"g": b"real\n", "h": b"real\n"}, "")


@pytest.mark.parametrize("script", ["echo x >'a b'", "echo x >.hidden", "for n in $(seq 300); do echo >f$n; done"])
async def test_unusable_names_and_too_many_files_are_an_output_fault(executor: NativeExecutor, script: str) -> None:
    code, _, _, stderr = await result(executor, ask(script))
    assert (code, stderr.startswith("hearthmesh: output")) == (Exit.OUTPUT, True)


async def test_a_huge_sparse_file_costs_the_node_nothing(executor: NativeExecutor) -> None:
    code = (await result(executor, ask("truncate -s 3M sparse; truncate -s 1T more 2>/dev/null; exit 0")))[0]
    assert code == Exit.OUTPUT


async def test_cancelling_ends_every_process_at_once_and_the_executor_lives_on(executor: NativeExecutor) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, ask("sleep 41.0021 & sleep 41.0021"))
        await until(lambda: len(living("sleep\x0041.0021")) == 2)
        nursery.cancel_scope.cancel()
    assert living("41.0021") == []
    assert (await result(executor, ask("echo again")))[:2] == (0, "again\n")


async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(executor: NativeExecutor) -> None:
    for moment in range(20):
        with trio.move_on_after(moment / 1000):
            await executor.run(ask("exec sleep 41.0022"))
        assert living("41.0022") == []


async def test_closing_ends_what_runs(executor: NativeExecutor) -> None:
    async def stopped() -> None:
        with pytest.raises(ExecutionError, match="the node stopped its native runtime"):
            await executor.run(ask("exec sleep 41.0023"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(stopped)
        await until(lambda: len(living("sleep\x0041.0023")) == 2)
        await executor.aclose()
        assert living("41.0023") == []
    with pytest.raises(ExecutionError, match="is closed"):
        await executor.run(ask("true"))


async def test_a_checkpoint_outlives_a_kill_and_goes_with_success(executor: NativeExecutor, state: Path) -> None:
    script = "cat /ckpt/step 2>/dev/null && exit 0; echo half >/ckpt/step; exec sleep 41.0024"
    request = ask(script, checkpoint_root=state / "checkpoints")
    saved = state / "checkpoints" / b"job".hex() / "0" / "step"
    for _ in range(2):  # the second run may get another slot, and so another user
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run, request)
            await until(lambda: living("sleep\x0041.0024"))
            nursery.cancel_scope.cancel()
        assert saved.read_text() == "half\n"
        saved.unlink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, request)
        await until(lambda: living("sleep\x0041.0024"))
        nursery.cancel_scope.cancel()
    assert (await result(executor, request))[:2] == (0, "half\n")
    assert not saved.parent.exists()


async def test_a_checkpoint_folder_has_a_size_a_depth_and_a_number_of_files(
    executor: NativeExecutor, state: Path
) -> None:
    root = state / "checkpoints"
    for script, words in {
        "for n in 1 2 3; do head -c 3M /dev/zero >/ckpt/$n; done; sleep 41": "more than 4194304 bytes in /ckpt",
        "for n in $(seq 1100); do : >/ckpt/$n; done; sleep 41": "more than 1000 files in /ckpt, or too deep",
        "cd /ckpt; for n in $(seq 400); do mkdir deep; cd deep; done; sleep 41": "or too deep",
        "echo small >/ckpt/x; exit 5": "",
    }.items():
        code, _, _, stderr = await result(executor, ask(script, checkpoint_root=root))
        assert code == (Exit.OUTPUT if words else 5)
        assert words in stderr
    executor.forget(root, b"job")
    assert not (root / b"job".hex()).exists()


async def test_a_state_folder_out_of_reach_is_replaced_for_inputs_and_checkpoints(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    executor = NativeExecutor(CONFIG, tmp_path / "state")
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    try:
        request = ask("echo half >/ckpt/step; exit 1", checkpoint_root=tmp_path / "checkpoints")
        assert (await result(executor, request))[0] == 1
        assert (await result(executor, replace(request, arguments=("cat /ckpt/step",))))[:2] == (0, "half\n")
    finally:
        await executor.aclose()
        shutil.rmtree(Path("/var/tmp") / SandboxFolders(tmp_path / "state", None).tag, ignore_errors=True)


async def test_duty_holds_a_task_to_its_share(executor: NativeExecutor) -> None:
    shares = []
    for duty in (1.0, 0.3):
        executor.set_duty(duty)
        began = trio.current_time()
        outcome = await executor.run(ask(SPIN, limits=replace(LIMITS, wall_us=900_000)))
        shares.append(outcome.cpu_us[0] / 1e6 / (trio.current_time() - began))
        assert outcome.exits == [Exit.WALL]
    whole, held = shares
    # Of what this machine gives a task that nobody holds: a busy one gives less in both cases.
    assert 0.15 * min(1.0, whole) < held < 0.38


async def test_a_duty_of_zero_pauses_and_does_not_count_against_the_wall_limit(
    executor: NativeExecutor, state: Path
) -> None:
    executor.set_duty(0.0)
    outcomes: list[BatchOutcome] = []
    limits = replace(LIMITS, wall_us=2_000_000)

    async def run() -> None:
        outcomes.append(await executor.run(ask("echo done", limits=limits)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        # One that nobody holds, and that began later, runs into the same limit. A state folder of its own: whoever
        # starts on the same one ends what it finds running there.
        own = state / "other"
        own.mkdir(mode=0o711)
        other = NativeExecutor(CONFIG, own)
        try:
            assert (await other.run(ask("sleep 600", limits=limits))).exits == [Exit.WALL]
        finally:
            await other.aclose()
        assert outcomes == []
        executor.set_duty(1.0)
    assert outcomes[0].exits == [0]


async def test_cpu_time_is_counted_while_tasks_run_and_ends_as_their_sum(executor: NativeExecutor) -> None:
    before_us = executor.cpu_us
    async with trio.open_nursery() as nursery:
        outcomes: list[BatchOutcome] = []

        async def spin() -> None:
            outcomes.append(await executor.run(ask(SPIN, limits=replace(LIMITS, wall_us=600_000))))

        nursery.start_soon(spin)
        await until(lambda: executor.cpu_us > before_us)
        assert outcomes == []
    assert executor.cpu_us - before_us == outcomes[0].cpu_us[0]


async def test_a_node_without_descriptors_refuses_and_recovers(executor: NativeExecutor) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    try:
        for spare in range(14):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
            with suppress(ExecutionError):
                await executor.run(ask("exec sleep 41.0028", limits=replace(LIMITS, wall_us=50_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert living("41.0028") == []
    assert max(map(int, os.listdir("/proc/self/fd"))) <= used
    assert (await result(executor, ask("echo fine")))[:2] == (0, "fine\n")


async def test_as_many_batches_run_at_once_as_there_are_slots(executor: NativeExecutor) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(executor.run, ask("exec sleep 41.0025"))
        await until(lambda: len(living("sleep\x0041.0025")) == 2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(living("sleep\x0041.0025")) == 2
        nursery.cancel_scope.cancel()
    assert living("41.0025") == []


NODE = """
import sys, trio
from pathlib import Path
from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeCommand, NativeRuntimeConfig
from hearthmesh.node.execution.outcome import BatchRequest

command = NativeCommand(Path("/usr/bin/sh"))
executor = NativeExecutor(NativeRuntimeConfig(commands={"sh": command}), Path(sys.argv[1]))
request = BatchRequest(b"job", "native", "command", Path(), b"", 0, 1, b"seed", "sh", ("-c", "exec sleep 41.0026"))
trio.run(executor.run, request)
"""


async def test_a_killed_node_takes_its_tasks_along(executor: NativeExecutor, state: Path) -> None:
    node = subprocess.Popen([sys.executable, "-c", NODE, str(state / "other")])
    try:
        await until(lambda: living("sleep\x0041.0026"))
    finally:
        node.send_signal(signal.SIGKILL)
        node.wait()
    await until(lambda: not living("41.0026"))
    assert node.returncode == -signal.SIGKILL


async def test_the_next_run_of_a_node_ends_what_was_left_behind(executor: NativeExecutor) -> None:
    tag = f"tag-{uuid4().hex}"
    left = subprocess.Popen(
        ["bwrap", "--unshare-uts", "--unshare-user", "--hostname", tag, "--bind", "/", "/", "sleep", "600"]
    )
    try:
        await until(lambda: kill_orphans(tag))
        await until(lambda: left.poll() is not None)
        assert left.returncode == -signal.SIGKILL
        await until(lambda: not kill_orphans(tag))
    finally:
        left.kill()
        left.wait()
