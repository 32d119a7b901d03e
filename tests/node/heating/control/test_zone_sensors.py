"""A zone whose sensors differ, so that its members ask for different demands: claims settle, below the highest one."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.zone import Member, ZoneShare

CAPACITY_W = 500.0
# As a thermostat has it: a tenth of a core at least, of five; begun at twice that.
LEAST_W, BEGIN_W = 10.0, 20.0


class Room:
    """Members act each second, in an order of each second's; each hears what another told a while ago, under 5 s."""

    def __init__(self, requests_w: list[float], delays_s: list[int], orders: list[list[int]]) -> None:
        self.delays_s, self.orders = delays_s, orders
        self.now_s = 0
        self.members: dict[int, ZoneShare] = {}
        self.requests_w: dict[int, float] = {}
        self.told: list[dict[int, Member]] = []
        self.claims_w: list[list[float]] = []
        self.most_w = 0.0
        for number, request_w in enumerate(requests_w):
            self.join(number, request_w)

    def join(self, number: int, request_w: float) -> None:
        member = self.members[number] = ZoneShare(bytes([number]), CAPACITY_W, period_s=10.0)
        member.own = replace(member.own, temperature_c=19.0)
        self.requests_w[number] = request_w

    def leave(self, number: int) -> None:
        self.members.pop(number, None)
        self.requests_w.pop(number, None)

    def heard(self, by: int) -> list[Member]:
        """Only of those that live; of each what it told last, as far as that has come."""
        found = []
        for other in self.members:
            delay_s = self.delays_s[(7 * by + other) % len(self.delays_s)]
            news = [told[other] for told in self.told[: len(self.told) - delay_s] if other in told]
            if other != by and news:
                found.append(news[-1])
        return found

    def second(self) -> None:
        order = self.orders[self.now_s % len(self.orders)]
        acted = sorted(self.members, key=lambda number: order[number])
        for number in acted:
            member, began = self.members[number], self.members[number].own.claim_w > 0
            found = member.update(self.now_s, self.requests_w[number], self.heard(number))
            if found.claim_w < (LEAST_W if began else BEGIN_W):
                member.claim(0.0)
            self.most_w = max(self.most_w, sum(each.own.claim_w for each in self.members.values()))
        self.told = [*self.told[-8:], {number: member.own for number, member in self.members.items()}]
        self.claims_w.append([member.own.claim_w for member in self.members.values()])
        self.now_s += 1

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.second()


requests = st.one_of(st.sampled_from([0.0, 19.8, 30.0, 44.0, 880.0]), st.floats(0, 2000))
delays = st.lists(st.integers(0, 4), min_size=1, max_size=12)
orders = st.lists(st.permutations(range(8)), min_size=1, max_size=5)


@given(
    st.lists(requests, min_size=1, max_size=5),
    delays,
    orders,
    st.lists(st.tuples(st.integers(0, 7), st.none() | requests, st.integers(1, 30)), max_size=6),
)
@example([44.0, 880.0], [0], [list(range(8))], [])
@example([19.8, 880.0], [0], [list(range(8))], [])
def test_claims_settle_whatever_each_members_sensor_shows(
    requests_w: list[float],
    delays_s: list[int],
    orders: list[list[int]],
    story: list[tuple[int, float | None, int]],
) -> None:
    room, highest_w = Room(requests_w, delays_s, orders), max(requests_w)
    for number, request_w, wait_s in story:
        room.leave(number)
        if request_w is not None:
            # Its record of an earlier life is forgotten with that life.
            for told in room.told:
                told.pop(number, None)
            room.join(number, request_w)
            highest_w = max(highest_w, request_w)
        room.seconds(wait_s)
        assert room.most_w <= 1.05 * highest_w + 1e-6
    room.seconds(90)
    room.claims_w.clear()
    room.seconds(30)
    assert room.most_w <= 1.05 * highest_w + 1e-6
    for claims_w in room.claims_w:
        assert claims_w == pytest.approx(room.claims_w[0], rel=0.01, abs=0.5)
