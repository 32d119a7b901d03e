"""Membership of nodes that are not here: replicas elsewhere, other cells, links for a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.protocol.config import LAN, PRESETS, SECOND
from hearthmesh.protocol.effects import Connect, Disconnect, Send
from hearthmesh.protocol.liveness import (
    Status,
)
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.messages import Ack, MemberState
from hearthmesh.protocol.view import FIRST_VIEW, FRESH_LINK_US, idle_link_us
from tests.protocol.arena import arena_of, context, identity
from tests.protocol.members import BOB, alone, effects, ping

# -- the unknown --------------------------------------------------------------------------------------------

STRANGER = identity(77).node_id


def test_unknown_replica_is_neither_alive_nor_gone() -> None:
    members = alone()
    members.watch({STRANGER: None}, 0)
    assert members.status(STRANGER) is Status.UNKNOWN and members.unknown() == [STRANGER]
    assert not members.is_alive(STRANGER) and not members.is_gone(STRANGER)
    assert STRANGER not in members.alive() and members.take_changes() == []
    for now_us in range(0, 120 * SECOND, SECOND):
        members.on_timer(("probe", b""), now_us)
    assert members.status(STRANGER) is Status.UNKNOWN, "silence is no sign"


@pytest.mark.parametrize("how", ["record", "link"])
def test_unknown_replica_is_alive_once_it_is_found(how: str) -> None:
    members = alone()
    members.watch({STRANGER: None}, 0)
    if how == "record":
        members.learn(STRANGER, 9, SECOND)
    else:
        members.connected(STRANGER, SECOND)
    assert members.status(STRANGER) is Status.ALIVE and members.unknown() == []
    assert members.take_changes() == [(STRANGER, Status.ALIVE)]


def test_replica_that_is_sought_in_vain_is_dead_after_three_times_and_the_longest_suspicion() -> None:
    members = alone()
    members.watch({STRANGER: None}, 0)
    for _ in range(5):
        members.missed(STRANGER, LAN.suspicion_max_us - 1)
    assert members.status(STRANGER) is Status.UNKNOWN
    members.missed(STRANGER, LAN.suspicion_max_us)
    assert members.is_gone(STRANGER) and members.take_changes() == [(STRANGER, Status.DEAD)]
    members.learn(STRANGER, 9, LAN.suspicion_max_us + 1)
    assert members.is_alive(STRANGER), "a record of a later life"


def test_what_is_said_of_an_unknown_replica_changes_nothing() -> None:
    members = alone()
    members.watch({STRANGER: None}, 0)
    for state in (Status.DEAD, Status.LEFT, Status.SUSPECT):
        members.on_message(BOB, ping(MemberState(STRANGER, 0, int(state))), 1)
    assert members.status(STRANGER) is Status.UNKNOWN


def test_who_is_watched_no_more_is_forgotten_if_it_was_never_known() -> None:
    members = alone()
    members.watch({STRANGER: None, BOB: None}, 0)
    members.watch({}, 1)
    assert members.status(STRANGER) is None and members.is_alive(BOB)


# -- cells --------------------------------------------------------------------------------------------------


def test_members_of_a_deep_cell_are_its_nodes_contacts_watched_and_linked_ones() -> None:
    members = Membership(context(1, LAN), incarnation=5)
    members.start(0)
    members.cell.depth = 2
    everyone = [identity(number).node_id for number in range(10, 110)]
    visitor = next(node for node in everyone if members.cell.level(node) == 0)
    members.connected(visitor, 0)
    members.learn(visitor, 7, 0)
    watched = [node for node in everyone if members.cell.level(node) == 1][-1]
    members.watch({watched: None}, 0)
    for node in everyone:
        members.learn(node, 7, 0)
    members.on_timer(("probe", b""), 2 * SECOND)
    for node in everyone:
        members.learn(node, 7, 3 * SECOND)
    members.on_timer(("probe", b""), 4 * SECOND)
    alive = dict.fromkeys(members.alive())
    outside = [node for node in alive if not members.cell.holds(node)]
    assert all(node in alive for node in everyone if members.cell.holds(node))
    assert visitor in outside and watched in outside
    contacts = members.circle.contacts
    assert [sum(members.cell.level(node) == level for node in contacts) for level in (0, 1)] == [3, 3]
    assert sorted(dict.fromkeys((*contacts, visitor, watched))) == sorted(outside)
    assert members.unknown() == [] and all(node in members.view for node in (*contacts, watched))


def test_link_on_which_a_node_at_rest_is_probed_is_never_idle() -> None:
    """Else it is closed, missed, dialled anew and closed again."""
    for config in PRESETS.values():
        a_round_us = config.rest_factor * config.probe_interval_us * config.active_view_max
        assert idle_link_us(config) >= 2 * a_round_us


def test_links_that_nobody_uses_are_closed_when_there_are_too_many() -> None:
    config = replace(LAN, links_kept=4, active_view_max=2)
    peers = tuple(identity(number).node_id for number in range(2, 9))
    members = alone(config, peers)
    members.on_timer(("probe", b""), 2 * SECOND)
    view = members.view
    effects(members)
    for peer in peers:
        members.heard(peer, 3 * SECOND)
    spare = [peer for peer in peers if peer not in view][:2]
    for peer in spare:
        members.heard(peer, 40 * SECOND)
    idle_us = idle_link_us(config)
    members.on_timer(("probe", b""), 3 * SECOND + idle_us - 1)
    assert not [effect for effect in effects(members) if isinstance(effect, Disconnect)]
    members.on_timer(("probe", b""), 20 * SECOND + idle_us)
    closed = [effect.peer for effect in effects(members) if isinstance(effect, Disconnect)]
    assert len(closed) == 3 and not set(closed) & {*spare, *view}


def test_for_one_link_more_than_there_may_be_the_one_that_was_silent_longest_makes_room_with_a_word() -> None:
    config = replace(LAN, links_kept=4, links_most=6, active_view_max=2)
    peers = tuple(identity(number).node_id for number in range(2, 10))
    *linked, last, newcomer = peers
    members = alone(config, tuple(linked))
    members.on_timer(("probe", b""), SECOND)
    spare = [peer for peer in linked if peer not in members.view]
    for at_us, peer in enumerate(linked, 2 * SECOND):
        members.heard(peer, at_us)
    effects(members)
    members.learn(last, 7, 3 * SECOND)
    members.connected(last, 3 * SECOND)
    assert last not in members.view
    # Nobody has had its time yet, but for the first one.
    assert effects(members) == [Send(spare[0], Ack(0, 5, ())), Disconnect(spare[0], "room for others")]
    members.lost(spare[0], False, 3 * SECOND)
    members.connected(newcomer, 3 * SECOND + FRESH_LINK_US)
    assert [effect.peer for effect in effects(members) if isinstance(effect, Disconnect)] == [spare[1]]


def test_of_many_who_are_heard_of_at_once_only_those_are_asked_for_a_link_that_will_be_watched() -> None:
    members = alone(peers=())
    for number in range(2, 60):
        members.learn(identity(number).node_id, 7, 0)
    members.fill_view()
    first = links_asked(members)
    assert first == members.view and len(first) == FIRST_VIEW, "whoever else is heard of soon has yet to be weighed"
    members.on_timer(("probe", b""), SECOND)
    assert sorted(first + links_asked(members)) == members.view and len(members.view) == LAN.active_view_max


def links_asked(members: Membership) -> list[bytes]:
    return [effect.peer for effect in effects(members) if isinstance(effect, Connect)]


def test_most_of_those_whom_a_node_watches_watch_it() -> None:
    """One link and one ping serve both."""
    arena = arena_of(60, LAN)
    arena.start_members()
    arena.run_for(10 * SECOND)
    views = {node.id: node.members.view for node in arena.nodes.values()}
    pairs = [(one, other) for one, view in views.items() for other in view]
    mutual = sum(one in views[other] for one, other in pairs)
    assert len(pairs) == 60 * LAN.active_view_max and 5 * mutual > 4 * len(pairs), mutual


# -- let go -----------------------------------------------------------------------------------------------------


def test_who_was_in_doubt_when_the_others_of_its_cell_were_let_go_is_let_go_later() -> None:
    members = alone(peers=(BOB,))
    members.start(0)
    others = [identity(number).node_id for number in range(10, 110)]
    for node in others:
        members.learn(node, 7, 0)
    far = [node for node in others if members.status(node) is not None and members.cell.level(node) == 0]
    assert len(far) > 20
    doubted = far[0]
    members.on_message(BOB, ping(MemberState(doubted, 7, Status.SUSPECT, BOB)), SECOND)
    members.cell.depth = 1
    now_us = SECOND
    for turn in range(1, 400):
        now_us += SECOND
        members.heard(BOB, now_us)
        members.on_timer(("probe", b""), now_us)
        if turn == 3:
            assert members.status(doubted) is Status.SUSPECT
            members.on_message(BOB, ping(MemberState(doubted, 8, Status.ALIVE)), now_us)
            assert members.status(doubted) is Status.ALIVE
    kept = [node for node in far if members.status(node) is not None]
    assert all(members.circle.concerns(node) for node in kept), [node.hex()[:8] for node in kept]
