"""One node, from its config to its end: what `hearth node` runs."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from ..crypto.certificates import Role
from ..protocol.batches import BatchError, decode_columns
from ..protocol.effects import Notify
from ..protocol.events import AddressesChanged, CommandsChanged, Drain, StoredRow
from ..protocol.mesh import Mesh
from ..protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW, Outbox
from ..protocol.presence import NodeProfile
from ..protocol.records import RecordError, RecordKind, open_record, reopen_record
from ..protocol.result_keeping import COLUMNS_ROW
from .answers import Answers, EventLog
from .clock import set_offset, wall_us
from .config import NodeConfig
from .control import ControlServer
from .driver import LAZY_KINDS, Driver
from .execution.bubblewrap import kill_orphans
from .execution.native import NativeExecutor
from .execution.native_folders import sandbox_tag
from .execution.oci import OciExecutor
from .execution.outcome import Executor
from .execution.pool import WasmPool
from .execution.sandboxed import RETRY_S
from .execution.wasm_child import ChildConfig
from .heating.assembly import zone_members
from .heating.burner import Burner
from .heating.choose import heater_of
from .heating.commands import HeatCommands
from .heating.control.loads import LoadMeter
from .heating.drivers.found import FoundValues
from .heating.guard import Guard
from .heating.heater import Heater
from .heating.keeper import HeatKeeper
from .heating.mqtt.start import run_bridge
from .heating.unheeding import unheeding
from .history import History
from .isolation.layers import STRANGERS, Layer, detect, lacking, layers_around_programs
from .isolation.worker_sandbox import WorkerFolders
from .limits import LimitMeter
from .machine_class import builds_of, has_own_nans, machine_class
from .membership_files import Membership, load_membership
from .ports import monotonic_us
from .secrecy.folder import SecretFolder, SecretFolderError
from .secrecy.material import SecretMaterials
from .secrecy.worker import Secrets
from .storage.blobs import BlobStore
from .storage.errors import StorageFailed
from .storage.folder import StateFolder
from .storage.journal import Journal
from .tasks import NodeBlobs, TaskRunner
from .transport.links import LinkConfig, Links
from .usage import TaskUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_typing import TaskStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CONTROL_INTERVAL_S = 0.5
TURN_LEAST_S = 0.05
# Within half of it news has gone around a zone; claims are told when they moved by this share of the capacity.
ZONE_PERIOD_S = 10.0
ZONE_LEAST_CHANGE = 0.005
# How long a leaving node lets running tasks finish, and then its results be stored.
DRAIN_RUNNING_S = 5.0
DRAIN_RESULTS_S = 3.0
# For those who go on with what was begun here to fetch it.
DRAIN_HEIRS_S = 3.0
PROVIDE_INTERVAL_S = 10.0
SWITCH_INTERVAL_S = 0.0005
CHECKPOINT_AGE_S = 7 * 86_400
# What a worker process needs besides its task's memory: itself, the compiler, outputs and scratch files.
CHILD_OVERHEAD_BYTES = 1 << 30
BLOB_BYTES_MAX = 16 << 30


class Node:
    """The parts of a running node. Make one with `open`; `run` until `stop` is set."""

    def __init__(self, config: NodeConfig, folder: StateFolder, membership: Membership) -> None:
        self.config = config
        self.folder = folder
        self.membership = membership
        self.started_us = monotonic_us()
        self.journal = Journal.open(folder.journal)
        self.store = BlobStore(
            folder.blobs, config.storage.blob_quota_bytes, min_free_bytes=config.storage.min_free_bytes
        )
        self._found = FoundValues(folder.found, config.heater.machine.root)
        self.heater: Heater = heater_of(
            config.heater, monotonic_us(), calibration=folder.calibration, found=self._found
        )
        self.loads = LoadMeter()
        self.heat = HeatCommands(self.heater, self.loads)
        self.heat.on_change = lambda: self._told.set()
        self.keeper = HeatKeeper(folder.heat, self.heater, config.heater)
        self.heat.not_recalled = self.keeper.notices
        self._told, self.turned = trio.Event(), trio.Event()
        self.burner = Burner()
        self.wasm, self.native, self.oci = self._executors()
        self.usage = TaskUsage(self._task_pids)
        self.mesh = Mesh(
            membership.identity,
            config.protocol(),
            # Salts, keys' shares and what is checked are drawn from it: nobody may foretell them from what was drawn.
            random.SystemRandom(),
            policy=membership.policy,
            certificate=membership.certificate_bytes,
            profile=self._profile(),
            incarnation=wall_us(),
            wall_offset_us=wall_us() - monotonic_us(),
        )
        self.history = self._open_history()
        self.meter = LimitMeter(lambda: monotonic_us() / 1e6)
        self.driver = Driver(self.mesh, self.journal, self.history, meter=self.meter)
        self.links = Links(
            membership.identity,
            membership.certificate_bytes,
            membership.policy,
            self._link_config(),
            self.driver,
            self.store,
            self.meter,
        )
        self.blobs = NodeBlobs(self.store, self.links, BLOB_BYTES_MAX)
        self.events = EventLog()
        self._drained = trio.Event()
        self._secret_folder, self._no_secrets = self._open_secret_folder()
        safe = self.heater.safe_writes()
        self._guard = Guard(config.heater.safety.watchdog_s, safe) if safe is not None else None
        self.driver.observers.append(self._observe)
        for notice in (*self.journal.notices, *self.store.notices):
            log.warning("storage.notice", notice=notice)

    def _open_secret_folder(self) -> tuple[SecretFolder | None, str]:
        """Where confidential tasks' files lie; without one, those of others run all the same."""
        shared = self.native is not None and os.geteuid() == 0
        try:
            return SecretFolder(self.folder.root, shared=shared), ""
        except SecretFolderError as error:
            log.warning("secrets.no_memory", reason=str(error))
            return None, str(error)

    def _open_history(self) -> History | None:
        path = self.config.node.history
        if path is None:
            return None
        try:
            return History(path, self.membership.identity.node_id, self.mesh.profile.name, monotonic_us())
        except OSError as error:
            raise StorageFailed(path, f"the history cannot be written: {error.strerror}") from error

    def _executors(self) -> tuple[WasmPool | None, NativeExecutor | None, OciExecutor | None]:
        execution = self.config.execution
        slots = self.config.heater.core_count
        wasm = None
        if execution.wasm:
            confinement = detect()
            for layer in confinement.missing:
                log.warning("wasm.layer-missing", layer=layer)
            children = ChildConfig(
                self.folder.cache.absolute(),
                memory_bytes=execution.memory_bytes + CHILD_OVERHEAD_BYTES,
                nice=execution.nice,
                confinement=confinement,
                folders=WorkerFolders((self.folder.blobs,), (self.folder.checkpoints,)).absolute(),
                tag=sandbox_tag(self.folder.root / "wasm"),
            )
            kill_orphans(children.tag)
            wasm = WasmPool(children, execution.max_children or slots, execution.idle_s)
        wanted = [name for name in STRANGERS if getattr(self.config, name).enabled]
        found = layers_around_programs() if wanted else ()
        native = None
        if "native" in wanted and not _refuses(found, "native"):
            native_config = self.config.native.runtime_config(slots, execution.nice)
            native = NativeExecutor(native_config, self.folder.root / "native")
        oci = None
        if "oci" in wanted and not _refuses(found, "oci"):
            oci = OciExecutor(self.config.oci.runtime_config(slots, execution.nice), self.folder.root / "oci")
        return wasm, native, oci

    @property
    def _running_executors(self) -> dict[str, WasmPool | NativeExecutor | OciExecutor]:
        """By the runtime that jobs name."""
        found = {"wasm": self.wasm, "native": self.native, "oci": self.oci}
        return {name: executor for name, executor in found.items() if executor is not None}

    def _task_pids(self) -> list[int]:
        return self.wasm.pids() if self.wasm else []

    def _profile(self) -> NodeProfile:
        certificate, settings = self.membership.certificate, self.config.node
        roles = certificate.roles
        if settings.roles:
            roles &= Role(sum(Role[name.upper()] for name in settings.roles))
        commands, machine, builds = self._offers(())
        return NodeProfile(
            name=settings.name or certificate.name,
            roles=roles,
            zone=settings.zone,
            year_round=self.config.heater.year_round,
            cores=self.config.heater.core_count,
            memory_bytes=self.config.execution.memory_bytes,
            native_commands=commands,
            wasm=self.wasm is not None,
            machine=machine,
            builds=builds,
            sees_nans=has_own_nans(),
        )

    def _offers(self, images: Sequence[str]) -> tuple[tuple[str, ...], str, tuple[bytes, ...]]:
        """Names, the machine's class and the builds, of the owner's commands and of these images."""
        commands = (*(sorted(self.native.commands()) if self.native else ()), *sorted(images))
        native = self.config.native.runtime_config(1, 0).commands
        return commands, machine_class() if commands else "", builds_of(commands, native)

    async def _offer_images(self) -> None:
        """Once a container has started here: nothing else waits for podman, which may take a minute, or hang."""
        assert self.oci is not None
        told = ""
        while True:
            works, why = await self.oci.available()
            if works:
                self.driver.feed(CommandsChanged(*self._offers(self.config.oci.images)))
                return
            if why != told:
                log.error("oci.refused", reason=why, see="hearth doctor")
            told = why
            await trio.sleep(RETRY_S)

    def _link_config(self) -> LinkConfig:
        settings, limits = self.config.node, self.config.limits
        return LinkConfig(
            listen=settings.listen,
            bootstrap=settings.bootstrap,
            mdns=settings.mdns,
            relay_service=settings.relay_service,
            relay_through=settings.relay_through,
            max_inbound_connections=limits.inbound_connections,
            max_connections_per_source=limits.connections_per_address,
            max_streams_per_connection=limits.streams_per_connection,
        )

    # -- life ----------------------------------------------------------------------------------------------

    async def run(self, stop: trio.Event, *, task_status: TaskStatus[Node] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is set, then leave in order: leases released, results flushed, peers told."""
        try:
            self._found.keep()
            async with trio.open_nursery() as nursery:
                runner = self._runner(nursery)
                self.driver.attach(self.links, self.blobs, runner)
                rows = self._stored_rows()
                self._pin_kept_blobs(rows)
                await nursery.start(self.driver.run, rows)
                await nursery.start(self.links.run)
                nursery.start_soon(self._follow_addresses)
                nursery.start_soon(self.heater.run)
                nursery.start_soon(self._heat_forever)
                nursery.start_soon(self.keeper.run)
                if self.config.heater.mqtt.host and self.heater.thermostat is not None:
                    nursery.start_soon(self._bridge)
                nursery.start_soon(self._provide_jobs)
                if self.oci is not None:
                    nursery.start_soon(self._offer_images)
                nursery.start_soon(trio.to_thread.run_sync, remove_old_checkpoints, self.folder.checkpoints)
                await nursery.start(ControlServer(self.folder.control_socket, Answers(self, stop).by_command()).run)
                log.info("node.started", peer_id=self.membership.identity.peer_id, addresses=self.links.addresses)
                task_status.started(self)
                await stop.wait()
                await self._leave()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    async def _close(self) -> None:
        self.burner.close()
        await self.keeper.write()
        for executor in self._running_executors.values():
            await executor.aclose()
        if self._secret_folder is not None:
            self._secret_folder.close()
        self.journal.close()
        if self._guard is not None:
            self._guard.leave()
        # Not before: it may have been turning the heat off meanwhile.
        self._found.put_back()
        if self.history is not None:
            self.history.close()

    async def _leave(self) -> None:
        log.info("node.leaving")
        self.driver.feed(Drain())
        with trio.move_on_after(DRAIN_RUNNING_S):
            await self._drained.wait()
        if not self._drained.is_set() and self.mesh.worker.awaited:
            with trio.move_on_after(DRAIN_HEIRS_S):
                await self._drained.wait()
        if not self._drained.is_set():
            self.driver.feed(Drain())
            with trio.move_on_after(DRAIN_RESULTS_S):
                await self._drained.wait()
        await self.driver.settled()
        await self.links.flush(1.0)
        log.info("node.left", owed=len(self.mesh.worker.outbox))

    def _runner(self, nursery: trio.Nursery) -> TaskRunner:
        executors: dict[str, Executor] = dict(self._running_executors)
        protocol = self.config.protocol()
        return TaskRunner(
            nursery,
            self.driver.feed,
            lambda job_id: self.mesh.worker.view(job_id) or self.mesh.court.view(job_id),
            self.blobs,
            executors,
            self.heater,
            monotonic_us,
            disk_full=self.driver.disk_full,
            inline_output_bytes=protocol.inline_output_bytes,
            inline_batch_bytes=protocol.inline_batch_bytes,
            checkpoints=self.folder.checkpoints,
            loads=self.loads,
            secrets=Secrets(self.membership.identity.node_id, self.mesh.worker.keys.key, self._materials()),
        )

    def _materials(self) -> SecretMaterials:
        return SecretMaterials(self.store, self._secret_folder, self._no_secrets)

    def _stored_rows(self) -> tuple[StoredRow, ...]:
        kinds = [kind for kind in self.journal.counts() if kind not in LAZY_KINDS]
        records = self.journal.load(kinds) if kinds else iter(())
        return tuple(StoredRow(row.job_id, row.kind, row.key, row.body) for row in records)

    def _pin_kept_blobs(self, rows: tuple[StoredRow, ...]) -> None:
        """What kept jobs need must not be evicted: their files, inputs and large outputs."""
        for row in rows:
            try:
                self._pin_blobs_of(row)
            except RecordError as error:
                log.error("journal.row-unreadable", kind=row.kind, job=row.job_id.hex()[:16], reason=str(error))

    def _pin_blobs_of(self, row: StoredRow) -> None:
        """Raises RecordError if the row is not what was written."""
        if row.kind == RecordKind.SPEC:
            for digest in reopen_record(row.body, row.kind, row.key).body.blob_digests():
                self.store.pin(digest, row.job_id)
        elif row.kind == RecordKind.BATCH and self.store.usage().blobs:
            columns = self.journal.read(row.job_id, COLUMNS_ROW, row.key)
            self._pin_outputs(row, row.body, columns, row.job_id)
        elif row.kind == OWED_HEADER_ROW:
            _, _, header = Outbox.split_row(row.body)
            columns = self.journal.read(row.job_id, OWED_COLUMNS_ROW, row.key)
            self._pin_outputs(row, header, columns, row.key)

    def _pin_outputs(self, row: StoredRow, header: bytes, columns: bytes | None, owner: bytes) -> None:
        if columns is None:
            return
        try:
            batch = decode_columns(open_record(header, check_signature=False).body, columns)
        except (BatchError, RecordError) as error:
            log.error("journal.batch-unreadable", batch=row.key.hex()[:16], reason=str(error))
            return
        for digest, _ in batch.externals.values():
            self.store.pin(digest, owner)

    async def _follow_addresses(self) -> None:
        """Tell the machine where this node listens, now and whenever that changes."""
        while True:
            relays = tuple(self.links.relays)
            self.driver.feed(AddressesChanged(self.links.addresses, relays))
            await self.links.addresses_changed()

    async def _heat_forever(self) -> None:
        """The control loop: measured CPU time in, wanted slots and duty out. It never waits for the mesh."""
        serves = bool(self.mesh.profile.roles & Role.WORKER)
        thermostat = self.heater.thermostat
        shares = thermostat is not None and self.config.heater.shares_zone and bool(self.config.node.zone)
        if thermostat is not None and shares:
            self.mesh.heat.least_change = ZONE_LEAST_CHANGE
            self.heat.zone_strangers = lambda: [
                each.name or each.node.hex()[:12] for each in self.mesh.zone_strangers()
            ]
            thermostat.join_zone(self.membership.identity.node_id, ZONE_PERIOD_S * self.config.heater.time_scale)
        while True:
            if shares:
                self.heater.hear(zone_members(self.mesh.zone_mates()))
            if self._guard is not None:
                self._guard.beat(monotonic_us() / 1e6)
            used_us = self.usage.total_us() + sum(each.cpu_us for each in (self.native, self.oci) if each is not None)
            running = self.mesh.worker.running
            reading = self.heater.advance(monotonic_us(), used_us, self.burner.cpu_us(), running=running)
            self.keeper.look()
            self._burn()
            turned, self.turned = self.turned, trio.Event()
            turned.set()
            if self.history is not None:
                self.history.meter(self.heater.meter, monotonic_us())
            executors = self._running_executors.values()
            for executor in executors:
                executor.set_duty(self.heater.duty)
            if serves and executors:
                self.driver.feed(unheeding(reading) if self.config.node.stealing == "random" else reading)
            await self._next_turn()

    async def _next_turn(self) -> None:
        """A hand on the dial does not wait for the period's end; nor does it turn the loop faster than TURN_LEAST_S."""
        await trio.sleep(TURN_LEAST_S)
        with trio.move_on_after(CONTROL_INTERVAL_S - TURN_LEAST_S):
            await self._told.wait()
        self._told = trio.Event()

    def _burn(self) -> None:
        try:
            self.burner.set(0.0 if self.mesh.worker.draining else self.heater.burn_load)
        except OSError as error:
            log.warning("heater.burn", problem=f"cannot start a process: {error.strerror}")

    async def _bridge(self) -> None:
        device = self.membership.identity.node_id.hex()[:16]
        name = self.mesh.profile.name
        await run_bridge(self.config.heater, self.heater, self.heat, device=device, name=name)

    async def _provide_jobs(self) -> None:
        """Announce in the Kademlia table the jobs that are kept here; not those that are over before it pays."""
        provided: dict[bytes, None] = {}
        while True:
            await trio.sleep(PROVIDE_INTERVAL_S)
            kept = self.mesh.replica.open_jobs
            provided = {job_id: None for job_id in provided if job_id in kept}
            for job_id in list(kept):
                since_us = monotonic_us() - self.mesh.replica.jobs[job_id].since_us
                if job_id not in provided and since_us > PROVIDE_INTERVAL_S * 1e6:
                    provided[job_id] = None
                    self.links.provide(job_id)

    # -- for the owner -------------------------------------------------------------------------------------

    def set_clock(self, offset_s: float) -> None:
        """The wall clock jumps: it is so much later than the machine says. Raises ValueError."""
        set_offset(offset_s)
        self.driver.follow_wall_clock()

    def _observe(self, note: Notify) -> None:
        if note.name == "node.drained":
            self._drained.set()
        self.events.add(note)


async def run_node(
    config: NodeConfig,
    *,
    stop: trio.Event,
    task_status: TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one node until `stop` is set.

    Raises ConfigError, MembershipError, StorageError, DriverError, CalibrationError, WeatherError before it starts.
    """
    # The journal's thread waits for the interpreter after each fsync: 5 ms, the default, would be most of a commit.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    set_offset(config.node.clock_offset_s)
    folder = StateFolder(config.node.state)
    folder.create()
    lock = folder.lock()
    try:
        folder.make_control_folder()
        node = Node(config, folder, load_membership(config.mesh, folder))
        await node.run(stop, task_status=task_status)
    finally:
        folder.remove_control_socket()
        lock.release()


def remove_old_checkpoints(root: Path, now_s: float | None = None) -> int:
    """Checkpoints of tasks that never ended here, untouched for a week; returns how many jobs' folders went."""
    limit_s = (time.time() if now_s is None else now_s) - CHECKPOINT_AGE_S
    removed = 0
    for job in root.iterdir() if root.is_dir() else ():
        try:
            newest_s = max(entry.lstat().st_mtime for entry in (job, *job.glob("*")))
        except OSError:  # a task that ends meanwhile removes its own
            continue
        if newest_s < limit_s:
            shutil.rmtree(job, ignore_errors=True)
            removed += 1
    return removed


def _refuses(found: tuple[Layer, ...], runtime: str) -> bool:
    """Whether a layer is missing without which no stranger's program runs here; the log says which."""
    missing = lacking(found, runtime)
    for layer in missing:
        event = f"{runtime}.refused"
        log.error(event, layer=layer.name, reason=layer.detail, mend=layer.mend, see="hearth doctor")
    return bool(missing)
