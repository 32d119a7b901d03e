"""Who comes back after a death: its new life is heard of before the old one's death is declared, or soon after."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.config import LAN, SECOND
from hearthmesh.protocol.effects import CancelTimer, Send
from hearthmesh.protocol.liveness import Status
from hearthmesh.protocol.membership import INCARNATION_SLACK
from hearthmesh.protocol.messages import IndirectAck, MemberState, PingRequest
from tests.protocol.arena import arena_of
from tests.protocol.members import BOB, CAROL, DAVE, alone, effects, everywhere, ping

NOW_US = 10 * SECOND


@pytest.mark.parametrize("away_us", [SECOND, 20 * SECOND])
@pytest.mark.parametrize("seed", range(4))
def test_who_comes_back_is_known_in_its_new_life_within_seven_intervals(seed: int, away_us: int) -> None:
    """away_us: shorter than the shortest suspicion, and until all have buried it."""
    arena = arena_of(60, LAN, seed)
    arena.start_members()
    arena.run_for(10 * SECOND)
    victim = list(arena.nodes.values())[1]
    arena.kill(victim)
    arena.run_for(away_us)
    back = arena.add(victim.number, incarnation=arena.now_us)
    back.members.start(arena.now_us)
    others = [node for node in arena.nodes.values() if node is not back]
    for node in others:
        back.members.learn(node.id, node.members.incarnation, arena.now_us)
    back.members.fill_view()
    arena.perform(back)

    def known() -> bool:
        born = [node.members.incarnation_of(back.id) == back.members.incarnation for node in others]
        return all(born) and everywhere(arena, back, Status.ALIVE)

    assert arena.run_until(known, 7 * LAN.probe_interval_us)
    arena.run_for(30 * SECOND)
    assert known(), "the old life's death was taken for the new one's"


def test_hearsay_of_a_life_that_began_by_now_ends_the_suspicion_of_the_one_before() -> None:
    members = alone(peers=(BOB, DAVE))
    members.learn(CAROL, 7, 0)
    members.on_message(BOB, ping(MemberState(CAROL, 7, Status.SUSPECT, BOB)), NOW_US)
    members.take_changes()
    effects(members)
    members.on_message(BOB, ping(MemberState(CAROL, NOW_US, Status.ALIVE)), NOW_US)
    assert members.take_changes() == [(CAROL, Status.ALIVE)]
    assert CancelTimer(("suspicion", CAROL)) in effects(members)
    for old in (Status.SUSPECT, Status.DEAD):
        members.on_message(DAVE, ping(MemberState(CAROL, 7, old)), NOW_US)
    assert members.take_changes() == []


@pytest.mark.parametrize("state", [Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT])
def test_hearsay_of_a_life_that_is_still_to_begin_changes_nothing(state: Status) -> None:
    """Or the node itself, when it is started again, would come after it."""
    members = alone(peers=(BOB,))
    members.learn(CAROL, 7, 0)
    members.take_changes()
    members.on_message(BOB, ping(MemberState(CAROL, NOW_US + 1, state)), NOW_US)
    assert members.incarnation_of(CAROL) == 7 and members.take_changes() == []


def test_where_clocks_are_behind_an_incarnation_may_rise_a_little() -> None:
    members = alone(peers=(BOB,))
    members.learn(CAROL, 2 * NOW_US, 0)
    for rise, known in ((INCARNATION_SLACK + 1, 0), (INCARNATION_SLACK, INCARNATION_SLACK)):
        members.on_message(BOB, ping(MemberState(CAROL, 2 * NOW_US + rise, Status.ALIVE)), NOW_US)
        assert members.incarnation_of(CAROL) == 2 * NOW_US + known


def test_a_helper_may_tell_of_a_new_life() -> None:
    members = alone(peers=(BOB, DAVE))
    members.learn(CAROL, 7, 0)
    members.fill_view()
    members.unreachable(CAROL, 0)
    members._probes.start(CAROL, SECOND, at_once=True)
    sent = [each for each in effects(members) if isinstance(each, Send)]
    asked = next(each for each in sent if isinstance(each.message, PingRequest))
    members.on_message(asked.peer, IndirectAck(asked.message.request, CAROL, SECOND, True), SECOND)
    assert members.incarnation_of(CAROL) == SECOND


def test_of_whom_a_link_alone_is_known_hearsay_says_nothing() -> None:
    members = alone(peers=(BOB,))
    members.connected(CAROL, 0)
    members.take_changes()
    members.on_message(BOB, ping(MemberState(CAROL, NOW_US, Status.DEAD)), NOW_US)
    assert members.incarnation_of(CAROL) == 0 and members.take_changes() == []
