"""A zone's members: no more than what is wanted while they come and go, and the fair split within three periods."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.zone import MEMBERS_MAX, Member, Share, ZoneShare, share


class Room:
    """Members that twice a period hear what the others told last, act in any order, and tell.

    Whoever left is known to be gone to all that remain.
    """

    def __init__(self, demand_w: float, capacities_w: list[float]) -> None:
        self.demand_w = demand_w
        self.now_s = 0.0
        self.members: dict[bytes, ZoneShare] = {}
        self.told: dict[bytes, Member] = {}
        # The most that was claimed after any member's step.
        self.most_w = 0.0
        for number, capacity_w in enumerate(capacities_w):
            self.join(number, capacity_w)

    def join(self, number: int, capacity_w: float) -> None:
        member = self.members[bytes([number])] = ZoneShare(bytes([number]), capacity_w, period_s=10.0)
        member.own = replace(member.own, temperature_c=19.0)

    def leave(self, number: int) -> None:
        self.members.pop(bytes([number]), None)
        self.told.pop(bytes([number]), None)

    def period(self, order: list[int]) -> None:
        for _ in range(2):
            self.round(order)

    def round(self, order: list[int]) -> None:
        for name in sorted(self.members, key=lambda name: (order[name[0] % len(order)], name)):
            heard = [news for other, news in sorted(self.told.items()) if other != name]
            self.members[name].update(self.now_s, self.demand_w, heard)
            self.most_w = max(self.most_w, self.total_w())
        self.told = {name: member.own for name, member in self.members.items()}
        self.now_s += 5.0

    def total_w(self) -> float:
        return sum(each.own.claim_w for each in self.members.values())

    def is_fair(self) -> bool:
        whole_w = sum(each.own.capacity_w for each in self.members.values())
        wanted_w = min(self.demand_w, whole_w)
        return all(
            abs(each.own.claim_w - wanted_w * each.own.capacity_w / whole_w) <= 1e-6 * (1 + wanted_w)
            for each in self.members.values()
        )


capacities = st.lists(st.floats(50, 2000), min_size=1, max_size=8)
orders = st.permutations(range(10))


@given(st.floats(0, 5000), capacities, orders)
def test_demand_is_split_within_three_periods(demand_w: float, capacities_w: list[float], order: list[int]) -> None:
    room = Room(demand_w, capacities_w)
    for _ in range(3):
        room.period(order)
    assert room.is_fair()
    assert room.most_w <= 1.05 * demand_w + 1e-9


@given(st.floats(0, 5000), capacities, orders, st.floats(50, 2000), st.integers(8, 200))
def test_newcomer_has_its_share_within_three_periods(
    demand_w: float, capacities_w: list[float], order: list[int], capacity_w: float, number: int
) -> None:
    room = Room(demand_w, capacities_w)
    for _ in range(3):
        room.period(order)
    room.join(number, capacity_w)
    for _ in range(3):
        room.period(order)
    assert room.is_fair()
    assert room.most_w <= 1.05 * demand_w + 1e-9


@given(st.floats(0, 5000), st.lists(st.floats(50, 2000), min_size=2, max_size=8), orders, st.integers(0, 7))
def test_share_of_the_dead_is_taken_over_within_three_periods(
    demand_w: float, capacities_w: list[float], order: list[int], number: int
) -> None:
    room = Room(demand_w, capacities_w)
    for _ in range(3):
        room.period(order)
    room.leave(number % len(capacities_w))
    for _ in range(3):
        room.period(order)
    assert room.is_fair()
    assert room.most_w <= 1.05 * demand_w + 1e-9


@given(
    st.floats(0, 5000),
    capacities,
    st.lists(st.tuples(orders, st.integers(-9, 9)), max_size=15),
)
def test_claims_never_exceed_the_demand_while_members_come_and_go(
    demand_w: float, capacities_w: list[float], story: list[tuple[list[int], int]]
) -> None:
    room = Room(demand_w, capacities_w)
    for order, change in story:
        room.leave(100 + abs(change))
        if change > 0:
            room.join(100 + change, 100.0 * change)
        room.round(order)
    assert room.most_w <= 1.05 * demand_w + 1e-9


def test_least_id_that_claims_something_says_what_the_zone_wants() -> None:
    low, high = Member(b"a", 500.0, 150.0, 19.0), Member(b"b", 1000.0, 0.0, 19.0)
    found = share(high, 900.0, [low])
    assert (found.demand_w, found.fair_w, found.follows) == (450.0, 300.0, True)
    assert share(low, 600.0, [high]).demand_w == 600.0
    assert share(high, 900.0, [Member(b"a", 500.0, 0.0, 19.0)]).demand_w == 900.0


def test_newcomer_with_the_least_id_follows_until_it_has_a_share() -> None:
    newcomer, old = Member(b"a", 500.0, 0.0, 19.0), Member(b"b", 500.0, 400.0, 19.0)
    assert share(newcomer, 900.0, [old], listening=True).claim_w == 0.0
    assert share(newcomer, 900.0, [old], listening=True).follows
    assert share(newcomer, 900.0, [old]).follows
    assert share(replace(newcomer, claim_w=400.0), 900.0, [old]).follows is False


def test_inventor_of_members_gains_nothing_beyond_the_bound() -> None:
    own = Member(b"a", 500.0, 500.0, 19.0)
    invented = [Member(b"b" + number.to_bytes(2, "big"), 1.0, 0.0, 19.0) for number in range(500)]
    assert share(own, 500.0, invented).fair_w == 500.0 * 500.0 / (500.0 + MEMBERS_MAX - 1)
    # Who can give nothing has no share, alone or not.
    assert share(Member(b"z", 0.0, 0.0, 19.0), 500.0, []).claim_w == 0.0
    greedy = [Member(b"b", 1.0, 9e9, 19.0)]
    assert share(replace(own, claim_w=0.0), 500.0, greedy).claim_w == 0.0
    # It takes nothing away from who has a fair share.
    assert share(own, 500.0, greedy).claim_w == pytest.approx(500.0 * 500.0 / 501.0)
    assert share(Member(b"z", 500.0, 0.0, 19.0), 500.0, greedy).demand_w == 501.0


def test_who_sees_nothing_follows_and_is_followed_by_nobody() -> None:
    blind, sees = Member(b"a", 500.0, 200.0, None), Member(b"b", 500.0, 300.0, 19.0)
    assert share(blind, 900.0, [sees]) == Share(claim_w=300.0, fair_w=300.0, demand_w=600.0, follows=True)
    assert share(sees, 800.0, [blind]) == Share(claim_w=400.0, fair_w=400.0, demand_w=800.0, follows=False)
    # Without anybody who sees they share what they give unseen.
    assert share(blind, 150.0, [replace(sees, claim_w=75.0, temperature_c=None)]).claim_w == 75.0
