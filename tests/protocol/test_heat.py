"""Heat digests: told when something changed that others act on, and the coldest first."""

from __future__ import annotations

from msgspec.structs import replace

from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import HeatReading
from hearthmesh.protocol.heat import HeatBoard
from hearthmesh.protocol.records import UINT_MAX, HeatDigest, RecordKind, sign_record
from hearthmesh.protocol.tables import Tables
from tests.protocol.machines import ME, A, B, Bench, C

READING = HeatReading(400.0, 500.0, 4, 100.0, 50.0, True, "room", 19.0)


class Board:
    def __init__(self) -> None:
        self.bench = Bench()
        self.tables = Tables(self.bench.ctx, lambda _record, _now_us: None)
        self.heat = HeatBoard(self.bench.ctx, self.tables, 7)
        self.heat.read(READING)

    def told(self, now_us: int, *, free_slots: int = 4, queue_us: int = 0, **changes: float) -> bool:
        """Whether a new digest is out."""
        before = self.digest
        if changes:
            assert self.heat.reading is not None
            self.heat.read(replace(self.heat.reading, **changes))  # type: ignore[arg-type]
        self.heat.publish(free_slots, queue_us, now_us)
        return self.digest != before

    @property
    def digest(self) -> HeatDigest | None:
        record = self.tables.get(RecordKind.HEAT, ME.node_id)
        return record.body if record else None

    def peer(self, who: object, **fields: int | bool) -> None:
        known = dict(deficit_w=100, capacity_w=500, free_slots=1, queue_us=0)
        known.update(fields)  # type: ignore[arg-type]
        identity = who
        body = HeatDigest(
            identity.node_id,  # type: ignore[attr-defined]
            1,
            1,
            sink="room",
            temperature_mc=19_000,
            **known,  # type: ignore[arg-type]
        )
        record = sign_record(identity, RecordKind.HEAT, body)  # type: ignore[arg-type]
        self.tables.merge(record.raw, record.author, 0)


def test_node_without_a_reading_says_nothing() -> None:
    board = Board()
    board.heat.reading = None
    assert not board.told(0)


def test_small_change_waits_for_the_refresh_and_a_smaller_one_for_the_repetition() -> None:
    board = Board()
    assert board.told(0)
    board.heat.speed_permille = 1300
    assert not board.told(LOCAL.heat_refresh_us)
    board.heat.speed_permille = 1400
    assert not board.told(LOCAL.heat_refresh_us - 1)
    assert board.told(LOCAL.heat_refresh_us)
    assert not board.told(2 * LOCAL.heat_refresh_us, deficit_w=360.0, temperature_c=19.1)
    assert board.told(LOCAL.heat_refresh_us + LOCAL.heat_repeat_us)


def test_same_reading_is_told_again_after_the_repetition_and_another_at_once() -> None:
    board = Board()
    board.told(0)
    assert not board.told(LOCAL.heat_repeat_us - 1)
    assert board.told(LOCAL.heat_repeat_us)
    assert board.told(LOCAL.heat_repeat_us + 1, deficit_w=-5.0)


def test_slots_that_are_free_no_more_wait_for_the_refresh() -> None:
    board = Board()
    board.told(0)
    assert not board.told(LOCAL.heat_refresh_us - 1, free_slots=0)
    assert board.told(LOCAL.heat_refresh_us, free_slots=0)


def test_tenth_of_the_capacity_a_quarter_degree_and_a_sign_are_news() -> None:
    board = Board()
    board.told(0)
    assert board.told(1, deficit_w=350.0)
    assert board.told(2, temperature_c=19.25)
    assert board.told(3, deficit_w=10.0)
    assert board.told(4, deficit_w=-10.0)
    board.heat.draining = True
    assert board.told(5)


def test_queue_that_doubled_is_news_but_not_every_moment() -> None:
    board = Board()
    board.told(0)
    long_us = 10 * LOCAL.batch_target_us
    assert not board.told(1, queue_us=long_us)
    assert board.told(LOCAL.sync_interval_us, queue_us=long_us)
    assert not board.told(2 * LOCAL.sync_interval_us, queue_us=long_us * 3 // 2)


def test_every_digest_has_a_higher_sequence() -> None:
    board = Board()
    seen = []
    for step in range(5):
        board.told(step * LOCAL.heat_repeat_us)
        assert board.digest is not None
        seen.append((board.digest.incarnation, board.digest.sequence))
    assert seen == [(7, number) for number in range(1, 6)]


def test_queue_beyond_what_a_digest_can_say_is_cut() -> None:
    board = Board()
    assert board.told(0, queue_us=UINT_MAX * 3)
    assert board.digest is not None and board.digest.queue_us == UINT_MAX


def test_coldest_by_share_of_capacity_comes_first() -> None:
    board = Board()
    board.peer(A, deficit_w=400, capacity_w=2_000)
    board.peer(B, deficit_w=300, capacity_w=400)
    board.peer(C, deficit_w=100, capacity_w=200)
    assert [digest.node for digest in board.heat.coldest()] == [B.node_id, C.node_id, A.node_id]
    assert [digest.node for digest in board.heat.coldest(exclude=B.node_id)] == [C.node_id, A.node_id]


def test_warm_busy_and_leaving_peers_get_nothing() -> None:
    board = Board()
    board.peer(A, deficit_w=-5)
    board.peer(B, free_slots=0)
    board.peer(C, draining=True)
    assert board.heat.coldest() == [] and len(board.heat.peers()) == 3
