"""A confidential job's key, as its submitter makes it, and what others know it by.

The submitter keeps nothing: the key follows from its own secret and the job's salt, the salt from its secret and all
that the job says. So the same job submitted twice is one job, and a client that lost its disk, but not its identity,
reads its results. Nobody else can test a guess of what a job says.
"""

from __future__ import annotations

from hashlib import sha256
from struct import pack

from ...crypto.envelope import KEY_BYTES, Envelope, derive_key
from ...crypto.identity import Identity
from ...crypto.sealing import SealError, seal, unseal
from ...crypto.sharing import SECRET_BYTES, Share, deal, share_place
from ..context import Context
from ..records import JobSpec

_DIGEST_PREFIX = b"hearthmesh/1/secret key\0"


def salt_of(identity: Identity, content: bytes) -> bytes:
    """The salt of a job. content: digest of all that it says, 32 bytes."""
    return derive_key(identity.seed, "job salt", content)


def job_key(identity: Identity, salt: bytes) -> bytes:
    """32 bytes, which only the job's submitter can make."""
    return derive_key(identity.seed, "job key", salt)


def key_digest(key: bytes) -> bytes:
    """What a key is known by; two keys with one digest cannot be found."""
    return sha256(_DIGEST_PREFIX + key).digest()


def envelope_of(key: bytes | bytearray) -> Envelope:
    """Of a job's blobs and inputs."""
    return Envelope(key, "job")


def binding_of(spec_salt: bytes, kind: str, index: int) -> bytes:
    """Where a thing of a job stands: its kind (program, file, pack, input, hidden, checkpoint) and number."""
    return kind.encode() + b"\0" + spec_salt + pack("<Q", index)


def secret_bytes(ctx: Context) -> bytes:
    """32 bytes that nobody can guess, if the driver's source is what `Randomness` asks for."""
    return ctx.rng.getrandbits(8 * KEY_BYTES).to_bytes(KEY_BYTES)


def share_for(ctx: Context, job_id: bytes, spec: JobSpec, node: bytes) -> bytes:
    """The node's share of a job of this submitter's, sealed to it; the same share each time.

    Each job has lines of its own: what is submitted again under a renewed certificate, or for other nodes, has the same
    key and another id, and a replica of both would have two places on one line.
    """
    assert spec.secrecy is not None
    key = job_key(ctx.identity, spec.secrecy.salt)
    slope = derive_key(ctx.identity.seed, "job slope", spec.secrecy.salt, job_id)
    share = deal(key, slope, (share_place(job_id, node),))[0]
    return seal_secret(ctx, node, share.y, "share", job_id)


def seal_secret(ctx: Context, recipient: bytes, secret: bytes, purpose: str, job_id: bytes) -> bytes:
    """32 bytes for the recipient's eyes. Raises SealError if its key is none."""
    return seal(recipient, secret, purpose.encode() + b"\0" + job_id, ephemeral=secret_bytes(ctx))


def open_secret(ctx: Context, sealed: bytes, purpose: str, job_id: bytes) -> bytes:
    """What `seal_secret` sealed to this node. Raises SealError."""
    found = unseal(ctx.identity, sealed, purpose.encode() + b"\0" + job_id)
    if len(found) != SECRET_BYTES:
        raise SealError(f"{len(found)} bytes, {SECRET_BYTES} were expected")
    return found


def own_share(ctx: Context, job_id: bytes, sealed: bytes) -> Share:
    """A share that was sealed to this node. Raises SealError."""
    return Share(share_place(job_id, ctx.node_id), open_secret(ctx, sealed, "share", job_id))
