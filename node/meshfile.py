"""`mesh.toml`: what a mesh's members know of it before they meet anybody. Public; it holds no secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..crypto.identity import peer_id_text
from ..crypto.mesh import AUTHORITIES_MAX, NAME_LENGTH_MAX, MeshDefinition
from .settings.checks import authority_from_text, check_authority, check_printable
from .settings.read import read_settings
from .settings.schema import Conflict, Key
from .settings.write import write_settings
from .toml import read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFile:
    """The keys of the file. authorities: peer ids, or 64 hexadecimal digits of the key."""

    name: Annotated[str, Key("The mesh's name, a part of its identity.", length=NAME_LENGTH_MAX, check=check_printable)]
    authorities: Annotated[
        tuple[str, ...],
        Key(
            "Who may admit members: peer ids, or keys in hexadecimal.",
            items=AUTHORITIES_MAX,
            length=128,
            check=check_authority,
        ),
    ]
    revocation_quorum: Annotated[
        int,
        Key("How many authorities have to take an admission back before it counts.", low=1, high=AUTHORITIES_MAX),
    ] = 1
    version: Annotated[int, Key("Version of the definition's form.", low=1, high=1)] = 1

    def __post_init__(self) -> None:
        if not self.name:
            raise Conflict("name", "empty")
        if not self.authorities:
            raise Conflict("authorities", "empty", "a mesh needs one that admits its members")
        keys = [authority_from_text(text) for text in self.authorities]
        if len(set(keys)) != len(keys):
            raise Conflict("authorities", "one is there twice")
        if self.revocation_quorum > len(keys):
            raise Conflict("revocation_quorum", f"{self.revocation_quorum}, and there are {len(keys)} authorities")

    def definition(self) -> MeshDefinition:
        keys = tuple(authority_from_text(text) for text in self.authorities)
        return MeshDefinition(self.name, keys, self.version, self.revocation_quorum)

    @classmethod
    def of(cls, mesh: MeshDefinition) -> MeshFile:
        authorities = tuple(peer_id_text(authority) for authority in mesh.authorities)
        return cls(
            name=mesh.name,
            authorities=authorities,
            version=mesh.version,
            revocation_quorum=mesh.revocation_quorum,
        )


def load_mesh_file(path: Path) -> MeshDefinition:
    """Raises ConfigError."""
    return read_settings(read_toml(path), MeshFile).definition()


def save_mesh_file(path: Path, mesh: MeshDefinition) -> None:
    """Write the file anew. Raises OSError."""
    write_settings(path, MeshFile.of(mesh))
