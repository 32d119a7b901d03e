"""Who may check: an order by the salt, places apart first, and nobody who had a part."""

from __future__ import annotations

from collections import Counter

from hearthmesh.protocol.verification.choice import Checker, chosen_count, ranked, site_of


def node(number: int) -> bytes:
    return bytes([number]) * 32


STREET = [Checker(node(n), f"zone{n}", "", "", False) for n in range(1, 21)]


def test_every_node_stands_first_about_as_often_as_any_other() -> None:
    first = Counter(ranked(n.to_bytes(16, "big"), STREET, [], [])[0] for n in range(4_000))
    assert len(first) == 20 and 140 <= min(first.values()) and max(first.values()) <= 260


def test_who_had_a_part_is_never_asked_and_neighbours_and_keepers_last() -> None:
    author = Checker(node(1), "kitchen", "10.0.0", "ann", False)
    mate = Checker(node(2), "kitchen", "", "", False)
    near = Checker(node(3), "hall", "10.0.0", "", False)
    keeper = Checker(node(4), "attic", "", "", True)
    far = Checker(node(5), "barn", "", "bob", False)
    hers = Checker(node(6), "mill", "", "ann", False)
    for salt in range(30):
        order = ranked(salt.to_bytes(16, "big"), [author, mate, near, keeper, far, hers], [author], [author.node])
        assert order[:2] == [far.node, keeper.node] and set(order[2:]) == {mate.node, near.node, hers.node}


def test_twice_as_many_may_take_it_after_each_step() -> None:
    assert [chosen_count(us, 250_000) for us in (0, 249_999, 250_000, 750_000)] == [2, 2, 4, 16]


def test_a_site_is_a_network_and_loopback_is_none() -> None:
    assert site_of(["/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1"]) == "10.1.2"
    assert site_of(["/ip6/2001:db8:1:2::3/tcp/1"]) == "2001:db8:1" and site_of(["/memory/x"]) == ""
