"""Every bound that a peer can run into, by name: each has a counter and a log event of that name at the node.

What happens, and how much is allowed, is in docs/limits.md, which is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Limit(StrEnum):
    # -- connections
    CONNECTIONS = "connections"
    SOURCE_CONNECTIONS = "source-connections"
    PEER_CONNECTIONS = "peer-connections"
    HANDSHAKES = "handshakes"
    LINKS = "links"
    # -- streams and bytes
    STREAMS = "streams"
    STREAM_RATE = "stream-rate"
    WINDOW = "window"
    UNREAD_BYTES = "unread-bytes"
    MUXER_FRAMES = "muxer-frames"
    FRAME_BYTES = "frame-bytes"
    SEND_QUEUE = "send-queue"
    # -- messages
    PEER_MESSAGES = "peer-messages"
    PEER_BYTES = "peer-bytes"
    PEER_SIGNATURES = "peer-signatures"
    SOURCE_BYTES = "source-bytes"
    SOURCE_SIGNATURES = "source-signatures"
    PENALTIES = "penalties"
    # -- gossip
    GOSSIP_FORWARDER = "gossip-forwarder"
    GOSSIP_STRANGERS = "gossip-strangers"
    GOSSIP_SOURCE = "gossip-source"
    GOSSIP_BYTES = "gossip-bytes"
    # -- services
    BLOBS_SERVED = "blobs-served"
    PEER_BLOBS = "peer-blobs"
    RELAY_RESERVATIONS = "relay-reservations"
    RELAY_CIRCUITS = "relay-circuits"
    # -- the protocol
    JOBS = "jobs"
    TASKS_A_JOB = "tasks-a-job"
    SPEC_BYTES = "spec-bytes"
    QUOTA = "quota"
    HELD_QUOTA = "held-quota"
    SUBMISSIONS = "submissions"
    RECORDS_A_JOB = "records-a-job"
    REPEATS = "repeats"
    BATCHES_FETCHING = "batches-fetching"
    FOLLOWERS = "followers"
    SUBSCRIPTIONS = "subscriptions"
    RENEWALS = "renewals"
    LIFELINES = "lifelines"
    TABLE_SYNCS = "table-syncs"
    TABLE_ROWS = "table-rows"
    ROW_BYTES = "row-bytes"
    LOOKUPS = "lookups"
    CELL_DIGESTS = "cell-digests"
    ACCUSATIONS = "accusations"
    ROLE = "role"


@dataclass(frozen=True, slots=True)
class Bound:
    """A row of the table. most: how much is allowed, by default.  then: what becomes of what is over it."""

    most: str
    then: str


BOUNDS: dict[Limit, Bound] = {
    Limit.CONNECTIONS: Bound("256 inbound (`limits.inbound_connections`)", "closed as it arrives"),
    Limit.SOURCE_CONNECTIONS: Bound(
        "128 inbound of one address, half-open ones too (`limits.connections_per_address`)", "closed as it arrives"
    ),
    Limit.PEER_CONNECTIONS: Bound("4 of one peer", "its oldest is closed"),
    Limit.HANDSHAKES: Bound("64 half-open", "the oldest of the address that has most of them is dropped"),
    Limit.LINKS: Bound("512", "refused, with the reason"),
    Limit.STREAMS: Bound("64 that a peer has open (`limits.streams_per_connection`)", "the stream is reset"),
    Limit.STREAM_RATE: Bound("4,096 that a peer opens in 2 s", "the stream is reset"),
    Limit.WINDOW: Bound(
        "a stream's receive window, 256 KiB to 1 MiB", "the stream is reset; at the fourth, the link ends"
    ),
    Limit.UNREAD_BYTES: Bound(
        "16 MiB unread of one connection, 128 MiB of all", "the stream with most of it is reset, of who has most"
    ),
    Limit.MUXER_FRAMES: Bound(
        "2,000 refused streams, 100,000 frames without payload in 2 s; the muxer's rules", "the connection ends"
    ),
    Limit.FRAME_BYTES: Bound("4 MiB; a greeting 4 KiB", "the link ends, with the reason"),
    Limit.SEND_QUEUE: Bound("16 MiB queued for a peer", "dropped; full for 30 s, the link ends"),
    Limit.PEER_MESSAGES: Bound("64 of one peer unhandled; peers take turns by cost", "the peer is not read from"),
    Limit.PEER_BYTES: Bound("64 MiB of messages at once, then 16 MiB a second", "the peer is not read from"),
    Limit.PEER_SIGNATURES: Bound("10,000 to check at once, then 1,000 a second", "the peer is not read from"),
    Limit.SOURCE_BYTES: Bound("four peers' worth, of one address or relay", "its peers are not read from"),
    Limit.SOURCE_SIGNATURES: Bound("four peers' worth, of one address or relay", "its peers are not read from"),
    Limit.PENALTIES: Bound("20 broken rules in a minute", "the link ends, and none is made for a minute"),
    Limit.GOSSIP_FORWARDER: Bound("256 news from one neighbour at once, then 64 a second", "dropped unchecked"),
    Limit.GOSSIP_STRANGERS: Bound(
        "256 news of authors that nobody here knows at once, then 64 a second, and 1 a second of each neighbour",
        "dropped unchecked",
    ),
    Limit.GOSSIP_SOURCE: Bound("64 of one author at once, then 8 a second", "dropped"),
    Limit.GOSSIP_BYTES: Bound("64 KiB a message", "dropped, and its forwarder loses a point"),
    Limit.BLOBS_SERVED: Bound("8 at once", "busy: the peer asks another source, or again"),
    Limit.PEER_BLOBS: Bound("4 at once to one peer", "busy, as above"),
    Limit.RELAY_RESERVATIONS: Bound("128", "refused"),
    Limit.RELAY_CIRCUITS: Bound("64, of them 16 to one node", "refused"),
    Limit.JOBS: Bound("10,000 kept (`limits.jobs`)", "rejected, with the reason"),
    Limit.TASKS_A_JOB: Bound("10,000,000 (`limits.tasks_per_job`)", "rejected, with the reason"),
    Limit.SPEC_BYTES: Bound("512 KiB", "rejected, with the reason"),
    Limit.QUOTA: Bound(
        "5,000 jobs of one submitter; tasks, bytes and CPU as its certificate or `limits.submitter_…` say",
        "rejected, with the reason; of what is kept, no more CPU is leased at a time",
    ),
    Limit.HELD_QUOTA: Bound("the same tasks and CPU, of what a worker holds of one submitter", "given back"),
    Limit.SUBMISSIONS: Bound(
        "256 whose blobs are coming",
        "rejected, with the reason; of a submitter that has less than an even share, taken",
    ),
    Limit.RECORDS_A_JOB: Bound(
        "2,000,000 results, leases, and words of its submitter's each",
        "declined; of a worker that has less than an even share of the results, taken",
    ),
    Limit.REPEATS: Bound("4 first results of one task, of one worker", "declined, or dropped for those that stay"),
    Limit.BATCHES_FETCHING: Bound(
        "256 whose outputs are coming",
        "declined; the worker tries again; of one that has less than an even share, taken",
    ),
    Limit.FOLLOWERS: Bound("16 of one job", "rejected, with the reason; for its submitter the last one goes"),
    Limit.SUBSCRIPTIONS: Bound("16 of one peer to one job's results at once, then 1 in 2 s", "not answered"),
    Limit.RENEWALS: Bound("512 pieces of the tasks that one message names, 8,192 if it has many ranges", "not renewed"),
    Limit.LIFELINES: Bound("256 thieves parked", "refused"),
    Limit.TABLE_SYNCS: Bound("8 exchanges that a peer begins at once, then 4 a second", "a broken rule"),
    Limit.TABLE_ROWS: Bound("4,096 rows that nobody asked for at once, then 1,024 a second", "a broken rule"),
    Limit.ROW_BYTES: Bound("8 KiB", "a broken rule"),
    Limit.LOOKUPS: Bound("a few a second of one peer", "not answered"),
    Limit.CELL_DIGESTS: Bound("a few in half a minute of one peer", "not read"),
    Limit.ACCUSATIONS: Bound("64 untried, 4 of one accuser", "not heard"),
    Limit.ROLE: Bound("what a certificate grants", "refused; of a peer that should know, a broken rule"),
}


def has_share(party: bytes, holders: Iterable[bytes], most: int) -> bool:
    """Whether a party gets one place more: where none of `most` is free, if it has less than an even share, and twice
    as many in all.

    holders: of the places that are taken, one entry each.
    """
    counts: dict[bytes, int] = {}
    for holder in holders:
        counts[holder] = counts.get(holder, 0) + 1
    taken = sum(counts.values())
    return taken < most or (taken < 2 * most and counts.get(party, 0) * len(counts) < most)
