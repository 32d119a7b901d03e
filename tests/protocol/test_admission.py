"""Who may do what in the mesh: revocations by several authorities, roles, quotas."""

from __future__ import annotations

from hearthmesh.crypto.certificates import Certificate, MeshDefinition
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.effects import Penalise, Reason
from hearthmesh.protocol.events import Received
from hearthmesh.protocol.messages import Revocations
from tests.protocol.cluster import SECOND, Cluster, SimNode


def board_of_three() -> tuple[Cluster, list[Identity]]:
    """A mesh whose revocations take two of three authorities."""
    cluster = Cluster()
    others = [Identity.from_seed(bytes([n]) * 32) for n in (201, 202)]
    authorities = [cluster.authority, *others]
    keys = tuple(each.node_id for each in authorities)
    cluster.mesh_definition = MeshDefinition("test", keys, revocation_quorum=2)
    return cluster, authorities


def serial_of(node: SimNode) -> bytes:
    return Certificate.from_bytes(node.mesh.ctx.certificate).serial


def test_two_of_three_lists_spread_apart_persist_and_count_together() -> None:
    cluster, (first, second, _) = board_of_three()
    nodes, outcast = [cluster.add(name) for name in ("a", "b", "c")], cluster.add("outcast")
    serial = serial_of(outcast)
    lists = [revoke(each, cluster.mesh_definition, [serial]).to_bytes() for each in (first, second)]
    cluster.feed(nodes[0], Received(nodes[0].id, Revocations(lists[0])))
    cluster.run(SECOND)
    assert not any(node.mesh.ctx.policy.is_revoked(serial) for node in nodes)
    cluster.feed(nodes[1], Received(nodes[1].id, Revocations(lists[1])))
    cluster.run(SECOND)
    assert all(node.mesh.ctx.policy.is_revoked(serial) for node in nodes)
    cluster.restart(nodes[2])
    assert nodes[2].mesh.ctx.policy.is_revoked(serial)


def test_who_sends_a_list_that_no_authority_signed_breaks_a_rule() -> None:
    cluster, (first, _, _) = board_of_three()
    node, peer = cluster.add("a"), cluster.add("b")
    forged = revoke(first, cluster.mesh_definition, [bytes(16)]).to_bytes()[:-1] + b"\0"
    effects = node.mesh.handle(Received(peer.id, Revocations(forged)), cluster.now_us)
    assert effects == [Penalise(peer.id, Reason.BAD_SIGNATURE)]
