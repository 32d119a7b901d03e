"""`hearth mesh`: found a mesh, admit members, take admissions back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UserError
from .options import Json, ask_passphrase, new_passphrase
from .output import print_json, print_table, say
from .tables import ID_CHARS, Column, Columns

if TYPE_CHECKING:
    from ...crypto.certificates import Certificate, Quota, Role, Vouched
    from .authority import Authority, AuthorityFolder

    # What a certificate says beside whom it admits.
    Terms = tuple[Quota, Vouched]

NODE_ROLES = "worker,submitter,replica,relay"
CLIENT_ROLES = "submitter"
# A serial is what takes an admission back: a part of it is of no use.
MEMBER_COLUMNS: Columns = (
    *("name", Column("peer id", tail=ID_CHARS, drop=6), Column("roles", folds=True, drop=4), Column("until", drop=5)),
    *(Column("owner", head=8, drop=3), Column("site", head=8, drop=1), Column("classes", head=8, drop=2)),
    *(Column("", folds=True), "serial"),
)

HELP = """Found a mesh, admit its members, take admissions back. Each command has --json.

\b
Examples:
  hearth mesh init street             an authority's key and mesh.toml
  hearth mesh invite 12D3Koo… --name kitchen
  hearth mesh invite --new --client laptop
  hearth mesh revoke certificates/kitchen-1f2e3d4c.cert --publish
  hearth mesh show --json
"""
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)
Folder = Annotated[Path, typer.Option(help="The authority's folder: mesh.toml and the secret keys.")]
Number = Annotated[int, typer.Option("--authority", help="Which of the folder's authority keys signs, from 1.")]


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The mesh's name, a part of its identity.")],
    folder: Folder = Path("."),
    authorities: Annotated[int, typer.Option(help="Number of keys made here that may admit members.")] = 1,
    authority: Annotated[
        list[str] | None,
        typer.Option(help="Peer id of an authority whose key is elsewhere (hearth mesh key); may be repeated."),
    ] = None,
    quorum: Annotated[
        int | None,
        typer.Option(
            help="How many authorities have to take an admission back. Default: a majority.", show_default=False
        ),
    ] = None,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt the keys; asks, or takes HEARTH_PASSPHRASE.")] = (
        False
    ),
    as_json: Json = False,
) -> None:
    """Found a mesh: its definition (public) and its authority's key (secret).

    \b
    Examples:
      hearth mesh init our-street
      hearth mesh init our-street --folder ~/mesh --authorities 2 --encrypt
      hearth mesh init our-street --authority 12D3KooWDpJ7… --authority 12D3KooWNcd5… --quorum 2
    """
    from ...crypto.identity import peer_id_text
    from .authority import AuthorityFolder, authority_of

    place = AuthorityFolder(folder)
    others = tuple(authority_of(text) for text in authority or ())
    secret = new_passphrase() if encrypt else None
    mesh = place.create(name, authorities, secret, others=others, quorum=quorum)
    keys = [str(place.key(number)) for number in range(1, authorities + 1)]
    if as_json:
        ids = [peer_id_text(authority) for authority in mesh.authorities]
        print_json(
            {
                "name": name,
                "mesh_id": mesh.mesh_id.hex(),
                "mesh": str(place.mesh_file),
                "keys": keys,
                "authorities": ids,
                "quorum": mesh.revocation_quorum,
            }
        )
        return
    say(f"mesh {name}, id {mesh.mesh_id.hex()[:16]}…")
    say(f"  {place.mesh_file}  public: each member needs a copy")
    for key in keys:
        say(f"  {key}  secret: who has it admits members")
    if len(mesh.authorities) > 1:
        say(f"  {mesh.revocation_quorum} of {len(mesh.authorities)} authorities take an admission back")
    say(f'next: hearth mesh invite --new kitchen --folder "{folder}"')


@app.command()
def invite(
    who: Annotated[list[str], typer.Argument(help="Peer ids of nodes to admit; with --new, names of new ones.")],
    new: Annotated[bool, typer.Option("--new", help="Make each one's key too: a folder to carry to its machine.")] = (
        False
    ),
    client: Annotated[bool, typer.Option("--client", help="With --new: a client, which submits jobs only.")] = False,
    roles: Annotated[
        str | None, typer.Option(help=f"What it may do. Default: {NODE_ROLES}; clients: {CLIENT_ROLES}.")
    ] = None,
    days: Annotated[float, typer.Option(help="How long the certificate holds.")] = 365.0,
    name: Annotated[str | None, typer.Option(help="Name for people, with a single peer id.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --new: where the folders go. Else: the certificate's file or folder.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="With --new: address of a peer to dial first; may be repeated.")
    ] = None,
    max_tasks: Annotated[
        int, typer.Option(min=0, help="Quota: tasks without a result that a node keeps for it; 0: no bound.")
    ] = 0,
    max_gb: Annotated[float, typer.Option(min=0, help="Quota: GiB of unfinished jobs, inputs included; 0: none.")] = 0,
    max_cpu_h: Annotated[float, typer.Option(min=0, help="Quota: CPU hours of unfinished tasks; 0: no bound.")] = 0,
    owner: Annotated[str, typer.Option(help="Whose machine it is: copies go to others.", show_default=False)] = "",
    site: Annotated[str, typer.Option(help="Where it stands: copies go elsewhere.", show_default=False)] = "",
    trust_class: Annotated[
        list[str] | None,
        typer.Option(help="What the mesh vouches for, for confidential jobs; may be repeated.", show_default=False),
    ] = None,
    folder: Folder = Path("."),
    authority: Number = 1,
    as_json: Json = False,
) -> None:
    """Admit members: sign a certificate for each.

    \b
    Examples:
      hearth mesh invite 12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN --name kitchen
      hearth mesh invite --new kitchen bath --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…
      hearth mesh invite --new --client laptop --days 30
      hearth mesh invite --new --client guest --max-tasks 10000 --max-gb 2 --max-cpu-h 24
      hearth mesh invite --new ward --owner "St. Anna" --site Linz --trust-class clinic
    """
    from ...crypto.certificates import Quota, Vouched
    from .authority import DAYS_MAX, AuthorityFolder, parse_roles

    if not 0 < days <= DAYS_MAX:
        raise UserError(f"--days: {days:g}, more than 0 and at most {DAYS_MAX} are possible")
    _check_invited(who, name, new=new, client=client, bootstrap=bootstrap or [])
    granted = parse_roles(roles if roles is not None else CLIENT_ROLES if client else NODE_ROLES)
    quota = Quota(max_tasks, round(max_gb * (1 << 30)), round(max_cpu_h * 3600))
    vouched = Vouched(owner, site, tuple(trust_class or ()))
    terms = quota, vouched
    place = AuthorityFolder(folder)
    signer = place.authority(authority, ask_passphrase)
    if new:
        made = [_admit_new(place, signer, n, granted, days, terms, client, bootstrap or [], out or Path()) for n in who]
    else:
        made = [_admit(place, signer, peer, name, granted, days, terms, out) for peer in who]
    if as_json:
        print_json({"invited": made})
    else:
        _tell_invited(made, new=new, client=client)


def _check_invited(who: list[str], name: str | None, *, new: bool, client: bool, bootstrap: list[str]) -> None:
    """Raises UserError for options that say nothing together."""
    if name is not None and (new or len(who) != 1):
        raise UserError("--name goes with a single peer id; with --new the arguments are the names")
    if (client or bootstrap) and not new:
        raise UserError("--client and --bootstrap say what --new writes; give --new and a name")
    _check_bootstrap(bootstrap)


def _tell_invited(made: list[dict[str, Any]], *, new: bool, client: bool) -> None:
    """What was written, and what comes next."""
    for entry in made:
        say(f"{entry['name']}  {entry['peer_id']}  {', '.join(entry['roles'])}  until {entry['until'][:10]}")
        say(f"  {entry.get('folder', entry['certificate'])}")
    if new:
        command = f'export HEARTH_CLIENT="{Path(made[-1]["folder"]).absolute() / "client.toml"}"; hearth peers'
        say(f"next: {command if client else 'carry the folder to its machine, hearth node --config node.toml'}")
    else:
        say("next: copy it to the node as `certificate` in its state folder")


def _admit(
    place: AuthorityFolder,
    signer: Authority,
    peer: str,
    name: str | None,
    roles: Role,
    days: float,
    terms: Terms,
    out: Path | None,
) -> dict[str, Any]:
    from ...crypto.identity import node_id_from_text
    from .authority import write_atomically

    try:
        subject = node_id_from_text(peer)
    except ValueError as error:
        raise UserError(f'"{peer}" is no peer id: {error}; for a new member give --new and its name') from error
    certificate, path = place.invite(signer, subject, name or f"node-{peer[-8:]}", roles, days, *terms)
    if out is not None:
        path = out / path.name if out.is_dir() else out
        try:
            write_atomically(path, certificate.to_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return {**_describe(certificate), "certificate": str(path)}


def _admit_new(
    place: AuthorityFolder,
    signer: Authority,
    name: str,
    roles: Role,
    days: float,
    terms: Terms,
    client: bool,
    bootstrap: list[str],
    out: Path,
) -> dict[str, Any]:
    from ..storage.folder import StateFolder
    from .authority import file_name, write_atomically
    from .members import make_identity, write_client_settings, write_mesh, write_node_settings

    folder = out / file_name(name)
    state = StateFolder(folder / "state")
    identity = make_identity(state)
    certificate, _ = place.invite(signer, identity.node_id, name, roles, days, *terms)
    write_atomically(state.certificate, certificate.to_bytes())
    write_mesh(folder, signer.mesh)
    if client:
        settings = write_client_settings(folder, bootstrap)
    else:
        settings = write_node_settings(folder, name, bootstrap)
    return {
        **_describe(certificate),
        "folder": str(folder),
        "certificate": str(state.certificate),
        "settings": str(settings),
    }


def _check_bootstrap(addresses: list[str]) -> None:
    from ..settings.checks import check_peer_address

    for address in addresses:
        try:
            check_peer_address(address)
        except ValueError as error:
            raise UserError(f"--bootstrap {address}: {error}") from error


@app.command()
def show(folder: Folder = Path("."), as_json: Json = False) -> None:
    """The mesh of a folder, and whom its authorities admitted from here.

    \b
    Examples:
      hearth mesh show
      hearth mesh show --folder ~/mesh --json
    """
    from ...crypto.identity import peer_id_text
    from .authority import AuthorityFolder

    place = AuthorityFolder(folder)
    mesh = place.mesh()
    votes = place.votes()
    needed = mesh.revocation_quorum
    revoked = [serial for serial, authorities in votes.items() if len(authorities) >= needed]
    members = [
        {**_describe(held), "revoked": held.serial in revoked, "votes": len(votes.get(held.serial, ()))}
        for held in place.issued()
    ]
    authorities = [peer_id_text(authority) for authority in mesh.authorities]
    if as_json:
        print_json(
            {
                "name": mesh.name,
                "mesh_id": mesh.mesh_id.hex(),
                "authorities": authorities,
                "quorum": needed,
                "certificates": members,
                "revoked": [serial.hex() for serial in sorted(revoked)],
                "votes": {serial.hex(): [peer_id_text(each) for each in votes[serial]] for serial in sorted(votes)},
            }
        )
        return
    say(f"mesh {mesh.name}, id {mesh.mesh_id.hex()}")
    for authority in authorities:
        say(f"authority {authority}")
    if len(mesh.authorities) > 1:
        say(f"{needed} of {len(authorities)} take an admission back")
    say("")
    rows = [
        (
            m["name"],
            m["peer_id"],
            ",".join(m["roles"]),
            m["until"][:10],
            m["owner"],
            m["site"],
            ",".join(m["classes"]),
            _standing(m, needed),
            m["serial"],
        )
        for m in members
    ]
    print_table(MEMBER_COLUMNS, rows, empty="nobody was admitted from here")


def _standing(member: dict[str, Any], needed: int) -> str:
    if member["revoked"]:
        return "revoked"
    return f"{member['votes']} of {needed} revoke it" if member["votes"] else ""


def _describe(certificate: Certificate) -> dict[str, Any]:
    from ...crypto.identity import peer_id_text
    from .authority import role_names

    quota = certificate.quota
    return {
        "name": certificate.name,
        "peer_id": peer_id_text(certificate.subject),
        "roles": role_names(certificate.roles),
        "from": _time_text(certificate.not_before_s),
        "until": _time_text(certificate.not_after_s),
        "owner": certificate.vouched.owner,
        "site": certificate.vouched.site,
        "classes": list(certificate.vouched.classes),
        "serial": certificate.serial_text,
        "issuer": peer_id_text(certificate.issuer),
        "quota": {"tasks": quota.tasks, "bytes": quota.bytes, "cpu_s": quota.cpu_s},
    }


def _time_text(unix_s: int) -> str:
    """RFC 3339; a certificate that this program did not issue may lie outside the calendar."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return str(unix_s)
