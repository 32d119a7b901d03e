"""What the client's commands do. Each returns the exit code."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ...crypto.identity import peer_id_text
from ...protocol.messages import JobStatus
from ...protocol.words import counted
from ..client import Client, ClientError, Job, JobFailed, JobRequest
from ..client.job import VerifiedBatch
from ..clock import wall_us
from ..config import ClientConfig, load_client_config
from ..jobfile import load_job_file
from ..logs import configure_logs
from ..settings.locate import KeyPath
from ..storage.folder import StateFolder
from .authority import file_name
from .errors import BAD_INPUT, JOB_FAILED, SUCCESS, UserError
from .fetching import fetch_results, peek
from .ledger import Ledger, Submitted
from .names import Names
from .output import connecting, note, print_json, print_table, printable, say
from .prices import describe_price, price_of
from .program_check import check_program
from .progress import WORKER_COLUMNS, Rates, copy_progress, describe_status, live_progress, summary, worker_rows
from .results_folder import ResultsFolder
from .session import client_path
from .tables import PEER_ID, Column, Columns

JOB_STATUS_TIMEOUT_S = 3.0
JOBS_AT_ONCE = 16
# Where the job file says what the mesh refuses.
KEYS_OF_SPECS: Mapping[str, KeyPath] = {
    "command": ("program",),
    "limits.memory_bytes": ("limits", "memory_mb"),
    "secrecy": ("workers",),
    "rules": ("verification",),
}
JOB_COLUMNS: Columns = (
    *(Column("job", head=8), "name", "state", ">done", ">tasks"),
    *(Column(">failed", drop=2), Column("secrecy", drop=1)),
)
PEER_COLUMNS: Columns = (
    *("name", "state", Column("heats", drop=4), ">°C", Column(">wants W", drop=5)),
    *(Column(">free", drop=3), Column(">cores", drop=2), Column("zone", head=8, drop=1), PEER_ID),
)


class Session:
    """A connected client with what this machine remembers."""

    def __init__(self, mesh: Client, ledger: Ledger, names: Names) -> None:
        self.mesh = mesh
        self.ledger = ledger
        self._names = names

    def members(self) -> list[dict[str, Any]]:
        """The nodes of the mesh, and names of those that were in it."""
        there = self.mesh.members()
        return there + self._names.absent(there)

    async def job(self, prefix: str) -> Job:
        return await self.mesh.job(prefix)

    async def results_folder(self, job: Job, folder: Path | None) -> ResultsFolder:
        """The named one, the job file's, or NAME-ID in the working folder. Raises UserError."""
        if folder is None:
            held = self.ledger.find(job.id)
            named = held.folder if held is not None else ""
            folder = Path(named) if named else Path(f"{file_name(job.spec.name)}-{job.id[:8]}")
        # It hashes what is there already, which may take longer than links can be left alone.
        return await trio.to_thread.run_sync(ResultsFolder, folder, job.job_id, job.spec)


def _settings(path: Path | None) -> tuple[ClientConfig, Ledger]:
    """Of the client that this command speaks as; its own machine is quiet unless something is wrong."""
    configure_logs("debug" if os.environ.get("HEARTH_DEBUG") else "error", json_lines=False)
    config = load_client_config(client_path(path))
    return config, Ledger(config.client.state)


@asynccontextmanager
async def _connected(config: ClientConfig, ledger: Ledger) -> AsyncIterator[Session]:
    async with AsyncExitStack() as stack:
        with connecting(len(config.client.bootstrap), mdns=config.client.mdns):
            mesh = await stack.enter_async_context(Client.connect(config))
        names = Names(config.client.state)
        names.learn(mesh.members())
        yield Session(mesh, ledger, names)
        names.learn(mesh.members())


async def submit(file: Path, again: bool, follow: bool, folder: Path | None, client: Path | None, as_json: bool) -> int:
    job_file = load_job_file(file, now_us=wall_us())
    config, ledger = _settings(client)
    state = StateFolder(config.client.state)
    state.create()
    await check_program(job_file, state.cache)
    # Before the session: a Python job builds its component the first time, which takes longer than a peer waits.
    request = await trio.to_thread.run_sync(partial(JobRequest.from_file, job_file, now_us=wall_us(), again=again))
    async with _connected(config, ledger) as session:
        try:
            with copy_progress() as show:
                job = await session.mesh.submit(request, show)
        except JobFailed as error:
            if error.about in KEYS_OF_SPECS:
                raise job_file.error(KEYS_OF_SPECS[error.about], f"not taken: {error.reason}") from error
            raise UserError(f"{file}: not taken: {error.reason}", BAD_INPUT) from error
        where = folder if folder is not None else job_file.results.folder
        known = await _known(job) if ledger.find(job.id) is not None else ""
        ledger.add(Submitted(job.id, job.spec.name, str(where.absolute()) if where is not None else ""))
        price, most = price_of(job.spec)
        if not as_json:
            say(f"{job.spec.name}  {counted(job.spec.tasks, 'task')}  {job.id}{_mark(job)}")
            if price:
                say(describe_price(job.spec))
        elif not follow:
            about = {"job": job.id, "name": job.spec.name, "tasks": job.spec.tasks, "confidential": job.is_confidential}
            print_json(about | {"price_limit": price, "cost_at_most": most})
        if follow:
            return await _fetch(session, job, await session.results_folder(job, folder), True, as_json)
    if not as_json:
        said = known or "submitted: it is kept by the mesh now"
        say(f"{said}. hearth watch --last, hearth results --last")
    return SUCCESS


async def _known(job: Job) -> str:
    """What became of a job that was submitted before."""
    status = (await _statuses([job])).get(job.job_id)
    if status is None:
        return "already known; --again makes a new one"
    failed = f", {status.failed} failed" if status.failed else ""
    return f"already known: {status.state}, {status.done} of {status.tasks} done{failed}; --again makes a new one"


async def status(prefix: str | None, last: bool, client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    wanted = ledger.resolve(prefix, last)
    async with _connected(config, ledger) as session:
        job = await session.job(wanted)
        shown = describe_status(await job.status(), job.spec.name, session.members())
        shown["confidential"] = job.is_confidential
    if as_json:
        print_json(shown)
    else:
        say(f"{shown['name']}  {shown['job']}{_mark(job)}")
        say(summary(shown))
        print_table(WORKER_COLUMNS, worker_rows(shown), empty="nobody works on it yet")
    return _code(shown)


async def watch(prefix: str | None, last: bool, client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    wanted = ledger.resolve(prefix, last)
    rates, shown = Rates(), None
    async with _connected(config, ledger) as session:
        job = await session.job(wanted)
        with live_progress(is_output=True) as show:
            async with aclosing(job.watch()) as statuses:
                async for status in statuses:
                    rate = rates.update(trio.current_time(), status)
                    shown = describe_status(status, job.spec.name, session.members(), rate)
                    (print_json if as_json else show)(shown)
    if shown is None:
        raise ClientError(f"job {job.id[:16]}: no replica of it answers; hearth peers shows who is there")
    return _code(shown)


async def results(
    prefix: str | None, last: bool, folder: Path | None, follow: bool, client: Path | None, as_json: bool
) -> int:
    config, ledger = _settings(client)
    wanted = ledger.resolve(prefix, last)
    async with _connected(config, ledger) as session:
        job = await session.job(wanted)
        return await _fetch(session, job, await session.results_folder(job, folder), follow, as_json)


async def _fetch(session: Session, job: Job, folder: ResultsFolder, follow: bool, as_json: bool) -> int:
    rates = Rates()
    before, done = folder.done.total, 0
    ended: JobFailed | None = None
    with live_progress() as show:

        def on_status(status: JobStatus, received: int) -> None:
            nonlocal done
            done = status.done
            rate = rates.update(trio.current_time(), status)
            shown = describe_status(status, job.spec.name, session.members(), rate)
            if not as_json:
                show(shown | {"received": received})

        # Before any result: a folder that is left half filled proves what it has.
        await trio.to_thread.run_sync(folder.add_proofs, *job.proofs(folder.signed()))
        try:
            await fetch_results(job, folder, follow=follow, on_status=on_status)
        except JobFailed as error:
            # What came before a cancellation is all that will ever be here: it is to prove itself.
            with suppress(ClientError):
                await _prove(job, folder)
            if not folder.done:
                raise
            ended = error
        else:
            await _prove(job, folder)
    here, failed = folder.done.total, sorted(folder.failed)
    if as_json:
        print_json(
            {
                "job": job.id,
                "name": job.spec.name,
                "confidential": job.is_confidential,
                "folder": str(folder.root.absolute()),
                "tasks": job.spec.tasks,
                "done": max(done, here),
                "results": here,
                "fetched": here - before,
                "failed": {str(index): folder.failed[index] for index in failed},
            }
        )
    else:
        opened = ", opened here" if job.is_confidential else ""
        say(f"{here} of {counted(job.spec.tasks, 'result')}, verified{opened}, in {folder.root}")
    if failed and not as_json:
        say(
            f"{counted(len(failed), 'task')} failed, the first is {failed[0]} "
            f"with exit code {folder.failed[failed[0]]}; hearth logs {job.id[:8]} --task {failed[0]}"
        )
    if ended is not None:
        raise ended
    return JOB_FAILED if failed else SUCCESS


async def _prove(job: Job, folder: ResultsFolder) -> None:
    """Write what shows to others that the results count. Raises ClientError if the comparator cannot be had."""
    await trio.to_thread.run_sync(folder.add_proofs, *job.proofs(folder.signed()))
    module = await job.comparator_module()
    if module is not None:
        await trio.to_thread.run_sync(folder.add_comparator, module)


async def logs(prefix: str | None, last: bool, task: int | None, client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    wanted = ledger.resolve(prefix, last)
    found = printed = 0
    async with _connected(config, ledger) as session:
        job = await session.job(wanted)
        if task is not None and task >= job.spec.tasks:
            raise UserError(f"--task {task}: the job's tasks are 0 to {job.spec.tasks - 1}")
        ranges = [(0, job.spec.tasks)] if task is None else [(task, task + 1)]
        async for taken in peek(session.mesh, job, ranges):
            found += sum(hi - lo for lo, hi in taken.parts)
            printed += _print_logs(taken, task is not None, as_json)
    if task is not None and not found:
        raise UserError(f"job {job.id[:16]}: task {task} has no result yet", JOB_FAILED)
    if not printed and not as_json:
        note(
            f"none of {counted(found, 'result')} failed or wrote to standard error"
            if found
            else "no result is here yet"
        )
    return SUCCESS


def _print_logs(taken: VerifiedBatch, everything: bool, as_json: bool) -> int:
    """Returns of how many tasks."""
    batch, printed = taken.batch, 0
    for lo, hi in taken.parts:
        for index in range(lo, hi):
            offset = index - batch.first
            text, code = taken.said(offset).decode(errors="replace"), batch.exits[offset]
            if not (text or code or everything):
                continue
            printed += 1
            worker = peer_id_text(taken.header.author)
            if as_json:
                print_json({"task": index, "exit": code, "worker": worker, "stderr": text})
                continue
            say(f"--- task {index}, exit code {code}, on {worker}")
            for line in text.splitlines():
                say(line)
    return printed


async def cancel(prefix: str | None, last: bool, client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    wanted = ledger.resolve(prefix, last)
    async with _connected(config, ledger) as session:
        job = await session.job(wanted)
        status = (await _statuses([job])).get(job.job_id)
        over = status.state if status is not None and status.state != "running" else ""
        if not over:
            await job.cancel()
    if as_json:
        print_json({"job": job.id, "name": job.spec.name, "cancelled": not over, "state": over or "cancelled"})
    elif over:
        say(f"nothing to cancel: {job.spec.name} is {over}")
    else:
        say(f"cancelled: {job.spec.name}  {job.id}")
    return SUCCESS


async def list_jobs(client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    async with _connected(config, ledger) as session:
        found = await session.mesh.jobs()
        statuses = await _statuses(found)
    rows = [_job_row(job, statuses.get(job.job_id)) for job in found]
    if as_json:
        print_json({"jobs": rows})
        return SUCCESS
    cells = [
        (
            row["job"][:16],
            row["name"],
            row["state"],
            row["done"],
            row["tasks"],
            row["failed"],
            "confidential" if row["confidential"] else "",
        )
        for row in rows
    ]
    print_table(JOB_COLUMNS, cells, empty="the mesh knows no job of yours")
    return SUCCESS


async def _statuses(found: list[Job]) -> dict[bytes, JobStatus]:
    """Of those whose replicas answer soon."""
    statuses: dict[bytes, JobStatus] = {}
    limit = trio.CapacityLimiter(JOBS_AT_ONCE)

    async def ask(job: Job) -> None:
        async with limit:
            with trio.move_on_after(JOB_STATUS_TIMEOUT_S):
                try:
                    statuses[job.job_id] = await job.status()
                except ClientError:
                    return

    async with trio.open_nursery() as nursery:
        for job in found:
            nursery.start_soon(ask, job)
    return statuses


def _mark(job: Job) -> str:
    return "  confidential" if job.is_confidential else ""


def _job_row(job: Job, status: JobStatus | None) -> dict[str, Any]:
    return {
        "job": job.id,
        "name": job.spec.name,
        "tasks": job.spec.tasks,
        "confidential": job.is_confidential,
        "state": status.state if status is not None else "unknown",
        "done": status.done if status is not None else None,
        "failed": status.failed if status is not None else None,
    }


async def peers(client: Path | None, as_json: bool) -> int:
    config, ledger = _settings(client)
    async with _connected(config, ledger) as session:
        members = session.mesh.members()
    if as_json:
        print_json({"peers": members})
        return SUCCESS
    rows = [
        (
            member["name"],
            member["status"],
            member["sink"],
            None if member["temperature_c"] is None else f"{member['temperature_c']:.2f}",
            member["deficit_w"],
            member["free_slots"],
            member["cores"],
            printable(member["zone"]) or None,
            member["peer_id"],
        )
        for member in members
    ]
    print_table(PEER_COLUMNS, rows, empty="no node is known yet; try again in a moment")
    return SUCCESS


def _code(shown: dict[str, Any]) -> int:
    return JOB_FAILED if shown["state"] == "cancelled" or shown["failed"] else SUCCESS
