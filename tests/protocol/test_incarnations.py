"""Under which incarnation a node lives: what others say moves it no further than any of its lives can have been."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.config import SECOND
from hearthmesh.protocol.effects import Penalise
from hearthmesh.protocol.events import Received
from hearthmesh.protocol.liveness import Status
from hearthmesh.protocol.membership import INCARNATION_SLACK
from hearthmesh.protocol.messages import Ack, MemberState, TableRows
from hearthmesh.protocol.records import UINT_MAX, HeatDigest, MemberRecord, RecordKind
from hearthmesh.protocol.roster import INCARNATION_MAX
from tests.protocol.arena import ADMITTED_UNTIL_S
from tests.protocol.cluster import ALL_ROLES, WALL_OFFSET_US, Cluster, SimNode, cold
from tests.protocol.members import ALICE, BOB, CAROL, alone, effects, ping

# Nobody whose clock shows this, or more, takes Alice for a member.
EXPIRED_US = (ADMITTED_UNTIL_S + 1) * SECOND
HOUR = 3600 * SECOND


# -- what a node believes of itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", [Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT])
@pytest.mark.parametrize("told", [EXPIRED_US, INCARNATION_MAX - 2, INCARNATION_MAX - 1, UINT_MAX])
def test_a_life_that_no_clock_of_a_member_has_seen_begin_is_not_outlived(state: Status, told: int) -> None:
    members = alone()
    for message in (ping(MemberState(ALICE, told, state)), Ack(1, 7, (MemberState(ALICE, told, state),))):
        members.on_message(BOB, message, SECOND)
    assert members.incarnation == 5 and members.refuted_count == 0 and members.health == 0
    # One whose certificate was for longer once may have been told so by an honest one.
    assert not any(isinstance(each, Penalise) for each in effects(members))


@pytest.mark.parametrize("told", [6, 5 + INCARNATION_SLACK, SECOND, 2 * SECOND, EXPIRED_US - 1])
def test_a_life_that_a_clock_of_some_member_may_have_seen_begin_is_outlived(told: int) -> None:
    """Also one that begins later than this node's clock shows: it may have been set back since, or be behind."""
    members = alone()
    members.on_message(BOB, ping(MemberState(ALICE, told, Status.DEAD)), SECOND)
    assert members.incarnation == told + 1 and members.refuted_count == 1


def test_after_the_worst_lies_each_doubt_is_still_refuted() -> None:
    members = alone()
    for lie in (INCARNATION_MAX - 2, EXPIRED_US - 1, EXPIRED_US + INCARNATION_SLACK, UINT_MAX):
        members.on_message(BOB, ping(MemberState(ALICE, lie, Status.DEAD)), SECOND)
    assert members.incarnation == EXPIRED_US + INCARNATION_SLACK + 1
    for _ in range(1_000):
        doubted = members.incarnation
        members.on_message(BOB, ping(MemberState(ALICE, doubted, Status.SUSPECT, BOB)), SECOND)
        assert members.incarnation == doubted + 1


def test_what_a_node_signed_in_another_life_is_outlived_however_late_unless_it_began_by_now() -> None:
    for signed, known in ((EXPIRED_US + HOUR, EXPIRED_US + HOUR + 1), (INCARNATION_MAX, 5), (SECOND, 5)):
        members = alone()
        members.lived(signed, SECOND)
        assert members.incarnation == known and members.refuted_count == 0


# -- what others believe of it --------------------------------------------------------------------------------


def test_hearsay_upon_hearsay_goes_no_further_than_one_alone() -> None:
    """Else some would come to doubt a life so late that the victim takes it for a lie."""
    members = alone(peers=(BOB,))
    members.learn(CAROL, 2 * SECOND, 0)
    for rise in range(INCARNATION_SLACK, 5 * INCARNATION_SLACK, INCARNATION_SLACK):
        members.on_message(BOB, ping(MemberState(CAROL, 2 * SECOND + rise, Status.ALIVE)), SECOND)
    assert members.incarnation_of(CAROL) == 2 * SECOND + INCARNATION_SLACK


@pytest.mark.parametrize("by_row", [True, False])
def test_its_own_word_moves_what_hearsay_may_say_of_it(by_row: bool) -> None:
    members = alone(peers=(BOB, CAROL))
    members.on_message(BOB, ping(MemberState(CAROL, 7 + INCARNATION_SLACK, Status.ALIVE)), 0)
    said = 3 + INCARNATION_SLACK
    if by_row:
        members.learn(CAROL, said, 0)
    else:
        members._probes.start(CAROL, 0)
        [request] = [each.message.request for each in effects(members) if getattr(each, "peer", b"") == CAROL]
        members.on_message(CAROL, Ack(request, said), 0)
    members.on_message(BOB, ping(MemberState(CAROL, said + INCARNATION_SLACK, Status.ALIVE)), 0)
    assert members.incarnation_of(CAROL) == said + INCARNATION_SLACK


# -- a life whose clock was set back --------------------------------------------------------------------------


def street(clock_us: int = 0) -> tuple[Cluster, list[SimNode], SimNode]:
    """Workers that know each other well, and one whose clock is so much later than right."""
    cluster = Cluster()
    others = cluster.workers(4)
    cluster.wall_offset_us += clock_us
    victim = cluster.add("victim", heat=cold())
    cluster.wall_offset_us = WALL_OFFSET_US
    cluster.run(20 * SECOND)
    return cluster, others, victim


def assert_known(others: list[SimNode], victim: SimNode) -> None:
    """As it is in this life, in all that it says."""
    incarnation = victim.mesh.members.incarnation
    for node in others:
        assert node.mesh.members.status(victim.id) is Status.ALIVE
        rows = [node.mesh.tables.get(kind, victim.id) for kind in (RecordKind.MEMBER, RecordKind.HEAT)]
        bodies: list[MemberRecord | HeatDigest] = [row.body for row in rows if row is not None]
        assert [body.incarnation for body in bodies] == [incarnation, incarnation]


def start_again(cluster: Cluster, victim: SimNode, away_us: int = 0) -> None:
    """With its clock put right."""
    cluster.kill(victim)
    cluster.run(away_us)
    cluster.restart(victim)
    cluster.feed(victim, cold())
    cluster.run(20 * SECOND)


@pytest.mark.parametrize("clock_us", [HOUR, 300 * 86_400 * SECOND])
@pytest.mark.parametrize("away_us", [0, SECOND // 10, 60 * SECOND])
def test_who_starts_again_with_its_clock_set_back_is_known_as_it_is_now(away_us: int, clock_us: int) -> None:
    cluster, others, victim = street(clock_us)
    before = victim.mesh.members.incarnation
    start_again(cluster, victim, away_us)
    assert victim.mesh.members.incarnation > before
    assert_known(others, victim)


@pytest.mark.parametrize("put_right", [False, True])
@pytest.mark.parametrize("away_us", [0, SECOND, 60 * SECOND])
def test_who_starts_with_its_clock_behind_is_known_as_it_is_now(away_us: int, put_right: bool) -> None:
    """Also if nobody saw it go. put_right: before it has said anything, as of a machine whose clock forgets."""
    cluster, others, victim = street()
    before = victim.mesh.members.incarnation
    cluster.kill(victim, links_reset=False)
    cluster.run(away_us)
    cluster.wall_offset_us = WALL_OFFSET_US - HOUR
    cluster.restart(victim, put_right=put_right)
    cluster.feed(victim, cold())
    cluster.run(20 * SECOND)
    assert victim.mesh.members.incarnation > before
    assert_known(others, victim)


@pytest.mark.parametrize("lie", [INCARNATION_MAX - 2, WALL_OFFSET_US + 300 * 86_400 * SECOND, "last"])
def test_who_was_told_lies_of_itself_is_known_in_its_next_life(lie: int | str) -> None:
    cluster, others, victim = street()
    liar = cluster.add("liar", ALL_ROLES)
    cluster.run(2 * SECOND)
    told = victim.mesh.ctx.admitted_until_us() - 1 if lie == "last" else int(lie)
    for number in range(100):
        cluster.feed(victim, Received(liar.id, ping(MemberState(victim.id, told + number, Status.DEAD))))
    cluster.run(5 * SECOND)
    assert victim.mesh.members.incarnation < INCARNATION_MAX // 2
    assert_known(others, victim)
    cluster.kill(liar)
    start_again(cluster, victim)
    assert_known(others, victim)


def test_two_processes_of_one_client_do_not_outbid_each_other() -> None:
    """What another one signed that began later, and by now, is none of this one's former lives."""
    cluster, others, victim = street()
    row = victim.mesh.tables.get(RecordKind.MEMBER, victim.id)
    assert row is not None
    twin = Cluster()
    twin.now_us = cluster.now_us + 10 * SECOND
    newer = twin.add(victim.name).mesh.tables.get(RecordKind.MEMBER, victim.id)
    cluster.run(20 * SECOND)
    assert newer is not None and newer.body.incarnation > row.body.incarnation
    alive = MemberState(victim.id, newer.body.incarnation, Status.ALIVE)
    for message in (TableRows(0, False, (newer.raw,), (), (), ()), ping(alive)):
        cluster.feed(victim, Received(others[0].id, message))
    assert victim.mesh.members.incarnation == row.body.incarnation


def test_of_two_processes_of_one_client_whose_clock_was_put_right_the_later_comes_after_once() -> None:
    cluster, others, early = street()
    twin = Cluster()
    twin.now_us = cluster.now_us
    twin.workers(1)
    twin.wall_offset_us -= HOUR
    late = twin.add(early.name)
    late.mesh.ctx.wall_offset_us = WALL_OFFSET_US
    right_us = twin.now_us + WALL_OFFSET_US
    # Since then the former's clock has been put right as well, by a little.
    early.mesh.ctx.wall_offset_us += SECOND
    for _ in range(3):
        for world, node, other in ((twin, late, early), (cluster, early, late)):
            row = other.mesh.tables.get(RecordKind.MEMBER, early.id)
            assert row is not None
            world.feed(node, Received(others[0].id, TableRows(0, False, (row.raw,), (), (), ())))
    assert early.mesh.members.incarnation < late.mesh.members.incarnation == right_us


def test_nobody_else_can_sign_for_a_former_life() -> None:
    cluster, others, victim = street()
    before = victim.mesh.members.incarnation
    row = victim.mesh.tables.get(RecordKind.MEMBER, victim.id)
    assert row is not None
    twin = Cluster()
    twin.wall_offset_us += HOUR
    later = twin.add(victim.name).mesh.tables.get(RecordKind.MEMBER, victim.id)
    assert later is not None
    forged = later.raw[:-1] + bytes([later.raw[-1] ^ 1])
    cluster.feed(victim, Received(others[0].id, TableRows(0, False, (forged,), (), (), ())))
    assert victim.mesh.members.incarnation == before and victim.penalties
    cluster.feed(victim, Received(others[0].id, TableRows(0, False, (later.raw,), (), (), ())))
    assert victim.mesh.members.incarnation == later.body.incarnation + 1
