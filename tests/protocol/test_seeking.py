"""Finding nodes: who is asked, what is answered, when a search ends, and what liars gain by their answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from hearthmesh.crypto.certificates import MembershipPolicy, MeshDefinition, Role, issue
from hearthmesh.protocol.cells import place_of
from hearthmesh.protocol.config import LAN, SECOND
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.effects import LearnAddress, Penalise, Reason, Send
from hearthmesh.protocol.liveness import Status
from hearthmesh.protocol.membership import MISSES_MAX, Membership
from hearthmesh.protocol.messages import FindNodes, FoundNodes, Leaving
from hearthmesh.protocol.records import MemberRecord, Record, RecordKind, sign_record
from hearthmesh.protocol.seeking import (
    ANSWERS_BURST,
    ASKED_AT_ONCE,
    ASKED_MAX,
    ROWS_AN_ANSWER,
    SEARCHES_MAX,
    Seeker,
)
from hearthmesh.protocol.tables import Tables
from tests.protocol.arena import identity

MESH = MeshDefinition("test", (identity(0).node_id,))
ROLES = Role.WORKER | Role.REPLICA
DEPTH = 3
ALL = range(1, 60)


def record_of(number: int, *, by: int | None = None, certified: bool = True, sequence: int = 1) -> Record:
    """The member record of a node; signed by itself, or by another."""
    node = identity(number).node_id
    certificate = issue(identity(0), MESH, node, ROLES, 0, 10**9, "n", bytes(16)).to_bytes() if certified else b""
    body = MemberRecord(
        node, 1, sequence, int(ROLES), f"n{number}", (f"/at/{number}",), (), "", False, 1, 1, certificate
    )
    return sign_record(identity(number if by is None else by), RecordKind.MEMBER, body)


RECORDS = {identity(number).node_id: record_of(number) for number in ALL}
NUMBERS = {identity(number).node_id: number for number in ALL}


@dataclass
class Home:
    """One node's seeker, with the tables and the membership that it reads."""

    number: int = 1
    depth: int = DEPTH
    reached: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        policy, rng = MembershipPolicy(MESH), random.Random(self.number)
        self.ctx = Context(identity(self.number), LAN, rng, policy=policy, certificate=b"")
        self.members = Membership(self.ctx, 1)
        self.members.cell.depth = self.depth
        self.tables = Tables(self.ctx, self._on_row, self._admits, self._wants, self.members.cell)
        self.members.start(0)
        self.tables.put_own(RECORDS[self.ctx.node_id], 0)
        self.seeker = Seeker(self.ctx, self.members, self.tables)
        self.seeker.on_reached = lambda node, now_us: self.reached.append(node)

    def _on_row(self, record: Record, now_us: int) -> None:
        self.members.learn(record.author, 1, now_us)

    def _admits(self, record: Record, now_us: int) -> bool:
        return self.ctx.admitted(record.body.certificate, record.author, ROLES, now_us)

    def _wants(self, record: Record) -> bool:
        return self.members.status(record.author) is not None or self.members.circle.welcomes(record.author, True)

    def meet(self, *numbers: int) -> None:
        for number in numbers:
            node = identity(number).node_id
            self.members.learn(node, 1, 0)
            self.members.fill_view()
            self.tables.merge(RECORDS[node].raw, node, 0)
        self.members.on_timer(("probe", b""), 2 * SECOND)
        for node in self.members.take_dropped():
            self.tables.drop_node(node)
        self.ctx.take_effects()

    def questions(self, about: bytes | None = None) -> list[tuple[bytes, FindNodes]]:
        """Sent since the last time. about: the node that is sought; None: whatever was asked."""
        sent = [each for each in self.ctx.take_effects() if isinstance(each, Send)]
        asked = [(each.peer, each.message) for each in sent if isinstance(each.message, FindNodes)]
        place = None if about is None else place_bytes(place_of(about))
        return [each for each in asked if place is None or each[1].place == place]


def nearest(numbers: list[int], place: int) -> list[int]:
    return sorted(numbers, key=lambda number: place_of(identity(number).node_id) ^ place)


def strangers(home: Home, count: int) -> list[int]:
    """Numbers of nodes of other cells, that it has not met."""
    far = [number for number in ALL if not home.members.cell.holds(identity(number).node_id)]
    return [number for number in far if home.members.status(identity(number).node_id) is None][:count]


def place_bytes(place: int) -> bytes:
    return place.to_bytes(8, "big")


# -- answering ---------------------------------------------------------------------------------------------------


def test_answer_is_the_closest_living_members_without_the_asker_and_with_oneself() -> None:
    home = Home(depth=0)
    home.meet(*range(2, 20))
    asker, place = identity(7).node_id, place_of(identity(3).node_id)
    home.members.on_message(identity(4).node_id, Leaving(1), 0)
    home.ctx.take_effects()
    home.seeker.on_find(asker, FindNodes(5, place_bytes(place)), 0)
    [answer] = home.ctx.take_effects()
    known = [number for number in range(1, 20) if number not in (4, 7)]
    closest = tuple(RECORDS[identity(number).node_id].raw for number in nearest(known, place)[:ROWS_AN_ANSWER])
    assert answer == Send(asker, FoundNodes(5, closest))


def test_who_asks_too_often_is_not_answered_until_time_has_passed() -> None:
    home = Home(depth=0)
    home.meet(2)
    question = FindNodes(1, bytes(8))
    for _ in range(ANSWERS_BURST + 3):
        home.seeker.on_find(identity(2).node_id, question, 0)
    assert sum(isinstance(each, Send) for each in home.ctx.take_effects()) == ANSWERS_BURST
    home.seeker.on_find(identity(2).node_id, question, 10 * SECOND)
    assert sum(isinstance(each, Send) for each in home.ctx.take_effects()) == 1


# -- searching ---------------------------------------------------------------------------------------------------


def test_search_asks_the_closest_first_and_then_those_closer_that_it_hears_of() -> None:
    home = Home()
    home.meet(*range(2, 40))
    [sought] = strangers(home, 1)
    node = identity(sought).node_id
    home.seeker.reach(node)
    home.seeker.tick(SECOND)
    asked = home.questions(node)
    known = [number for number in ALL if number != 1 and home.members.is_alive(identity(number).node_id)]
    assert [NUMBERS[peer] for peer, _ in asked] == nearest(known, place_of(node))[:ASKED_AT_ONCE]
    peer, question = asked[0]
    assert question.place == place_bytes(place_of(node))
    home.seeker.on_found(peer, FoundNodes(question.request, (RECORDS[node].raw,)), SECOND)
    effects = home.ctx.take_effects()
    assert LearnAddress(node, (f"/at/{sought}",), ()) in effects
    assert home.reached == [node] and home.seeker.can_reach(node)
    assert node not in home.seeker._searches, "what was found is sought no longer"
    home.seeker.peer_lost(node)
    assert not home.seeker.can_reach(node)


def test_answer_that_nobody_asked_for_teaches_nothing() -> None:
    home = Home()
    home.meet(*range(2, 40))
    [sought] = strangers(home, 1)
    node = identity(sought).node_id
    home.seeker.reach(node)
    home.seeker.tick(SECOND)
    (peer, question), (other, _), *_ = home.questions(node)
    raws = (RECORDS[node].raw,)
    home.seeker.on_found(other, FoundNodes(question.request, raws), SECOND)
    home.seeker.on_found(peer, FoundNodes(question.request + 99, raws), SECOND)
    assert home.reached == []


@pytest.mark.parametrize("forged", [False, True])
def test_record_of_a_stranger_that_is_forged_or_not_admitted_is_not_followed(forged: bool) -> None:
    home = Home()
    home.meet(*range(2, 40))
    [sought] = strangers(home, 1)
    node = identity(sought).node_id
    home.seeker.reach(node)
    home.seeker.tick(SECOND)
    peer, question = home.questions(node)[0]
    bad = record_of(sought, by=2) if forged else record_of(sought, certified=False)
    home.seeker.on_found(peer, FoundNodes(question.request, (bad.raw,)), SECOND)
    assert home.reached == [] and not home.seeker.can_reach(node)
    penalties = [each for each in home.ctx.take_effects() if isinstance(each, Penalise)]
    assert penalties == ([Penalise(peer, Reason.WRONG_AUTHOR)] if forged else [])


@pytest.mark.parametrize("loss", ["neighbour", "contact", "depth"])
def test_who_was_content_looks_around_within_an_interval_after_a_loss(loss: str) -> None:
    home = Home(depth=1)
    home.meet(*ALL)
    config = replace(LAN, cell_merge=1, contacts_a_level=1)
    home.ctx.config = home.members.circle._config = config
    for now_s in range(3, 1000):
        home.seeker.tick(now_s * SECOND)
    # It has just looked around.
    while not home.questions():
        now_s += 1
        home.seeker.tick(now_s * SECOND)
    for _ in range(ASKED_MAX):
        now_s += 1
        home.seeker.tick(now_s * SECOND)
        home.ctx.take_effects()
    if loss == "depth":
        home.members.cell.depth = 0
    else:
        contacts = home.members.circle.contacts
        mates = [node for node in home.members.alive() if home.members.cell.holds(node)]
        gone = contacts[0] if loss == "contact" else mates[0]
        home.members.on_message(gone, Leaving(1), now_s * SECOND)
        home.members.on_timer(("probe", b""), now_s * SECOND)
        home.ctx.take_effects()
    lost_us, due_us = now_s * SECOND, home.seeker._around_us
    home.seeker.tick(lost_us + SECOND)
    assert home.seeker._around_us <= lost_us + SECOND + config.cell_interval_us < due_us


def test_silent_ones_are_passed_over_and_a_search_ends_within_its_bound() -> None:
    home = Home()
    home.meet(*range(2, 60))
    home.seeker.reach(bytes(32))
    asked: list[bytes] = []
    now_us = 0
    while home.seeker._searches and now_us < 100 * LAN.steal_timeout_us:
        home.seeker.tick(now_us)
        asked += [peer for peer, _ in home.questions(bytes(32))]
        now_us += LAN.steal_timeout_us
    assert ASKED_AT_ONCE <= len(asked) <= ASKED_MAX
    assert len(set(asked)) == len(asked), "nobody is asked twice"


def test_searches_are_bounded() -> None:
    home = Home()
    home.meet(*range(2, 40))
    for number in range(3 * SEARCHES_MAX):
        home.seeker.reach(bytes([number]) * 32)
    assert len(home.seeker._searches) == SEARCHES_MAX


def test_watched_node_is_given_up_only_if_others_answered_and_did_not_know_it() -> None:
    lost = bytes(32)
    statuses = []
    for answers in (False, True):
        home = Home()
        home.meet(*range(2, 40))
        home.members.watch({lost: None}, 0)
        home.ctx.take_effects()
        now_us = 0
        for _ in range(40 * MISSES_MAX):
            now_us += LAN.steal_timeout_us
            home.seeker.tick(now_us)
            for peer, question in home.questions(lost) if answers else []:
                home.seeker.on_found(peer, FoundNodes(question.request, ()), now_us)
        statuses.append(home.members.status(lost))
    assert statuses == [Status.UNKNOWN, Status.DEAD]


def test_newcomer_that_was_told_of_deeper_cells_looks_for_its_neighbours() -> None:
    home = Home(depth=0)
    home.meet(2, 3, 4)
    home.seeker.tick(SECOND)
    assert home.questions() == [], "a small mesh of one cell seeks nobody"
    home.tables.peer_connected(identity(2).node_id, 0)
    home.tables.heard_depth(identity(2).node_id, 4, 0)
    home.ctx.take_effects()
    home.seeker.tick(2 * SECOND)
    assert home.questions() == [], "whom it knows may tell it of them yet"
    home.seeker.tick(4 * SECOND)
    assert {question.place for _, question in home.questions()} == {place_bytes(home.members.cell.place)}


def test_every_node_finds_every_other_where_each_knows_its_cell_and_some_contacts() -> None:
    homes = {identity(number).node_id: Home(number) for number in ALL}
    for home in homes.values():
        home.meet(*(number for number in ALL if number != home.number))
    rounds_most = 0
    for home in list(homes.values())[:12]:
        for sought in strangers(home, 60):
            node = identity(sought).node_id
            home.seeker.reach(node)
            rounds = 0
            while node not in home.reached and rounds < 12:
                rounds += 1
                home.seeker.tick(rounds * SECOND)
                for peer, question in home.questions(node):
                    other = homes[peer]
                    # The answer of one that was asked before this, and has time again.
                    other.seeker.peer_lost(home.ctx.node_id)
                    other.seeker.on_find(home.ctx.node_id, question, rounds * SECOND)
                    [answer] = [each.message for each in other.ctx.take_effects() if isinstance(each, Send)]
                    assert isinstance(answer, FoundNodes)
                    home.seeker.on_found(peer, answer, rounds * SECOND)
            assert node in home.reached, f"{home.number} does not find {sought}"
            rounds_most = max(rounds_most, rounds)
    assert 1 <= rounds_most <= DEPTH + 1


def test_closest_to_a_place_are_found_with_few_questions() -> None:
    homes = {identity(number).node_id: Home(number) for number in ALL}
    for home in homes.values():
        home.meet(*(number for number in ALL if number != home.number))
    asked, searches = 0, 0
    for home in list(homes.values())[:12]:
        for sought in strangers(home, 5):
            place, ends = place_of(identity(sought).node_id), list[list[bytes]]()
            home.seeker.find_place(b"place", place, ends.append)
            for rounds in range(1, 12):
                home.seeker.tick(rounds * SECOND)
                for peer, question in home.questions(identity(sought).node_id):
                    asked += 1
                    homes[peer].seeker.peer_lost(home.ctx.node_id)
                    homes[peer].seeker.on_find(home.ctx.node_id, question, rounds * SECOND)
                    [answer] = [each.message for each in homes[peer].ctx.take_effects() if isinstance(each, Send)]
                    assert isinstance(answer, FoundNodes)
                    home.seeker.on_found(peer, answer, rounds * SECOND)
            [closest] = ends
            searches += 1
            assert closest[:3] == [identity(number).node_id for number in nearest(ALL, place)[:3]]
    assert asked < 5 * searches


# -- who hides others --------------------------------------------------------------------------------------------


def answer_all(
    home: Home, homes: dict[bytes, Home], liars: dict[bytes, bytes | None], now_us: int
) -> list[tuple[bytes, FindNodes]]:
    """Let everybody that was asked answer, and those that are asked for it. liars: whom each names instead of who is
    closest, None: it is silent. Returns who was asked for what."""
    questions: list[tuple[bytes, FindNodes]] = []
    while asked := home.questions():
        questions += asked
        for peer, question in asked:
            if peer in liars:
                if (named := liars[peer]) is not None:
                    rows = (RECORDS[peer].raw, RECORDS[named].raw)
                    home.seeker.on_found(peer, FoundNodes(question.request, rows), now_us)
                continue
            other = homes[peer]
            other.seeker.peer_lost(home.ctx.node_id)
            other.seeker.on_find(home.ctx.node_id, question, now_us)
            [answer] = [each.message for each in other.ctx.take_effects() if isinstance(each, Send)]
            assert isinstance(answer, FoundNodes)
            home.seeker.on_found(peer, answer, now_us)
    return questions


def everybody_but(number: int) -> dict[bytes, Home]:
    """Homes of all the others, each of which was told of everybody once."""
    homes = {identity(each).node_id: Home(each) for each in ALL if each != number}
    for home in homes.values():
        home.meet(*(each for each in ALL if each != home.number))
    return homes


@pytest.mark.parametrize("mates_known", [1, 3])
def test_some_of_a_cell_that_never_met_the_others_hear_of_them_from_outside(mates_known: int) -> None:
    """Whom they ask among themselves knows no more than they do."""
    homes, me = everybody_but(1), Home()
    me.ctx.config = me.members.circle._config = replace(LAN, cell_merge=1)
    mates = [number for number in ALL if number != 1 and me.members.cell.holds(identity(number).node_id)]
    # Not those whom all the others met first.
    island = [1, *mates[-mates_known:]]
    others = [number for number in ALL if number not in mates]
    me.meet(*others, *island[1:])
    homes |= {identity(number).node_id: Home(number) for number in island[1:]}
    for number in island[1:]:
        homes[identity(number).node_id].meet(*(each for each in (*others, *island) if each != number))
    assert len(mates) > 2 * mates_known
    for now_s in range(3, 400):
        me.seeker.tick(now_s * SECOND)
        answer_all(me, homes, {}, now_s * SECOND)
    # These tell it of the rest in their tables.
    assert any(me.members.is_alive(identity(number).node_id) for number in mates if number not in island)


def test_a_look_around_in_ones_own_cell_is_one_question_to_somebody_outside() -> None:
    homes, me = everybody_but(1), Home()
    me.ctx.config = me.members.circle._config = replace(LAN, cell_merge=1, contacts_a_level=1)
    me.meet(*ALL[1:])
    asked: list[tuple[bytes, FindNodes]] = []
    for now_s in range(3, 1200):
        me.seeker.tick(now_s * SECOND)
        asked += answer_all(me, homes, {}, now_s * SECOND)
    shift = 64 - DEPTH
    here = [each for each in asked if int.from_bytes(each[1].place) >> shift == me.members.cell.place >> shift]
    assert here and len({question.place for _, question in here}) == len(here)
    assert not any(me.members.cell.holds(peer) for peer, _ in here)


@pytest.mark.parametrize("names", ["nobody", "itself", "who is known", "who is far"])
def test_one_contact_hides_no_sibling_prefix(names: str) -> None:
    homes, me = everybody_but(1), Home()
    level = {number: me.members.cell.level(identity(number).node_id) for number in ALL}
    siblings = [number for number in ALL if level[number] == 0]
    mates = [number for number in ALL if number != 1 and level[number] > 0]
    contact = identity(siblings[0]).node_id
    stranger = identity(mates.pop()).node_id
    me.meet(*mates, siblings[0])
    named = {"nobody": None, "itself": contact, "who is known": identity(mates[0]).node_id, "who is far": stranger}
    for now_s in range(3, 400):
        me.seeker.tick(now_s * SECOND)
        answer_all(me, homes, {contact: named[names]}, now_s * SECOND)
    known = [number for number in siblings if me.members.status(identity(number).node_id) is not None]
    assert len(known) > len(siblings) // 2


def test_closest_to_a_place_are_found_past_two_that_are_silent() -> None:
    homes = everybody_but(1)
    for sought in strangers(Home(), 20):
        me = Home()
        place, ends = place_of(identity(sought).node_id), list[list[bytes]]()
        me.meet(*(number for number in ALL if number != 1))
        known = [number for number in ALL if number != 1 and me.members.is_alive(identity(number).node_id)]
        silent = {identity(number).node_id: None for number in nearest(known, place)[:2]}
        me.seeker.find_place(b"place", place, ends.append)
        for now_s in range(3, 40):
            me.seeker.tick(now_s * SECOND)
            answer_all(me, homes, dict[bytes, bytes | None](silent), now_s * SECOND)
        [closest] = ends
        assert closest[:3] == [identity(number).node_id for number in nearest(list(ALL), place)[:3]]
