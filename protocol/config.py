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
    # A node's timers fire at least each second. One that handled nothing for half a lease has missed renewals.
    stall_us: int = 4_500 * MS
    # Honest holders may be this much slower than a job's mean: at a tenth of the duty (below that a heater rather hands
    # on), on a machine half as fast. Who delivers more slowly loses its leases, see pace.py.
    slower_max: int = 20
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
    # While nothing happens what repeats does so up to so many times more seldom: probes, exchanges of tables, looks
    # around. A link that breaks, a rumour, news of work end that at once; a dead member with a link is noticed by the
    # transport's keepalive, the others by at most so many intervals.
    rest_factor: int = 8
    # Dead members are remembered so that stale rumours cannot resurrect them.
    dead_memory_us: int = 10 * MINUTE
    # -- cells ----------------------------------------------------------------------------------------------
    # A cell splits above this many nodes and merges below the other. A half of the one is twice the other, so that no
    # cell swings between two depths.
    cell_split: int = 192
    cell_merge: int = 48
    # A cell that is thin merges after so long; a newcomer takes the depth that it is told for as long.
    cell_patience_us: int = MINUTE
    # Known nodes of each sibling prefix, as in a Kademlia table. Each is looked at once in `cell_interval_us`; with a
    # mean life of half an hour all 3 of a level are gone by the next look in (1 - exp(-30 s / 1800 s))^3 = 5 of a
    # million cases.
    contacts_a_level: int = 3
    # What cells tell each other: aggregates, and the jobs with the most work.
    cell_interval_us: int = 30 * SECOND
    # 2 * cell_split (a cell about to split, and those that are gone), contacts_a_level * 20 levels, and visitors.
    members_max: int = 512
    # Links above this, or above twice the view, are closed when nobody uses them, since each costs both ends its
    # keepalive: the view, contacts, and as many again that others keep.
    links_kept: int = 128
    # Above this the one that was silent longest goes as soon as another comes, so that whoever has a lease to renew
    # finds room, however many hold some: 3/4 of the 256 that the transport lets in.
    links_most: int = 192
    # HyParView: log10(n) + 1 active; we keep more because links also carry steals.
    active_view_max: int = 16
    # -- tables (heat and job digests, member records) ------------------------------------------------------
    sync_interval_us: int = SECOND
    # 2 rows a member, and as many again for jobs: 4 * members_max, ~300 B each.
    table_entries_max: int = 2048
    # Of job digests, which are said again each `heat_refresh_us` while there is work.
    digest_ttl_us: int = 90 * SECOND
    # What only the clock refuses, e.g. a certificate that is not valid yet, is asked for again after this: of ten
    # exchanges one fetches and checks it, and a clock that was put right makes good what it missed that soon.
    untimely_retry_us: int = 10 * SECOND
    heat_min_change: float = 0.10
    # What changed a little is said after this; what did not, after the other, three of which a digest outlives.
    heat_refresh_us: int = 20 * SECOND
    heat_repeat_us: int = 5 * MINUTE
    heat_ttl_us: int = 15 * MINUTE
    # -- stealing -----------------------------------------------------------------------------------------
    # Work that one execution should take; long enough to amortise ~3 ms of messages, short enough to spread.
    batch_target_us: int = 750 * MS
    batch_tasks_max: int = 1024
    # Near the end batches shrink, but not below what a message costs many times over.
    batch_floor_us: int = 20 * MS
    # Batch size while nothing is known about a job's tasks.
    batch_tasks_first: int = 4
    # Below this much queued per slot a worker steals: some round trips' worth, so that none leaves a slot idle. What is
    # queued when nothing is left to steal is what slots end apart by.
    queue_low_us: int = 100 * MS
    # And it asks for as much as brings the queue here.
    queue_target_us: int = 1_500 * MS
    grant_tasks_max: int = 8192
    # The other replicas hear of a grant after this, unless its tasks are done by then: soon enough to tell fair shares
    # near the end, well below suspicion_min_us, after which others may take over a dead granter's section. Of what a
    # granter could not tell any more, the holders tell as soon as they suspect it.
    grant_echo_us: int = 100 * MS
    steal_timeout_us: int = 2 * SECOND
    # Thieves that ask within this time of each other are served by urgency. A tenth of `queue_low_us`, below which they
    # ask, so that nobody's slots run empty of it.
    steal_window_us: int = 10 * MS
    refusals_before_lifeline: int = 2
    lifelines_max: int = 4
    # Kept up at two thirds. Who found work meanwhile is passed over, as its heat digest says so.
    lifeline_ttl_us: int = 2 * MINUTE
    lifelines_held_max: int = 256
    steal_idle_us: int = 2 * SECOND
    # -- jobs ---------------------------------------------------------------------------------------------
    replicas: int = 3
    # Replicas that must hold a record on disk before it counts as kept: a majority of 3.
    durable_replicas: int = 2
    jobs_max: int = 10_000
    tasks_per_job_max: int = 10_000_000
    records_per_job_max: int = 2_000_000
    # Of one submitter at one node: half of the jobs that it keeps; 0 where only certificates say how much.
    submitter_jobs_max: int = 5_000
    submitter_tasks_max: int = 0
    submitter_bytes_max: int = 0
    submitter_cpu_s_max: int = 0
    replica_grace_us: int = 30 * SECOND
    submit_timeout_us: int = 5 * SECOND
    # A replica that lives and says neither yes nor no is replaced after this, twelve times asked, and as long as it
    # takes to fetch its files where thirty jobs share a home's uplink of 1 Mbit/s.
    submit_patience_us: int = MINUTE
    upload_bytes_s_min: int = 4 * 1024
    # What nobody waits for leaves so much later: copies of a submission beyond the durable ones, copies of a result
    # beyond the first, acceptances. By then a short task's result is with its caller, for whom all cores were free.
    copy_delay_us: int = 10 * MS
    reconcile_interval_us: int = 3 * SECOND
    reconcile_ids_max: int = 32
    reconcile_fanout: int = 8
    # An unaccepted result that its submitter forgets in a crash is sent again, so this costs at most so much work.
    accept_interval_us: int = SECOND
    progress_interval_us: int = 500 * MS
    # A settled job keeps its results this long, then only a mark; of marks at most `jobs_max` are kept.
    forget_payload_us: int = 60 * MINUTE
    # -- results ------------------------------------------------------------------------------------------
    inline_output_bytes: int = 16 * 1024
    inline_batch_bytes: int = 512 * 1024
    outbox_max: int = 512
    # With those that nobody is there to take; and of all the columns, which stay in memory: 512 * inline_batch_bytes.
    owed_max: int = 4096
    owed_bytes_max: int = 256 * 1024 * 1024
    # A result that no replica took in a week is of a job that is not kept any more.
    owed_ttl_us: int = 7 * 24 * 60 * MINUTE
    # A replica says "stored" this long after it took a batch, for all of that time at once: one commit and one message
    # instead of many. A fifth of the shortest outbox_retry_us; outbox_max / this lets a worker make 1,280 batches/s.
    stored_delay_us: int = 400 * MS
    outbox_retry_us: int = 2 * SECOND
    # Batches on their way to one subscriber: 32 * 512 KiB of inline outputs at most.
    result_window: int = 32
    # What a submitter holds back of a job until copies come is not on its way any more: 128 batches of 512 KiB, of
    # 750 ms each what a hundred workers make in a second, about as long as a copy takes. Beyond, the window holds it.
    held_bytes_max: int = 64 * 1024 * 1024
    subscribers_max: int = 16
    # What a submitter took of a job, and is on too few disks: for half a second, about `stored_delay_us` and a round
    # trip, of 128 MiB/s. Above this nothing more is asked for.
    custody_bytes_max: int = 64 * 1024 * 1024
    # -- verification ---------------------------------------------------------------------------------------
    # A copy that none of the first nodes in its order takes is offered to twice as many after this, and so on.
    recheck_step_us: int = 250 * MS
    # A copy that has not come by then is asked for anew, of another node; also who runs long tasks gets another chance
    # to be late, not wrong.
    recheck_patience_us: int = 30 * SECOND
    status_heartbeat_us: int = 2 * SECOND
    # -- confidential jobs ----------------------------------------------------------------------------------
    # A replica that did not give its share of a key is asked again after this; four times are within a lease of LOCAL.
    key_retry_us: int = 700 * MS
    # -- messages -----------------------------------------------------------------------------------------
    message_bytes_max: int = 2 * 1024 * 1024
    spec_bytes_max: int = 512 * 1024


LAN = ProtocolConfig()
LOCAL = replace(
    LAN,
    lease_us=3 * SECOND,
    stall_us=1_500 * MS,
    lease_sweep_us=250 * MS,
    probe_interval_us=500 * MS,
    probe_timeout_us=400 * MS,
    suspicion_min_us=1_500 * MS,
    suspicion_max_us=6 * SECOND,
    replica_grace_us=4 * SECOND,
    submit_timeout_us=2 * SECOND,
    submit_patience_us=24 * SECOND,
    reconcile_interval_us=2 * SECOND,
    steal_timeout_us=SECOND,
    steal_idle_us=SECOND,
)
WAN = replace(
    LAN,
    lease_us=30 * SECOND,
    stall_us=15 * SECOND,
    lease_sweep_us=SECOND,
    probe_interval_us=2 * SECOND,
    probe_timeout_us=1_500 * MS,
    suspicion_min_us=8 * SECOND,
    suspicion_max_us=40 * SECOND,
    replica_grace_us=2 * MINUTE,
    submit_timeout_us=15 * SECOND,
    submit_patience_us=3 * MINUTE,
    steal_timeout_us=6 * SECOND,
    # About a round trip, by which the far ask later than the near.
    steal_window_us=50 * MS,
)
PRESETS = {"local": LOCAL, "lan": LAN, "wan": WAN}
