"""What a file with an intact checksum may still get wrong."""

from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from hearthmesh.crypto.identity import Identity, IdentityError, IdentityReason

ALICE = Identity.from_seed(b"\1" * 32)
BOB = Identity.from_seed(b"\2" * 32)


@pytest.mark.parametrize(
    "record",
    [
        [BOB.node_id, 0, 0, 0, b"", ALICE.seed],
        [ALICE.node_id, 0, 0, 0, b"", ALICE.seed + bytes(16)],
        [ALICE.node_id, 0, 8, 3, b"", ALICE.seed],
        [ALICE.node_id, 15, 8, 3, b"s" * 16, ALICE.seed],
        [ALICE.node_id, 15, 0, 0, b"s" * 16, ALICE.seed + bytes(16)],
        [ALICE.node_id, 15, 8, 3, b"", ALICE.seed + bytes(16)],
        [ALICE.node_id, 60, 8, 3, b"s" * 16, ALICE.seed + bytes(16)],
        [ALICE.node_id, 0, 0, 0, b"", ALICE.seed, 0],
        [],
    ],
    ids=[
        "key of another seed",
        "plain with tag",
        "plain with parameters",
        "encrypted without tag",
        "encrypted without parameters",
        "encrypted without salt",
        "memory without bound",
        "unknown field",
        "empty",
    ],
)
def test_records_that_make_no_sense_are_damage(tmp_path: Path, record: list[object]) -> None:
    content = b"hearthmesh identity 1\n" + msgspec.msgpack.encode(record)
    path = tmp_path / "node.key"
    path.write_bytes(content + sha256(content).digest())
    path.chmod(0o600)
    with pytest.raises(IdentityError) as caught:
        Identity.load(path, "passphrase")
    assert caught.value.reason == IdentityReason.DAMAGED


def test_the_layout_of_an_unencrypted_file_is_frozen(tmp_path: Path) -> None:
    ALICE.save(tmp_path / "node.key")
    body = b"hearthmesh identity 1\n\x96\xc4\x20" + ALICE.node_id + b"\0\0\0\xc4\0\xc4\x20" + ALICE.seed
    assert (tmp_path / "node.key").read_bytes() == body + sha256(body).digest()


def test_an_encrypted_file_of_the_first_version_still_opens(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_bytes(bytes.fromhex(FIRST_ENCRYPTED))
    assert Identity.load(tmp_path / "node.key", "cold room").seed == ALICE.seed


FIRST_ENCRYPTED = (
    "6865617274686d657368206964656e7469747920310a96c4208a88e3dd7409f195fd52db2d3cba5d72ca6709"
    "bf1d94121bf3748801b40f6f5c0f0803c410da7b180ef30f01bea2fccd7b43e850d4c43039520a1ef1ddaa51"
    "53f59a7ad7fb32cbb3dc3ad8a3c832ed4da16a080b8169b225055e3342da69fadc02ed68a8eb6e9172f437d8"
    "9be337be9c5d917f506507f302b53278a72c7fd005723e29e667f514"
)
