"""Membership: who is declared dead, how soon, and who must not be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.protocol.config import LAN, LOCAL, PRESETS, SECOND, ProtocolConfig
from hearthmesh.protocol.effects import CancelTimer, Connect, Send, SetTimer
from hearthmesh.protocol.liveness import (
    TRANSITIONS,
    Finding,
    Member,
    Status,
    choose_view,
    suspicion_timeout_us,
)
from hearthmesh.protocol.membership import INCARNATION_MAX, INCARNATION_SLACK, SPOKE_US, Membership
from hearthmesh.protocol.messages import Ack, IndirectAck, Leaving, MemberState, Ping, PingRequest
from hearthmesh.protocol.rumours import RUMOURS_PER_MESSAGE, Rumours
from tests.docs_diagrams import documented_diagram, render_table
from tests.protocol.arena import ADMITTED_UNTIL_S, KEEPALIVE_LEAST_US, KEEPALIVE_MOST_US, arena_of, context, identity
from tests.protocol.members import ALICE, BOB, CAROL, DAVE, alone, blamed, effects, everywhere, ping, pinged


def test_who_has_just_spoken_is_not_probed_unless_there_is_something_to_tell() -> None:
    members = alone(peers=(BOB,))
    interval_us = LAN.probe_interval_us
    probe = ("probe", b"")
    members.heard(BOB, 2 * interval_us - 1)
    members.on_timer(probe, 2 * interval_us)
    assert pinged(members) == []
    members.on_timer(probe, 4 * interval_us)
    assert pinged(members) == [BOB]
    members = alone(peers=(BOB,))
    members._rumours.add(MemberState(CAROL, 1, int(Status.DEAD)))
    members.heard(BOB, 2 * interval_us - 1)
    members.on_timer(probe, 2 * interval_us)
    assert pinged(members) == [BOB]


# -- stories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "told_intervals"), [(2, 0), (3, 0), (8, 0), (17, 0), (20, 1)])
def test_killed_process_is_dead_everywhere_after_the_shortest_suspicion(count: int, told_intervals: int) -> None:
    """told_intervals: until those have heard of it who did not watch it; a view is of 16."""
    for config in (LOCAL, LAN):
        arena = arena_of(count, config)
        arena.start_members()
        arena.run_for(10 * SECOND)
        victim = list(arena.nodes.values())[1]
        arena.kill(victim)
        within_us = config.suspicion_min_us + SECOND // 10 + told_intervals * config.probe_interval_us
        assert arena.run_until(lambda: everywhere(arena, victim, Status.DEAD), within_us)  # noqa: B023
        assert blamed(arena, victim) == []


@pytest.mark.parametrize("seed", range(4))
def test_frozen_process_is_dead_within_ten_intervals_of_the_keepalive_and_alive_again_after_its_thaw(seed: int) -> None:
    arena = arena_of(8, LOCAL, seed)
    arena.start_members()
    arena.run_for(10 * SECOND)
    victim = list(arena.nodes.values())[3]
    arena.freeze(victim)
    within_us = KEEPALIVE_MOST_US + 10 * LOCAL.probe_interval_us
    assert arena.run_until(lambda: everywhere(arena, victim, Status.DEAD), within_us)
    arena.run_for(20 * SECOND)
    arena.thaw(victim)
    assert arena.run_until(lambda: everywhere(arena, victim, Status.ALIVE), 2 * SECOND)
    assert blamed(arena, victim) == []
    assert Status.DEAD not in [status for _, status in victim.seen], "it blamed others for its sleep"
    assert victim.members.refuted_count > 0


def test_cut_between_two_is_bridged_by_the_others() -> None:
    arena = arena_of(6, LOCAL)
    arena.start_members()
    arena.run_for(5 * SECOND)
    one, other = list(arena.nodes.values())[:2]
    arena.partition([one], [other])
    arena.run_for(60 * SECOND)
    assert blamed(arena) == []
    assert one.members.status(other.id) is not Status.DEAD


def test_halves_of_a_partition_bury_each_other_and_meet_again() -> None:
    arena = arena_of(6, LOCAL)
    arena.start_members()
    arena.run_for(5 * SECOND)
    nodes = list(arena.nodes.values())
    arena.partition(nodes[:3], nodes[3:])
    arena.run_for(20 * SECOND)
    assert nodes[0].members.alive() == sorted(node.id for node in nodes[1:3])
    arena.heal()
    # The links are still up; a word over one of them, as a table's exchange, is enough to start.
    for node in nodes[:3]:
        for other in nodes[3:]:
            node.members.heard(other.id, arena.now_us)
            arena.perform(node)
    assert arena.run_until(lambda: all(everywhere(arena, node, Status.ALIVE) for node in nodes), 10 * SECOND)


def test_restarted_process_is_alive_under_its_new_incarnation() -> None:
    arena = arena_of(5, LOCAL)
    arena.start_members()
    arena.run_for(5 * SECOND)
    victim = list(arena.nodes.values())[0]
    arena.kill(victim)
    assert arena.run_until(lambda: everywhere(arena, victim, Status.DEAD), 5 * SECOND)
    again = arena.add(victim.number, incarnation=1_000_000)
    again.members.start(arena.now_us)
    for node in list(arena.nodes.values()):
        if node is not again:
            again.members.learn(node.id, node.members.incarnation, arena.now_us)
    arena.perform(again)
    assert arena.run_until(lambda: everywhere(arena, again, Status.ALIVE), 5 * SECOND)
    assert again.members.incarnation == 1_000_000, "nothing had to be refuted"


def test_leaver_is_left_everywhere_and_never_suspected() -> None:
    arena = arena_of(5, LOCAL)
    arena.start_members()
    arena.run_for(5 * SECOND)
    leaver = list(arena.nodes.values())[2]
    leaver.members.stop(arena.now_us)
    for peer in leaver.links:
        leaver.ctx.send(peer, Leaving(leaver.members.incarnation))
    arena.perform(leaver)
    arena.run_for(SECOND // 10)
    arena.kill(leaver)
    arena.run_for(10 * SECOND)
    assert everywhere(arena, leaver, Status.LEFT)
    seen = [change for node in arena.nodes.values() for change in node.seen]
    statuses = [status for subject, status in seen if subject == leaver.id]
    assert Status.SUSPECT not in statuses and Status.DEAD not in statuses


def test_idle_mesh_costs_one_ping_and_one_ack_a_node_in_eight_intervals() -> None:
    arena = arena_of(8, LAN)
    arena.start_members()
    arena.run_for(20 * SECOND)
    arena.sent.clear()
    arena.run_for(160 * SECOND)
    assert dict(arena.sent) == {"Ping": 160, "Ack": 160}


def test_node_at_rest_probes_within_an_interval_of_a_doubt() -> None:
    members = alone()
    for _ in range(8):
        members.on_timer(("probe", b""), members._next_probe_us)
        for peer in pinged(members):
            members.heard(peer, members._next_probe_us)
        members._probes.void()
    resting_us = members._next_probe_us
    now_us = resting_us - 5 * LAN.probe_interval_us
    effects(members)
    members.lost(BOB, True, now_us)
    due = [effect.at_us for effect in effects(members) if isinstance(effect, SetTimer) and effect.key[0] == "probe"]
    assert due and now_us < due[-1] <= now_us + LAN.probe_interval_us < resting_us


@pytest.mark.parametrize("seed", range(2))
def test_sixty_nodes_bury_five_killed_and_five_frozen_and_no_one_else(seed: int) -> None:
    arena = arena_of(60, LOCAL, seed)
    arena.start_members()
    arena.run_for(10 * SECOND)
    nodes = list(arena.nodes.values())
    guilty = nodes[5:15]
    for node in guilty[:5]:
        arena.kill(node)
    for node in guilty[5:]:
        arena.freeze(node)
    assert arena.run_until(lambda: all(everywhere(arena, node, Status.DEAD) for node in guilty), 15 * SECOND)
    assert blamed(arena, *guilty) == []


# -- evidence -----------------------------------------------------------------------------------------------


def test_reset_link_suspects_at_once_and_asks_directly_and_through_others() -> None:
    members = alone()
    members.lost(BOB, True, 1_000)
    sent = effects(members)
    due_us = 1_000 + LAN.suspicion_min_us
    assert SetTimer(("suspicion", BOB), due_us) in sent
    asked = [each for each in sent if isinstance(each, Send)]
    assert [(each.peer, type(each.message)) for each in asked if each.peer == BOB] == [(BOB, Ping)]
    helpers = sorted(each.peer for each in asked if isinstance(each.message, PingRequest))
    assert helpers == sorted([CAROL, DAVE])
    assert members.take_changes() == [(BOB, Status.SUSPECT)]
    members.on_timer(("suspicion", BOB), due_us)
    assert members.take_changes() == [(BOB, Status.DEAD)]


def test_link_that_ended_is_no_reason_for_suspicion_but_for_a_question() -> None:
    members = alone()
    members.lost(BOB, False, SPOKE_US)
    assert pinged(members) == [BOB] and members.take_changes() == []


def test_who_has_just_spoken_was_not_silent_when_its_link_ended_and_is_not_asked() -> None:
    members = alone()
    members.heard(BOB, 5 * SECOND)
    members.lost(BOB, False, 5 * SECOND + SPOKE_US - 1)
    assert effects(members) == [] and members.take_changes() == []
    assert SPOKE_US < KEEPALIVE_LEAST_US


def test_link_that_could_not_be_made_is_no_reason_to_ask_again() -> None:
    members = alone()
    members.unreachable(BOB, 1_000)
    assert effects(members) == [] and members.take_changes() == []


def test_any_message_clears_a_suspect_and_makes_it_refute() -> None:
    members = alone()
    members.lost(BOB, True, 1_000)
    members.connected(BOB, 2_000)
    assert members.take_changes() == [(BOB, Status.SUSPECT), (BOB, Status.ALIVE)]
    assert CancelTimer(("suspicion", BOB)) in effects(members)


def test_message_of_a_peer_whose_link_is_gone_is_no_sign_of_life() -> None:
    members = alone()
    members.lost(BOB, True, 1_000)
    members.take_changes()
    members.heard(BOB, 1_500)
    assert members.take_changes() == []
    assert members.status(BOB) is Status.SUSPECT


def test_heard_of_a_living_peer_has_no_effect_at_all() -> None:
    members = alone()
    members.heard(BOB, 1_000)
    assert effects(members) == [] and members.take_changes() == []


def test_dead_member_returns_with_a_higher_incarnation_only() -> None:
    members = alone()
    members.lost(BOB, True, 0)
    members.on_timer(("suspicion", BOB), LAN.suspicion_min_us)
    members.learn(BOB, 7, 4 * SECOND)
    assert members.status(BOB) is Status.DEAD
    members.learn(BOB, 8, 4 * SECOND)
    assert members.status(BOB) is Status.ALIVE


def test_clients_are_not_probed_and_their_links_may_break() -> None:
    members = alone(peers=())
    members.learn(BOB, 7, 0, serves=False)
    members.connected(BOB, 0)
    members.on_timer(("probe", b""), SECOND)
    members.lost(BOB, True, 2 * SECOND)
    assert [each for each in effects(members) if isinstance(each, Send)] == []
    assert members.take_changes() == [(BOB, Status.ALIVE)]
    members.on_timer(("probe", b""), LAN.dead_memory_us + 10 * SECOND)
    assert members.take_changes() == [(BOB, Status.LEFT)]
    assert members.status(BOB) is None


def test_who_concerns_this_node_is_probed_whatever_it_says_of_its_roles() -> None:
    members = alone(peers=())
    members.learn(BOB, 7, 0, serves=False)
    members.connected(BOB, 0)
    members.watch({BOB: None}, 0)
    members.learn(BOB, 7, 0, serves=False)
    assert members.view == [BOB] and members.circle.contacts == []
    members.on_timer(("probe", b""), 10 * SECOND)
    assert pinged(members) == [BOB]
    members.lost(BOB, True, 11 * SECOND)
    assert members.status(BOB) is Status.SUSPECT
    members.on_timer(("suspicion", BOB), 11 * SECOND + LAN.suspicion_min_us)
    assert members.status(BOB) is Status.DEAD
    members.watch({}, 20 * SECOND)
    assert members.view == []


def test_helper_says_no_before_its_asker_gives_up() -> None:
    members = alone()
    members.on_message(CAROL, PingRequest(77, BOB), 0)
    sent = effects(members)
    timers = [each for each in sent if isinstance(each, SetTimer)]
    assert len(timers) == 1 and timers[0].at_us < LAN.probe_timeout_us
    members.on_timer(timers[0].key, timers[0].at_us)
    assert Send(CAROL, IndirectAck(77, BOB, 0, False)) in effects(members)


def test_the_way_to_a_member_is_known_by_its_acks_and_smoothed() -> None:
    members = alone()
    assert members.rtt_us(BOB) == 0
    for number, answered_us in enumerate((8_000, 16_000)):
        begin_us = number * 10_000_000
        members.on_message(CAROL, PingRequest(number, BOB), begin_us)
        [sent] = [each for each in effects(members) if isinstance(each, Send) and isinstance(each.message, Ping)]
        members.on_message(BOB, Ack(sent.message.request, 9), begin_us + answered_us)
        effects(members)
    assert members.rtt_us(BOB) == 9_000 and members.rtt_us(CAROL) == 0


def test_helper_passes_the_ack_on() -> None:
    members = alone()
    members.on_message(CAROL, PingRequest(77, BOB), 0)
    [sent] = [each for each in effects(members) if isinstance(each, Send)]
    assert isinstance(sent.message, Ping)
    members.on_message(BOB, Ack(sent.message.request, 9), 1_000)
    assert Send(CAROL, IndirectAck(77, BOB, 9, True)) in effects(members)


def test_helper_asked_too_often_or_for_a_stranger_says_no_at_once() -> None:
    members = alone()
    members.on_message(CAROL, PingRequest(1, identity(99).node_id), 0)
    assert effects(members) == [Send(CAROL, IndirectAck(1, identity(99).node_id, 0, False))]
    for request in range(100):
        members.on_message(CAROL, PingRequest(request, BOB), 0)
    pings = [each for each in effects(members) if isinstance(each, Send) and isinstance(each.message, Ping)]
    assert len(pings) == 8


def test_node_that_overslept_blames_no_one() -> None:
    members = alone()
    members.lost(BOB, True, 0)
    members.take_changes()
    late_us = LAN.suspicion_min_us + 60 * SECOND
    members.on_timer(("suspicion", BOB), late_us)
    assert members.take_changes() == []
    assert members.health == 1
    assert SetTimer(("suspicion", BOB), late_us + LAN.suspicion_min_us) in effects(members)


# -- rumours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [Status.SUSPECT, Status.DEAD, Status.LEFT])
def test_rumour_of_ones_own_death_is_refuted(state: Status) -> None:
    members = alone()
    members.on_message(BOB, ping(MemberState(ALICE, 5, state)), 0)
    assert members.incarnation == 6 and members.refuted_count == 1
    [ack] = [each.message for each in effects(members) if isinstance(each, Send)]
    assert ack == Ack(1, 6, (MemberState(ALICE, 6, Status.ALIVE),))


def test_old_rumour_of_ones_own_death_needs_no_answer() -> None:
    members = alone()
    members.on_message(BOB, ping(MemberState(ALICE, 4, Status.DEAD)), 0)
    assert members.incarnation == 5 and members.refuted_count == 0


@pytest.mark.parametrize("state", [Status.SUSPECT, Status.DEAD, Status.LEFT])
def test_peer_that_just_spoke_is_asked_rather_than_doubted(state: Status) -> None:
    members = alone()
    rumour = MemberState(CAROL, 7, state)
    members.on_message(BOB, ping(rumour), 1_000)
    asked = [each.message for each in effects(members) if isinstance(each, Send) and each.peer == CAROL]
    assert [type(each) for each in asked] == [Ping] and rumour in asked[0].rumours  # type: ignore[union-attr]
    assert members.take_changes() == []


def test_death_of_a_silent_peer_is_looked_into_first() -> None:
    members = alone()
    members.on_message(BOB, ping(MemberState(CAROL, 7, Status.DEAD)), 10 * SECOND)
    assert members.take_changes() == [(CAROL, Status.SUSPECT)]
    assert Ping in [type(each.message) for each in effects(members) if isinstance(each, Send) and each.peer == CAROL]


def test_death_of_a_member_without_link_is_believed() -> None:
    members = alone(peers=(BOB,))
    members.learn(CAROL, 7, 0)
    members.take_changes()
    members.on_message(BOB, ping(MemberState(CAROL, 7, Status.DEAD)), SECOND)
    assert members.take_changes() == [(CAROL, Status.DEAD)]


def test_accusers_shorten_a_suspicion_once_each_and_only_if_they_are_members() -> None:
    suspect = identity(6).node_id
    members = alone(peers=(BOB, CAROL, DAVE, suspect, identity(7).node_id))
    deadlines = []
    for accuser in (b"", CAROL, CAROL, identity(99).node_id, DAVE):
        members.on_message(BOB, ping(MemberState(suspect, 7, Status.SUSPECT, accuser)), 10 * SECOND)
        timers = [each for each in effects(members) if isinstance(each, SetTimer)]
        deadlines += [each.at_us for each in timers if each.key == ("suspicion", suspect)]
    # From Bob himself, Carol, and Dave; Carol again and the stranger (as Bob) add nothing.
    assert len(deadlines) == 3 and deadlines == sorted(deadlines, reverse=True)


def test_rumours_of_strangers_and_of_far_incarnations_change_nothing() -> None:
    members = alone()
    stranger = identity(50).node_id
    far = 10 * SECOND + 1
    assert far > 7 + INCARNATION_SLACK
    for state in Status:
        rumours = (MemberState(stranger, 1, state), MemberState(CAROL, far, state))
        members.on_message(BOB, ping(*rumours), 10 * SECOND)
    assert members.status(stranger) is None
    assert members.take_changes() == []


def test_members_are_bounded_and_the_gone_make_room() -> None:
    config = ProtocolConfig(members_max=3)
    members = Membership(context(1, config), 1)
    members.start(0)
    for number in range(2, 10):
        members.learn(identity(number).node_id, 1, 0)
    assert len(members.alive()) == 3
    members.connected(BOB, 0)
    members.on_message(BOB, Leaving(1), 1_000)
    members.learn(identity(9).node_id, 1, 2_000)
    assert identity(9).node_id in members.alive() and members.status(BOB) is None


def test_rumour_is_told_a_bounded_number_of_times_least_told_first() -> None:
    rumours = Rumours()
    for number in range(1, 21):
        rumours.add(MemberState(identity(number).node_id, 1, Status.DEAD))
    told: dict[bytes, int] = {}
    while taken := rumours.take(8):
        assert len(taken) <= RUMOURS_PER_MESSAGE
        for state in taken:
            told[state.node] = told.get(state.node, 0) + 1
        assert max(told.values()) - min(told.values()) <= 1 or len(told) == 20
    assert list(told.values()) == [12] * 20


_nodes = st.sampled_from([ALICE, BOB, CAROL, DAVE, identity(50).node_id])
_incarnations = st.one_of(
    st.integers(0, 100),
    st.integers((ADMITTED_UNTIL_S + 1) * SECOND - 2, (ADMITTED_UNTIL_S + 1) * SECOND + 100),
    st.integers(INCARNATION_MAX - 2, (1 << 63) - 1),
)
_rumours = st.lists(
    st.builds(MemberState, _nodes, _incarnations, st.integers(0, 3), st.one_of(st.just(b""), _nodes)), max_size=5
).map(tuple)
_requests = st.integers(0, 30)
_messages = st.one_of(
    st.builds(Ping, _requests, _rumours),
    st.builds(Ack, _requests, _incarnations, _rumours),
    st.builds(PingRequest, _requests, _nodes, _rumours),
    st.builds(IndirectAck, _requests, _nodes, _incarnations, st.booleans()),
    st.builds(Leaving, _incarnations),
)
_steps = st.one_of(
    st.tuples(st.just("message"), st.sampled_from([BOB, CAROL]), _messages),
    st.tuples(st.sampled_from(["connected", "lost", "reset", "learn"]), _nodes, _incarnations),
    st.tuples(st.just("timers"), st.none(), st.integers(1, 3 * SECOND)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_steps, max_size=40))
def test_whatever_peers_say_the_table_stays_sound(steps: list[tuple[str, bytes, object]]) -> None:
    members = alone()
    now_us, timers, last = 0, {("probe", b""): SECOND}, 0
    for name, node, argument in steps:
        now_us += 1_000
        match name, argument:
            case "message", message:
                members.heard(node, now_us)
                members.on_message(node, message, now_us)  # type: ignore[arg-type]
            case "connected", _:
                members.connected(node, now_us)
            case "learn", int():
                members.learn(node, argument, now_us)
            case "timers", int():
                now_us += argument
                for key in [key for key, at_us in timers.items() if at_us <= now_us]:
                    timers.pop(key)
                    members.on_timer(key, now_us)
            case _:
                members.lost(node, name == "reset", now_us)
        for effect in effects(members):
            if isinstance(effect, SetTimer):
                timers[effect.key] = effect.at_us
            elif isinstance(effect, CancelTimer):
                timers.pop(effect.key, None)
        assert members.incarnation >= last, "an incarnation never falls"
        last = members.incarnation
        assert members.incarnation < INCARNATION_MAX // 2, "there is always a higher one"
        assert members.status(ALICE) is Status.ALIVE and ALICE not in members.alive()
        suspects = [n for n in members.alive() if members.status(n) is Status.SUSPECT]
        waiting = sorted(key[1] for key in timers if key[0] == "suspicion")
        assert waiting == suspects, "each suspect has a timer, and nobody else"
        assert ("probe", b"") in timers
        assert len(timers) <= 2 + 5 + 64 + 5


# -- formulas and view --------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(0, 20), st.sampled_from(list(PRESETS.values())))
def test_suspicion_lasts_within_its_bounds_and_never_longer_for_more_accusers(
    live: int, confirmations: int, config: ProtocolConfig
) -> None:
    timeout_us = suspicion_timeout_us(live, confirmations, config)
    assert config.suspicion_min_us <= timeout_us <= config.suspicion_max_us
    assert suspicion_timeout_us(live, confirmations + 1, config) <= timeout_us


def test_pair_waits_no_longer_than_it_must() -> None:
    assert suspicion_timeout_us(2, 0, LAN) == LAN.suspicion_min_us
    assert suspicion_timeout_us(8, 0, LAN) == LAN.suspicion_max_us
    with pytest.raises(ValueError):
        suspicion_timeout_us(0, 0, LAN)


def test_every_member_is_watched_by_half_a_view_of_others_at_least() -> None:
    count, size = 100, 16
    places = [identity(number).node_id for number in range(count)]
    watched = dict.fromkeys(places, 0)
    for here in places:
        others = [
            Member(node, 1, node, bytes(a ^ b for a, b in zip(node, here, strict=True)), 0)
            for node in places
            if node != here
        ]
        view = choose_view(others, here, size)
        assert len(view) == size == len({each.node for each in view})
        for member in view:
            watched[member.node] += 1
    assert min(watched.values()) >= size // 2


def test_view_asks_once_for_each_link_that_it_lacks() -> None:
    members = Membership(context(1, LAN), 1)
    members.start(0)
    for number in range(2, 60):
        members.learn(identity(number).node_id, 1, 0)
    members.on_timer(("probe", b""), SECOND)
    asked = [each.peer for each in effects(members) if isinstance(each, Connect)]
    assert len(asked) == len(set(asked))
    assert set(members.view) <= set(asked) and len(members.view) == LAN.active_view_max


# -- table --------------------------------------------------------------------------------------------------


def test_every_status_can_be_left_and_the_gone_return_only_renewed() -> None:
    assert {before for before, _ in TRANSITIONS} == set(Status)
    back = [key for key, after in TRANSITIONS.items() if after is Status.ALIVE]
    gone = [finding for before, finding in back if before in (Status.DEAD, Status.LEFT)]
    assert gone == [Finding.RENEWED, Finding.RENEWED]


def test_diagram_in_the_docs_is_the_table() -> None:
    assert documented_diagram("membership.md") == render_table(TRANSITIONS)
