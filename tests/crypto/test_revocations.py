"""Lists of one issuer replace each other, lists of different issuers add up."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hearthmesh.crypto.certificates import (
    CertificateError,
    CertificateReason,
    MembershipPolicy,
    MeshDefinition,
    Role,
    issue,
)
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import (
    REVOCATION_BYTES_MAX,
    RevocationList,
    authority_serial,
    join_revocations,
    pack_lists,
    revoke,
    unpack_lists,
)

AUTHORITY, SECOND_AUTHORITY, STRANGER = (Identity.from_seed(bytes([n]) * 32) for n in range(1, 4))
MESH = MeshDefinition("home", (AUTHORITY.node_id, SECOND_AUTHORITY.node_id))
OTHER_MESH = MeshDefinition("home", (AUTHORITY.node_id,))
ONE, TWO, THREE = (bytes([n]) * 16 for n in range(1, 4))

lists = st.builds(
    RevocationList,
    st.just(MESH.mesh_id),
    st.integers(1, 3),
    st.lists(st.sampled_from([ONE, TWO, THREE]), unique=True).map(lambda serials: tuple(sorted(serials))),
    st.sampled_from([AUTHORITY.node_id, SECOND_AUTHORITY.node_id]),
    st.sampled_from([bytes(64), b"\1" * 64]),
)
tables = st.lists(lists, max_size=4).map(
    lambda found: join_revocations({}, {item.issuer: item for item in found}),
)


def refusal(data: bytes) -> CertificateReason:
    with pytest.raises(CertificateError) as caught:
        MembershipPolicy(MESH).add_revocations(data)
    return caught.value.reason


@given(tables, tables, tables)
def test_join_commutes_associates_and_is_idempotent(
    a: dict[bytes, RevocationList], b: dict[bytes, RevocationList], c: dict[bytes, RevocationList]
) -> None:
    assert list(join_revocations(a, b).items()) == list(join_revocations(b, a).items())
    assert join_revocations(join_revocations(a, b), c) == join_revocations(a, join_revocations(b, c))
    assert join_revocations(a, a) == a == join_revocations(a, {})


@given(st.permutations([(AUTHORITY, [ONE]), (AUTHORITY, [ONE, TWO]), (SECOND_AUTHORITY, [THREE])]))
def test_policies_agree_whichever_list_came_first(order: list[tuple[Identity, list[bytes]]]) -> None:
    policy = MembershipPolicy(MESH)
    for authority, serials in order:
        policy.add_revocations(revoke(authority, MESH, serials).to_bytes())
    in_order = MembershipPolicy(
        MESH,
        [revoke(AUTHORITY, MESH, [ONE]), revoke(AUTHORITY, MESH, [ONE, TWO]), revoke(SECOND_AUTHORITY, MESH, [THREE])],
    )
    assert policy.revocations == in_order.revocations


def test_a_list_is_news_once_and_an_older_one_never() -> None:
    policy = MembershipPolicy(MESH)
    first = revoke(AUTHORITY, MESH, [ONE])
    second = revoke(AUTHORITY, MESH, [TWO], previous=first)
    assert second.sequence == 2 and second.revoked == (ONE, TWO)
    assert policy.add_revocations(second.to_bytes())
    assert not policy.add_revocations(second.to_bytes())
    assert not policy.add_revocations(first.to_bytes())
    assert policy.revocations == (second,)


def test_lists_of_different_authorities_add_up() -> None:
    policy = MembershipPolicy(MESH, [revoke(AUTHORITY, MESH, [ONE]), revoke(SECOND_AUTHORITY, MESH, [TWO])])
    assert policy.is_revoked(ONE) and policy.is_revoked(TWO) and not policy.is_revoked(THREE)


BOARD = tuple(Identity.from_seed(bytes([n]) * 32) for n in range(11, 16))
votes = st.lists(st.tuples(st.sampled_from(BOARD), st.sets(st.sampled_from([ONE, TWO, THREE]))), max_size=8)


@given(votes, st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_serial_is_revoked_once_a_quorum_names_it_in_whatever_order_lists_come(
    cast: list[tuple[Identity, set[bytes]]], quorum: int, dice: random.Random
) -> None:
    mesh = MeshDefinition("board", tuple(each.node_id for each in BOARD), revocation_quorum=quorum)
    lists: dict[bytes, RevocationList] = {}
    for authority, serials in cast:
        lists[authority.node_id] = revoke(authority, mesh, serials, previous=lists.get(authority.node_id))
    shuffled = list(lists.values())
    dice.shuffle(shuffled)
    policy = MembershipPolicy(mesh, shuffled)
    for serial in (ONE, TWO, THREE):
        named = {authority.node_id for authority, serials in cast if serial in serials}
        assert policy.is_revoked(serial) == (len(named) >= quorum)


def test_a_certificate_issued_before_falls_with_the_last_vote_and_not_the_one_before() -> None:
    mesh = MeshDefinition("board", tuple(each.node_id for each in BOARD[:3]), revocation_quorum=2)
    node = Identity.from_seed(bytes([99]) * 32)
    certificate = issue(BOARD[0], mesh, node.node_id, Role.WORKER, 0, 1 << 33, "n", ONE).to_bytes()
    policy = MembershipPolicy(mesh)
    policy.add_revocations(revoke(BOARD[1], mesh, [ONE]).to_bytes())
    assert policy.check(certificate, node.node_id, 1000).serial == ONE
    policy.add_revocations(revoke(BOARD[2], mesh, [ONE]).to_bytes())
    with pytest.raises(CertificateError) as refused:
        policy.check(certificate, node.node_id, 1000)
    assert refused.value.reason is CertificateReason.REVOKED


def test_a_quorum_takes_back_all_that_a_stolen_authoritys_key_issues() -> None:
    mesh = MeshDefinition("board", tuple(each.node_id for each in BOARD[:3]), revocation_quorum=2)
    node = Identity.from_seed(bytes([99]) * 32)
    stolen, honest = (issue(BOARD[n], mesh, node.node_id, Role.WORKER, 0, 1 << 33, "n").to_bytes() for n in (0, 1))
    disowned = authority_serial(BOARD[0].node_id)
    policy = MembershipPolicy(mesh, [revoke(each, mesh, [disowned]) for each in BOARD[1:3]])
    assert policy.is_disowned(BOARD[0].node_id) and not policy.is_disowned(BOARD[1].node_id)
    assert policy.check(honest, node.node_id, 1000)
    with pytest.raises(CertificateError) as refused:
        policy.check(stolen, node.node_id, 1000)
    assert refused.value.reason is CertificateReason.REVOKED


def test_lists_in_one_file_come_out_as_they_went_in() -> None:
    both = (revoke(AUTHORITY, MESH, [ONE]), revoke(SECOND_AUTHORITY, MESH, [TWO]))
    assert unpack_lists(pack_lists(both)) == both
    assert unpack_lists(both[0].to_bytes()) == both[:1]
    for junk in (b"", b"junk", pack_lists(both)[:-1], msgspec.msgpack.encode([b"junk"])):
        with pytest.raises(CertificateError):
            unpack_lists(junk)


def test_what_has_expired_may_leave_the_list() -> None:
    first = revoke(AUTHORITY, MESH, [ONE, TWO])
    second = revoke(AUTHORITY, MESH, [THREE], previous=first, expired=[ONE])
    assert second.revoked == (TWO, THREE)
    policy = MembershipPolicy(MESH, [first])
    assert policy.add_revocations(second.to_bytes()) and not policy.is_revoked(ONE)


def test_a_full_list_is_accepted_and_nothing_longer_made() -> None:
    serials = [n.to_bytes(16) for n in range(10_000)]
    full = revoke(AUTHORITY, MESH, reversed(serials))
    assert len(full.to_bytes()) <= REVOCATION_BYTES_MAX
    assert MembershipPolicy(MESH).add_revocations(full.to_bytes())
    with pytest.raises(ValueError, match="10001 serials"):
        revoke(AUTHORITY, MESH, [ONE], previous=full)
    over = structs.replace(full, revoked=(*serials, ONE))
    assert refusal(over.to_bytes()) == CertificateReason.MALFORMED


def test_lists_of_strangers_other_meshes_and_forgers_are_refused() -> None:
    honest = revoke(AUTHORITY, MESH, [ONE])
    assert refusal(revoke(AUTHORITY, OTHER_MESH, [ONE]).to_bytes()) == CertificateReason.OTHER_MESH
    assert refusal(structs.replace(honest, issuer=STRANGER.node_id).to_bytes()) == CertificateReason.UNKNOWN_ISSUER
    for change in ({"sequence": 9}, {"revoked": ()}, {"issuer": SECOND_AUTHORITY.node_id}):
        assert refusal(structs.replace(honest, **change).to_bytes()) == CertificateReason.BAD_SIGNATURE


def test_a_forged_list_given_at_the_start_is_refused_too() -> None:
    with pytest.raises(CertificateError):
        MembershipPolicy(MESH, [structs.replace(revoke(AUTHORITY, MESH, [ONE]), sequence=9)])


@pytest.mark.parametrize("serials", [(TWO, ONE), (ONE, ONE)])
def test_unsorted_or_repeated_serials_are_malformed(serials: tuple[bytes, ...]) -> None:
    unsorted = structs.replace(revoke(AUTHORITY, MESH, [ONE]), revoked=serials)
    assert refusal(unsorted.to_bytes()) == CertificateReason.MALFORMED


@given(st.binary(max_size=200))
def test_garbage_is_malformed(data: bytes) -> None:
    assert refusal(data) == CertificateReason.MALFORMED


def test_sequence_zero_and_short_serials_are_malformed() -> None:
    honest = revoke(AUTHORITY, MESH, [ONE])
    for change in ({"sequence": 0}, {"revoked": (b"short",)}, {"signature": b""}):
        assert refusal(structs.replace(honest, **change).to_bytes()) == CertificateReason.MALFORMED


def test_only_an_authority_revokes_and_only_on_from_its_own_list() -> None:
    foreign = revoke(SECOND_AUTHORITY, MESH, [ONE])
    with pytest.raises(ValueError):
        revoke(STRANGER, MESH, [ONE])
    with pytest.raises(ValueError):
        revoke(AUTHORITY, MESH, [ONE], previous=foreign)
    with pytest.raises(ValueError):
        revoke(AUTHORITY, MESH, [b"short"])


def test_the_layout_of_a_list_is_frozen() -> None:
    found = revoke(AUTHORITY, MESH, [TWO, ONE])
    assert found.to_bytes() == msgspec.msgpack.encode(
        [MESH.mesh_id, 1, [ONE, TWO], AUTHORITY.node_id, bytes.fromhex(SIGNATURE)]
    )


SIGNATURE = (
    "ed7dcb438eb422d8079d622450159eb74e600f8bd98f045366fdeb9dfee56c4d"
    "481725727960e330974ec13454978d342c73f13fdec547a227cb53c9719b0d04"
)
