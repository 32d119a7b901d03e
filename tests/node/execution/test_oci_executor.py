"""The container runtime against what strangers' tasks may try. Needs podman; skips, with the reason, without.

Images are made of this machine's programs (`images.py`): nothing is fetched."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from hearthmesh.node.execution import seccomp
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.outcome import BatchOutcome, ExecutionError, ExecutionFault, Exit
from tests.node.execution.containers import LIMITS, SPIN, USER, Ask, result
from tests.node.execution.test_native_executor import living, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="podman needs Linux")


def sleeping(seconds: str) -> list[int]:
    """The containers' processes that sleep so long; those that were told to start them are others."""
    found = []
    for pid in living(seconds):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(pid)
        except OSError:
            continue
    return found


async def test_a_task_gets_its_input_and_hands_out_status_stdout_files_and_stderr(
    executor: OciExecutor, ask: Ask
) -> None:
    script = "cat; echo warm >b.txt; printf cold >a.txt; echo oh >&2; exit 7"
    outcome = await executor.run(ask.sh(script, inputs=[b"in\n"]))
    assert outcome == BatchOutcome(
        first=0,
        exits=[7],
        outputs=[msgspec.msgpack.encode([b"in\n", {"a.txt": b"cold", "b.txt": b"warm\n"}])],
        stderrs={0: b"oh\n"},
        fuels=[0],
        cpu_us=outcome.cpu_us,
    )
    assert outcome.cpu_us[0] > 0


async def test_each_task_of_a_batch_finds_its_index_and_an_empty_folder(executor: OciExecutor, ask: Ask) -> None:
    outcome = await executor.run(ask.sh("echo {index}; ls; touch left", first=41, count=3))
    assert [msgspec.msgpack.decode(output)[0] for output in outcome.outputs] == [b"41\n", b"42\n", b"43\n"]


async def test_a_job_without_arguments_runs_the_images_own_command(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask(inputs=[b"echo $COLOUR $HOME"])))[:2] == (0, "red /tmp\n")


async def test_the_jobs_files_are_read_only_under_in(executor: OciExecutor, ask: Ask, tmp_path: Path) -> None:
    scene = tmp_path / "blob"
    scene.write_bytes(b"sphere")
    scene.chmod(0o600)
    script = "cat /in/scene.pov; for f in /in/scene.pov /in/new /input; do echo x 2>/dev/null >$f && echo wrote; done"
    code, stdout, _, _ = await result(executor, ask.sh(script, files={"scene.pov": scene}))
    assert (stdout, scene.read_bytes()) == ("sphere", b"sphere")
    assert code != 0


async def test_nothing_outside_of_the_tasks_own_folders_can_be_written(executor: OciExecutor, ask: Ask) -> None:
    places = "/ /bin /dev /etc /in /proc /proc/sys/kernel /run /sys /sys/fs/cgroup"
    script = f"for d in {places}; do touch $d/x 2>/dev/null && echo $d; done; exit 0"
    assert await result(executor, ask.sh(script)) == (0, "", {}, "")


async def test_nothing_is_mounted_for_writing_but_what_has_a_size(executor: OciExecutor, ask: Ask) -> None:
    """What is not of the kernel's own kinds, that is: those hold no bytes of a task's."""
    _, stdout, _, _ = await result(executor, ask.sh("cat /proc/mounts"))
    writable = {
        words[1]: words[3]
        for words in map(str.split, stdout.splitlines())
        if "rw" in words[3].split(",") and words[2] not in ("proc", "devtmpfs")
    }
    assert set(writable) == {"/tmp", "/out", "/dev/shm"}
    assert all("size=4096k" in options for options in writable.values())


async def test_the_hosts_files_and_environment_are_out_of_sight(executor: OciExecutor, ask: Ask) -> None:
    code, stdout, _, _ = await result(executor, ask.sh("ls -d /root /home /work /usr /store /podman 2>/dev/null; env"))
    names = {line.split("=")[0] for line in stdout.splitlines()}
    assert (code, names) == (0, {"COLOUR", "HOME", "HOSTNAME", "LANG", "LC_ALL", "PATH", "PWD", "TERM", "TMPDIR"})


async def test_an_image_that_the_owner_did_not_list_is_refused(executor: OciExecutor, ask: Ask) -> None:
    with pytest.raises(ExecutionError, match="the image 'sha256:00.*' is not allowed here") as caught:
        await executor.run(ask.sh("true", entry=f"sha256:{'0' * 64}"))
    assert caught.value.reason is ExecutionFault.UNAVAILABLE


async def test_more_memory_than_the_owner_gives_is_refused(executor: OciExecutor, ask: Ask) -> None:
    with pytest.raises(ExecutionError, match="containers get at most 1073741824 bytes of memory here"):
        await executor.run(ask.sh("true", limits=replace(LIMITS, memory_bytes=2 << 30)))


async def test_a_confidential_job_is_refused(executor: OciExecutor, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ExecutionError) as caught:
        await executor.run(ask.sh("true", private=tmp_path))
    assert caught.value.reason is ExecutionFault.INVALID_MODULE


async def test_a_program_that_the_image_lacks_is_missing(executor: OciExecutor, ask: Ask) -> None:
    outcome = await executor.run(ask("/bin/nowhere"))
    assert outcome.exits == [Exit.MISSING]
    assert "`/bin/nowhere` not found" in outcome.stderrs[0].decode()


@pytest.mark.parametrize("status", [125, 126, 127])
async def test_podmans_own_statuses_are_also_a_programs(executor: OciExecutor, ask: Ask, status: int) -> None:
    assert (await result(executor, ask.sh(f"exit {status}")))[0] == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_roots_containers_run_as_the_unprivileged_user(executor: OciExecutor, ask: Ask) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, ask("sleep", "42.0017"))
        await until(lambda: sleeping("42.0017"))
        [pid] = sleeping("42.0017")
        assert Path(f"/proc/{pid}").stat().st_uid == USER
        nursery.cancel_scope.cancel()


async def test_scratch_space_ends_at_its_size(executor: OciExecutor, ask: Ask) -> None:
    script = (
        "my ($n, $i) = (0, 0);"
        "for my $d ('/tmp', '/dev/shm') { for (1..20) { $i++; open(my $f, '>', qq($d/$i)) or last;"
        "$n += syswrite($f, 'x' x (1 << 20)) // 0 } } print $n <= 4 << 20 ? 'held' : 'escaped'"
    )
    assert (await result(executor, ask.perl(script)))[1] == "held"


async def test_a_file_above_the_limit_ends_its_writer(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.sh("exec head -c 40000000 /dev/zero >/tmp/f")))[0] in (Exit.OUTPUT, 1)


async def test_a_huge_sparse_file_costs_the_node_nothing(executor: OciExecutor, ask: Ask) -> None:
    script = "open(my $f, '>', 'sparse'); truncate($f, 3 << 20); truncate($f, 1 << 40); exit 0"
    assert (await result(executor, ask.perl(script)))[0] == Exit.OUTPUT


async def test_uncounted_empty_files_end_the_task(executor: OciExecutor, ask: Ask) -> None:
    script = "for (1..100000) { mkdir qq(/tmp/$_) or sleep 1 } sleep 100"
    code, _, _, stderr = await result(executor, ask.perl(script))
    assert (code, stderr.splitlines()[-1]) == (Exit.OUTPUT, "hearthmesh: more than 20000 files in /tmp and /out")


async def test_what_a_task_leaves_running_ends_with_it(executor: OciExecutor, ask: Ask) -> None:
    script = "sleep 42.0018 & (sleep 42.0018 &) ; echo done"
    assert (await result(executor, ask.sh(script)))[:2] == (0, "done\n")
    assert living("42.0018") == []


async def test_a_fork_bomb_meets_the_limit_and_dies_with_its_task(executor: OciExecutor, ask: Ask) -> None:
    script = "bomb_420019() { bomb_420019 | bomb_420019 & }; bomb_420019; sleep 100"
    async with trio.open_nursery() as nursery:
        codes: list[int] = []

        async def explode() -> None:
            codes.append((await result(executor, ask.sh(script, limits=replace(LIMITS, wall_us=3_000_000))))[0])

        nursery.start_soon(explode)
        while not codes:
            assert len(living("bomb_420019")) <= 40 + 8  # and those that launch it
            await trio.sleep(0.05)
    assert codes[0] != 0
    assert living("bomb_420019") == []


async def test_there_is_no_network(executor: OciExecutor, ask: Ask) -> None:
    script = (
        "socket(my $s, 2, 1, 0) and print 'made'; print $!+0, qq(\\n);"
        "open(my $f, '<', '/proc/net/dev'); print grep { /:/ && !/lo:/ } <$f>"
    )
    assert (await result(executor, ask.perl(script)))[:2] == (0, "13\n")


async def test_every_denied_system_call_is_refused_inside(executor: OciExecutor, ask: Ask) -> None:
    column = seccomp.ARCHITECTURES[os.uname().machine].column
    numbers = {name: row[column] for name, row in seccomp.DENIED.items() if row[column] is not None}
    words = " ".join(f"{name} {number}" for name, number in numbers.items())
    loop = "for (sort keys %n) { $! = 0; syscall($n{$_}, 0, 0, 0, 0); print $_, ' ', $!+0, qq(\\n) }"
    code, stdout, _, _ = await result(executor, ask.perl(f"my %n = qw({words}); {loop}"))
    expected = [f"{name} {seccomp.DENIED[name][2]}" for name in sorted(numbers)]
    assert (code, stdout.splitlines()) == (0, expected)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an ABI of x86-64")
async def test_the_x32_abi_is_closed(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.perl("print 'x32: ', syscall(0x40000000 + 39)")))[:2] == (Exit.TRAP, "")


async def test_a_container_has_no_rights_and_can_gain_none(executor: OciExecutor, ask: Ask) -> None:
    _, stdout, _, _ = await result(executor, ask.sh("cat /proc/self/status"))
    status = dict(line.split(":", 1) for line in stdout.splitlines())
    rights = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert set(rights.values()) == {0}
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")


async def test_killing_everything_in_sight_reaches_only_the_task(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.sh("kill -9 -1; kill -9 1; echo alive")))[:2] == (0, "alive\n")
    assert (await result(executor, ask.sh("echo next")))[:2] == (0, "next\n")


async def test_stopping_itself_runs_into_the_wall_limit(executor: OciExecutor, ask: Ask) -> None:
    limits = replace(LIMITS, wall_us=1_000_000)
    assert (await result(executor, ask.sh("sh -c 'kill -STOP $$'", limits=limits)))[0] == Exit.WALL


async def test_a_signal_of_its_own_making_is_a_trap(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.sh("sh -c 'kill -SEGV $$'")))[0] == Exit.TRAP


@pytest.mark.parametrize("script", ["yes", "yes >&2", "head -c 2000000 /dev/zero >f"])
async def test_a_flood_of_output_ends_the_task(executor: OciExecutor, ask: Ask, script: str) -> None:
    code, _, _, stderr = await result(executor, ask.sh(f"exec {script}" if "yes" in script else script))
    assert code == Exit.OUTPUT
    assert "bytes" in stderr.splitlines()[-1] and len(stderr) <= LIMITS.stderr_bytes


async def test_only_the_end_of_stderr_is_kept(executor: OciExecutor, ask: Ask) -> None:
    code, _, _, stderr = await result(executor, ask.sh("seq 100000 >&2"))
    assert (code, len(stderr), stderr[-7:]) == (0, LIMITS.stderr_bytes, "100000\n")


@pytest.mark.parametrize("script", ["exec sleep 42.0020", SPIN])
async def test_the_wall_limit_ends_a_task(executor: OciExecutor, ask: Ask, script: str) -> None:
    code, _, _, stderr = await result(executor, ask.sh(script, limits=replace(LIMITS, wall_us=800_000)))
    assert (code, stderr) == (Exit.WALL, "hearthmesh: ran longer than 0.8 s\n")
    assert living("42.0020") == []


async def test_one_allocation_above_the_limit_fails(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.perl("my $x = 'x' x (1 << 30); print 'got it'")))[:2] != (0, "got it")


async def test_endless_recursion_ends_the_task(executor: OciExecutor, ask: Ask) -> None:
    assert (await result(executor, ask.perl("sub f { f(@_, 1) } f()")))[0] in (Exit.MEMORY, Exit.TRAP, 1)


async def test_memory_that_grows_in_many_processes_ends_the_task(executor: OciExecutor, ask: Ask) -> None:
    script = "for (1..4) { fork or do { my $x = 'x' x (48 << 20); sleep 100 } } sleep 100"
    code, _, _, stderr = await result(executor, ask.perl(script))
    assert (code, stderr) == (Exit.MEMORY, "hearthmesh: needs more than 134217728 bytes of memory\n")


async def test_podmans_own_memory_is_not_the_tasks(executor: OciExecutor, ask: Ask) -> None:
    limits = replace(LIMITS, memory_bytes=8 << 20, wall_us=1_500_000)
    assert (await result(executor, ask.sh("exec sleep 100", limits=limits)))[0] == Exit.WALL


async def test_links_pipes_and_folders_in_out_are_not_outputs(executor: OciExecutor, ask: Ask) -> None:
    script = (
        "ln -s /etc/shadow a; ln -s /proc/1/environ b; ln -s . c; mkfifo d; mkdir e; echo deep >e/f;"
        "echo real >g; ln g h; ln -s /proc/self/root i"
    )
    assert await result(executor, ask.sh(script)) == (0, "", {"g": b"real\n", "h": b"real\n"}, "")


async def test_cancelling_ends_every_process_at_once_and_the_executor_lives_on(executor: OciExecutor, ask: Ask) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, ask.sh("sleep 42.0021 & sleep 42.0021"))
        await until(lambda: len(sleeping("42.0021")) == 2)
        nursery.cancel_scope.cancel()
    assert living("42.0021") == []
    assert (await result(executor, ask.sh("echo again")))[:2] == (0, "again\n")


async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(executor: OciExecutor, ask: Ask) -> None:
    for moment in range(12):
        with trio.move_on_after(moment / 50):
            await executor.run(ask.sh("exec sleep 42.0022"))
        assert living("42.0022") == []


async def test_closing_ends_what_runs(executor: OciExecutor, ask: Ask) -> None:
    async def stopped() -> None:
        with pytest.raises(ExecutionError, match="the node stopped its oci runtime"):
            await executor.run(ask("sleep", "42.0023"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(stopped)
        await until(lambda: len(sleeping("42.0023")) == 2)
        await executor.aclose()
        assert living("42.0023") == []
    with pytest.raises(ExecutionError, match="is closed"):
        await executor.run(ask.sh("true"))


async def test_a_checkpoint_outlives_a_kill_and_goes_with_success(executor: OciExecutor, ask: Ask, state: Path) -> None:
    script = "cat /ckpt/step 2>/dev/null && exit 0; echo half >/ckpt/step; exec sleep 42.0024"
    request = ask.sh(script, checkpoint_root=state / "checkpoints")
    saved = state / "checkpoints" / b"job".hex() / "0" / "step"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, request)
        await until(saved.exists)
        nursery.cancel_scope.cancel()
    assert saved.read_text() == "half\n"
    assert (await result(executor, request))[:2] == (0, "half\n")
    assert not saved.parent.exists()


async def test_duty_holds_a_task_to_its_share(executor: OciExecutor, ask: Ask) -> None:
    shares = []
    for duty in (1.0, 0.3):
        executor.set_duty(duty)
        began = trio.current_time()
        outcome = await executor.run(ask.sh(SPIN, limits=replace(LIMITS, wall_us=1_500_000)))
        shares.append(outcome.cpu_us[0] / 1e6 / (trio.current_time() - began))
        assert outcome.exits == [Exit.WALL]
    whole, held = shares
    # Of what this machine gives a task that nobody holds: a busy one gives less in both cases.
    assert 0.15 * min(1.0, whole) < held < 0.38


async def test_a_duty_of_zero_stops_each_process_of_a_container(executor: OciExecutor, ask: Ask) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, ask.sh("sleep 42.0029 & sleep 42.0029 & exec sleep 42.0029"))
        await until(lambda: len(sleeping("42.0029")) == 3)
        executor.set_duty(0.0)
        await until(lambda: [state_of(pid) for pid in sleeping("42.0029")] == ["T"] * 3)
        executor.set_duty(1.0)
        await until(lambda: [state_of(pid) for pid in sleeping("42.0029")] == ["S"] * 3)
        nursery.cancel_scope.cancel()


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


NODE = """
import sys, trio
from pathlib import Path
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.oci_config import OciRuntimeConfig
from hearthmesh.node.execution.outcome import BatchRequest

state, archive, image, seconds = sys.argv[1:]
executor = OciExecutor(OciRuntimeConfig(images=(image,)), Path(state))
command = ("sh", "-c", f"echo x >/out/y; exec sleep {seconds}")
request = BatchRequest(b"job", "oci", "command", Path(archive), b"", 0, 1, b"seed", image, command)
trio.run(executor.run, request)
"""


def mounts() -> set[str]:
    return {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}


async def test_a_killed_node_takes_its_containers_along(
    executor: OciExecutor, archive: tuple[Path, str], state: Path
) -> None:
    """Processes, mounts and podman's records: all are the enclosure's, which the kernel ends."""
    before = mounts()
    command = [sys.executable, "-c", NODE, str(state / "node"), str(archive[0]), archive[1], "42.0026"]
    node = subprocess.Popen(command)
    try:
        await until(lambda: sleeping("42.0026"))
    finally:
        node.send_signal(signal.SIGKILL)
        node.wait()
    await until(lambda: not living(str(state)) and not living("42.0026"))
    assert node.returncode == -signal.SIGKILL
    assert mounts() == before
    kept = sorted(path.name for path in (state / "node").iterdir())
    assert kept == ["images", "podman"]
    [image] = (state / "node" / "images").iterdir()
    assert sorted(path.name for path in image.iterdir()) == ["kept.json", "rootfs"]


# -- images --------------------------------------------------------------------------------------------------
