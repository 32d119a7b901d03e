"""A mesh is known by its name and its authorities."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.bounded import DecodeError
from hearthmesh.crypto.mesh import MeshDefinition

KEYS = tuple(bytes([n]) * 32 for n in range(1, 18))

# What str.isprintable takes.
printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
meshes = st.builds(
    MeshDefinition,
    st.text(printable, min_size=1, max_size=64),
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=16, unique=True).map(tuple),
)


@given(meshes)
def test_a_definition_is_decoded_to_itself(mesh: MeshDefinition) -> None:
    assert MeshDefinition.from_bytes(mesh.to_bytes()) == mesh


@given(meshes, meshes)
def test_the_id_tells_meshes_apart(mesh: MeshDefinition, other: MeshDefinition) -> None:
    assert (mesh.mesh_id == other.mesh_id) == (mesh == other)
    assert len(mesh.mesh_id) == 32


def test_the_order_of_authorities_does_not_matter() -> None:
    assert MeshDefinition("home", KEYS[:3]) == MeshDefinition("home", KEYS[2::-1])
    assert MeshDefinition("home", KEYS[:3]).mesh_id == MeshDefinition("home", KEYS[2::-1]).mesh_id


def test_the_id_of_a_mesh_is_frozen() -> None:
    assert MeshDefinition("home", KEYS[:1]).mesh_id.hex() == (
        "2a46a46de5bf8df5bd8f5f1396d81048f7b295bc1c54d2e14d632fc6da03b68c"
    )


@pytest.mark.parametrize(
    ("name", "authorities", "version"),
    [
        ("", KEYS[:1], 1),
        ("x" * 65, KEYS[:1], 1),
        ("a\tb", KEYS[:1], 1),
        ("home", (), 1),
        ("home", KEYS, 1),
        ("home", (KEYS[0], KEYS[0]), 1),
        ("home", (b"short",), 1),
        ("home", KEYS[:1], 2),
    ],
)
def test_definitions_out_of_bounds_are_refused(name: str, authorities: tuple[bytes, ...], version: int) -> None:
    with pytest.raises(ValueError):
        MeshDefinition(name, authorities, version)
    with pytest.raises(DecodeError):
        MeshDefinition.from_bytes(msgspec.msgpack.encode([version, name, authorities]))


def test_unsorted_authorities_are_a_second_encoding() -> None:
    with pytest.raises(DecodeError, match="sorted"):
        MeshDefinition.from_bytes(msgspec.msgpack.encode([1, "home", KEYS[1::-1]]))


@given(st.binary(max_size=100))
def test_garbage_is_no_mesh(data: bytes) -> None:
    with pytest.raises(DecodeError):
        MeshDefinition.from_bytes(data)
