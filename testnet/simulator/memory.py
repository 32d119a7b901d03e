"""Pure functions of records, remembered: in one process a thousand machines check the same signature but once.

What is remembered is the answer for exactly these bytes, so no machine can tell. A forged signature is worked out
like any other. For as long as `remembering()` lasts, the protocol's modules look these functions up here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ...crypto import certificates as certificate_module
from ...crypto import signing
from ...crypto.bounded import decode_bounded, decode_canonical
from ...crypto.identity import Identity
from ...protocol import records as record_module

ENTRIES_MAX = 1 << 17
_PACKAGE = __name__.partition(".")[0] + "."


class Remembered:
    """A pure function with a bounded memory: at most two generations of ENTRIES_MAX answers each."""

    __slots__ = ("_compute", "_new", "_old")

    def __init__(self, compute: Callable[..., Any]) -> None:
        self._compute = compute
        self._new: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def put(self, key: Any, answer: Any) -> None:
        if len(self._new) >= ENTRIES_MAX:
            self._old, self._new = self._new, {}
        self._new[key] = answer

    def __call__(self, *arguments: Any) -> Any:
        answer = self._new.get(arguments)
        if answer is None:
            answer = self._old.get(arguments)
            if answer is None:
                answer = self._compute(*arguments)
            self.put(arguments, answer)
        return answer

    def forget(self) -> None:
        self._new, self._old = {}, {}


_verify = Remembered(signing.verify)
_digest = Remembered(signing.digest)
_decoded: dict[int, Remembered] = {
    limit: Remembered(partial(decode_bounded, max_bytes=limit)) for limit in (record_module.RECORD_BYTES_MAX,)
}
_certificate = Remembered(
    partial(
        decode_canonical,
        max_bytes=certificate_module.CERTIFICATE_BYTES_MAX,
        max_items=16,
    )
)


_checked = Remembered(record_module.open_record)
_unchecked = Remembered(partial(record_module.open_record, check_signature=False))


def _open_record(raw: bytes, *, check_signature: bool = True) -> record_module.Record:
    """One object for all machines that hold these bytes. What is refused is not remembered."""
    found: record_module.Record = (_checked if check_signature else _unchecked)(raw)
    return found


def _decode_bounded(data: bytes, struct: Any, *, max_bytes: int) -> Any:
    return _decoded[max_bytes](data, struct)


def _decode_canonical(data: bytes, struct: Any, *, max_bytes: int, max_items: int) -> Any:
    return _certificate(data, struct)


class RememberedIdentity(Identity):
    """A real key. That what it signs verifies is known without checking."""

    __slots__ = ()

    def sign(self, context: signing.Context, payload: bytes) -> bytes:
        signature = super().sign(context, payload)
        _verify.put((self.node_id, context, payload, signature), True)
        return signature


# (module, name, what is there, what takes its place)
_REPLACED: tuple[tuple[Any, str, Any, Any], ...] = (
    (record_module, "verify", signing.verify, _verify),
    (record_module, "digest", signing.digest, _digest),
    (record_module, "decode_bounded", decode_bounded, _decode_bounded),
    (certificate_module, "verify", signing.verify, _verify),
    (certificate_module, "decode_canonical", decode_canonical, _decode_canonical),
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
    try:
        yield
    finally:
        for module, name, original, _ in replaced:
            setattr(module, name, original)
        for each in (_verify, _digest, _certificate, _checked, _unchecked, *_decoded.values()):
            each.forget()


def is_genuine(raw: bytes) -> bool:
    """Whether a record's signature is its author's, whatever the protocol's modules were made to believe."""
    envelope = _decode_bounded(raw, record_module._Envelope, max_bytes=record_module.RECORD_BYTES_MAX)
    context, _ = record_module._BODIES[record_module.RecordKind(envelope.kind)]
    return bool(_verify(envelope.author, context, envelope.body, envelope.signature))
