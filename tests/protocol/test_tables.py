"""Tables: rows spread, meet, expire, and strangers' rows do no harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.protocol.cells import place_of, shared_bits
from hearthmesh.protocol.config import LAN, SECOND, ProtocolConfig
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.effects import Limited, Penalise, Reason, Send, SetTimer
from hearthmesh.protocol.fingerprints import bucket_of
from hearthmesh.protocol.limits import Limit
from hearthmesh.protocol.messages import TableRows, TableSync, TableVersion
from hearthmesh.protocol.records import (
    Cancellation,
    HeatDigest,
    JobDigest,
    MemberRecord,
    Record,
    RecordKind,
    sign_record,
)
from hearthmesh.protocol.tables import SYNCS_BURST, TURNS, Tables, row_key, wire_key
from tests.protocol.arena import Arena, Node, arena_of, context, identity

ALICE, BOB, CAROL = (identity(number).node_id for number in (1, 2, 3))
JOB = bytes(range(32))


def heat(number: int, sequence: int = 1, incarnation: int = 1, about: int | None = None) -> Record:
    """Of `number`, signed by it, or about another."""
    node = identity(number if about is None else about).node_id
    body = HeatDigest(node, incarnation, sequence, 100, 500, 1, 0, "room", 20_000)
    return sign_record(identity(number), RecordKind.HEAT, body)


def member(number: int, sequence: int = 1, incarnation: int = 1) -> Record:
    node = identity(number).node_id
    body = MemberRecord(
        node=node,
        incarnation=incarnation,
        sequence=sequence,
        roles=7,
        name=f"n{number}",
        addresses=(),
        relays=(),
        zone="",
        year_round=False,
        since_s=0,
        cores=1,
    )
    return sign_record(identity(number), RecordKind.MEMBER, body)


def job(number: int, job_id: bytes = JOB, sequence: int = 1) -> Record:
    node = identity(number).node_id
    body = JobDigest(job_id, node, 1, sequence, 10, 1000, "wasm", "", 5, False)
    return sign_record(identity(number), RecordKind.JOB_DIGEST, body)


def table(config: ProtocolConfig = LAN, number: int = 1) -> tuple[Tables, Context, list[Record]]:
    """Started, with Bob and Carol connected, and nothing waiting to be sent."""
    ctx, news = context(number, config), list[Record]()
    tables = Tables(ctx, lambda record, now_us: news.append(record))
    tables.start(0)
    for peer in (BOB, CAROL):
        if peer != ctx.node_id:
            tables.peer_connected(peer, 0)
    ctx.take_effects()
    return tables, ctx, news


def test_a_row_that_only_the_clock_refuses_is_looked_at_again_soon_and_a_later_one_at_once() -> None:
    ctx, looked = context(1, LAN), list[Record]()
    clock_is_right = False

    def admits(record: Record, _now_us: int) -> bool | None:
        looked.append(record)
        return True if clock_is_right or record.body.sequence == 9 else None

    tables = Tables(ctx, lambda _record, _now_us: None, admits)
    tables.start(0)
    row, wire = member(2, sequence=3), wire_key(RecordKind.MEMBER, BOB)
    soon_us = LAN.untimely_retry_us - 1
    assert tables.merge(row.raw, CAROL, 0) and len(looked) == 1
    assert not tables.lacks(wire, (1, 3), soon_us) and tables.lacks(wire, (1, 4), soon_us)
    assert tables.merge(row.raw, CAROL, soon_us) and len(looked) == 1
    assert tables.merge(member(2, sequence=4).raw, CAROL, soon_us) and len(looked) == 2
    assert not tables.lacks(wire, (1, 4), 2 * soon_us) and tables.lacks(wire, (1, 4), 2 * soon_us + 1)
    clock_is_right = True
    assert tables.merge(row.raw, CAROL, 2 * soon_us + 1)
    assert [each.body.sequence for each in tables.rows(RecordKind.MEMBER)] == [3]
    assert not [each for each in ctx.take_effects() if isinstance(each, Penalise)]


def test_what_the_clock_refused_stands_in_no_later_row_s_way_and_takes_bounded_room() -> None:
    config = replace(LAN, table_entries_max=4)
    ctx = context(1, config)
    tables = Tables(ctx, lambda _record, _now_us: None, lambda record, _now_us: record.body.sequence == 9 or None)
    for number in range(2, 12):
        tables.merge(member(number).raw, CAROL, 0)
    ids = [identity(number).node_id for number in range(2, 12)]
    refused = [not tables.lacks(wire_key(RecordKind.MEMBER, node), (1, 1), 1) for node in ids]
    assert refused == [False] * 6 + [True] * 4
    tables.merge(member(11, sequence=9).raw, CAROL, 1)
    assert [each.author for each in tables.rows(RecordKind.MEMBER)] == [ids[-1]]


def everything(tables: Tables) -> list[bytes]:
    kinds = (RecordKind.MEMBER, RecordKind.HEAT, RecordKind.JOB_DIGEST)
    return [record.raw for kind in kinds for record in tables.rows(kind)]


def all_equal(arena: Arena) -> Callable[[], bool]:
    def condition() -> bool:
        first, *others = [everything(node.tables) for node in arena.nodes.values()]
        return all(other == first for other in others)

    return condition


def publish(arena: Arena, node: Node, record: Record, urgent: bool = False) -> None:
    node.tables.publish(record, arena.now_us, urgent)
    arena.perform(node)


# -- spreading ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.sampled_from("hmj")), max_size=25),
    st.integers(0, 1_000),
)
def test_tables_that_can_talk_reach_equal_rows(count: int, rows: list[tuple[int, int, str]], seed: int) -> None:
    arena = arena_of(count, LAN, seed)
    nodes = list(arena.nodes.values())
    arena.start_tables()
    arena.run_for(SECOND)
    kinds = {"h": heat, "m": member, "j": lambda number, sequence: job(number, JOB, sequence)}
    newest: dict[bytes, Record] = {}
    for number, sequence, kind in sorted(rows, key=lambda row: row[1]):
        if number <= count:
            record = kinds[kind](number, sequence)
            newest[wire_key(record.kind, row_key(record))] = record
            publish(arena, nodes[number - 1], record)
    assert arena.run_until(all_equal(arena), 40 * SECOND)
    assert sorted(everything(nodes[0].tables)) == sorted(record.raw for record in newest.values())
    assert all(node.penalties == [] for node in nodes)


@settings(max_examples=40, deadline=None)
@given(st.permutations([heat(2, 1), heat(2, 2), heat(2, 3, 0), heat(3, 1), member(2), member(2, 9), job(3)]))
def test_rows_merge_alike_in_any_order(rows: list[Record]) -> None:
    tables, _, news = table()
    for record in rows:
        assert tables.merge(record.raw, BOB, 0)
    expected = [member(2, 9), heat(2, 2), heat(3, 1), job(3)]
    assert sorted(everything(tables)) == sorted(record.raw for record in expected)
    assert tables.get(RecordKind.HEAT, BOB) == heat(2, 2)
    assert tables.get(RecordKind.JOB_DIGEST, CAROL + JOB) == job(3)
    assert {record.id for record in expected} <= {record.id for record in news}


def test_new_peer_gets_everything_at_once() -> None:
    arena = arena_of(3, LAN)
    for node in arena.nodes.values():
        publish(arena, node, member(node.number))
        publish(arena, node, heat(node.number))
    arena.start_tables()
    assert arena.run_until(all_equal(arena), SECOND // 10)
    assert len(everything(list(arena.nodes.values())[0].tables)) == 6


def test_urgent_row_is_pushed_at_once_and_not_passed_on_at_once() -> None:
    arena = arena_of(8, LAN)
    arena.start_tables()
    arena.run_for(20 * SECOND)
    arena.sent.clear()
    nodes = list(arena.nodes.values())
    publish(arena, nodes[0], heat(1), urgent=True)
    assert dict(arena.sent) == {"TableRows": 4}
    arena.run_for(SECOND // 100)
    have = [node for node in nodes if node.tables.get(RecordKind.HEAT, nodes[0].id)]
    assert len(have) == 5
    assert arena.run_until(all_equal(arena), 10 * SECOND)


def test_idle_tables_say_almost_nothing() -> None:
    arena = arena_of(8, LAN)
    arena.start_tables()
    for node in arena.nodes.values():
        publish(arena, node, member(node.number))
    arena.run_for(120 * SECOND)
    arena.sent.clear()
    arena.run_for(240 * SECOND)
    # One exchange in ten a node, in case something was lost, and they are eight intervals apart.
    assert dict(arena.sent) == {"TableSync": 24, "TableRows": 24}


def test_tables_at_rest_tell_news_within_an_interval_and_what_is_only_repeated_later() -> None:
    tables, ctx, _ = table()
    tables.start(0)
    tables.publish(heat(1, 1), 0, False)
    now_us = 0
    for _ in range(10):
        now_us = due(ctx)
        tables.on_timer(("sync", b""), now_us)
    assert tables.rests and due(ctx) == now_us + LAN.rest_factor * LAN.sync_interval_us
    tables.merge(heat(2).raw, CAROL, now_us)
    at_us = due(ctx)
    assert now_us < at_us <= now_us + LAN.sync_interval_us
    for _ in range(10):
        tables.on_timer(("sync", b""), at_us)
        at_us = due(ctx)
    tables.publish(heat(1, 2), now_us, False)
    tables.merge(heat(2, 2).raw, CAROL, now_us)
    assert tables.rests and not [effect for effect in ctx.take_effects() if isinstance(effect, SetTimer)]
    tables.wake(now_us)
    assert due(ctx) <= now_us + LAN.sync_interval_us and not tables.rests
    tables.stop(now_us)
    ctx.take_effects()
    tables.hurry(now_us)
    assert ctx.take_effects() == []


def test_at_rest_a_silent_new_peer_keeps_the_next_ones_waiting_for_two_intervals_each_at_most() -> None:
    [me, silent, *others] = sorted(range(1, 8), key=lambda number: identity(number).node_id)
    ctx = context(me, LAN)
    tables = Tables(ctx, lambda record, now_us: None)
    tables.start(0)
    now_us = 0
    for _ in range(10):
        now_us = due(ctx)
        tables.on_timer(("sync", b""), now_us)
    assert tables.rests
    at_us = due(ctx)
    came_us = now_us = now_us + 10_000
    for number in (silent, *others):
        tables.peer_connected(identity(number).node_id, now_us)
    compared: dict[bytes, int] = {}
    while len(compared) < 1 + len(others):
        effects = ctx.take_effects()
        asked = [each.peer for each in effects if isinstance(each, Send) and isinstance(each.message, TableSync)]
        compared.update((peer, now_us) for peer in asked if peer not in compared)
        at_us = next((each.at_us for each in reversed(effects) if isinstance(each, SetTimer)), at_us)
        if len(compared) < 1 + len(others):
            now_us = at_us
            tables.on_timer(("sync", b""), now_us)
    assert now_us - came_us <= 2 * LAN.sync_interval_us * len(others)


def due(ctx: Context) -> int:
    """When the next exchange is, by the last timer that was set."""
    [*_, at_us] = [effect.at_us for effect in ctx.take_effects() if isinstance(effect, SetTimer)]
    return at_us


def test_one_change_is_not_echoed() -> None:
    arena = arena_of(8, LAN)
    arena.start_tables()
    arena.run_for(30 * SECOND)
    arena.sent.clear()
    publish(arena, list(arena.nodes.values())[0], member(1))
    arena.run_for(30 * SECOND)
    news = [len(node.news) for node in arena.nodes.values()]
    assert news == [0] + [1] * 7
    # 8 nodes have 28 pairs; each exchanges at most a few times before both know that the other knows.
    assert arena.sent["TableSync"] <= 24 + 2 * 28


# -- time ---------------------------------------------------------------------------------------------------


def test_digests_that_nobody_renews_expire_everywhere_and_stay_gone() -> None:
    arena = arena_of(5, LAN)
    arena.start_tables()
    nodes = list(arena.nodes.values())
    for node in nodes:
        publish(arena, node, member(node.number))
        publish(arena, node, heat(node.number))
    assert arena.run_until(all_equal(arena), 20 * SECOND)
    arena.run_for(2 * LAN.heat_ttl_us)
    assert [len(node.tables.rows(RecordKind.HEAT)) for node in nodes] == [0] * 5
    assert [len(node.tables.rows(RecordKind.MEMBER)) for node in nodes] == [5] * 5
    assert [len(node.news) for node in nodes] == [8] * 5, "an expired row came back"


def test_rows_of_a_node_that_is_gone_return_only_with_its_next_life() -> None:
    tables, _, _ = table()
    for record in (member(2), heat(2), member(3)):
        tables.merge(record.raw, CAROL, 0)
    tables.forget_node(BOB)
    assert everything(tables) == [member(3).raw]
    tables.merge(member(2).raw, CAROL, 0)
    assert everything(tables) == [member(3).raw]
    tables.merge(member(2, 1, incarnation=2).raw, CAROL, 0)
    assert tables.get(RecordKind.MEMBER, BOB) == member(2, 1, incarnation=2)


def test_own_rows_are_neither_forgotten_nor_overwritten() -> None:
    tables, _, news = table()
    tables.publish(heat(1, 5), 0, False)
    assert tables.merge(heat(1, 6).raw, BOB, 0)
    tables.forget_node(ALICE)
    assert everything(tables) == [heat(1, 5).raw] and news == []


# -- strangers ----------------------------------------------------------------------------------------------


def _forged() -> bytes:
    raw = bytearray(heat(2).raw)
    raw[-1] ^= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\xc1" * 40, Reason.MALFORMED),
        (b"\x94" * 4000, Reason.MALFORMED),
        (b"x" * 20_000, Reason.TOO_BIG),
        (_forged(), Reason.BAD_SIGNATURE),
        (heat(2, about=3).raw, Reason.WRONG_AUTHOR),
        (sign_record(identity(2), RecordKind.CANCELLATION, Cancellation(JOB)).raw, Reason.MALFORMED),
    ],
)
def test_bad_row_is_refused_and_its_bringer_penalised(raw: bytes, reason: Reason) -> None:
    tables, ctx, news = table()
    assert not tables.merge(raw, BOB, 0)
    assert [each for each in ctx.take_effects() if not isinstance(each, Limited)] == [Penalise(BOB, reason)]
    assert everything(tables) == [] and news == []


def test_rows_after_a_bad_one_are_not_looked_at() -> None:
    tables, ctx, news = table()
    tables.on_message(BOB, TableRows(0, False, (heat(2).raw, heat(3, about=2).raw, heat(3).raw), (), (), ()), 0)
    assert ctx.take_effects() == [Penalise(BOB, Reason.WRONG_AUTHOR)]
    assert news == [heat(2)]


def test_signature_of_a_version_that_is_known_is_not_checked_again() -> None:
    tables, ctx, news = table()
    assert tables.merge(heat(2).raw, BOB, 0)
    assert tables.merge(_forged(), BOB, 0)
    assert ctx.take_effects() == [] and news == [heat(2)]


def test_author_has_a_bounded_share_of_the_table() -> None:
    config = replace(LAN, table_entries_max=16)
    tables, _, _ = table(config)
    for number in range(20):
        assert tables.merge(job(2, bytes([number]) * 32).raw, BOB, 0)
    assert len(tables.rows(RecordKind.JOB_DIGEST)) == 4


def test_full_table_keeps_what_it_has_and_takes_from_who_has_most() -> None:
    config = replace(LAN, table_entries_max=8)
    tables, ctx, _ = table(config)
    tables.publish(heat(1), 0, False)
    for record in (member(2), job(2, bytes(32)), heat(3), heat(4), heat(5), heat(6), heat(7)):
        assert tables.merge(record.raw, BOB, 1)
    for number in range(10, 20):
        assert tables.merge(heat(number).raw, BOB, number)
    assert len(tables) == 8 and ctx.take_effects() == [], "no room, and nobody's fault"
    tables.merge(job(2, bytes([1]) * 32).raw, BOB, 30)
    assert len(tables.rows(RecordKind.JOB_DIGEST)) == 1, "a share of two rows an author"
    assert tables.get(RecordKind.HEAT, identity(7).node_id) == heat(7)
    crowd, _, _ = table(replace(LAN, table_entries_max=12))
    for record in (member(2), job(2, bytes(32)), job(2, bytes([1]) * 32), *map(heat, range(3, 12))):
        crowd.merge(record.raw, BOB, 1)
    crowd.merge(heat(20).raw, BOB, 2)
    assert crowd.get(RecordKind.HEAT, identity(20).node_id) == heat(20)
    assert crowd.rows(RecordKind.JOB_DIGEST) == [job(2, bytes([1]) * 32)], "the oldest of who has most went"
    assert crowd.rows(RecordKind.MEMBER) == [member(2)]


def test_own_rows_are_in_the_table_however_full_it_is() -> None:
    tables, _, _ = table(replace(LAN, table_entries_max=4))
    for number in range(10, 20):
        tables.merge(heat(number).raw, BOB, number)
    tables.publish(heat(1), 20, False)
    assert tables.get(RecordKind.HEAT, ALICE) == heat(1) and len(tables) == 4


def test_wanted_rows_are_given_only_in_an_exchange_and_so_often() -> None:
    tables, ctx, _ = table()
    tables.publish(heat(1), 0, False)
    wanted = (wire_key(RecordKind.HEAT, ALICE),)
    for answers in (True, False):
        tables.on_message(BOB, TableRows(999, answers, (), wanted, (), ()), 0)
    assert ctx.take_effects() == []
    tables.peer_connected(BOB, SECOND)
    [sync] = ctx.take_effects()
    assert isinstance(sync, Send) and isinstance(sync.message, TableSync)
    request = sync.message.request
    for _ in range(TURNS):
        tables.on_message(BOB, TableRows(request, True, (), wanted, (), ()), 0)
        answered = Send(BOB, TableRows(request, False, (heat(1).raw,), (), (), ()))
        assert [each for each in ctx.take_effects() if isinstance(each, Send) and each.peer == BOB] == [answered]
    tables.on_message(BOB, TableRows(request, True, (), wanted, (), ()), 0)
    assert ctx.take_effects() == []


def test_newcomer_compares_with_one_peer_after_the_other_and_gets_each_row_once() -> None:
    arena = arena_of(12, LAN)
    *old, newcomer = arena.nodes.values()
    for node in old:
        for other in old:
            if other is not node:
                node.tables.merge(member(other.number).raw, other.id, 0)
        publish(arena, node, member(node.number))
    arena.start_tables()
    got = Counter[bytes]()
    merge = newcomer.tables.merge

    def count(raw: bytes, from_peer: bytes, now_us: int) -> bool:
        got[raw] += 1
        return merge(raw, from_peer, now_us)

    newcomer.tables.merge = count  # type: ignore[method-assign]
    assert arena.run_until(lambda: len(newcomer.tables) == len(old), SECOND)
    assert set(got.values()) == {1}


def test_news_is_answered_with_what_is_newer_and_what_is_lacking() -> None:
    tables, ctx, _ = table()
    for record in (heat(2, 3), heat(3, 3), member(3)):
        tables.merge(record.raw, CAROL, 0)
    keys = {number: wire_key(RecordKind.HEAT, identity(number).node_id) for number in (1, 2, 3, 4)}
    versions = (
        TableVersion(keys[1], (9, 9)),
        TableVersion(keys[2], (1, 2)),
        TableVersion(keys[3], (1, 4)),
        TableVersion(keys[4], (1, 1)),
    )
    tables.on_message(BOB, TableSync(5, 0, 0, (), versions), 0)
    answer = TableRows(5, True, (heat(2, 3).raw,), (keys[1], keys[3], keys[4]), (), ())
    assert ctx.take_effects() == [Send(BOB, answer)]


def test_parts_that_differ_are_listed_and_no_others() -> None:
    tables, ctx, _ = table()
    for number in range(2, 30):
        tables.merge(heat(number).raw, CAROL, 0)
    sums = tables.fingerprints((0, 0), 8)
    sums[3] ^= 1
    tables.on_message(BOB, TableSync(5, 0, 0, tuple(part.to_bytes(8, "big") for part in sums), ()), 0)
    [answer] = ctx.take_effects()
    assert isinstance(answer, Send) and isinstance(answer.message, TableRows)
    listed = sorted(version.key for version in answer.message.versions)
    keys = [wire_key(RecordKind.HEAT, identity(number).node_id) for number in range(2, 30)]
    assert answer.message.differing == (3,) and answer.message.rows == ()
    assert listed == sorted(key for key in keys if bucket_of(key, 8) == 3)


def test_number_of_parts_that_is_no_power_of_two_is_a_fault() -> None:
    tables, ctx, _ = table()
    tables.on_message(BOB, TableSync(5, 0, 0, (bytes(8),) * 3, ()), 0)
    assert ctx.take_effects() == [Penalise(BOB, Reason.MALFORMED)]


# -- cost ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 120), st.booleans())
def test_two_tables_become_equal_at_a_cost_that_goes_with_the_difference(
    here: int, there: int, common: int, linked_before: bool
) -> None:
    arena = arena_of(2, LAN)
    one, other = arena.nodes.values()
    shared = [heat(number) for number in range(200, 200 + common)]
    mine = [heat(number) for number in range(10, 10 + here)]
    yours = [heat(number) for number in range(100, 100 + there)]
    for node in (one, other):
        for record in shared:
            node.tables.merge(record.raw, CAROL, 0)
    if linked_before:
        arena.start_tables()
        arena.run_for(20 * SECOND)
    arena.sent_bytes = 0
    for node, records in ((one, mine), (other, yours)):
        for record in records:
            node.tables.merge(record.raw, CAROL, arena.now_us)
        arena.perform(node)
    if not linked_before:
        arena.start_tables()
    assert arena.run_until(all_equal(arena), 3 * SECOND)
    row_bytes = len(heat(10).raw) + 60
    # Two fingerprints of all parts each way, then what differs with its neighbours in the same part.
    assert arena.sent_bytes <= 2 * 64 * 10 + 500 + (here + there) * (2 * row_bytes + 4 * 2 * 30)
    assert one.penalties == other.penalties == []


def test_rows_that_do_not_fit_are_not_sent_again_and_again() -> None:
    arena = arena_of(4, replace(LAN, table_entries_max=20))
    nodes = list(arena.nodes.values())
    for at, node in enumerate(nodes):
        for number in range(10 + 15 * at, 25 + 15 * at):
            node.tables.merge(heat(number).raw, CAROL, 0)
    arena.start_tables()
    arena.run_for(20 * SECOND)
    arena.sent_bytes = 0
    arena.run_for(20 * SECOND)
    assert arena.sent_bytes < 20 * 4 * 300, "some keys a second, no rows"
    assert all(node.penalties == [] for node in nodes)
    assert [len(node.tables) for node in nodes] == [20] * 4


def test_peer_that_syncs_all_the_time_is_penalised() -> None:
    tables, ctx, _ = table()
    for request in range(SYNCS_BURST):
        tables.on_message(BOB, TableSync(request, 0, 0, (), ()), 0)
    assert [type(each) for each in ctx.take_effects()] == [Send] * SYNCS_BURST
    tables.on_message(BOB, TableSync(99, 0, 0, (), ()), 0)
    assert ctx.take_effects() == [Limited(Limit.TABLE_SYNCS, BOB), Penalise(BOB, Reason.TOO_MANY)]
    tables.on_message(BOB, TableSync(100, 0, 0, (), ()), SECOND)
    assert [type(each) for each in ctx.take_effects()] == [Send]


def test_one_message_carries_a_bounded_answer_and_the_rest_follows() -> None:
    arena = arena_of(2, replace(LAN, table_entries_max=2048))
    nodes = list(arena.nodes.values())
    for number in range(10, 1400):
        nodes[0].tables.merge(heat(number).raw, nodes[1].id, 0)
    arena.start_tables()
    assert arena.run_until(all_equal(arena), 10 * SECOND)
    assert nodes[1].penalties == []


def test_messages_of_peers_without_link_are_ignored() -> None:
    tables, ctx, news = table()
    tables.peer_lost(BOB, 0)
    ctx.take_effects()
    tables.on_message(BOB, TableSync(1, 0, 0, (), ()), 0)
    tables.on_message(BOB, TableRows(0, False, (heat(2).raw,), (), (), ()), 0)
    assert ctx.take_effects() == [] and news == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 40), st.integers(1, 3), st.booleans()), max_size=60),
    st.integers(0, 3),
    st.sampled_from([1, 2, 8, 64, 128]),
)
def test_sums_that_are_kept_are_those_that_a_look_at_each_row_gives(
    steps: list[tuple[int, int, bool]], depth: int, buckets: int
) -> None:
    tables, _, _ = table()
    for number, sequence, gone in steps:
        if gone:
            tables.forget_node(identity(number).node_id)
        else:
            tables.merge(heat(number, sequence).raw, CAROL, 0)
    for place in (place_of(ALICE), place_of(BOB)):
        sums = [0] * buckets
        for wire, row in tables._rows.items():
            if shared_bits(row.facts.place, place) >= depth:
                sums[bucket_of(wire, buckets)] += row.facts.stamp
        assert tables.fingerprints((depth, place), buckets) == [part % (1 << 64) for part in sums]
    assert tables.rows(RecordKind.HEAT) == sorted((row.record for row in tables._rows.values()), key=row_key)
