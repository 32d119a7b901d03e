"""What authorities say of members, read from their records again and again."""

from __future__ import annotations

from functools import lru_cache

from ..crypto.certificates import NOT_VOUCHED, Certificate, CertificateError, Vouched

# Members of a cell, twice.
KEPT = 1024


@lru_cache(maxsize=KEPT)
def vouched_by(certificate: bytes) -> Vouched:
    """Of a certificate that was checked when it came here; nothing of one that cannot be read."""
    try:
        return Certificate.from_bytes(certificate).vouched
    except CertificateError:
        return NOT_VOUCHED


def same_household(certificate: bytes, other: bytes) -> bool:
    """Whether authorities say of both that they are one owner's, at one site; or of both neither."""
    one, two = vouched_by(certificate), vouched_by(other)
    return (one.owner, one.site) == (two.owner, two.site)
