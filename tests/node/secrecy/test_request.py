"""A confidential request: what the store and the spec get is ciphertext, the same each time, of its own key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.sealing import SealError
from hearthmesh.node.client import ClientError, JobRequest
from hearthmesh.node.client.confidential import build_confidential
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.protocol.records import JobSpec
from hearthmesh.protocol.secrecy.hidden import revealed
from hearthmesh.protocol.secrecy.keys import binding_of, envelope_of, job_key, key_digest

IDENTITY, OTHER = Identity.from_seed(bytes(32)), Identity.from_seed(bytes([1]) * 32)
REQUEST = JobRequest(
    program=b"\0asm secret program",
    name="taxes",
    arguments=("--year", "1999"),
    inputs=[b"secret input", b"", b"another"],
    files={"table": b"secret file"},
    confidential=True,
)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1 << 24, min_free_bytes=0)


def build(store: BlobStore, request: JobRequest, identity: Identity = IDENTITY) -> JobSpec:
    return build_confidential(request, identity, bytes(32), (), store, b"pin")


def test_nothing_of_the_job_is_in_the_spec_or_the_store(store: BlobStore) -> None:
    spec = build(store, REQUEST)
    kept = repr(spec).encode() + b"".join(store.read(digest) for digest in store.digests())
    assert not [word for word in (b"secret", b"taxes", b"1999", b"table") if word in kept]
    assert spec.secrecy is not None and len(spec.inline_inputs) == 3
    key = job_key(IDENTITY, spec.secrecy.salt)
    assert key_digest(key) == spec.secrecy.key_digest
    shown = revealed(spec, key)
    assert (shown.name, shown.arguments, [ref.name for ref in shown.files]) == ("taxes", ("--year", "1999"), ["table"])
    envelope, salt = envelope_of(key), spec.secrecy.salt
    assert envelope.open(spec.inline_inputs[0], binding_of(salt, "input", 0)) == b"secret input"
    assert envelope.open(store.read(spec.program), binding_of(salt, "program", 0)) == REQUEST.program
    with pytest.raises(SealError):
        revealed(spec, job_key(OTHER, salt))


def test_the_same_job_is_the_same_spec_and_any_change_is_another_key(store: BlobStore, tmp_path: Path) -> None:
    spec = build(store, REQUEST)
    assert spec.secrecy is not None and build(store, REQUEST) == spec
    module = tmp_path / "m.wasm"
    module.write_bytes(REQUEST.program if isinstance(REQUEST.program, bytes) else b"")
    assert build(store, replace(REQUEST, program=module)) == spec
    salts = {spec.secrecy.salt}
    changes = [
        {"program": b"\0asm other program"},
        {"name": "taxes2"},
        {"arguments": ("--year",)},
        {"inputs": [b"secret input", b"", b"another "]},
        {"inputs": [b"secret input", b"another", b""]},
        {"files": {"table": b"secret file."}},
        {"files": {"tables": b"secret file"}},
        {"nonce": b"1"},
        {"verification": "quorum(2)"},
        {"trust_owners": ("ann",)},
        {"price_limit_micro": 7},
    ]
    for change in changes:
        made = build(store, replace(REQUEST, **change)).secrecy  # type: ignore[arg-type]
        assert made is not None
        salts.add(made.salt)
    theirs = build(store, REQUEST, OTHER).secrecy
    assert theirs is not None
    salts.add(theirs.salt)
    assert len(salts) == len(changes) + 2


def test_a_price_limit_holds_for_confidential_jobs_too(store: BlobStore) -> None:
    assert build(store, replace(REQUEST, price_limit_micro=7)).price_limit_micro == 7


def test_many_inputs_go_into_packs_from_one_that_can_be_read_once_only(store: BlobStore) -> None:
    items = [b"%d" % index for index in range(3_000)]
    spec = build(store, replace(REQUEST, inputs=iter(items), files={}))
    assert not spec.inline_inputs and sum(pack.count for pack in spec.packs) == 3_000
    assert build(store, replace(REQUEST, inputs=items, files={})) == spec


def test_an_input_of_a_byte_looks_like_one_of_fifty(store: BlobStore) -> None:
    spec = build(store, replace(REQUEST, inputs=[b"", b"x", b"y" * 56], files={}))
    assert len({len(item) for item in spec.inline_inputs}) == 1


def test_terms_for_workers_belong_to_confidential_jobs() -> None:
    with pytest.raises(ClientError, match="confidential"):
        JobRequest(program=b"", trust_owners=("ann",))
