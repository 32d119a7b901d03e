"""Identities: the libp2p peer id's text, and the file that keeps the key."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from hearthmesh.crypto.identity import (
    Identity,
    IdentityError,
    IdentityReason,
    node_id_from_text,
    peer_id_text,
)

SEED = bytes(range(32))
seeds = st.binary(min_size=32, max_size=32)


def refusal(path: Path, passphrase: str | None = None) -> IdentityReason:
    with pytest.raises(IdentityError) as caught:
        Identity.load(path, passphrase)
    assert caught.value.path == path and str(path) in str(caught.value)
    return caught.value.reason


@given(seeds)
def test_the_peer_id_is_libp2ps(seed: bytes) -> None:
    pair = create_new_key_pair(seed)
    identity = Identity.from_seed(seed)
    assert identity.node_id == pair.public_key.to_bytes()
    assert identity.peer_id == ID.from_pubkey(pair.public_key).to_base58()
    assert identity.seed == seed


@given(seeds)
def test_the_text_of_a_node_id_gives_it_back(node_id: bytes) -> None:
    assert node_id_from_text(peer_id_text(node_id)) == node_id


GOOD_TEXT = peer_id_text(Identity.from_seed(SEED).node_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " " + GOOD_TEXT[1:],
        GOOD_TEXT[:-1],
        GOOD_TEXT + "1",
        GOOD_TEXT[:-1] + " ",
        "1" * 52,
        "z" * 52,
        GOOD_TEXT[:-1] + "0",
        GOOD_TEXT[:-1] + "\u00e9",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "1" * 1_000_000,
    ],
)
def test_other_texts_are_no_node_ids(text: str) -> None:
    with pytest.raises(ValueError):
        node_id_from_text(text)


@given(
    st.text(
        st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"),
        min_size=52,
        max_size=52,
    )
)
def test_each_node_id_has_one_text(text: str) -> None:
    try:
        node_id = node_id_from_text(text)
    except ValueError:
        return
    assert peer_id_text(node_id) == text


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError):
        Identity.from_seed(bytes(length))
    with pytest.raises(ValueError):
        peer_id_text(bytes(length))


def test_generated_identities_differ() -> None:
    assert Identity.generate().node_id != Identity.generate().node_id


def test_the_secret_does_not_show_in_the_representation() -> None:
    identity = Identity.from_seed(SEED)
    assert repr(identity) == f"Identity({identity.peer_id})"


@pytest.mark.parametrize("passphrase", [None, "cold room", "gel\u00e9e"])
def test_a_saved_identity_is_loaded_again(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path, passphrase)
    assert Identity.load(path, passphrase).seed == SEED
    assert os.listdir(tmp_path) == ["node.key"]
    assert (SEED in path.read_bytes()) == (passphrase is None)


def test_a_passphrase_may_be_typed_in_either_form_of_unicode(tmp_path: Path) -> None:
    Identity.from_seed(SEED).save(tmp_path / "node.key", "gel\u00e9e")
    assert Identity.load(tmp_path / "node.key", "gele\u0301e").seed == SEED


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_the_file_is_the_owners_alone_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Identity.from_seed(SEED).save(tmp_path / "node.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o777])
def test_an_unencrypted_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path)
    path.chmod(mode)
    assert refusal(path) == IdentityReason.OPEN_TO_OTHERS
    path.chmod(0o400)
    assert Identity.load(path).seed == SEED


def test_an_encrypted_key_may_be_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path, "cold room")
    path.chmod(0o644)
    assert Identity.load(path, "cold room").seed == SEED


def test_a_wrong_or_missing_passphrase_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path, "cold room")
    assert refusal(path, "warm room") == IdentityReason.PASSPHRASE_WRONG
    assert refusal(path, None) == IdentityReason.PASSPHRASE_NEEDED
    assert refusal(path, "") == IdentityReason.PASSPHRASE_NEEDED


def test_an_empty_passphrase_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        Identity.from_seed(SEED).save(tmp_path / "node.key", "")
    assert caught.value.reason == IdentityReason.PASSPHRASE_EMPTY
    assert os.listdir(tmp_path) == []


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path)
    with pytest.raises(IdentityError) as caught:
        Identity.generate().save(path)
    assert caught.value.reason == IdentityReason.EXISTS
    assert Identity.load(path).seed == SEED
    assert os.listdir(tmp_path) == ["node.key"]


def test_a_dangling_link_is_not_followed_into_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "node.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IdentityError) as caught:
        Identity.from_seed(SEED).save(tmp_path / "node.key")
    assert caught.value.reason == IdentityReason.EXISTS
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        Identity.from_seed(SEED).save(tmp_path / "none" / "node.key")
    assert caught.value.reason == IdentityReason.UNWRITABLE
    assert refusal(tmp_path / "none" / "node.key") == IdentityReason.MISSING


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == IdentityReason.NOT_A_FILE
    assert refusal(tmp_path) in (IdentityReason.NOT_A_FILE, IdentityReason.UNREADABLE)
    assert refusal(Path("/dev/zero")) == IdentityReason.NOT_A_FILE


@pytest.mark.parametrize("passphrase", [None, "cold room"])
def test_every_flipped_bit_is_seen_as_damage(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path, passphrase)
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert refusal(path, passphrase) == IdentityReason.DAMAGED


@pytest.mark.parametrize("keep", [0, 1, 22, 54, -1])
def test_a_file_cut_short_is_seen_as_damage(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "node.key"
    Identity.from_seed(SEED).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == IdentityReason.DAMAGED


@given(content=st.binary(max_size=2_000))
@settings(max_examples=50)
def test_any_other_file_is_seen_as_damage(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("identity") / "node.key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(path) == IdentityReason.DAMAGED
