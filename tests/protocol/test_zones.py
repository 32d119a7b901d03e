"""Heaters of one zone find each other across cells, and hear of each other's heat."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from msgspec import structs

from hearthmesh.crypto.certificates import NOT_VOUCHED, Vouched
from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.cells import place_of
from hearthmesh.protocol.config import LOCAL, ProtocolConfig
from hearthmesh.protocol.effects import Penalise, Reason, Send
from hearthmesh.protocol.events import Received
from hearthmesh.protocol.messages import FindZone, FoundNodes
from hearthmesh.protocol.records import Record, RecordKind
from hearthmesh.protocol.zones import KEPT_INTERVALS, KEPT_MAX, MATES_MAX, TOLD_MAX
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold

# Cells of a handful, so that a street has several.
SMALL = replace(
    LOCAL, cell_split=6, cell_merge=2, cell_interval_us=3 * SECOND, contacts_a_level=2, members_max=28, links_kept=12
)


def half_of(name: str) -> int:
    """The first bit of a node's place: two that differ in it are in no common cell once the mesh has split."""
    return place_of(Identity.from_seed(sha256(name.encode()).digest()).node_id) >> 63


def street(
    count: int = 14, config: ProtocolConfig = SMALL, vouched: tuple[Vouched, Vouched] = (NOT_VOUCHED, NOT_VOUCHED)
) -> tuple[Cluster, SimNode, SimNode]:
    """A mesh of several cells, and two heaters of the attic that are in different ones. vouched: of those two."""
    cluster = Cluster(config=config)
    names = [f"n{number}" for number in range(count)]
    left, right = (next(name for name in names if half_of(name) == half) for half in (0, 1))
    zones = {names[-1]: "cellar", left: "attic", right: "attic"}
    said = {left: vouched[0], right: vouched[1]}
    nodes = {
        name: cluster.add(name, heat=cold(), zone=zones.get(name, ""), vouched=said.get(name, NOT_VOUCHED))
        for name in names
    }
    return cluster, nodes[left], nodes[right]


def mates(node: SimNode) -> list[bytes]:
    return [digest.node for digest in node.mesh.zone_mates()]


def strangers(node: SimNode) -> list[bytes]:
    return sorted(each.node for each in node.mesh.zone_strangers())


def find_each_other(cluster: Cluster, one: SimNode, other: SimNode) -> None:
    cluster.run_until(lambda: mates(one) == [other.id] and mates(other) == [one.id], within_us=60 * SECOND)


def test_heaters_of_one_zone_in_different_cells_hear_of_each_others_heat() -> None:
    cluster, one, other = street()
    # At first there is one cell, and all know all.
    cluster.run_until(lambda: one.mesh.cell.depth > 0 and other.mesh.cell.depth > 0)
    assert not one.mesh.cell.holds(other.id) and not other.mesh.cell.holds(one.id)
    find_each_other(cluster, one, other)
    cluster.run(20 * SECOND)
    cluster.feed(one, structs.replace(cold(), deficit_w=123.0))
    cluster.run(3 * SECOND)
    assert [digest.deficit_w for digest in other.mesh.zone_mates()] == [123]
    # Nobody else took them for mates.
    assert all(not mates(node) for node in cluster.nodes.values() if node not in (one, other))


def test_a_zone_mate_that_dies_counts_no_more_and_counts_again_when_it_is_back() -> None:
    cluster, one, other = street()
    find_each_other(cluster, one, other)
    cluster.kill(other)
    cluster.run_until(lambda: not mates(one))
    # Keepers tell of it for as long as they keep it, and whoever was told last keeps it in mind as long.
    cluster.run(2 * KEPT_INTERVALS * SMALL.rest_factor * SMALL.cell_interval_us)
    assert not one.mesh.zones.mates, "it is not watched for ever"
    cluster.restart(other)
    cluster.feed(other, cold())
    find_each_other(cluster, one, other)


def test_in_a_mesh_of_one_cell_nobody_looks_for_zones() -> None:
    cluster = Cluster()
    for number in range(4):
        cluster.add(f"n{number}", heat=cold(), zone="attic")
    cluster.run(30 * SECOND)
    assert not any("FindZone" in line for line in cluster.log)
    assert all(len(mates(node)) == 3 for node in cluster.nodes.values())


HOME = Vouched("ada", "5 Mill Lane")
ELSEWHERE = [NOT_VOUCHED, Vouched("ada"), Vouched("ada", "9 Mill Lane"), Vouched("bob", "5 Mill Lane")]


@pytest.mark.parametrize("other", ELSEWHERE)
def test_a_zone_is_one_owners_at_one_site(other: Vouched) -> None:
    cluster = Cluster()
    one = cluster.add("one", heat=cold(), zone="living-room", vouched=HOME)
    # What a machine is trusted with is no matter of where it stands.
    two = cluster.add("two", heat=cold(), zone="living-room", vouched=structs.replace(HOME, classes=("gpu",)))
    stranger = cluster.add("stranger", heat=cold(), zone="living-room", vouched=other)
    cluster.run(5 * SECOND)
    assert (mates(one), mates(two), mates(stranger)) == ([two.id], [one.id], [])
    assert (strangers(one), strangers(two)) == ([stranger.id], [stranger.id])
    assert strangers(stranger) == sorted([one.id, two.id])
    # One that is of no zone, or dead, uses no name.
    assert strangers(cluster.add("aside", heat=cold(), vouched=other)) == []
    cluster.kill(stranger)
    cluster.run_until(lambda: strangers(one) == strangers(two) == [])


def test_a_zones_keepers_name_nobody_of_another_household() -> None:
    cluster, one, other = street(vouched=(HOME, ELSEWHERE[-1]))
    cluster.run_until(lambda: one.mesh.cell.depth > 0 and other.mesh.cell.depth > 0)
    cluster.run(120 * SECOND)
    assert any(line.endswith("FindZone") for line in cluster.log)
    assert not one.mesh.zones.mates and not other.mesh.zones.mates
    # Of one household they are found as ever.
    cluster, one, other = street(vouched=(HOME, HOME))
    find_each_other(cluster, one, other)


# -- whoever asks --------------------------------------------------------------------------------------------------


def own_record(node: SimNode) -> Record:
    record = node.mesh.tables.get(RecordKind.MEMBER, node.id)
    assert record is not None
    return record


def test_many_members_of_zones_are_kept_only_up_to_a_bound() -> None:
    cluster = Cluster(config=SMALL)
    keeper, asker = cluster.add("keeper"), cluster.add("asker", heat=cold(), zone="attic")
    cluster.run(SECOND)
    zones = keeper.mesh.zones
    record = own_record(asker)
    for number in range(KEPT_MAX):
        zones._kept[number.to_bytes(32, "big")] = record, cluster.now_us
    told = keeper.mesh.handle(Received(asker.id, FindZone(7, record.raw)), cluster.now_us)
    (answer,) = [each.message for each in told if isinstance(each, Send) and isinstance(each.message, FoundNodes)]
    assert len(answer.rows) == TOLD_MAX
    assert len(zones._kept) == KEPT_MAX and list(zones._kept)[-1] == asker.id


def test_more_mates_than_a_zone_can_have_are_left_out() -> None:
    cluster = Cluster(config=SMALL)
    node, asker = cluster.add("node", zone="attic"), cluster.add("asker", heat=cold(), zone="attic")
    cluster.run(SECOND)
    for number in range(MATES_MAX):
        node.mesh.zones._mates[number.to_bytes(32, "big")] = cluster.now_us
    node.mesh.handle(Received(asker.id, FindZone(7, own_record(asker).raw)), cluster.now_us)
    assert len(node.mesh.zones.mates) == MATES_MAX and not node.mesh.zones.is_mate(asker.id)


@pytest.mark.parametrize(("lie", "reason"), [("bytes", Reason.MALFORMED), ("another's", Reason.WRONG_AUTHOR)])
def test_who_shows_no_record_of_its_own_is_penalised(lie: str, reason: Reason) -> None:
    cluster = Cluster(config=SMALL)
    keeper, asker, victim = cluster.add("keeper"), cluster.add("asker"), cluster.add("victim", zone="attic")
    cluster.run(SECOND)
    shown = b"\x00" if lie == "bytes" else own_record(victim).raw
    cluster.feed(keeper, Received(asker.id, FindZone(7, shown)))
    assert keeper.penalties == [Penalise(asker.id, reason)]
    assert not keeper.mesh.zones._kept


def test_an_answer_that_nobody_asked_for_adds_no_mate() -> None:
    cluster = Cluster(config=SMALL)
    node, liar = cluster.add("node", zone="attic"), cluster.add("liar", heat=cold(), zone="attic")
    cluster.run(SECOND)
    cluster.feed(node, Received(liar.id, FoundNodes(999, (own_record(liar).raw,))))
    assert not node.mesh.zones.mates


def test_who_knows_all_of_its_zone_asks_one_keeper_at_a_time_and_no_mate_that_tells_its_heat() -> None:
    cluster, one, other = street(config=replace(SMALL, heat_repeat_us=20 * SECOND))
    find_each_other(cluster, one, other)
    cluster.run(120 * SECOND)
    cluster.log.clear()
    looks_us = SMALL.rest_factor * SMALL.cell_interval_us
    cluster.run(16 * looks_us)
    asked = [line for line in cluster.log if line.endswith("FindZone") and line.startswith(f"{one.name}>")]
    # Three at the looks that look them up, one at the others.
    assert 16 <= len(asked) <= 12 + 3 * 4 + 1, asked
    assert f"{one.name}>{other.name} FindZone" not in asked
    assert mates(one) == [other.id] and mates(other) == [one.id]
