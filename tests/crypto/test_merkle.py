"""Inclusion proofs: each holds for its leaf, and for nothing else."""

from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hearthmesh.crypto.merkle import MerkleTree, leaf_hash, merkle_proof, merkle_root, verify_inclusion

LEAVES = [
    leaf_hash(bytes.fromhex(leaf))
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
# Roots of the first n of these, from Certificate Transparency's reference tests for RFC 6962.
ROOTS = """
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125
aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77
d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7
4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4
76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef
ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c
5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328
""".split()

hashes = st.binary(min_size=32, max_size=32)
batches = st.lists(hashes, min_size=1, max_size=70, unique=True)


def rfc_root(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 6962 section 2.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_path(leaves: list[bytes], index: int) -> list[bytes]:
    """The recursive definition of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*rfc_path(leaves[:split], index), rfc_root(leaves[split:])]
    return [*rfc_path(leaves[split:], index - split), rfc_root(leaves[:split])]


@pytest.mark.parametrize("count", range(9))
def test_roots_are_those_of_certificate_transparency(count: int) -> None:
    assert merkle_root(LEAVES[:count]).hex() == ROOTS[count]


@given(batches)
def test_roots_and_proofs_follow_the_recursive_definition(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    assert tree.root == merkle_root(leaves) == rfc_root(leaves)
    for index in range(len(leaves)):
        assert tree.proof(index) == merkle_proof(leaves, index) == rfc_path(leaves, index)


@given(batches)
def test_every_proof_verifies(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    assert all(
        verify_inclusion(tree.root, leaf, index, len(leaves), tree.proof(index)) for index, leaf in enumerate(leaves)
    )


@given(batches, st.data())
def test_a_proof_holds_for_no_other_leaf_index_or_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, proof = merkle_root(leaves), merkle_proof(leaves, index)
    other = data.draw(hashes)
    assume(other not in (root, leaves[index]))
    assert not verify_inclusion(root, other, index, len(leaves), proof)
    assert not verify_inclusion(other, leaves[index], index, len(leaves), proof)
    wrong = data.draw(st.integers(-2, len(leaves) + 2).filter(lambda i: i != index))
    assert not verify_inclusion(root, leaves[index], wrong, len(leaves), proof)


@given(batches, st.data())
def test_a_changed_proof_fails(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, proof = merkle_root(leaves), merkle_proof(leaves, index)
    assert not verify_inclusion(root, leaves[index], index, len(leaves), [*proof, data.draw(hashes)])
    assume(proof)
    assert not verify_inclusion(root, leaves[index], index, len(leaves), proof[:-1])
    position = data.draw(st.integers(0, len(proof) - 1))
    altered = bytearray(proof[position])
    altered[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    for replacement in (bytes(altered), proof[position][:-1], proof[position] + b"\0", b""):
        changed = [*proof[:position], replacement, *proof[position + 1 :]]
        assert not verify_inclusion(root, leaves[index], index, len(leaves), changed)


@given(batches, st.data())
def test_a_wrong_count_never_proves_a_leaf_at_a_place_where_it_is_not(leaves: list[bytes], data: st.DataObject) -> None:
    # RFC 6962 leaves the count out of the root: the first of 3 has the path that the first of 4 has.
    index = data.draw(st.integers(0, len(leaves) - 1))
    count = data.draw(st.integers(-1, 2 * len(leaves) + 2))
    place = data.draw(st.integers(0, len(leaves) - 1))
    if verify_inclusion(merkle_root(leaves), leaves[index], place, count, merkle_proof(leaves, index)):
        assert place == index or count != len(leaves)
    shapes = {n: rfc_shape(n, index) for n in range(index + 1, 2 * len(leaves) + 3)}
    if index < count:
        assert verify_inclusion(merkle_root(leaves), leaves[index], index, count, merkle_proof(leaves, index)) == (
            shapes[count] == shapes[len(leaves)]
        )


def rfc_shape(count: int, index: int) -> str:
    """On which side of the path each sibling stands, from the leaf up."""
    if count == 1:
        return ""
    split = 1 << (count - 1).bit_length() - 1
    return rfc_shape(split, index) + "R" if index < split else rfc_shape(count - split, index - split) + "L"


def test_a_node_is_no_leaf() -> None:
    inner = sha256(b"\1" + LEAVES[0] + LEAVES[1]).digest()
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != inner


def test_an_odd_leaf_is_not_duplicated() -> None:
    assert merkle_root(LEAVES[:3]) != merkle_root([*LEAVES[:3], LEAVES[2]])


@given(
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.integers(),
    st.integers(),
    st.lists(st.binary(max_size=40)),
)
def test_malformed_proofs_are_false_and_never_raise(
    root: bytes, leaf: bytes, index: int, count: int, proof: list[bytes]
) -> None:
    assert verify_inclusion(root, leaf, index, count, proof) == (
        root == leaf and len(leaf) == 32 and index == 0 and count == 1 and not proof
    )


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_outside_the_batch(index: int) -> None:
    with pytest.raises(IndexError):
        merkle_proof(LEAVES[:3], index)
