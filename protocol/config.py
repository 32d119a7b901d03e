"""Every bound and interval of the protocol, with the formula behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

MS = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolConfig:
    """Knobs of one node. Times in microseconds, sizes in bytes, counts in items.

    The three presets differ in times only: `LAN` is the default, `LOCAL` is one machine, `WAN` the internet.
    """

    # -- leases ------------------------------------------------------------------------------------------
    # A lease outlives two lost renewals: lease_us = 3 * renew_us.
    lease_us: int = 9 * SECOND
    lease_sweep_us: int = 500 * MS
    # -- membership (Lifeguard) ---------------------------------------------------------------------------
    probe_interval_us: int = SECOND
    # ~3 RTT at the 99th percentile plus the time a busy interpreter needs to answer.
    probe_timeout_us: int = 700 * MS
    indirect_probes: int = 3
    # suspicion = max(min, mult * log10(n) * probe_interval); halves with each independent accuser.
    suspicion_min_us: int = 2 * SECOND
    suspicion_max_us: int = 15 * SECOND
    suspicion_accusers: int = 3
    local_health_max: int = 8
    # Dead members are remembered so that stale rumours cannot resurrect them.
    dead_memory_us: int = 10 * MINUTE
    # A cell: nodes whose digests a node keeps. 128 * ~250 B = 32 kB.
    members_max: int = 256
    # HyParView: log10(n) + 1 active; we keep more because links also carry steals.
    active_view_max: int = 16
    # -- tables (heat and job digests, member records) ------------------------------------------------------
    sync_interval_us: int = SECOND
    table_entries_max: int = 1024
    digest_ttl_us: int = 90 * SECOND
    heat_min_change: float = 0.10
    heat_refresh_us: int = 20 * SECOND
    # -- stealing -----------------------------------------------------------------------------------------
    # Work that one execution should take; long enough to amortise ~3 ms of messages, short enough to spread.
    batch_target_us: int = 150 * MS
    batch_tasks_max: int = 1024
    # Near the end batches shrink, but not below what a message costs many times over.
    batch_floor_us: int = 20 * MS
    # Batch size while nothing is known about a job's tasks.
    batch_tasks_first: int = 4
    # A worker keeps this much queued per slot, so that a round trip never leaves a slot idle.
    queue_target_us: int = 600 * MS
    grant_tasks_max: int = 8192
    steal_timeout_us: int = 2 * SECOND
    refusals_before_lifeline: int = 2
    lifelines_max: int = 4
    lifeline_ttl_us: int = 30 * SECOND
    lifelines_held_max: int = 256
    steal_idle_us: int = 2 * SECOND
    # -- jobs ---------------------------------------------------------------------------------------------
    replicas: int = 3
    # Replicas that must hold a record on disk before it counts as kept: a majority of 3.
    durable_replicas: int = 2
    jobs_max: int = 10_000
    tasks_per_job_max: int = 10_000_000
    records_per_job_max: int = 2_000_000
    replica_grace_us: int = 30 * SECOND
    submit_timeout_us: int = 5 * SECOND
    reconcile_interval_us: int = 3 * SECOND
    reconcile_ids_max: int = 32
    reconcile_fanout: int = 8
    accept_interval_us: int = 200 * MS
    progress_interval_us: int = 500 * MS
    # A settled job keeps its results this long, then only a mark; of marks at most `jobs_max` are kept.
    forget_payload_us: int = 60 * MINUTE
    # -- results ------------------------------------------------------------------------------------------
    inline_output_bytes: int = 16 * 1024
    inline_batch_bytes: int = 512 * 1024
    outbox_max: int = 512
    outbox_retry_us: int = 2 * SECOND
    # Batches on their way to one subscriber: 32 * 512 KiB of inline outputs at most.
    result_window: int = 32
    subscribers_max: int = 16
    status_heartbeat_us: int = 2 * SECOND
    # -- messages -----------------------------------------------------------------------------------------
    message_bytes_max: int = 2 * 1024 * 1024
    spec_bytes_max: int = 512 * 1024


LAN = ProtocolConfig()
LOCAL = replace(
    LAN,
    lease_us=3 * SECOND,
    lease_sweep_us=250 * MS,
    probe_interval_us=500 * MS,
    probe_timeout_us=400 * MS,
    suspicion_min_us=1_500 * MS,
    suspicion_max_us=6 * SECOND,
    replica_grace_us=4 * SECOND,
    submit_timeout_us=2 * SECOND,
    reconcile_interval_us=2 * SECOND,
    outbox_retry_us=SECOND,
    steal_timeout_us=SECOND,
    steal_idle_us=SECOND,
)
WAN = replace(
    LAN,
    lease_us=30 * SECOND,
    lease_sweep_us=SECOND,
    probe_interval_us=2 * SECOND,
    probe_timeout_us=1_500 * MS,
    suspicion_min_us=8 * SECOND,
    suspicion_max_us=40 * SECOND,
    replica_grace_us=2 * MINUTE,
    submit_timeout_us=15 * SECOND,
    steal_timeout_us=6 * SECOND,
)
PRESETS = {"local": LOCAL, "lan": LAN, "wan": WAN}
