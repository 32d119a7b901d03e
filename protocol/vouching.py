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
