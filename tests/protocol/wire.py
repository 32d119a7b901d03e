"""What the wire's types allow, read from their annotations: Hypothesis strategies, examples, and golden
vectors.

`python -m tests.protocol.wire` writes vectors for types that have none yet. A vector that is there is never
rewritten: if its bytes no longer fit, the wire has changed, and once 0.1.0 is out that takes a new version
(`codec.WIRE_VERSION`) and its own file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.codec import WIRE_VERSION, encode_message
from hearthmesh.protocol.messages import Message
from hearthmesh.protocol.records import _BODIES, RecordBody, RecordKind, sign_record

VECTORS = Path(__file__).parent / "vectors"
MESSAGES: tuple[type[Any], ...] = get_args(Message)
BODIES: dict[RecordKind, type[RecordBody]] = {kind: struct for kind, (_, struct) in _BODIES.items()}
SIGNER = Identity.from_seed(bytes(range(32)))

# Texts and bytes of a strategy are at most so long, and tuples so many, that examples stay small.
_LENGTH = 40
_ITEMS = 3


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that the type allows, the bounds' edges among them."""
    return _strategy(inspect.type_info(kind))


def _strategy(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return st.builds(info.cls, *(_strategy(field.type) for field in info.fields))
        case inspect.IntType():
            assert info.ge is not None and info.le is not None, "an integer without bounds"
            return st.integers(info.ge, info.le)
        case inspect.BoolType():
            return st.booleans()
        case inspect.BytesType():
            least = info.min_length or 0
            return st.binary(min_size=least, max_size=max(least, min(info.max_length or _LENGTH, _LENGTH)))
        case inspect.StrType() if info.pattern is not None:
            return st.from_regex(info.pattern, fullmatch=True)
        case inspect.StrType():
            characters = st.characters(codec="utf-8")
            return st.text(characters, min_size=info.min_length or 0, max_size=min(info.max_length or 0, _LENGTH))
        case inspect.VarTupleType():
            least = info.min_length or 0
            items = st.lists(_strategy(info.item_type), min_size=least, max_size=max(least, _ITEMS))
            return items.map(tuple)
        case inspect.TupleType():
            return st.tuples(*(_strategy(each) for each in info.item_types))
        case inspect.UnionType():
            return st.one_of(*(_strategy(each) for each in info.types))
        case inspect.NoneType():
            return st.none()
    raise AssertionError(f"no strategy for {info}")


def example_of(kind: Any) -> Any:
    """One value, with every field filled in and all fields different where they can be."""
    return _example(inspect.type_info(kind), iter(range(1, 1 << 16)))


def _example(info: inspect.Type, numbers: Any) -> Any:
    number = next(numbers)
    match info:
        case inspect.StructType():
            return info.cls(*(_example(field.type, numbers) for field in info.fields))
        case inspect.IntType():
            spread = number * 1_009
            return max(info.ge or 0, min(spread, info.le or spread))
        case inspect.BoolType():
            return True
        case inspect.BytesType():
            return bytes([number % 256]) * max(info.min_length or 0, min(3, info.max_length or 3))
        case inspect.StrType():
            return _text(info.pattern, number)
        case inspect.VarTupleType():
            return tuple(_example(info.item_type, numbers) for _ in range(2))
        case inspect.TupleType():
            return tuple(_example(each, numbers) for each in info.item_types)
        case inspect.UnionType():
            return _example(next(each for each in info.types if not isinstance(each, inspect.NoneType)), numbers)
    raise AssertionError(f"no example for {info}")


def _text(pattern: str | None, number: int) -> str:
    choices = {"^(wasm|native)$": "wasm", "^(function|command)$": "function"}
    return choices.get(pattern or "", f"text-{number}")


def plain(value: Any) -> Any:
    """The value for JSON: structs as named fields, bytes as hex."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def stored_vectors(name: str) -> dict[str, dict[str, Any]]:
    """{type or record kind: vector} of vectors/`name`."""
    path = VECTORS / name
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def messages_file() -> str:
    return f"messages-v{WIRE_VERSION}.json"


def write_missing() -> None:
    VECTORS.mkdir(exist_ok=True)
    messages = stored_vectors(messages_file())
    for struct in MESSAGES:
        message = example_of(struct)
        vector = {"bytes": encode_message(message).hex(), "message": plain(message)}
        messages.setdefault(struct.__name__, vector)
    _write(messages_file(), messages)
    records = stored_vectors("records.json")
    for kind, struct in BODIES.items():
        record = sign_record(SIGNER, kind, example_of(struct))
        vector = {"bytes": record.raw.hex(), "id": record.id.hex(), "body": plain(record.body)}
        records.setdefault(kind.name, vector)
    _write("records.json", records)


def _write(name: str, vectors: dict[str, Any]) -> None:
    text = json.dumps(vectors, indent=1, sort_keys=True)
    (VECTORS / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_missing()
