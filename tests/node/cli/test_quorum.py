"""Three authorities on three machines take admissions back by two, with files that they hand each other."""

from pathlib import Path

import pytest

from hearthmesh.crypto.certificates import CertificateError, CertificateReason, MembershipPolicy, Quota
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import unpack_lists
from hearthmesh.node.meshfile import load_mesh_file

from .conftest import Hearth
from .test_mesh_commands import now_s


@pytest.fixture
def board(hearth: Hearth, tmp_path: Path) -> Path:
    """Folders anna, ben and cem of one mesh; anna founded it."""
    others = [hearth("mesh", "key", "--folder", name, "--json").json["peer_id"] for name in ("ben", "cem")]
    named = [word for peer in others for word in ("--authority", peer)]
    made = hearth("mesh", "init", "street", "--folder", "anna", *named, "--json").json
    assert (len(made["authorities"]), made["quorum"], len(made["keys"])) == (3, 2, 1)
    for name in ("ben", "cem"):
        (tmp_path / name / "mesh.toml").write_bytes((tmp_path / "anna" / "mesh.toml").read_bytes())
    return tmp_path


def test_a_second_authority_cosigns_and_only_then_it_counts(hearth: Hearth, board: Path) -> None:
    (invited,) = hearth("mesh", "invite", "--new", "kitchen", "--folder", "anna", "--json").json["invited"]
    alone = hearth("mesh", "revoke", invited["certificate"], "--folder", "ben")
    assert "1 of 2 authorities; it still counts as admitted" in alone.out
    assert "next: another authority runs hearth mesh cosign ben/revocations" in alone.out
    both = hearth("mesh", "cosign", "ben/revocations", "--folder", "cem", "--json").json
    assert (both["revoked"], both["votes"]) == ([invited["serial"]], {invited["serial"]: 2})

    definition, certificate = load_mesh_file(board / "anna" / "mesh.toml"), Path(invited["certificate"]).read_bytes()
    node = Identity.load(board / "kitchen" / "state" / "identity.key").node_id
    of_ben = unpack_lists((board / "ben" / "revocations").read_bytes())
    assert MembershipPolicy(definition, of_ben).check(certificate, node, now_s())
    with pytest.raises(CertificateError) as refused:
        MembershipPolicy(definition, unpack_lists(Path(both["all_lists"]).read_bytes())).check(
            certificate, node, now_s()
        )
    assert refused.value.reason is CertificateReason.REVOKED

    shown = hearth("mesh", "cosign", "cem/revocations-all", "--folder", "anna", "--json").json
    assert shown["votes"] == {invited["serial"]: 3}
    (member,) = hearth("mesh", "show", "--folder", "anna", "--json").json["certificates"]
    assert (member["revoked"], member["votes"]) == (True, 3)


def test_an_authority_whose_key_was_stolen_is_disowned_by_the_others(hearth: Hearth, board: Path) -> None:
    anna = Identity.load(board / "anna" / "authority.key")
    hearth("mesh", "revoke", anna.peer_id, "--folder", "ben")
    assert hearth("mesh", "cosign", "ben/revocations", "--folder", "cem").code == 0
    lists = unpack_lists((board / "cem" / "revocations-all").read_bytes())
    assert MembershipPolicy(load_mesh_file(board / "anna" / "mesh.toml"), lists).is_disowned(anna.node_id)


def test_show_says_how_many_more_are_needed(hearth: Hearth, board: Path) -> None:
    (invited,) = hearth("mesh", "invite", "--new", "kitchen", "--folder", "anna", "--json").json["invited"]
    hearth("mesh", "revoke", invited["serial"], "--folder", "anna")
    assert "1 of 2 revoke it" in hearth("mesh", "show", "--folder", "anna").out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["cosign", "nowhere", "--folder", "anna"], "nowhere: cannot be read"),
        (["cosign", "anna/mesh.toml", "--folder", "anna"], "anna/mesh.toml: not a revocation list"),
        (["cosign", "other/revocations", "--folder", "anna"], "it has to be a list of this mesh's authorities"),
        (["revoke", Identity.from_seed(bytes(32)).peer_id, "--folder", "anna"], "is no authority of this mesh"),
        (["init", "x", "--folder", "z", "--authority", "anna"], '"anna" is no peer id'),
        (["init", "x", "--folder", "z", "--authorities", "2", "--quorum", "3"], "a quorum of 3 among 2 authorities"),
        (["key", "--folder", "anna"], "the file exists already"),
    ],
)
def test_what_does_not_fit_is_refused(hearth: Hearth, board: Path, arguments: list[str], complaint: str) -> None:
    hearth("mesh", "init", "other", "--folder", "other")
    hearth("mesh", "revoke", "00" * 16, "--folder", "other")
    assert complaint in hearth("mesh", *arguments).complaint


def test_a_quota_is_in_the_certificate(hearth: Hearth, board: Path) -> None:
    bounds = ("--max-tasks", "1000", "--max-gb", "0.5", "--max-cpu-h", "2")
    (invited,) = hearth("mesh", "invite", "--new", "--client", "guest", *bounds, "--folder", "anna", "--json").json[
        "invited"
    ]
    assert invited["quota"] == {"tasks": 1000, "bytes": 1 << 29, "cpu_s": 7200}
    policy = MembershipPolicy(load_mesh_file(board / "anna" / "mesh.toml"))
    guest = Identity.load(board / "guest" / "state" / "identity.key").node_id
    found = policy.check(Path(invited["certificate"]).read_bytes(), guest, now_s())
    assert found.quota == Quota(1000, 1 << 29, 7200)
