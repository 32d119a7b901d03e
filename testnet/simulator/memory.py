"""Pure functions of records, remembered: in one process a thousand machines check the same signature but once.

What is remembered is the answer for exactly these bytes, so no machine can tell. A forged signature is worked out
like any other. For as long as `remembering()` lasts, the protocol's modules look these functions up here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...crypto import certificates as certificate_module
from ...crypto import signing
from ...crypto.bounded import decode_bounded
from ...crypto.identity import Identity
from ...protocol import records as record_module
from ...protocol import row_facts

ENTRIES_MAX = 1 << 16
# Of as many versions of rows as records are remembered: all nodes have a table of their own, with the same rows in it.
FACTS_MAX = 2 * ENTRIES_MAX
_PACKAGE = __name__.partition(".")[0] + "."


class Remembered:
    """Answers by what was asked: at most two generations of ENTRIES_MAX each. None is no answer."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def put(self, key: Any, answer: Any) -> None:
        if len(self._new) >= ENTRIES_MAX:
            self._old, self._new = self._new, {}
        self._new[key] = answer

    def get(self, key: Any) -> Any:
        """None if it is not remembered."""
        answer = self._new.get(key)
        if answer is None:
            answer = self._old.get(key)
            if answer is not None:
                self.put(key, answer)
        return answer

    def forget(self) -> None:
        self._new, self._old = {}, {}


_verified = Remembered()
_certificates = Remembered()
_unchecked = Remembered()
_checked = Remembered()
_open = record_module.open_record
_decode = certificate_module.decode_certificate


def _verify(node_id: bytes, context: signing.Context, payload: bytes, signature: bytes) -> bool:
    key = (node_id, context, payload, signature)
    found: bool | None = _verified.get(key)
    if found is None:
        found = signing.verify(node_id, context, payload, signature)
        _verified.put(key, found)
    return found


def _open_record(raw: bytes, *, check_signature: bool = True) -> record_module.Record:
    """One object for all machines that hold these bytes. What is refused is not remembered."""
    found: record_module.Record | None = _checked.get(raw)
    if found is None and not check_signature:
        found = _unchecked.get(raw)
    if found is None:
        found = _open(raw, check_signature=check_signature)
        (_checked if check_signature else _unchecked).put(raw, found)
    return found


def _decode_certificate(data: bytes) -> certificate_module.Certificate:
    found: certificate_module.Certificate | None = _certificates.get(data)
    if found is None:
        found = _decode(data)
        _certificates.put(data, found)
    return found


class RememberedIdentity(Identity):
    """A real key. That what it signs verifies is known without checking."""

    __slots__ = ()

    def sign(self, context: signing.Context, payload: bytes) -> bytes:
        signature = super().sign(context, payload)
        _verified.put((self.node_id, context, payload, signature), True)
        return signature


# (module, name, what is there, what takes its place)
_REPLACED: tuple[tuple[Any, str, Any, Any], ...] = (
    (record_module, "verify", signing.verify, _verify),
    (certificate_module, "verify", signing.verify, _verify),
    (certificate_module, "decode_certificate", _decode, _decode_certificate),
)


@contextmanager
def remembering() -> Iterator[None]:
    """While it lasts the functions above are remembered. What somebody else has replaced stays as it is."""
    opening = record_module.open_record
    users = [module for name, module in sorted(sys.modules.items()) if name.startswith(_PACKAGE)]
    entries = [*_REPLACED, *((module, "open_record", opening, _open_record) for module in users)]
    replaced = [entry for entry in entries if getattr(entry[0], entry[1], None) is entry[2]]
    for module, name, _, remembered in replaced:
        setattr(module, name, remembered)
    kept = row_facts.kept_most()
    row_facts.keep(FACTS_MAX)
    try:
        yield
    finally:
        row_facts.keep(kept)
        for module, name, original, _ in replaced:
            setattr(module, name, original)
        for each in (_verified, _certificates, _unchecked, _checked):
            each.forget()


def is_genuine(raw: bytes) -> bool:
    """Whether a record's signature is its author's, whatever the protocol's modules were made to believe."""
    envelope = decode_bounded(raw, record_module._Envelope, max_bytes=record_module.RECORD_BYTES_MAX)
    context, _ = record_module._BODIES[record_module.RecordKind(envelope.kind)]
    return bool(_verify(envelope.author, context, envelope.body, envelope.signature))
