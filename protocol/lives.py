"""The lives of a node, a submission, a kept job and a delivery: their states, read off the machines, and the ways
from one to the next. The machines do not run on these tables; tests hold them to it, and docs draw them.
A task's life is in granting.py, a member's in liveness.py.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from .mesh import Mesh
from .outbox import Outbox
from .own_job import OwnJob
from .replica import Replica


class NodeState(IntEnum):
    """What a node does about work."""

    RESTING = 0  # its room is warm enough, or its disk is full
    LOOKING = 1  # it is cold and runs nothing
    WORKING = 2
    FINISHING = 3  # it takes nothing new; what runs may end
    DRAINING = 4  # it was asked to leave
    LEFT = 5


class NodeFinding(StrEnum):
    WANTED = "heat is wanted"
    WANTED_AT_HAND = "heat is wanted, work is at hand"
    STARTED = "a batch starts"
    ENDED = "nothing runs any more"
    UNWANTED = "warm enough, or disk full"
    ASKED = "asked to leave"
    ASKED_IDLE = "asked to leave, owes nothing"
    DRAINED = "all given back and acknowledged, or asked again"


NODE_TRANSITIONS: dict[tuple[NodeState, NodeFinding], NodeState] = {
    (NodeState.RESTING, NodeFinding.WANTED): NodeState.LOOKING,
    (NodeState.RESTING, NodeFinding.WANTED_AT_HAND): NodeState.WORKING,
    (NodeState.RESTING, NodeFinding.ASKED): NodeState.DRAINING,
    (NodeState.RESTING, NodeFinding.ASKED_IDLE): NodeState.LEFT,
    (NodeState.LOOKING, NodeFinding.STARTED): NodeState.WORKING,
    (NodeState.LOOKING, NodeFinding.UNWANTED): NodeState.RESTING,
    (NodeState.LOOKING, NodeFinding.ASKED): NodeState.DRAINING,
    (NodeState.LOOKING, NodeFinding.ASKED_IDLE): NodeState.LEFT,
    (NodeState.WORKING, NodeFinding.ENDED): NodeState.LOOKING,
    (NodeState.WORKING, NodeFinding.UNWANTED): NodeState.FINISHING,
    (NodeState.WORKING, NodeFinding.ASKED): NodeState.DRAINING,
    (NodeState.FINISHING, NodeFinding.WANTED): NodeState.WORKING,
    (NodeState.FINISHING, NodeFinding.ENDED): NodeState.RESTING,
    (NodeState.FINISHING, NodeFinding.ASKED): NodeState.DRAINING,
    (NodeState.DRAINING, NodeFinding.DRAINED): NodeState.LEFT,
}


def node_state(mesh: Mesh) -> NodeState:
    worker = mesh.worker
    if mesh.left:
        return NodeState.LEFT
    if worker.draining:
        return NodeState.DRAINING
    if worker.slots == 0 or worker.storage_failed:
        return NodeState.FINISHING if worker.running else NodeState.RESTING
    return NodeState.WORKING if worker.running else NodeState.LOOKING


class SubmissionState(IntEnum):
    """Where a job stands for the client that signed it."""

    SIGNED = 0  # on its way to the replicas
    STORED = 1  # enough replicas hold it: the client may go
    FOLLOWED = 2  # results come as they are made
    ACCEPTED = 3  # every result was checked and signed for
    CANCELLED = 4
    REJECTED = 5


class SubmissionFinding(StrEnum):
    STORED = "stored by two"
    STORED_FOLLOWED = "stored by two, followed before"
    REFUSED = "refused by all, or nobody answers"
    FOLLOWED = "followed"
    UNFOLLOWED = "unfollowed"
    CONFIRMED = "all results accepted"
    CANCELLED = "cancelled"


SUBMISSION_TRANSITIONS: dict[tuple[SubmissionState, SubmissionFinding], SubmissionState] = {
    (SubmissionState.SIGNED, SubmissionFinding.STORED): SubmissionState.STORED,
    (SubmissionState.SIGNED, SubmissionFinding.STORED_FOLLOWED): SubmissionState.FOLLOWED,
    (SubmissionState.SIGNED, SubmissionFinding.CONFIRMED): SubmissionState.ACCEPTED,
    (SubmissionState.SIGNED, SubmissionFinding.REFUSED): SubmissionState.REJECTED,
    (SubmissionState.SIGNED, SubmissionFinding.CANCELLED): SubmissionState.CANCELLED,
    (SubmissionState.STORED, SubmissionFinding.FOLLOWED): SubmissionState.FOLLOWED,
    (SubmissionState.STORED, SubmissionFinding.CANCELLED): SubmissionState.CANCELLED,
    (SubmissionState.STORED, SubmissionFinding.CONFIRMED): SubmissionState.ACCEPTED,
    (SubmissionState.FOLLOWED, SubmissionFinding.UNFOLLOWED): SubmissionState.STORED,
    (SubmissionState.FOLLOWED, SubmissionFinding.CANCELLED): SubmissionState.CANCELLED,
    (SubmissionState.FOLLOWED, SubmissionFinding.CONFIRMED): SubmissionState.ACCEPTED,
    (SubmissionState.CANCELLED, SubmissionFinding.CONFIRMED): SubmissionState.ACCEPTED,
}


def submission_state(own: OwnJob | None) -> SubmissionState:
    """own: None for a job that was signed and is not kept any more."""
    if own is None:
        return SubmissionState.REJECTED
    if own.state.fully_accepted:
        return SubmissionState.ACCEPTED
    if own.state.cancellation is not None:
        return SubmissionState.CANCELLED
    if not own.durable:
        return SubmissionState.SIGNED
    return SubmissionState.FOLLOWED if own.following else SubmissionState.STORED


class KeptState(IntEnum):
    """Where a job stands at one replica."""

    UNKNOWN = 0
    FETCHING = 1  # its blobs are on their way
    BEHIND = 2  # came back, heard nothing for long, or took a dead one's seat: compares, and does not grant yet
    OPEN = 3
    COMPLETE = 4  # every task has a result
    SETTLED = 5  # accepted or cancelled
    FORGOTTEN = 6  # only the mark is left, so that late results are told


class KeptFinding(StrEnum):
    OFFERED = "submitted, or invited"
    FETCHED = "blobs here"
    FETCHED_INVITED = "blobs here, others kept it before"
    UNFETCHABLE = "blobs failed"
    LEVEL = "compared equal, or nobody answers"
    FELL_BEHIND = "there is room again, or it was frozen"
    COMPLETED = "last result"
    SETTLED = "accepted or cancelled"
    AGED = "an hour later"


KEPT_TRANSITIONS: dict[tuple[KeptState, KeptFinding], KeptState] = {
    (KeptState.UNKNOWN, KeptFinding.OFFERED): KeptState.FETCHING,
    (KeptState.FETCHING, KeptFinding.FETCHED): KeptState.OPEN,
    (KeptState.FETCHING, KeptFinding.FETCHED_INVITED): KeptState.BEHIND,
    (KeptState.FETCHING, KeptFinding.UNFETCHABLE): KeptState.UNKNOWN,
    (KeptState.BEHIND, KeptFinding.LEVEL): KeptState.OPEN,
    (KeptState.BEHIND, KeptFinding.COMPLETED): KeptState.COMPLETE,
    (KeptState.BEHIND, KeptFinding.SETTLED): KeptState.SETTLED,
    (KeptState.OPEN, KeptFinding.FELL_BEHIND): KeptState.BEHIND,
    (KeptState.OPEN, KeptFinding.COMPLETED): KeptState.COMPLETE,
    (KeptState.OPEN, KeptFinding.SETTLED): KeptState.SETTLED,
    (KeptState.COMPLETE, KeptFinding.SETTLED): KeptState.SETTLED,
    (KeptState.SETTLED, KeptFinding.AGED): KeptState.FORGOTTEN,
}


def kept_state(replica: Replica, job_id: bytes) -> KeptState:
    kept = replica.jobs.get(job_id)
    if kept is None:
        if replica.has_forgotten(job_id):
            return KeptState.FORGOTTEN
        return KeptState.FETCHING if replica.is_fetching(job_id) else KeptState.UNKNOWN
    if kept.settled_us is not None:
        return KeptState.SETTLED
    if kept.completed_us is not None:
        return KeptState.COMPLETE
    return KeptState.OPEN if kept.level else KeptState.BEHIND


class DeliveryState(IntEnum):
    """Where a batch of results stands at the worker that made it."""

    SENT = 0  # to all replicas at once
    KEPT = 1  # slow: on this node's disk too, and sent again
    SETTLED = 2


class DeliveryFinding(StrEnum):
    SLOW = "not acknowledged in time, or leaving"
    ACKNOWLEDGED = "two have it on disk"
    DECLINED = "not wanted any more"


DELIVERY_TRANSITIONS: dict[tuple[DeliveryState, DeliveryFinding], DeliveryState] = {
    (DeliveryState.SENT, DeliveryFinding.SLOW): DeliveryState.KEPT,
    (DeliveryState.SENT, DeliveryFinding.ACKNOWLEDGED): DeliveryState.SETTLED,
    (DeliveryState.SENT, DeliveryFinding.DECLINED): DeliveryState.SETTLED,
    (DeliveryState.KEPT, DeliveryFinding.ACKNOWLEDGED): DeliveryState.SETTLED,
    (DeliveryState.KEPT, DeliveryFinding.DECLINED): DeliveryState.SETTLED,
}


def delivery_states(outbox: Outbox) -> dict[bytes, DeliveryState]:
    """By batch; a batch that was there and is not any more is SETTLED."""
    return {
        batch_id: DeliveryState.KEPT if persisted else DeliveryState.SENT
        for batch_id, persisted in outbox.owed().items()
    }
