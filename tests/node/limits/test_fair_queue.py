"""Nobody's pile makes others wait longer than a round."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.fair_queue import QUANTUM, FairQueue

pushes = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 40)), max_size=60)


@given(pushes)
def test_all_comes_out_once_and_each_ones_in_order(cast: list[tuple[bytes, int]]) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue()
    for number, (who, cost) in enumerate(cast):
        queue.push(who, (who, number), cost)
    out = [queue.pop() for _ in range(len(queue))]
    assert len(queue) == 0 and sorted(out, key=lambda item: item[1]) == [
        (who, number) for number, (who, _) in enumerate(cast)
    ]
    for who in (b"a", b"b", b"c"):
        mine = [number for author, number in out if author == who]
        assert mine == sorted(mine)


@given(st.integers(1, 60), st.integers(1, 12))
def test_a_modest_peer_waits_for_one_turn_of_a_flood(heavy: int, flooders: int) -> None:
    queue: FairQueue[bytes] = FairQueue()
    for number in range(flooders):
        for _ in range(64):
            queue.push(bytes([number]), bytes([number]), heavy)
    queue.push(b"modest", b"modest", 1)
    before = Counter[bytes]()
    while (item := queue.pop()) != b"modest":
        before[item] += 1
    assert max(before.values(), default=0) <= max(1, QUANTUM // heavy)


@given(st.integers(1, 50), st.integers(1, 50))
def test_two_floods_have_equal_shares_of_the_cost(one: int, other: int) -> None:
    queue: FairQueue[bytes] = FairQueue()
    for _ in range(2000):
        queue.push(b"1", b"1", one)
        queue.push(b"2", b"2", other)
    spent = Counter[bytes]()
    for _ in range(1000):
        item = queue.pop()
        spent[item] += one if item == b"1" else other
    assert abs(spent[b"1"] - spent[b"2"]) <= 2 * (QUANTUM + max(one, other))


def test_own_events_go_first_and_a_lone_dear_item_does_not_wait() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(b"a", "dear", 10_000)
    queue.push_own("own")
    assert [queue.pop(), queue.pop(), len(queue)] == ["own", "dear", 0]
