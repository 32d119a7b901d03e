"""Peers are found on the local network, and blobs and jobs by who announced them."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from hearthmesh.crypto.identity import Identity, peer_id_text
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.transport.addresses import AddressBook, AddressError, announced, split_peer_address
from hearthmesh.node.transport.blobs import BlobFetchError
from hearthmesh.node.transport.discovery import REDIAL_S, Bootstrap
from hearthmesh.node.transport.lan import LanDiscovery

from .village import Villager, eventually, linked, village

ME, OTHER = Identity(bytes(32)), Identity(bytes([1]) * 32)


def has_multicast() -> bool:
    """Whether what this machine sends to mDNS's group comes back to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", 0))
            group = socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            sock.sendto(b"?", ("224.0.0.251", sock.getsockname()[1]))
            return sock.recv(1) == b"?"
        except OSError:
            return False


def test_wildcard_is_announced_as_real_addresses_with_the_peer_id() -> None:
    found = announced(["/ip4/0.0.0.0/tcp/4001"], ME.node_id)
    assert found and all(text.endswith(f"/tcp/4001/p2p/{ME.peer_id}") and "0.0.0.0" not in text for text in found)
    assert announced(["/ip4/127.0.0.1/tcp/1"], ME.node_id) == (f"/ip4/127.0.0.1/tcp/1/p2p/{ME.peer_id}",)


@pytest.mark.parametrize("text", ["", "/p2p/", "/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/nobody", "x" * 300])
def test_unusable_peer_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        split_peer_address(text)


def test_address_book_keeps_what_is_of_the_peer_and_bounds_it() -> None:
    book = AddressBook()
    mine = [f"/ip4/10.0.0.{n}/tcp/1/p2p/{OTHER.peer_id}" for n in range(20)]
    assert book.learn(OTHER.node_id, ["garbage", f"/ip4/10.9.9.9/tcp/1/p2p/{ME.peer_id}", *mine], [])
    assert book.direct(OTHER.node_id) == [text.partition("/p2p/")[0] for text in mine[:6]]
    assert not book.learn(OTHER.node_id, [], [])
    for number in range(9000):
        book.learn(number.to_bytes(32, "big"), ["/ip4/10.0.0.1/tcp/1"], [])
    assert not book.knows(OTHER.node_id)


def test_circuit_addresses_name_their_relays() -> None:
    book = AddressBook()
    book.learn(OTHER.node_id, [f"/ip4/10.0.0.1/tcp/1/p2p/{ME.peer_id}/p2p-circuit/p2p/{OTHER.peer_id}"], [])
    assert book.circuits(OTHER.node_id) == [(ME.node_id, ["/ip4/10.0.0.1/tcp/1"])]
    assert book.direct(OTHER.node_id) == []


class Dialling:
    """Links that exist or not, as the test says; notes who is dialled."""

    node_id = ME.node_id

    def __init__(self) -> None:
        self.dialled: list[float] = []
        self.count = 0

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None:
        assert peer == OTHER.node_id
        self.dialled.append(trio.current_time())

    def peers_count(self) -> int:
        return self.count

    async def links_changed(self) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize("count", [0, 1])
async def test_the_bootstrap_list_is_dialled_again_and_again(
    count: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Without links soon, with links now and then: two halves that never met find no other way."""
    links = Dialling()
    links.count = count
    began_s = trio.current_time()
    nursery.start_soon(Bootstrap(links, [f"/ip4/127.0.0.1/tcp/1/p2p/{OTHER.peer_id}"]).run)
    await trio.sleep(10 * REDIAL_S)
    gaps_s = [after - before for before, after in pairwise([began_s, *links.dialled])]
    if count:
        assert gaps_s[0] >= REDIAL_S / 2 and all(1.1 < b / a < 3.4 for a, b in pairwise(gaps_s))
    else:
        assert len(gaps_s) > 14 and gaps_s[0] == 0 and gaps_s[1] < REDIAL_S / 2


async def test_members_on_one_network_find_each_other_and_no_other_mesh() -> None:
    if not has_multicast():
        pytest.skip("no multicast on this machine")
    async with village() as mesh, village("elsewhere") as other:
        foreign = await other.settle(mdns=True)
        one = await mesh.settle(mdns=True)
        two = await mesh.settle(listen=(), mdns=True)
        await eventually(lambda: two.links.is_linked(one.id))
        assert foreign.links.peers() == [] and not foreign.seen.rejected


async def test_hostile_hints_are_ignored() -> None:
    async with village() as mesh:
        node = await mesh.settle()
        lan = LanDiscovery(node.links, mesh.mesh.mesh_id)
        ours = mesh.mesh.mesh_id.hex()[:16].encode()
        for properties in (
            {},
            {b"mesh": None},
            {b"mesh": ours, b"peer": b"\xff"},
            {b"mesh": ours, b"peer": peer_id_text(node.id).encode()},
            {b"mesh": b"other", b"peer": OTHER.peer_id.encode(), b"a0": b"/ip4/10.0.0.1/tcp/1"},
        ):
            lan.hint(properties)  # type: ignore[arg-type]
        assert not node.links.knows(OTHER.node_id) and not node.links._dialling


async def tell(nodes: list[Villager]) -> None:
    """A chain of links: the first knows nothing of the last."""
    for one, other in zip(nodes, nodes[1:], strict=False):
        one.knows(other)
        await linked(one, other)


async def test_blob_is_found_at_its_provider_when_the_sources_fail(tmp_path: Path) -> None:
    async with village() as mesh:
        stores = [BlobStore(tmp_path / str(n), 1 << 30, min_free_bytes=0) for n in range(4)]
        nodes = [await mesh.settle(store=store) for store in stores]
        await tell(nodes)
        digest = stores[3].put_bytes(os.urandom(1000))
        nodes[3].links.provide(digest)
        await eventually(lambda: len(nodes[2].links._providers._table.provider_store.providers) == 1)
        await nodes[0].links.fetch_blob(digest, [nodes[1].id], 1 << 20)
        assert stores[0].has(digest)


async def test_provider_of_a_key_is_found_from_afar_and_an_unknown_key_is_not(tmp_path: Path) -> None:
    async with village() as mesh:
        nodes = [await mesh.settle(store=tmp_path / str(n)) for n in range(4)]
        await tell(nodes)
        nodes[3].links.provide(b"j" * 32)
        await eventually(lambda: len(nodes[2].links._providers._table.provider_store.providers) == 1)
        assert list(await nodes[0].links.find_providers(b"j" * 32)) == [nodes[3].id]
        assert list(await nodes[0].links.find_providers(b"k" * 32)) == []
        with pytest.raises(BlobFetchError):
            await nodes[0].links.fetch_blob(b"k" * 32, [], 1 << 20)
