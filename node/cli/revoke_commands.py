"""`hearth mesh key`, `revoke` and `cosign`: authorities, each with its own key, take admissions back together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mesh_commands import Folder, Number, app
from .options import ClientPath, Json, ask_passphrase, new_passphrase
from .output import print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .authority import Authority, AuthorityFolder

__all__ = ["app"]

Publish = Annotated[bool, typer.Option("--publish", help="Tell the running mesh at once, as --client.")]


@app.command()
def key(
    folder: Folder = Path("."),
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt the key; asks, or takes HEARTH_PASSPHRASE.")] = (
        False
    ),
    as_json: Json = False,
) -> None:
    """Make an authority's key for a mesh that somebody else founds. It never leaves this folder.

    The founder names its peer id with `hearth mesh init --authority`, and sends back mesh.toml for this folder.

    \b
    Examples:
      hearth mesh key --folder ~/mesh
      hearth mesh key --encrypt --json
    """
    from .authority import AuthorityFolder

    place = AuthorityFolder(folder)
    identity = place.create_key(new_passphrase() if encrypt else None)
    if as_json:
        print_json({"peer_id": identity.peer_id, "key": str(place.key(1))})
        return
    say(identity.peer_id)
    say(f"  {place.key(1)}  secret: who has it admits members")
    say(f"next: the founder runs hearth mesh init NAME --authority {identity.peer_id}; put its mesh.toml here")


@app.command()
def revoke(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Certificates' files, serials of 32 hexadecimal digits, or the peer id of an authority: all that it "
            "issued."
        ),
    ],
    folder: Folder = Path("."),
    authority: Number = 1,
    publish: Publish = False,
    via: ClientPath = None,
    as_json: Json = False,
) -> None:
    """Take admissions back: write the authority's next revocation list.

    With a quorum of k authorities it counts once k lists name it: hand the list to the others, for hearth mesh cosign.
    Nodes learn lists from `mesh.revocations` in their node.toml, or with --publish over the mesh.

    \b
    Examples:
      hearth mesh revoke certificates/kitchen-1f2e3d4c.cert
      hearth mesh revoke 00112233445566778899aabbccddeeff --publish --client laptop/client.toml
    """
    from .authority import AuthorityFolder, serial_of

    place = AuthorityFolder(folder)
    signer = place.authority(authority, ask_passphrase)
    serials = [serial_of(text, signer.mesh) for text in what]
    revoked, path = place.revoke(signer, serials)
    _report(place, signer, path, serials, publish, via, as_json)


@app.command()
def cosign(
    lists: Annotated[list[Path], typer.Argument(help="Revocation lists of other authorities of the mesh.")],
    folder: Folder = Path("."),
    authority: Number = 1,
    publish: Publish = False,
    via: ClientPath = None,
    as_json: Json = False,
) -> None:
    """Take back too what other authorities take back: their lists are checked, and kept in the folder.

    Look at them first with hearth mesh show, or in the list's JSON: what is signed here is all that they name.

    \b
    Examples:
      hearth mesh cosign anna/revocations
      hearth mesh cosign anna/revocations ben/revocations --publish --json
    """
    from .authority import AuthorityFolder

    place = AuthorityFolder(folder)
    signer = place.authority(authority, ask_passphrase)
    _, path, fresh = place.cosign(signer, lists)
    _report(place, signer, path, fresh, publish, via, as_json)


def _report(
    place: AuthorityFolder,
    signer: Authority,
    path: Path,
    serials: Iterable[bytes],
    publish: bool,
    via: Path | None,
    as_json: bool,
) -> None:
    """What the folder's lists come to now; the newest of each authority are told to the mesh if asked for."""
    lists, votes, needed = place.lists(), place.votes(), signer.mesh.revocation_quorum
    own = lists[signer.identity.node_id]
    if publish:
        from .publishing import publish_revocations

        publish_revocations(via, [held.to_bytes() for held in lists.values()])
    short = [serial for serial in serials if len(votes.get(serial, ())) < needed]
    if as_json:
        answer: dict[str, Any] = {
            "list": str(path),
            "all_lists": str(place.bundle),
            "sequence": own.sequence,
            "revoked": [serial.hex() for serial in own.revoked],
            "quorum": needed,
            "votes": {serial.hex(): len(votes.get(serial, ())) for serial in own.revoked},
            "published": publish,
        }
        print_json(answer)
        return
    say(f"{path}: list {own.sequence} with {len(own.revoked)} revoked certificates")
    for serial in short:
        say(f"  {serial.hex()}: {len(votes[serial])} of {needed} authorities; it still counts as admitted")
    if publish:
        say("published: nodes close links as the lists reach them")
    elif short:
        say(f"next: another authority runs hearth mesh cosign {path}")
    else:
        say(f"next: again with --publish, or copy {place.bundle} to the nodes (mesh.revocations in node.toml)")
