"""A node that joins a mesh of several cells."""

from __future__ import annotations

from dataclasses import replace

from hearthmesh.protocol.config import LOCAL, ProtocolConfig
from hearthmesh.protocol.effects import Send
from hearthmesh.protocol.events import Received
from hearthmesh.protocol.messages import CellDigest, TableSync
from hearthmesh.protocol.records import RecordKind
from hearthmesh.protocol.tables import SYNCS_BURST
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold

# Cells of a handful, whose tables tick so seldom that all links of a newcomer are there before its first tick.
CONFIG: ProtocolConfig = replace(
    LOCAL,
    cell_split=20,
    cell_merge=5,
    cell_interval_us=3 * SECOND,
    contacts_a_level=2,
    members_max=60,
    links_kept=40,
    sync_interval_us=5 * SECOND,
)


def of_cells() -> tuple[Cluster, list[SimNode]]:
    """A mesh that has split, and settled."""
    cluster = Cluster(config=CONFIG)
    mesh = [cluster.add(f"n{number}", heat=cold()) for number in range(32)]
    cluster.run_until(lambda: all(node.mesh.cell.depth for node in mesh))
    cluster.run(60 * SECOND)
    return cluster, mesh


def test_newcomer_takes_in_no_digests_of_other_cells() -> None:
    cluster, mesh = of_cells()
    for number in range(6):
        newcomer = cluster.add(f"late{number}", heat=cold(), linked=mesh[number : number + 3])
        heard: dict[bytes, None] = {}
        until_us = cluster.now_us + CONFIG.sync_interval_us // 2
        while cluster.now_us < until_us and cluster.step():
            for record in newcomer.mesh.tables.rows(RecordKind.HEAT):
                heard[record.author] = None
        cell = newcomer.mesh.cell
        mates = [node.name for node in mesh if cell.holds(node.id)]
        assert cell.depth and len(mates) < len(mesh)
        assert [node.name for node in mesh if node.id in heard] == mates


def test_linked_nodes_of_different_cells_have_each_others_records() -> None:
    """Else nobody could be told of a contact, and lookups would end in the own cell."""
    cluster, mesh = of_cells()
    far = [(node, contact) for node in mesh for contact in node.mesh.members.circle.contacts]
    assert len(far) > 32
    for node, contact in far:
        assert node.mesh.tables.get(RecordKind.MEMBER, contact) is not None


def test_syncs_beyond_what_a_peer_may_start_are_not_answered_by_how_deep_the_own_cell_is() -> None:
    cluster = Cluster(config=CONFIG)
    liar, newcomer = cluster.add("liar"), cluster.add("newcomer", heat=cold())
    cluster.run(SECOND)
    said: list[CellDigest] = []
    for request in range(100):
        # In turn it shares all rows with the newcomer, and none.
        sync = TableSync(request + 1, 20 * (request % 2), 0, (), ())
        effects = newcomer.mesh.handle(Received(liar.id, sync), cluster.now_us)
        said.extend(each.message for each in effects if isinstance(each, Send) and isinstance(each.message, CellDigest))
    assert len(said) <= SYNCS_BURST
