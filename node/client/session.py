"""A client's session: a node without capacity that talks to the mesh, submits and follows jobs."""

from __future__ import annotations

import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import structlog
import trio

from ...crypto.certificates import NO_QUOTA, Certificate, Quota, Role
from ...crypto.identity import peer_id_text
from ...crypto.sealing import SealError
from ...protocol.effects import Notify
from ...protocol.events import AskWhy, Event, ListJobs, Settle, SubmitJob
from ...protocol.mesh import Mesh
from ...protocol.presence import NodeProfile
from ...protocol.quota import declared_sizes
from ...protocol.records import JobSpec, MemberRecord, RecordKind
from ...protocol.secrecy.hidden import revealed
from ...protocol.secrecy.keys import job_key
from ...protocol.verification.deposition import deposition
from ...protocol.verification.judging import TRUST_ROW
from ...protocol.verification.sampling import Sampled
from ..clock import wall_us
from ..comparing import ClientRunner, Comparing
from ..config import ClientConfig, load_client_config
from ..driver import Driver
from ..history import History
from ..jobfile import JobFile
from ..logs import configure_logs
from ..membership_files import Membership, load_membership
from ..ports import BlobsUnavailable, monotonic_us
from ..storage.blobs import BlobStore
from ..storage.errors import StorageError
from ..storage.folder import StateFolder
from ..tasks import NodeBlobs
from ..transport.addresses import split_peer_address
from ..transport.links import LinkConfig, Links
from .confidential import build_confidential
from .copying import OnCopied, copy, no_word
from .errors import ClientError, JobFailed, single_error
from .job import Batches, Job, Listener, Notes, Results, SignedPart, open_notes
from .memory import ClientMemory
from .python_job import python_request, unpack_native, unpack_result
from .request import JobRequest, build_spec, check_module
from .result import Result
from .volatile import VolatileStore

T = TypeVar("T")

CONNECT_TIMEOUT_S = 15.0
# Replicas are learned with the first exchange of tables; a small mesh may have fewer than wanted.
REPLICAS_TIMEOUT_S = 1.5
SUBMIT_TIMEOUT_S = 60.0
# Replicas that are slower than this at fetching a job's files are waited for no longer.
UPLOAD_BYTES_PER_S = 5_000_000
# What replicas lack is asked for after 0.4 s, checked, written, and told of after as long.
SETTLE_TIMEOUT_S = 3.0
FIND_TIMEOUT_S = 5.0
BLOB_QUOTA_BYTES = 64 << 30
TRUSTED_MAX = 256
CONFIG_VARIABLE = "HEARTH_CLIENT"
DEFAULT_CONFIG = Path("~/.config/hearth/client.toml")


def job_id_prefix(text: str) -> str:
    """A job's id or its beginning as people give it, in lower case. Raises ClientError."""
    found = text.strip().lower()
    if not re.fullmatch("[0-9a-f]{4,64}", found):
        raise ClientError(f'"{text[:80]}" is no job id: give 4 to 64 hex digits of it; hearth jobs lists them')
    return found


def client_config_path(path: Path | str | None) -> Path:
    """The given path, else $HEARTH_CLIENT, else ~/.config/hearth/client.toml."""
    chosen = path or os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG
    return Path(chosen).expanduser()


class Client:
    """Use `async with Client.connect(…) as mesh`. Safe for several tasks of one trio run."""

    def __init__(self, driver: Driver, links: Links, store: BlobStore, blobs: NodeBlobs) -> None:
        self._driver = driver
        self._links = links
        self._store = store
        self._blobs = blobs
        self._listeners: dict[bytes, list[trio.MemorySendChannel[Notify]]] = {}
        driver.observers.append(self._dispatch)

    @classmethod
    @asynccontextmanager
    async def connect(cls, config: ClientConfig | Path | str | None = None) -> AsyncIterator[Client]:
        """Join the mesh as the client that the config describes. Raises ClientError and ConfigError."""
        if not structlog.is_configured():
            # A library that is used without a word about logs does not fill its user's screen.
            configure_logs("error", json_lines=False)
        if not isinstance(config, ClientConfig):
            config = load_client_config(client_config_path(config))
        folder = StateFolder(config.client.state)
        folder.create()
        membership = load_membership(config.mesh, folder)
        profile = NodeProfile("client", membership.certificate.roles & Role.SUBMITTER, "", False, 0, 0)
        mesh = Mesh(
            membership.identity,
            config.protocol(),
            random.SystemRandom(),
            policy=membership.policy,
            certificate=membership.certificate_bytes,
            profile=profile,
            incarnation=wall_us(),
            wall_offset_us=wall_us() - monotonic_us(),
        )
        history = _open_history(config, membership)
        memory = ClientMemory(folder.memory)
        driver = Driver(mesh, VolatileStore(), history)
        driver.observers.append(partial(_remember, memory))
        store = BlobStore(folder.blobs, BLOB_QUOTA_BYTES)
        link_config = LinkConfig(listen=(), bootstrap=config.client.bootstrap, mdns=config.client.mdns)
        links = Links(membership.identity, membership.certificate_bytes, membership.policy, link_config, driver, store)
        blobs = NodeBlobs(store, links, BLOB_QUOTA_BYTES)
        comparing = Comparing(folder.cache, folder.blobs)
        try:
            async with trio.open_nursery() as nursery:
                driver.attach(links, blobs, ClientRunner(nursery, driver.feed, blobs, comparing))
                await nursery.start(driver.run, memory.rows)
                await nursery.start(links.run)
                client = cls(driver, links, store, blobs)
                try:
                    await client._reach_mesh(link_config)
                    yield client
                    await client.settle()
                finally:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The nursery is ours, so what the user's block raised comes out as the user raised it.
            raise single_error(group) from None
        finally:
            with trio.CancelScope(shield=True):
                await comparing.aclose()
            memory.close()
            if history is not None:
                history.close()

    async def _reach_mesh(self, config: LinkConfig) -> None:
        """Wait for a link, then for the first tables; not where all who could be asked have refused us."""
        mesh = self._driver.mesh
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            while not mesh.connected and not self._is_refused_by_all(config):
                await self._driver.changed()
        if not mesh.connected:
            reasons = sorted({reason for _, reason in self._driver.rejections})
            within = "" if self._is_refused_by_all(config) else f" within {CONNECT_TIMEOUT_S:g} s"
            if reasons:
                why = f"refused: {'; '.join(reasons)}"
            elif config.bootstrap:
                why = "none of the bootstrap addresses answered"
            else:
                why = "no peer was found on the local network, and the client's settings name none (client.bootstrap)"
            raise ClientError(f"cannot reach the mesh{within}: {why}")
        with trio.move_on_after(REPLICAS_TIMEOUT_S):
            while len(self._replica_members()) < mesh.ctx.config.replicas:
                await self._driver.changed()

    def _is_refused_by_all(self, config: LinkConfig) -> bool:
        """Whether each bootstrap node said no, and not for lack of room; by mDNS another may be found."""
        asked = {split_peer_address(address)[0] for address in config.bootstrap}
        refused = {peer for peer, reason in self._driver.rejections if not reason.startswith("full")}
        return bool(asked) and asked <= refused and not config.mdns

    def _replica_members(self) -> list[MemberRecord]:
        rows = [record.body for record in self._driver.mesh.tables.rows(RecordKind.MEMBER)]
        return [row for row in rows if row.roles & Role.REPLICA]

    # -- what users call -----------------------------------------------------------------------------------

    @property
    def peer_id(self) -> str:
        return peer_id_text(self._driver.mesh.ctx.node_id)

    async def submit(self, request: JobRequest | JobFile, on_copied: OnCopied = no_word) -> Job:
        """Sign and place a job; returns once a majority of its replicas has it on disk, blobs included.

        on_copied: told, also in a thread, how many bytes of its files are in this client's store, and of how many.
        Submitting the same again returns the same job. Raises JobFailed, ClientError.
        """
        if isinstance(request, JobFile):
            request = await trio.to_thread.run_sync(partial(JobRequest.from_file, request, now_us=wall_us()))
        pin = _submission_pin()
        try:
            return await self._submit_spec(await self._build(request, pin, on_copied))
        finally:
            self._store.unpin_owner(pin)

    async def _build(self, request: JobRequest, pin: bytes, on_copied: OnCopied = no_word) -> JobSpec:
        """The spec, with its files in the local store, held under the pin. Cancelled, it leaves nothing of it."""
        ctx = self._driver.mesh.ctx
        mesh_id = ctx.policy.mesh.mesh_id
        try:
            if request.confidential:
                nodes = self._trusted(request)
                build = partial(build_confidential, request, ctx.identity, mesh_id, nodes, self._store, pin)
            else:
                build = partial(build_spec, request, mesh_id, self._store, pin)
            if request.is_small():
                check_module(request)
                return build()
            return await copy(request, build, self._store, pin, self._own_quota(), on_copied)
        except StorageError as error:
            raise ClientError(f"the job's files cannot be kept for upload: {error}") from error

    def _own_quota(self) -> Quota:
        """What the certificate lets this submitter have at a node."""
        certificate = self._driver.mesh.ctx.certificate
        return Certificate.from_bytes(certificate).quota if certificate else NO_QUOTA

    def _trusted(self, request: JobRequest) -> tuple[bytes, ...]:
        """Nodes with so good a record, or nothing if none is asked for. Raises ClientError if there are none."""
        if not request.trust_streak:
            return ()
        runtime = f"native {request.program!s}" if request.runtime == "native" else request.runtime
        book, now_s = self._driver.mesh.trust, wall_us() // 1_000_000
        rows = [record.body for record in self._driver.mesh.tables.rows(RecordKind.MEMBER)]
        workers = [row.node for row in rows if row.roles & Role.WORKER]
        found = [node for node in workers if book.streak(node, runtime, now_s) >= request.trust_streak]
        if not found:
            raise ClientError(
                f"none of {len(workers)} workers that are known had {request.trust_streak} right results in a row; "
                "hearth trust NODE shows a record"
            )
        return tuple(found[:TRUSTED_MAX])

    async def _submit_spec(self, spec: JobSpec) -> Job:
        with self.listen(b"") as notes:
            self.feed(SubmitJob(spec))
            job_id = await self._signed(notes, spec)
            timeout_s = submit_timeout_s(spec)
            with trio.move_on_after(timeout_s):
                async for note in notes:
                    if note.fields.get("job_id") != job_id:
                        continue
                    if note.name == "job.rejected":
                        raise JobFailed(job_id, str(note.fields["reason"]), str(note.fields["about"]))
                    if note.name == "job.submitted":
                        return Job(self, job_id, spec)
        raise ClientError(f"the job was not stored by enough replicas within {timeout_s:.0f} s; try again")

    async def _submit_and_follow(self, spec: JobSpec) -> tuple[Job, Listener]:
        """Wait for no replica: the first result says as much."""
        with self.listen(b"") as notes:
            self.feed(SubmitJob(spec, follow=True))
            job = Job(self, await self._signed(notes, spec), spec)
            since: list[Notify] = []
            with suppress(trio.WouldBlock):
                while True:
                    since.append(notes.receive_nowait())
            return job, self.open_listener(job.job_id, since)

    async def _signed(self, notes: Notes, spec: JobSpec) -> bytes:
        """The job's id."""
        async for note in notes:
            if note.name == "job.signed" and note.fields["spec"] is spec:
                job_id: bytes = note.fields["job_id"]
                return job_id
        raise AssertionError("the notes of a session that lives do not end")

    @overload
    async def map(self, program: bytes | Path | str, inputs: Sequence[bytes], **options: Any) -> list[bytes]: ...

    @overload
    async def map(self, program: Callable[[Any], T], inputs: Iterable[Any], **options: Any) -> list[T]: ...

    async def map(self, program: Any, inputs: Any, **options: Any) -> list[Any]:
        """Outputs of one task an input, in order. options: further fields of `JobRequest`.

        program: a module, and its inputs are bytes; or a Python function of one argument (docs/python.md): a pure one,
        or, with runtime="native" and a command that owners allow, one that uses NumPy or other packages.
        Raises JobFailed for the first task that failed, ClientError.
        """
        if not isinstance(program, bytes | Path | str) and callable(program):
            request = await trio.to_thread.run_sync(partial(python_request, program, inputs, **options))
            unpack = unpack_native if request.runtime == "native" else unpack_result
            return [unpack(output) for output in await self._map(request)]
        return await self._map(JobRequest(program=program, inputs=inputs, **options))

    async def _map(self, request: JobRequest) -> list[bytes]:
        pin = _submission_pin()
        try:
            spec = await self._build(request, pin)
            job, listener = await self._submit_and_follow(spec)
            outputs: list[bytes] = [b""] * spec.tasks
            async for result in Results(job, Batches(self, job, (), (), opened=listener)):
                raise_for_exit(job, result)
                outputs[result.index] = result.output
            return outputs
        finally:
            self._store.unpin_owner(pin)

    async def jobs(self) -> list[Job]:
        """This client's jobs that the mesh still knows, as far as its peers answer."""
        await self._find(b"")
        known = self._driver.mesh.submitter.jobs
        return [Job(self, job_id, own.state.spec) for job_id, own in known.items()]

    async def job(self, prefix: str) -> Job:
        """A job by its id or the beginning of it. Raises ClientError if there is none, or more than one."""
        text = job_id_prefix(prefix)
        matching = self._matching(text)
        if not matching:
            await self._find(bytes.fromhex(text) if len(text) == 64 else b"")
            matching = self._matching(text)
        if len(matching) != 1:
            what = "no peer that was reached knows it" if not matching else f"{len(matching)} jobs begin so"
            raise ClientError(f"job {text[:16]}: {what}; hearth jobs lists them")
        return matching[0]

    def _matching(self, text: str) -> list[Job]:
        known = self._driver.mesh.submitter.jobs
        return [Job(self, job_id, own.state.spec) for job_id, own in known.items() if job_id.hex().startswith(text)]

    async def _find(self, job_id: bytes) -> None:
        """Ask the members that are known, and if they do not know the job, those that announced that they keep it."""
        await self._ask(ListJobs(job_id))
        if job_id and job_id not in self._driver.mesh.submitter.jobs:
            with trio.move_on_after(FIND_TIMEOUT_S):
                providers = await self._links.find_providers(job_id)
                if providers:
                    await self._ask(ListJobs(job_id, tuple(providers)))

    async def _ask(self, question: ListJobs) -> None:
        """Return when all who were asked have answered, or the job is known, or after a while."""
        waiting = 0
        with self.listen(b"") as notes:
            self.feed(question)
            with trio.move_on_after(FIND_TIMEOUT_S):
                async for note in notes:
                    if note.name == "jobs.asked":
                        waiting = note.fields["count"]
                    elif note.name == "jobs.found":
                        waiting -= 1
                    else:
                        continue
                    if waiting <= 0 or question.job_id in self._driver.mesh.submitter.jobs:
                        return

    def members(self) -> list[dict[str, Any]]:
        """What the client knows of the nodes: one dictionary a node, in order of names."""
        mesh = self._driver.mesh
        heat = {record.body.node: record.body for record in mesh.tables.rows(RecordKind.HEAT)}
        found = []
        for record in mesh.tables.rows(RecordKind.MEMBER):
            row: MemberRecord = record.body
            if row.node == mesh.ctx.node_id:
                continue
            digest = heat.get(row.node)
            status = mesh.members.status(row.node)
            found.append(
                {
                    "name": row.name,
                    "peer_id": peer_id_text(row.node),
                    "status": status.name.lower() if status is not None else "unknown",
                    "roles": [role.name.lower() for role in Role if role.name and row.roles & role],
                    "zone": row.zone,
                    "addresses": list(row.addresses),
                    "cores": row.cores,
                    "sink": digest.sink if digest else None,
                    "temperature_c": digest.temperature_mc / 1000 if digest else None,
                    "deficit_w": digest.deficit_w if digest else None,
                    "free_slots": digest.free_slots if digest else None,
                    "queue_ms": digest.queue_us // 1000 if digest else None,
                }
            )
        return sorted(found, key=lambda member: (member["name"], member["peer_id"]))

    async def why_idle(self, node: bytes) -> str:
        """Why a node runs nothing, in its own words. Raises ClientError if it does not answer."""
        answers = await self._answers(AskWhy((node,), b"", 0))
        if not answers:
            raise ClientError(f"{peer_id_text(node)} did not answer within {FIND_TIMEOUT_S:g} s")
        return str(answers[0].fields["text"])

    async def why_waits(self, job_id: bytes, index: int) -> tuple[str, str]:
        """(name of who says so, why a task waits), by the replica that gives it. Raises ClientError."""
        replicas = self._driver.mesh.submitter.jobs[job_id].state.replicas
        answers = await self._answers(AskWhy(replicas, job_id, index))
        if not answers:
            raise ClientError(f"none of the nodes that keep job {job_id.hex()[:16]} answered")
        best = next((answer for answer in answers if answer.fields["sure"]), answers[0])
        peer = peer_id_text(best.fields["peer"])
        names = {member["peer_id"]: member["name"] for member in self.members()}
        return names.get(peer) or peer, str(best.fields["text"])

    async def _answers(self, question: AskWhy) -> list[Notify]:
        """Until the one who decides has answered, or all have, or for a while."""
        request, answers = 0, list[Notify]()
        with self.listen(b"") as notes:
            self.feed(question)
            with trio.move_on_after(FIND_TIMEOUT_S):
                async for note in notes:
                    if note.name == "why.asked":
                        request = note.fields["request"]
                    elif note.name == "why.answered" and note.fields["request"] == request:
                        answers.append(note)
                        if note.fields["sure"] or len(answers) == len(question.peers):
                            break
        return answers

    # -- for Job -------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self._driver.feed(event)

    @contextmanager
    def listen(self, job_id: bytes) -> Iterator[Notes]:
        """Notes of one job, or with an empty id of all."""
        notes, close = self.open_listener(job_id)
        try:
            yield notes
        finally:
            close()

    def open_listener(self, job_id: bytes, earlier: Iterable[Notify] = ()) -> Listener:
        """As `listen`, for who cannot use a block: the notes, and what ends them. earlier: notes to begin with."""
        send, receive = open_notes()
        for note in earlier:
            if note.fields.get("job_id") == job_id:
                send.send_nowait(note)
        self._listeners.setdefault(job_id, []).append(send)

        def close() -> None:
            listeners = self._listeners.get(job_id, [])
            if send in listeners:
                listeners.remove(send)
            if not listeners:
                self._listeners.pop(job_id, None)

        return receive, close

    def _dispatch(self, note: Notify) -> None:
        job_id = note.fields.get("job_id", b"")
        for key in dict.fromkeys((job_id, b"")):
            for listener in self._listeners.get(key, ()):
                listener.send_nowait(note)

    async def expect(self, notes: Notes, name: str, timeout_s: float, problem: str) -> Notify:
        """The next note of a name. Raises ClientError with the problem if it does not come."""
        with trio.move_on_after(timeout_s):
            async for note in notes:
                if note.name == name:
                    return note
        raise ClientError(f"{problem} within {timeout_s:g} s")

    def proofs(self, job_id: bytes, signed: Iterable[SignedPart]) -> tuple[bytes, list[bytes]]:
        """See `Job.proofs`."""
        mesh = self._driver.mesh
        records = deposition(mesh.ctx.identity, mesh.submitter.jobs[job_id].state, signed)
        return mesh.ctx.policy.mesh.to_bytes(), [record.raw for record in records]

    def revealed(self, spec: JobSpec) -> JobSpec:
        """A spec with its names and arguments, where they are hidden from others. Raises ClientError."""
        if spec.secrecy is None:
            return spec
        try:
            return revealed(spec, job_key(self._driver.mesh.ctx.identity, spec.secrecy.salt))
        except SealError as error:
            raise ClientError(f"the job's description: {error.reason}") from error

    def replicas(self, job_id: bytes) -> tuple[bytes, ...]:
        """Who keeps a job of this client's, as far as it is known here."""
        own = self._driver.mesh.submitter.jobs.get(job_id)
        return own.state.replicas if own is not None else ()

    def checking(self, job_id: bytes) -> int:
        """Tasks of a followed job that are held until they are compared."""
        own = self._driver.mesh.submitter.jobs.get(job_id)
        return len(own.referee.cases) if own is not None and own.referee is not None else 0

    def sampled(self, job_id: bytes) -> Sampled:
        """Of a job that is or was followed here: what chance was to check of it, and did."""
        own = self._driver.mesh.submitter.jobs.get(job_id)
        return own.referee.sampled if own is not None and own.referee is not None else Sampled()

    async def read_blob(self, digest: bytes, sources: Sequence[bytes]) -> bytes:
        """A large output. Raises ClientError."""
        try:
            await self._blobs.fetch((digest,), sources, b"results")
            try:
                return await self._store.read_async(digest)
            finally:
                self._store.unpin(digest, b"results")
        except (BlobsUnavailable, StorageError) as error:
            raise ClientError(str(error)) from error

    async def settle(self) -> None:
        """Sign for what was taken, when the replicas have it; whatever they do not have by then stays unsigned.

        A later session signs for it, if it knows what was taken.
        """
        mesh = self._driver.mesh
        self.feed(Settle())
        with trio.move_on_after(SETTLE_TIMEOUT_S):
            await self._driver.settled()
            while mesh.connected and mesh.submitter.holds_unsigned():
                await self._driver.changed()
        await self.flush()

    async def flush(self) -> None:
        """Let what was sent leave, and what was put off."""
        self.feed(Settle())
        await self._driver.settled()
        await self._links.flush(2.0)


def submit_timeout_s(spec: JobSpec) -> float:
    """How long replicas may take to have a job on disk, its files too."""
    return SUBMIT_TIMEOUT_S + sum(declared_sizes(spec).values()) / UPLOAD_BYTES_PER_S


def _submission_pin() -> bytes:
    return b"submission" + os.urandom(8)


def raise_for_exit(job: Job, result: Result) -> None:
    """Raises JobFailed if the task did not succeed."""
    if result.spoiled:
        raise JobFailed(job.job_id, f"task {result.index}: its worker {result.worker} sealed what cannot be opened")
    if not result.ok:
        tail = result.stderr.decode(errors="replace").strip().splitlines()
        why = f": {tail[-1]}" if tail else ""
        raise JobFailed(job.job_id, f"task {result.index} ended with exit code {result.exit_code}{why}")


def _remember(memory: ClientMemory, note: Notify) -> None:
    if note.name == "trust.learned":
        memory.remember(TRUST_ROW, note.fields["key"], note.fields["body"])


def _open_history(config: ClientConfig, membership: Membership) -> History | None:
    """Raises ClientError."""
    path = config.client.history
    if path is None:
        return None
    try:
        return History(path, membership.identity.node_id, "client", monotonic_us())
    except OSError as error:
        raise ClientError(f"{path}: the history cannot be written: {error.strerror}") from error
