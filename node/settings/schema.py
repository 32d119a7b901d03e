"""Settings as dataclasses: each field says in its annotation what it means and what it may be.

    setpoint_c: Annotated[float, Key("Temperature that the room is kept at.", low=5, high=90)] = 20.0

The same annotations read a file, write one, and fill the tables of the reference pages, so none can drift.
Field types: bool, int, float, str, Path, tuple of str, a settings class (a table of its own), Mapping from
str to str, Path or a settings class; `| None` where the key may be left out and has no value then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

TEXT_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Key:
    """What a key means and may be.

    help: a sentence or two for the reference page.  low, high: bounds of a number, both allowed.
    choices: the texts allowed.  length: most characters of a text.  items: most entries of an array or table.
    check: raises ValueError(problem) for a text that is wrong; it sees each entry of an array.
    exists: "file" or "folder", if a path has to lead to one.
    absent: what holds if the key is left out, in words, where the default does not say it.
    """

    help: str
    _: KW_ONLY
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    length: int = TEXT_CHARACTERS_MAX
    items: int = 256
    check: Callable[[str], None] | None = None
    exists: str = ""
    absent: str = ""


class Conflict(ValueError):
    """Raised by a settings class's __post_init__: its keys do not go together.

    key: the one of them to point at.
    """

    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{key}: {problem}; {hint}" if hint else f"{key}: {problem}")
        self.key = key
        self.problem = problem
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a settings class.

    kind: its type without the None and the parameters.  value_kind: of the entries of a Mapping or tuple.
    """

    name: str
    key: Key
    kind: type[Any]
    value_kind: type[Any]
    required: bool
    default: Any

    @property
    def is_table(self) -> bool:
        return is_dataclass(self.kind)

    @property
    def is_table_of_tables(self) -> bool:
        return self.kind is Mapping and is_dataclass(self.value_kind)


def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """The keys of a settings class in their order; fields without a Key are not the file's business."""
    hints = get_type_hints(cls, include_extras=True)
    found = (_setting(field, hints[field.name]) for field in fields(cls))
    return tuple(setting for setting in found if setting is not None)


def _setting(field: Field[Any], hint: Any) -> Setting | None:
    if get_origin(hint) is not Annotated:
        return None
    annotated, *extras = get_args(hint)
    key = next((extra for extra in extras if isinstance(extra, Key)), None)
    if key is None:
        return None
    if get_origin(annotated) in (Union, UnionType):
        (annotated,) = (part for part in get_args(annotated) if part is not NoneType)
    kind = get_origin(annotated) or annotated
    arguments = get_args(annotated)
    value_kind = NoneType
    if kind is Mapping:
        value_kind = arguments[1]
    elif kind is tuple:
        value_kind = arguments[0]
    default = field.default
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    required = default is MISSING
    return Setting(field.name, key, kind, value_kind, required, None if required else default)


def allowed(kind: type[Any], key: Key) -> str:
    """What a value may be, in words: "a number from 5 to 90"."""
    if key.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in key.choices)
    nouns: dict[Any, str] = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
        tuple: "an array of texts",
        Mapping: "a table",
    }
    if is_dataclass(kind):
        return "a table"
    noun = nouns.get(kind, "a path")
    if key.low is not None and key.high is not None:
        return f"{noun} from {plain(key.low)} to {plain(key.high)}"
    if kind is str and key.length < TEXT_CHARACTERS_MAX:
        return f"{noun} of at most {key.length} characters"
    return noun


def plain(number: float) -> str:
    """As TOML allows it to be written, and readable."""
    if number == int(number) and abs(number) < 1 << 53:
        return f"{int(number):_}" if abs(number) >= 10_000 else str(int(number))
    return f"{number:g}"
