"""What a node answers its owner over the control socket: how it is, why it waits, what it keeps, what happened."""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from ..crypto.identity import node_id_from_text, peer_id_text
from ..protocol.effects import Notify
from ..protocol.records import RecordKind, open_record
from ..protocol.subscriptions import job_status
from .clock import wall_us
from .naming import find_node
from .ports import monotonic_us

if TYPE_CHECKING:
    from .service import Node

EVENTS_KEPT = 512
# How long an order to the thermostat waits for what came of it: two of its turns.
TURN_WAIT_S = 1.0

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class EventLog:
    """The last notes of the node's machine. count: of all that there were."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, float, Notify]] = deque(maxlen=EVENTS_KEPT)
        self.count = 0

    def add(self, note: Notify) -> None:
        self.count += 1
        self._events.append((self.count, wall_us() / 1e6, note))

    def after(self, number: int) -> list[dict[str, Any]]:
        return [
            {"seq": seq, "at_s": at_s, "name": note.name} | {key: _shown(value) for key, value in note.fields.items()}
            for seq, at_s, note in self._events
            if seq > number
        ]


class Answers:
    """See the module. stop: ends the node."""

    def __init__(self, node: Node, stop: trio.Event) -> None:
        self._node = node
        self._stop = stop

    def by_command(self) -> dict[str, Answer]:
        """What each command of the socket is answered by."""
        node, stop = self._node, self._stop

        async def status(_: dict[str, Any]) -> dict[str, Any]:
            return self.status()

        async def block(request: dict[str, Any]) -> dict[str, Any]:
            peers = request.get("peers")
            others = bool(request.get("others", False))
            node.links.block(None if peers is None else [node_id_from_text(p) for p in peers], others=others)
            return {"blocked": peers}

        async def halt(_: dict[str, Any]) -> dict[str, Any]:
            stop.set()
            return {"stopping": True}

        async def events(request: dict[str, Any]) -> dict[str, Any]:
            after = int(request.get("after", 0))
            return {"events": node.events.after(after), "next": node.events.count}

        async def heat(request: dict[str, Any]) -> dict[str, Any]:
            answer = node.heat.run(request)
            if request.get("what") == "status":
                return answer
            # What came of it, not what was before.
            with trio.move_on_after(TURN_WAIT_S):
                await node.turned.wait()
            return {"heat": node.heat.status()}

        async def trust(request: dict[str, Any]) -> dict[str, Any]:
            convicted = node.mesh.ctx.convicted
            names = {row.body.node: row.body.name for row in node.mesh.tables.rows(RecordKind.MEMBER)}
            asked = find_node(str(request["node"]), names, convicted)
            raw = convicted.get(asked)
            return {"node": peer_id_text(asked), "convicted": raw is not None, "proof": _proof(raw)}

        async def clock(request: dict[str, Any]) -> dict[str, Any]:
            node.set_clock(float(request["offset_s"]))
            return {"clock_offset_s": request["offset_s"]}

        async def why(request: dict[str, Any]) -> dict[str, Any]:
            return self.why(str(request.get("job", "")), int(request.get("index", 0)))

        async def kept(request: dict[str, Any]) -> dict[str, Any]:
            return {"kept": self.kept(bytes.fromhex(str(request["job"])))}

        served = {"status": status, "block": block, "stop": halt, "events": events, "kept": kept}
        return {**served, "why": why, "trust": trust, "heat": heat, "clock": clock}

    def why(self, job: str, index: int) -> dict[str, Any]:
        """Why this node is idle, or why a task waits. job: the beginning of an id; empty for the node.

        Raises ValueError for a job that is not known here.
        """
        node = self._node
        explainer, now_us = node.mesh.explainer, monotonic_us()
        if not job:
            text = explainer.why_node(now_us)
        else:
            known = [job_id for job_id in explainer.jobs() if job_id.hex().startswith(job)]
            if len(known) != 1:
                raise ValueError(f"{len(known)} jobs that begin with {job[:64]} are known to this node")
            _, text = explainer.why_task(known[0], index, now_us)
        return {"name": node.mesh.profile.name, "why": text}

    def kept(self, job_id: bytes) -> dict[str, Any] | None:
        """What this node keeps of a job as its replica; None if nothing. Two that keep the same say the same of it."""
        kept = self._node.mesh.replica.jobs.get(job_id)
        if kept is None:
            return None
        count, fingerprint = kept.state.ids.fingerprint(b"", b"")
        said = job_status(kept.state, kept.ledger, kept.elapsed_us(monotonic_us()))
        return {
            "epoch": kept.state.replica_epoch,
            "replicas": [node.hex() for node in kept.state.replicas],
            "records": count,
            "fingerprint": fingerprint.hex(),
            "tasks": said.tasks,
            "done": said.done,
            "accepted": said.accepted,
            "workers": {
                row.node.hex(): [row.done, row.cpu_us, row.energy_mj, row.useful_mj] for row in said.workers if row.done
            },
        }

    def status(self) -> dict[str, Any]:
        """What `hearth node status` and the testnet show."""
        node = self._node
        reading, meter, worker = node.heater.reading(), node.heater.meter, node.mesh.worker
        heat = node.heat.status()
        return {
            "name": node.mesh.profile.name,
            "peer_id": node.membership.identity.peer_id,
            "pid": os.getpid(),
            "addresses": list(node.links.addresses),
            "sink": reading.sink,
            "temperature_c": round(reading.temperature_c, 3),
            "setpoint_c": heat.get("setpoint_c", node.config.heater.setpoint_c),
            "heat": heat,
            "deficit_w": round(reading.deficit_w, 1),
            "slots": worker.slots,
            "running": worker.running,
            "queued_tasks": worker.unstarted,
            "tasks_done": worker.tasks_done,
            "results_owed": len(worker.outbox),
            "jobs_kept": len(node.mesh.replica.jobs),
            "steals": node.mesh.thief.steals,
            "stolen_tasks": node.mesh.thief.granted,
            "stolen_from": {peer_id_text(node): count for node, count in node.mesh.thief.stolen_from.items()},
            "links": [
                {"peer": peer_id_text(link.peer), "address": link.address, "relayed": link.relayed}
                for link in node.links.peers()
            ],
            "meter": {
                "work_j": meter.work_uj / 1e6,
                "work_useful_j": meter.work_useful_uj / 1e6,
                "useful_j": meter.useful_uj / 1e6,
                "idle_j": meter.idle_uj / 1e6,
                "paid_j": node.loads.paid_mj / 1e3,
                "volunteer_j": node.loads.volunteer_mj / 1e3,
                "burn_j": meter.burn_uj / 1e6,
                "burn_useful_j": meter.burn_useful_uj / 1e6,
            },
            "limits": node.meter.shown(),
            "draining": worker.draining,
            "storage_failed": worker.storage_failed,
            "uptime_s": round((monotonic_us() - node.started_us) / 1e6, 3),
            "rss_bytes": _resident_bytes(),
        }


def _proof(raw: bytes | None) -> dict[str, Any] | None:
    """The accusation that convicted a node, for people; whoever wants to check it gets it by gossip."""
    if raw is None:
        return None
    record = open_record(raw, check_signature=False)
    return {"job": record.body.job_id.hex(), "index": record.body.index, "accuser": peer_id_text(record.author)}


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _shown(value: object) -> object:
    """As JSON: ids in hex, messages left out."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 32 else len(value)
    if isinstance(value, tuple | list):
        return [_shown(item) for item in value[:16]]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return type(value).__name__
