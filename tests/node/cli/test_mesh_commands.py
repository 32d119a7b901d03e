"""Founding a mesh, admitting members, taking admissions back."""

import stat
import time
from pathlib import Path

import pytest

from hearthmesh.crypto.certificates import CertificateError, CertificateReason, MembershipPolicy, Role
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import RevocationList
from hearthmesh.node.config import load_client_config, load_node_config
from hearthmesh.node.membership_files import load_membership
from hearthmesh.node.meshfile import load_mesh_file
from hearthmesh.node.storage.folder import StateFolder

from .conftest import Hearth


@pytest.fixture
def mesh(hearth: Hearth, tmp_path: Path) -> Path:
    """An authority's folder."""
    assert hearth("mesh", "init", "our street", "--folder", "m").code == 0
    return tmp_path / "m"


def now_s() -> int:
    return int(time.time())


def test_init_writes_the_definition_and_a_secret_key(hearth: Hearth, tmp_path: Path) -> None:
    made = hearth("mesh", "init", "our street", "--folder", "a b/m", "--authorities", "2", "--json").json
    definition = load_mesh_file(tmp_path / "a b" / "m" / "mesh.toml")
    assert (definition.name, definition.mesh_id.hex()) == ("our street", made["mesh_id"])
    assert len(definition.authorities) == 2
    for key in made["keys"]:
        assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600
        assert Identity.load(tmp_path / key).peer_id in made["authorities"]


def test_init_says_what_to_do_next(hearth: Hearth) -> None:
    assert 'next: hearth mesh invite --new kitchen --folder "m"' in hearth("mesh", "init", "x", "--folder", "m").out


def test_init_never_replaces_a_mesh(hearth: Hearth, mesh: Path) -> None:
    before = (mesh / "mesh.toml").read_bytes()
    assert "mesh.toml: is there already" in hearth("mesh", "init", "other", "--folder", "m").complaint
    assert (mesh / "mesh.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["two\nlines"], "cannot be a mesh's name"),
        ([""], "cannot be a mesh's name"),
        (["x", "--authorities", "0"], "--authorities: 0, 1 to 16 are possible"),
        (["x", "--authorities", "17"], "--authorities: 17, 1 to 16 are possible"),
        (["x", "--encrypt"], "--encrypt needs a passphrase; set HEARTH_PASSPHRASE"),
        (["x", "--folder", "/proc/nowhere"], "cannot be written"),
    ],
)
def test_init_refuses(hearth: Hearth, arguments: list[str], complaint: str) -> None:
    assert complaint in hearth("mesh", "init", *arguments).complaint


def test_an_encrypted_key_signs_with_its_passphrase_only(hearth: Hearth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_PASSPHRASE", "correct horse")
    assert hearth("mesh", "init", "x", "--encrypt").code == 0
    assert hearth("mesh", "invite", "--new", "kitchen").code == 0
    monkeypatch.setenv("HEARTH_PASSPHRASE", "wrong")
    assert "authority.key: the passphrase is wrong" in hearth("mesh", "invite", "--new", "bath").complaint
    monkeypatch.delenv("HEARTH_PASSPHRASE")
    assert "authority.key: the key is encrypted; set HEARTH" in hearth("mesh", "invite", "--new", "bath").complaint


def test_a_peer_id_is_admitted_with_the_roles_and_days_asked_for(hearth: Hearth, mesh: Path) -> None:
    node = Identity.generate()
    options = ("--name", "kitchen", "--roles", "worker,replica", "--days", "2", "--folder", "m", "--json")
    (invited,) = hearth("mesh", "invite", node.peer_id, *options).json["invited"]
    policy = MembershipPolicy(load_mesh_file(mesh / "mesh.toml"))
    found = policy.check(Path(invited["certificate"]).read_bytes(), node.node_id, now_s())
    assert (found.name, found.roles) == ("kitchen", Role.WORKER | Role.REPLICA)
    assert found.not_after_s - found.not_before_s == 2 * 86_400


def test_a_new_node_is_ready_to_start(hearth: Hearth, mesh: Path, tmp_path: Path) -> None:
    peer = f"/ip4/192.0.2.7/tcp/4001/p2p/{Identity.generate().peer_id}"
    made = hearth("mesh", "invite", "--new", "kitchen", "bath", "--folder", "m", "--bootstrap", peer, "--out", "n")
    assert made.code == 0
    config = load_node_config(tmp_path / "n" / "kitchen" / "node.toml")
    membership = load_membership(config.mesh, StateFolder(config.node.state))
    assert (config.node.name, config.node.bootstrap) == ("kitchen", (peer,))
    assert membership.certificate.roles == Role.WORKER | Role.SUBMITTER | Role.REPLICA | Role.RELAY


def test_a_new_client_is_ready_to_submit(hearth: Hearth, mesh: Path, tmp_path: Path) -> None:
    assert hearth("mesh", "invite", "--new", "--client", "laptop", "--folder", "m").code == 0
    config = load_client_config(tmp_path / "laptop" / "client.toml")
    membership = load_membership(config.mesh, StateFolder(config.client.state))
    assert (membership.certificate.roles, config.client.mdns) == (Role.SUBMITTER, True)


def test_a_new_node_never_replaces_a_key(hearth: Hearth, mesh: Path) -> None:
    hearth("mesh", "invite", "--new", "kitchen", "--folder", "m")
    again = hearth("mesh", "invite", "--new", "kitchen", "--folder", "m")
    assert "kitchen/state/identity.key: is there already; a key is never overwritten" in again.complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["kitchen"], '"kitchen" is no peer id'),
        (
            ["--new", "k", "--roles", "worker,cook"],
            '--roles: no role "cook"; there are: worker, submitter, replica, relay',
        ),
        (["--new", "k", "--roles", ","], "--roles: empty"),
        (["--new", "k", "--days", "0"], "--days: 0, more than 0 and at most 36500"),
        (["--new", "k", "--name", "z"], "--name goes with a single peer id"),
        (["--client", "k"], "--client and --bootstrap say what --new writes"),
        (
            ["--new", "k", "--bootstrap", "/ip4/1.2.3.4/tcp/1"],
            "--bootstrap /ip4/1.2.3.4/tcp/1: expected a peer's whole",
        ),
        (["--new", "bell\a"], "a name has printable characters only"),
        (["--new", "k", "--authority", "2"], "authority-2.key: there is no such file"),
    ],
)
def test_invite_refuses(hearth: Hearth, mesh: Path, arguments: list[str], complaint: str) -> None:
    assert complaint in hearth("mesh", "invite", *arguments, "--folder", "m").complaint


def test_invite_needs_an_authoritys_folder(hearth: Hearth) -> None:
    assert "mesh.toml: no such file; name the authority's --folder" in hearth("mesh", "invite", "--new", "k").complaint


def test_a_foreign_key_cannot_admit(hearth: Hearth, mesh: Path) -> None:
    hearth("mesh", "init", "other", "--folder", "o")
    (mesh / "authority.key").write_bytes(Path("o/authority.key").read_bytes())
    assert "is no authority of m/mesh.toml" in hearth("mesh", "invite", "--new", "k", "--folder", "m").complaint


def test_a_revoked_certificate_is_refused_from_then_on(hearth: Hearth, mesh: Path, tmp_path: Path) -> None:
    (invited,) = hearth("mesh", "invite", "--new", "kitchen", "--folder", "m", "--json").json["invited"]
    hearth("mesh", "invite", "--new", "bath", "--folder", "m")
    first = hearth("mesh", "revoke", invited["certificate"], "--folder", "m", "--json").json
    assert (first["sequence"], first["revoked"]) == (1, [invited["serial"]])
    second = hearth("mesh", "revoke", "00" * 16, "--folder", "m", "--json").json
    assert (second["sequence"], second["revoked"]) == (2, ["00" * 16, invited["serial"]])
    held = RevocationList.from_bytes((mesh / "revocations").read_bytes())
    policy = MembershipPolicy(load_mesh_file(mesh / "mesh.toml"), [held])
    node = Identity.load(tmp_path / "kitchen" / "state" / "identity.key")
    with pytest.raises(CertificateError) as refused:
        policy.check(Path(invited["certificate"]).read_bytes(), node.node_id, now_s())
    assert refused.value.reason is CertificateReason.REVOKED


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("kitchen", "neither a certificate's file nor a serial"),
        ("m/mesh.toml", "m/mesh.toml: not a certificate: malformed"),
        ("m", "m: cannot be read: Is a directory"),
    ],
)
def test_revoke_refuses(hearth: Hearth, mesh: Path, what: str, complaint: str) -> None:
    assert complaint in hearth("mesh", "revoke", what, "--folder", "m").complaint


def test_a_damaged_revocation_list_is_not_replaced(hearth: Hearth, mesh: Path) -> None:
    (mesh / "revocations").write_bytes(b"junk")
    ran = hearth("mesh", "revoke", "00" * 16, "--folder", "m")
    assert "m/revocations: not a revocation list" in ran.complaint
    assert (mesh / "revocations").read_bytes() == b"junk"


def test_show_lists_members_and_who_was_revoked(hearth: Hearth, mesh: Path) -> None:
    hearth("mesh", "invite", "--new", "kitchen", "bath", "--folder", "m")
    members = hearth("mesh", "show", "--folder", "m", "--json").json["certificates"]
    hearth("mesh", "revoke", members[0]["serial"], "--folder", "m")
    shown = hearth("mesh", "show", "--folder", "m", "--json").json
    assert [(m["name"], m["revoked"]) for m in shown["certificates"]] == [("bath", True), ("kitchen", False)]
    text = hearth("mesh", "show", "--folder", "m").out
    assert "mesh our street, id" in text and "kitchen" in text and "revoked" in text


def test_show_leaves_out_what_is_no_certificate(hearth: Hearth, mesh: Path) -> None:
    (mesh / "certificates" / "junk.cert").write_bytes(b"junk")
    assert hearth("mesh", "show", "--folder", "m", "--json").json["certificates"] == []
