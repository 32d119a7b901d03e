"""From an `Execute` effect to `TaskFinished`: blobs brought here, a batch run, large outputs put away."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog
import trio

from ..crypto.envelope import padded_bytes
from ..crypto.sealing import SealError
from ..protocol.batches import TASK_CPU_US_MAX
from ..protocol.effects import CompareOutputs, Execute
from ..protocol.events import Event, ExecutionFailed, ExecutionSaved, OutputsCompared, TaskFinished
from ..protocol.inputs import select
from ..protocol.jobs import JobState
from ..protocol.outbox import output_pin
from ..protocol.quota import declared_sizes
from ..protocol.records import UINT_MAX, JobSpec
from ..protocol.secrecy.results import BatchSealer
from .execution.checkpoints import (
    CheckpointError,
    drop_foreign,
    mark_foreign,
    pack_folder,
    put_aside,
    remove_aside,
    state_of,
    unpack_folder,
)
from .execution.outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Executor, Exit, Limits
from .execution.scarcity import machine_fault
from .heating.control.loads import LoadMeter, load_of
from .heating.heater import Heater
from .ports import BlobsUnavailable
from .secrecy.checkpoints import open_checkpoints, seal_checkpoints
from .secrecy.folder import SecretFolderError
from .secrecy.material import Material, PlainMaterial, SecretMaterial
from .secrecy.worker import Secrets
from .storage.blobs import BlobStore
from .storage.errors import StorageError, StorageFull
from .transport.blobs import BlobFetchError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

INIT_FILE = "init"
# A store that has less room than this is full.
ROOM_BYTES = 1 << 20
STDERR_BYTES_MAX = 4096
# As much longer may a task take whose NaNs are made the same everywhere: arithmetic takes up to seven times as long.
# But no more than an hour for that alone, since an accuser chooses the task.
CAREFUL_TIMES, CAREFUL_US = 10, 3_600_000_000
# How often a task that is to be moved is looked at for a new checkpoint: so much of its work is done again.
CHECKPOINT_LOOK_S = 0.05
# All tails of a batch: with its inline outputs they fit one delivery.
STDERR_BATCH_BYTES_MAX = 512 * 1024


class BlobSource(Protocol):
    """Brings one blob into the store; `Links` is one."""

    async def fetch_blob(self, digest: bytes, sources: Sequence[bytes], limit_bytes: int) -> None: ...


class NodeBlobs:
    """The driver's view of store and transfers: fetch what lacks, pin, unpin."""

    def __init__(self, store: BlobStore, transfers: BlobSource, size_limit_bytes: int) -> None:
        self.store = store
        self._transfers = transfers
        self._size_limit_bytes = size_limit_bytes

    def hold(self, digests: Collection[bytes], pin: bytes) -> bool:
        """Pin those that are here; whether that was all."""
        return all([self.store.pin(digest, pin) for digest in digests])

    async def fetch(
        self, digests: Sequence[bytes], sources: Sequence[bytes], pin: bytes, sizes: Sequence[int] = ()
    ) -> None:
        """All digests are here and pinned under `pin`. sizes: the most that each may have, below the node's own bound.

        Raises BlobsUnavailable or StorageError.
        """
        for at, digest in enumerate(digests):
            if not self.store.pin(digest, pin):
                limit = min(self._size_limit_bytes, sizes[at]) if sizes else self._size_limit_bytes
                await self._fetch_one(digest, sources, pin, limit)

    async def _fetch_one(self, digest: bytes, sources: Sequence[bytes], pin: bytes, limit_bytes: int) -> None:
        try:
            await self._transfers.fetch_blob(digest, sources, limit_bytes)
        except BlobFetchError as error:
            raise BlobsUnavailable(f"blob {digest.hex()[:16]}… could not be had: {error}") from error
        if not self.store.pin(digest, pin):
            raise BlobsUnavailable(f"blob {digest.hex()[:16]}… was evicted at once; the store is too small")

    def unpin(self, owner: bytes) -> None:
        self.store.unpin_owner(owner)

    def has_room(self) -> bool:
        """Whether a blob of some size could be stored now."""
        try:
            self.store.reserve(ROOM_BYTES).release()
        except StorageError:
            return False
        return True


class TaskRunner:
    """Runs executions in a nursery; one per `Execute`, cancelled by id."""

    def __init__(
        self,
        nursery: trio.Nursery,
        feed: Callable[[Event], None],
        view: Callable[[bytes], JobState | None],
        blobs: NodeBlobs,
        executors: dict[str, Executor],
        heater: Heater,
        now_us: Callable[[], int],
        *,
        disk_full: Callable[[str], None],
        inline_output_bytes: int,
        inline_batch_bytes: int,
        checkpoints: Path,
        loads: LoadMeter | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._nursery = nursery
        self._feed = feed
        self._view = view
        self._blobs = blobs
        self._executors = executors
        self._heater = heater
        self._now_us = now_us
        self._disk_full = disk_full
        self._inline_output_bytes = inline_output_bytes
        self._inline_batch_bytes = inline_batch_bytes
        self._checkpoints = checkpoints
        self.loads = loads if loads is not None else LoadMeter()
        self._secrets = secrets
        self._secret_runs: dict[bytes, int] = {}
        self._to_forget: dict[bytes, None] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._runs: dict[int, Execute] = {}
        # What was in the folders of checkpoints when the executions began.
        self._begun: dict[int, tuple[tuple[str, int, int], ...]] = {}
        # Executions that were stopped to be saved, and where their checkpoints are.
        self._saving: dict[int, Path] = {}
        # By execution: the task whose checkpoint is to go when it has ended.
        self._to_drop: dict[int, tuple[bytes, int]] = {}
        self._init_bytes: dict[bytes, bytes] = {}

    def start(self, run: Execute) -> None:
        scope = trio.CancelScope()
        self._scopes[run.execution_id] = scope
        self._runs[run.execution_id] = run
        self._nursery.start_soon(self._guarded, run, scope)

    def save(self, execution_id: int, patience_s: float = math.inf) -> None:
        """Stop it after its next checkpoint, or after a time if it has made any; nothing, if it has ended."""
        if execution_id in self._scopes:
            self._nursery.start_soon(self._save, self._runs[execution_id], patience_s)

    async def _save(self, run: Execute, patience_s: float) -> None:
        view = self._view(run.job_id)
        executor = self._executors.get(view.spec.runtime) if view is not None else None
        if view is None or executor is None:
            return
        try:
            folder = await self._next_checkpoint(run, executor, patience_s)
        except Exception as error:  # boundary: what this machine lacks leaves the task where it is
            reason = machine_fault(error)
            if reason is None:
                raise
            log.warning("checkpoint.not-seen", job=run.job_id.hex()[:16], task=run.first, reason=reason)
            return
        if folder is not None:
            self._saving[run.execution_id] = folder
            self._scopes[run.execution_id].cancel()

    async def _next_checkpoint(self, run: Execute, executor: Executor, patience_s: float) -> Path | None:
        """Where it is, once it is made; None if the execution ended before. Raises OSError."""
        folder = executor.checkpoint_folder(self._checkpoints, run.job_id, run.first)
        # Who asks before it runs is given the first checkpoint; what it goes on from itself is none.
        until_s = trio.current_time() + patience_s
        waits = run.execution_id not in self._begun
        before = () if waits else await trio.to_thread.run_sync(state_of, folder)
        while run.execution_id in self._scopes:
            now = await trio.to_thread.run_sync(state_of, folder)
            known = self._begun.get(run.execution_id) if waits else before
            if run.execution_id not in self._scopes:
                break
            if known is not None and now and (now != known or trio.current_time() >= until_s):
                return folder
            await trio.sleep(CHECKPOINT_LOOK_S)
        return None

    async def _saved(self, run: Execute, folder: Path) -> Event:
        """The stopped task's checkpoint as a blob; what cannot be one stays in its folder."""
        pin, digest, size_bytes = b"moved" + run.job_id + run.first.to_bytes(8, "big"), b"", 0
        view = self._view(run.job_id)
        limit_bytes = view.spec.limits.scratch_bytes if view is not None else 0
        try:
            packed = await trio.to_thread.run_sync(pack_folder, folder, limit_bytes)
            digest, size_bytes = await self._blobs.store.put_bytes_async(packed), len(packed)
            self._blobs.store.pin(digest, pin)
        except (CheckpointError, StorageError) as error:
            log.warning("checkpoint.not-kept", job=run.job_id.hex()[:16], task=run.first, reason=str(error))
        return ExecutionSaved(run.execution_id, digest, size_bytes, pin)

    def drop_checkpoint(self, job_id: bytes, index: int) -> None:
        """Remove what a task left, when it has ended here; whoever begins it here anew meanwhile finds nothing."""
        running = [run.execution_id for run in self._runs.values() if run.job_id == job_id and index in _tasks(run)]
        if running:
            self._to_drop[max(running)] = (job_id, index)
            return
        for executor in self._executors.values():
            try:
                gone = put_aside(executor.checkpoint_folder(self._checkpoints, job_id, index))
            except OSError as error:
                log.warning("checkpoint.not-removed", job=job_id.hex()[:16], task=index, reason=error.strerror)
                continue
            if gone is not None:
                self._nursery.start_soon(_remove, gone)

    async def _resume(self, run: Execute, executor: Executor, spec: JobSpec, sources: Sequence[bytes]) -> None:
        """Put the checkpoint that came with the task where it finds it. Without one it begins anew."""
        try:
            folder = executor.checkpoint_folder(self._checkpoints, run.job_id, run.first)
            await self._blobs.fetch((run.checkpoint,), (*run.sources, *sources), _pin(run))
            packed = await self._blobs.store.read_async(run.checkpoint)
            await trio.to_thread.run_sync(mark_foreign, folder)
            await trio.to_thread.run_sync(unpack_folder, packed, folder, spec.limits.scratch_bytes)
        except (BlobsUnavailable, StorageError, CheckpointError, OSError) as error:
            log.warning("checkpoint.not-taken", job=run.job_id.hex()[:16], task=run.first, reason=str(error))

    async def _begin_clean(self, run: Execute, executor: Executor) -> None:
        """Nothing of another node's is left in its folders: this node answers for the whole result alone.

        Raises ExecutionError.
        """
        indices = range(run.first, run.first + run.count)
        try:
            folders = [executor.checkpoint_folder(self._checkpoints, run.job_id, index) for index in indices]
            if folders[0].parent.is_dir():
                await trio.to_thread.run_sync(drop_foreign, folders)
        except OSError as error:
            raise ExecutionError(ExecutionFault.UNAVAILABLE, f"checkpoint folder: {error.strerror}") from error

    def compare(self, wanted: CompareOutputs) -> None:
        self._feed(OutputsCompared(wanted.job_id, (), "nodes follow no jobs, and compare nothing"))

    def forget(self, job_id: bytes) -> None:
        """A confidential job's key is wiped: what it opened goes, and the processes that saw it."""
        if self._secret_runs.get(job_id):
            # What was cancelled still puts its checkpoint away.
            self._to_forget[job_id] = None
            return
        self._to_forget.pop(job_id, None)
        if self._secrets is not None:
            self._secrets.materials.forget(job_id)
        for executor in self._executors.values():
            executor.forget_secrets(job_id)

    def cancel(self, execution_id: int) -> None:
        scope = self._scopes.pop(execution_id, None)
        if scope is not None:
            scope.cancel()

    async def _guarded(self, run: Execute, scope: trio.CancelScope) -> None:
        event: Event | None = None
        with scope:
            event = await self._execute(run)
            self._scopes.pop(run.execution_id, None)
            self._feed(event)
        folder = self._saving.pop(run.execution_id, None)
        if event is None and folder is not None and self._scopes.pop(run.execution_id, None) is not None:
            self._feed(await self._saved(run, folder))
        self._runs.pop(run.execution_id, None)
        if (dropped := self._to_drop.pop(run.execution_id, None)) is not None:
            self.drop_checkpoint(*dropped)
        self._begun.pop(run.execution_id, None)
        self._blobs.unpin(_pin(run))
        if not isinstance(event, TaskFinished):
            # What was finished stays pinned until the machine has delivered it.
            self._blobs.unpin(output_pin(run.execution_id))

    async def _execute(self, run: Execute) -> Event:
        """The execution's end as an event; never raises but for cancellation."""
        view = self._view(run.job_id)
        if view is None:
            return ExecutionFailed(run.execution_id, "the job is not known here any more", False, 0)
        spec = view.spec
        executor = self._executors.get(spec.runtime)
        if executor is None:
            return ExecutionFailed(run.execution_id, f"this node has no runtime {spec.runtime}", False, 0)
        if spec.secrecy is not None:
            self._secret_runs[run.job_id] = self._secret_runs.get(run.job_id, 0) + 1
            try:
                return await self._execute_secret(run, view, executor)
            finally:
                self._secret_runs[run.job_id] -= 1
                if not self._secret_runs[run.job_id]:
                    del self._secret_runs[run.job_id]
                    if run.job_id in self._to_forget:
                        self.forget(run.job_id)
        return await self._run(run, view, executor, PlainMaterial(spec, self._blobs.store), None)

    async def _execute_secret(self, run: Execute, view: JobState, executor: Executor) -> Event:
        """As `_execute`; of what is hidden nothing stands in a reason, which goes into logs."""
        key = self._secrets.key(run.job_id) if self._secrets is not None else None
        if self._secrets is None or key is None:
            return ExecutionFailed(run.execution_id, "the job's key is not here any more", False, 0)
        try:
            material = self._secrets.materials.of(view, key)
            sealer = self._secrets.sealer(view)
        except SealError:
            return ExecutionFailed(run.execution_id, "the confidential job's key does not open it", False, 0)
        except SecretFolderError as error:
            return ExecutionFailed(run.execution_id, str(error), False, 0)
        event = await self._run(run, view, executor, material, sealer)
        if not isinstance(event, ExecutionFailed):
            return event
        if not event.permanent:
            # What went wrong on this machine is its owner's to know; a program's words are not in these.
            fault = event.reason.partition(":")[0]
            return ExecutionFailed(run.execution_id, f"a confidential job could not be run here: {fault}", False, 0)
        # The job's own fault: its submitter alone reads which.
        reason, count = event.reason.encode(), run.count
        return TaskFinished(
            execution_id=run.execution_id,
            exits=(event.exit_code,) * count,
            outputs=(b"",) * count,
            externals={},
            stderrs={offset: sealer.stderr(run.first + offset, reason) for offset in range(count)},
            fuels=(0,) * count,
            cpu_us=(0,) * count,
            energy_mj=0,
            useful_mj=0,
            measured=False,
            box=sealer.box,
        )

    async def _run(
        self, run: Execute, view: JobState, executor: Executor, material: Material, sealer: BatchSealer | None
    ) -> Event:
        started_us, spec = self._now_us(), material.spec
        try:
            sources = tuple(dict.fromkeys((*view.replicas, view.submitter)))
            if run.checkpoint and sealer is None:
                await self._resume(run, executor, spec, sources)
            elif spec.abi == "command" and sealer is None:
                await self._begin_clean(run, executor)
            request = await self._request(run, view.spec, material, sources)
            if spec.checkpoint_us and sealer is None:
                folder = executor.checkpoint_folder(self._checkpoints, run.job_id, run.first)
                self._begun[run.execution_id] = await trio.to_thread.run_sync(state_of, folder)
            if isinstance(material, SecretMaterial):
                outcome = await self._run_secret(run, material, executor, request)
            else:
                outcome = await executor.run(request)
            finished = await self._finished(run, outcome, started_us, sealer)
            self.loads.charge(load_of(spec.priority), finished.energy_mj)
            return finished
        except StorageFull as error:
            self._disk_full(str(error))
            return ExecutionFailed(run.execution_id, str(error), False, 0)
        except (BlobsUnavailable, StorageError) as error:
            return ExecutionFailed(run.execution_id, str(error), False, 0)
        except ExecutionError as error:
            code = int(Exit.KILLED if error.is_ours else Exit.MISSING)
            return ExecutionFailed(run.execution_id, str(error), not error.is_ours, code)
        except SecretFolderError as error:
            return ExecutionFailed(run.execution_id, str(error), False, 0)
        except SealError as error:
            return ExecutionFailed(run.execution_id, f"what the job sealed: {error}", True, int(Exit.MISSING))
        except ValueError as error:
            return ExecutionFailed(run.execution_id, f"the job cannot be run: {error}", True, int(Exit.MISSING))
        except Exception as error:  # boundary: what this machine lacks gives the task back; the rest is a bug of ours
            reason = machine_fault(error)
            if reason is None:
                raise
            return ExecutionFailed(run.execution_id, f"this machine: {reason}", False, 0)

    async def _run_secret(
        self, run: Execute, material: SecretMaterial, executor: Executor, request: BatchRequest
    ) -> BatchOutcome:
        """With its checkpoints, where it has any: opened before, sealed after, also where it was cancelled.

        What cannot be sealed is lost; why is in no log, as it may name the program's files. Raises SecretFolderError.
        """
        if request.checkpoint_root is None:
            return await executor.run(request)
        memory, disk = request.checkpoint_root / run.job_id.hex(), self._checkpoints / run.job_id.hex()
        scope = material.envelope, material.salt, memory, disk, run.first, run.count
        try:
            await trio.to_thread.run_sync(open_checkpoints, *scope)
        except OSError as error:
            raise SecretFolderError(f"no room in memory for a checkpoint: {error.strerror}") from None
        try:
            return await executor.run(request)
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await trio.to_thread.run_sync(seal_checkpoints, *scope, request.limits.scratch_bytes)
                except (OSError, ValueError) as error:
                    reason = type(error).__name__
                    log.warning("checkpoint.not-kept", job=run.job_id.hex()[:16], task=run.first, reason=reason)

    async def _request(
        self, run: Execute, stored: JobSpec, material: Material, sources: Sequence[bytes]
    ) -> BatchRequest:
        """stored: the spec as it was submitted, which says what blobs there are."""
        pin, spec = _pin(run), material.spec
        digests = [ref.digest for ref in stored.files]
        if spec.ships_program:
            digests.append(stored.program)
        declared = declared_sizes(stored)
        wanted = list(dict.fromkeys(digests))
        await self._blobs.fetch(wanted, sources, pin, [declared[digest] for digest in wanted])
        inputs = await self._inputs(run, material, sources)
        files = {}
        if spec.abi == "command":
            for number, ref in enumerate(spec.files):
                files[ref.name] = await material.path("file", number, ref.digest)
        program = await material.path("program", 0, spec.program) if spec.ships_program else Path()
        init = b""
        for number, ref in enumerate(spec.files) if spec.abi == "function" else ():
            if ref.name == INIT_FILE:
                init = await self._init(material, number, ref.digest)
        limits = spec.limits
        private, checkpoints = None, self._checkpoints
        if isinstance(material, SecretMaterial) and self._secrets is not None:
            private = self._secrets.materials.folder_of(run.job_id)
            checkpoints = private / "checkpoints"
        return BatchRequest(
            job_id=run.job_id,
            runtime=spec.runtime,
            abi=spec.abi,
            program=program,
            program_digest=material.program_digest,
            first=run.first,
            count=run.count,
            seed=run.job_id,
            entry=spec.entry if spec.runtime == "wasm" else spec.command,
            arguments=tuple(text.replace("{count}", str(spec.tasks)) for text in spec.arguments),
            files=files,
            inputs=inputs,
            init=init,
            limits=Limits(
                memory_bytes=limits.memory_bytes,
                wall_us=_careful_us(limits.wall_us) if run.canonical_nans else limits.wall_us,
                fuel=limits.fuel,
                output_bytes=limits.output_bytes,
                stderr_bytes=STDERR_BYTES_MAX,
                scratch_bytes=limits.scratch_bytes,
            ),
            checkpoint_root=checkpoints if spec.abi == "command" else None,
            private=private,
            canonical_nans=run.canonical_nans,
        )

    async def _init(self, material: Material, number: int, digest: bytes) -> bytes:
        """The shared parameters; the last few are kept, since every batch of a job wants them; but no secret ones."""
        known = self._init_bytes.get(digest)
        if known is None:
            known = await material.read("file", number, digest)
            if isinstance(material, SecretMaterial):
                return known
            self._init_bytes[digest] = known
            while len(self._init_bytes) > 8:
                del self._init_bytes[next(iter(self._init_bytes))]
        return known

    async def _inputs(self, run: Execute, material: Material, sources: Sequence[bytes]) -> Sequence[bytes] | None:
        spec, lo, hi = material.spec, run.first, run.first + run.count
        if spec.inline_inputs:
            return material.inline(lo, hi)
        if not spec.packs:
            return None
        inputs: list[bytes] = []
        for number, pack in enumerate(spec.packs):
            if pack.first + pack.count <= lo or pack.first >= hi:
                continue
            await self._blobs.fetch((pack.digest,), sources, _pin(run), (pack.size_bytes,))
            data = await material.read("pack", number, pack.digest)
            a, b = max(lo, pack.first), min(hi, pack.first + pack.count)
            inputs.extend(select(data, a - pack.first, b - a))
        return inputs

    async def _finished(
        self, run: Execute, outcome: BatchOutcome, started_us: int, sealer: BatchSealer | None
    ) -> TaskFinished:
        """Outputs above the inline bounds go to the blob store; joules are attributed by CPU time.

        sealer: of a confidential job, whose outputs and stderrs it seals; how much a task computed shows as its bucket.
        """
        # An executor that could not run a batch to its end marks what it did not run.
        ran = outcome.exits.index(Exit.CANCELLED) if Exit.CANCELLED in outcome.exits else len(outcome.exits)
        outputs, externals, inline_bytes = list(outcome.outputs[:ran]), {}, 0
        stderrs, fuels = _tails(outcome.stderrs, ran), outcome.fuels[:ran]
        plain = outputs
        if sealer is not None:
            outputs = [
                sealer.output(run.first + offset, output) if outcome.exits[offset] >= 0 else b""
                for offset, output in enumerate(plain)
            ]
            stderrs = {offset: sealer.stderr(run.first + offset, text) for offset, text in stderrs.items()}
            fuels = [padded_bytes(fuel) if fuel else 0 for fuel in fuels]
        for offset, output in enumerate(outputs):
            fits = inline_bytes + len(output) <= self._inline_batch_bytes
            if len(output) <= self._inline_output_bytes and fits:
                inline_bytes += len(output)
                continue
            digest = await self._blobs.store.put_bytes_async(output)
            self._blobs.store.pin(digest, output_pin(run.execution_id))
            externals[offset] = (digest, len(output))
            outputs[offset] = b"" if sealer is None else sealer.mark(run.first + offset, plain[offset])
        cpu_us = tuple(min(used_us, TASK_CPU_US_MAX) for used_us in outcome.cpu_us[:ran])
        energy_mj, useful_mj = self._heater.attribute(sum(cpu_us), started_us)
        return TaskFinished(
            execution_id=run.execution_id,
            exits=tuple(outcome.exits[:ran]),
            outputs=tuple(outputs),
            externals=externals,
            stderrs=stderrs,
            fuels=tuple(fuels),
            cpu_us=cpu_us,
            energy_mj=min(energy_mj, UINT_MAX),
            useful_mj=min(useful_mj, UINT_MAX),
            measured=self._heater.measured,
            box=sealer.box if sealer is not None else None,
        )


def _tails(stderrs: Mapping[int, bytes], ran: int) -> dict[int, bytes]:
    """What the tasks that ran said last, each shortened alike if there is too much for one delivery."""
    said = {offset: text for offset, text in stderrs.items() if offset < ran and text}
    share_bytes = min(STDERR_BYTES_MAX, STDERR_BATCH_BYTES_MAX // max(1, len(said)))
    return {offset: text[-share_bytes:] for offset, text in said.items()}


async def _remove(aside: Path) -> None:
    # Also where the node ends before this begins: what is aside already is found by nobody else.
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(remove_aside, aside)
        except Exception as error:  # boundary: what this machine lacks leaves a folder that is not looked into any more
            reason = machine_fault(error)
            if reason is None:
                raise
            log.warning("checkpoint.not-removed", folder=str(aside), reason=reason)


def _tasks(run: Execute) -> range:
    return range(run.first, run.first + run.count)


def _careful_us(wall_us: int) -> int:
    return max(wall_us, min(CAREFUL_TIMES * wall_us, CAREFUL_US))


def _pin(run: Execute) -> bytes:
    return b"run" + run.execution_id.to_bytes(8, "big")
