"""From messages, digests and specs to the plain numbers that `stealing/` decides by."""

from __future__ import annotations

from dataclasses import replace

from .config import ProtocolConfig
from .events import HeatReading
from .messages import Steal
from .records import HeatDigest, JobDigest, JobSpec
from .stealing.appetite import FOREVER_US, Forecast, longest_task_us
from .stealing.matching import Work
from .stealing.pricing import due_us
from .stealing.urgency import Ask, discomfort_mkh, urgency_mkh

# Where no model foretells anything, a lack of all its power counts like a kelvin for a quarter of an hour.
LACKING_ALL_KH = 0.25

# Tasks, and times what a queue is to hold.
PLENTY = 16


def ask_of(thief: bytes, steal: Steal, waited_us: int = 0, rtt_us: int = 0) -> Ask:
    """waited_us: see `urgency_mkh`.  rtt_us: see `Ask`."""
    return Ask(
        thief,
        urgency_mkh(steal.discomfort_mkh, waited_us),
        steal.appetite_us,
        steal.slots,
        steal.longest_us,
        steal.speed_permille,
        steal.price_micro,
        frozenset(steal.has),
        rtt_us,
        places=steal.places,
        busy_us=steal.busy_us,
    )


def ask_of_peer(digest: HeatDigest) -> Ask:
    """As if the peer had asked for work."""
    return Ask(
        digest.node,
        urgency_mkh(digest.discomfort_mkh, 0),
        digest.appetite_us,
        digest.free_slots,
        digest.longest_us,
        digest.speed_permille,
        digest.price_micro,
    )


def as_keeper(ask: Ask, job_id: bytes) -> Ask:
    """Of a replica of the job: all its blobs are there."""
    return replace(ask, keeps=ask.keeps | {job_id})


def work_of(
    job_id: bytes,
    spec: JobSpec,
    task_us: int,
    *,
    free: int = 1,
    at_risk: bool = False,
    since_us: int = 0,
    wall_us: int = 0,
) -> Work:
    """task_us: as it was measured, 0 if nothing is known.  wall_us: since 1970; 0 where what is left until the deadline
    does not matter."""
    deadline_us = due_us(spec.deadline_us, wall_us)
    return Work(
        job_id,
        free,
        task_us,
        spec.checkpoint_us,
        spec.priority,
        at_risk,
        spec.price_limit_micro,
        deadline_us,
        since_us,
        spec.shared_bytes(),
        spec.input_bytes(),
        max(0, deadline_us - wall_us) if wall_us else 0,
    )


def work_of_digest(digest: JobDigest, wall_us: int) -> Work:
    """What a replica says that it has of a job; of a deadline that is over nothing is at risk, whatever it says.

    wall_us: since 1970, as the deadline.
    """
    deadline_us = due_us(digest.deadline_us, wall_us)
    return Work(
        digest.job_id,
        digest.free_tasks,
        digest.task_us,
        digest.checkpoint_us,
        digest.priority,
        digest.at_risk and deadline_us == digest.deadline_us,
        digest.price_limit_micro,
        deadline_us,
        blob_bytes=digest.blob_bytes,
    )


def has_plenty(free_tasks: int, task_us: int, config: ProtocolConfig) -> bool:
    """Whether a keeper with so much of a job has some for all who come. task_us: 0 while nobody knows."""
    work_us = free_tasks * (task_us or config.batch_target_us)
    return free_tasks >= PLENTY and work_us >= PLENTY * config.queue_target_us


def longest_here_us(reading: HeatReading) -> int:
    """The longest task that this node's sink takes now."""
    if reading.watts_per_slot <= 0:
        return FOREVER_US
    slots = max(1, reading.slots)
    watts, buffer_wh = reading.watts_per_slot, reading.buffer_wh
    return longest_task_us(Forecast(reading.horizon_wh, buffer_wh, reading.hold_w, watts, slots, reading.later_w))


def duty_of(reading: HeatReading) -> float:
    """Share of its core that each task gets, where every slot works; 0 where nothing may run."""
    most_w = reading.slots * reading.watts_per_slot
    return max(0.0, min(1.0, reading.deficit_w / most_w)) if most_w > 0 else 0.0


def discomfort_here_mkh(reading: HeatReading) -> int:
    """Discomfort to come here, by the sink's model, else by how much power lacks."""
    if not reading.useful:
        return 0
    lacking = max(0.0, min(1.0, reading.deficit_w / reading.capacity_w)) if reading.capacity_w > 0 else 0.0
    return discomfort_mkh(reading.discomfort_kh or LACKING_ALL_KH * lacking, reading.sink)
