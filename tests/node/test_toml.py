"""Located TOML: every key has its line, every fault is one line of text."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.settings.locate import KeyPath, locate
from hearthmesh.node.toml import FILE_BYTES_MAX, ConfigError, read_toml

TEXT = """\
# a comment with [brackets] = "and quotes
top = 1
"quoted key" . inner = 'x # not a comment'

[ a . "b.c" ]   # header
first = [
    "one",  # the first
    [2,
     3],
    { x = 4, y.z = 5 },
]
multi = \"\"\"
[not.a.header]
key = "no"
escaped \\\""" still inside \"\"\"\"\"
second = 1979-05-27 07:32:00
literal = '''
third = 1 ''' # after

[[list]]
n = 1
[list.deep]
k = true
[[list]]
n = {}
"""


def test_every_spelling_of_a_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert locate(TEXT) == {
        ("top",): 2,
        ("quoted key",): 3,
        ("quoted key", "inner"): 3,
        ("a",): 5,
        ("a", "b.c"): 5,
        ("a", "b.c", "first"): 6,
        ("a", "b.c", "first", 0): 7,
        ("a", "b.c", "first", 1): 8,
        ("a", "b.c", "first", 1, 0): 8,
        ("a", "b.c", "first", 1, 1): 9,
        ("a", "b.c", "first", 2): 10,
        ("a", "b.c", "first", 2, "x"): 10,
        ("a", "b.c", "first", 2, "y"): 10,
        ("a", "b.c", "first", 2, "y", "z"): 10,
        ("a", "b.c", "multi"): 12,
        ("a", "b.c", "second"): 16,
        ("a", "b.c", "literal"): 17,
        ("list",): 20,
        ("list", 0): 20,
        ("list", 0, "n"): 21,
        ("list", 0, "deep"): 22,
        ("list", 0, "deep", "k"): 23,
        ("list", 1): 24,
        ("list", 1, "n"): 25,
    }


def quoted(text: str) -> str:
    escaped = "".join(f"\\U{ord(char):08x}" for char in text)
    return f'"{escaped}"'


keys = st.one_of(
    st.text(alphabet="abc-_019", min_size=1, max_size=4),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3).map(quoted),
    st.sampled_from(["'#'", "'['", "'='", "'\"'"]),
)
scalars = st.sampled_from(
    ["1", "-1.5e3", "true", "inf", "07:32:00", '"]"', "'}'", '"a\\"#"', '"""\n[x]\n\\""""', "'''\nk = 1\n'''"]
)
gaps = st.sampled_from(["", " ", "\n", " # ]},=\n", "\n\n"])


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    element = st.tuples(gaps, values, gaps).map("".join)
    return st.lists(element, max_size=3).map(lambda parts: f"[{','.join(parts)}]")


def inline_tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(keys, values.filter(lambda value: "\n" not in value)).map(" = ".join)
    return st.lists(pair, max_size=3).map(lambda parts: "{" + ", ".join(parts) + "}")


values = st.recursive(scalars, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=8)
pairs = st.tuples(keys, values).map(" = ".join)
headers = st.lists(keys, min_size=1, max_size=3).map(" . ".join)
statements = pairs | headers.map("[{}]".format) | headers.map("[[{}]]".format) | st.just("# comment")


def paths_of(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    entries: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    return [found for key, entry in entries for found in [(*path, key), *paths_of(entry, (*path, key))]]


def test_a_table_that_only_headers_in_it_name_stands_at_the_first_or_at_its_own() -> None:
    assert locate("[a.b.c]\nk = 1\n\n[a.d]\n[[e.f]]\n") == {
        **{("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "c", "k"): 2, ("a", "d"): 4},
        **{("e",): 5, ("e", "f"): 5, ("e", "f", 0): 5},
    }
    assert locate("[a.b]\n[a]\n")[("a",)] == 2


@given(st.lists(statements, max_size=8).map("\n".join))
def test_locator_finds_exactly_the_keys_that_tomllib_finds(text: str) -> None:
    try:
        root = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = locate(text)
    assert set(lines) == set(paths_of(root))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = 1\nb = warm\n", "f.toml:2: not TOML: invalid value; text needs quotes"),
        (b"a = 1\n\na = 2\n", "f.toml:3: a: not TOML: given twice; see line 1"),
        (b"a = 1\na = 2", "f.toml:2: a: not TOML: given twice; see line 1"),
        (b"a = 1\n[t]\nb.'c d' = 1\n\nb.'c d' = [\n1,\n2]\n", 'f.toml:5: t.b."c d": not TOML: given twice; see line 3'),
        (b"x = 1\nx.y = 2\n", "f.toml:2: x: not TOML: given twice; see line 1"),
        (b"[x]\n[y]\n[x] # again\n", "f.toml:3: x: not TOML: given twice; see line 1"),
        (b"x = 1\n[[x]]\n", "f.toml:2: x: not TOML: given twice; see line 1"),
        (b"[[x]]\n[x]\n", "f.toml:2: x: not TOML: given twice; see line 1"),
        (b"[[x.y]]\n[x]\n\n[[x]]\n", "f.toml:4: x: not TOML: given twice; see line 2"),
        (b"x = {a = 1}\n[x.b]\n", "f.toml:2: x: not TOML: given twice; see line 1"),
        (b"x = {a = 1, a = 2}\n", "f.toml:1: x.a: not TOML: given twice"),
        (b"a = 1\na = {b = 1}", "f.toml:2: a: not TOML: given twice; see line 1"),
        (b"a.b = 1\na = {c = 1}\n", "f.toml:2: a: not TOML: given twice; see line 1"),
        (b"a.b.c = 1\na.b = 1\n", "f.toml:2: a.b: not TOML: given twice; see line 1"),
        (b"a = {a = {b = 1}, a.b = 2}\n", "f.toml:1: a.a: not TOML: given twice"),
        (b"\na = {b = [{c = 1}, {c = [\n1], c.d = 2}]}\n", "f.toml:3: a.b[1].c: not TOML: given twice; see line 2"),
        (b"a = {b.c = [\n1,\n2], b.c.d = 2}\n", "f.toml:3: a.b.c: not TOML: given twice; see line 1"),
        (b"[a]\nb = 1\nc.d = 1\n[a.c.d]", "f.toml:4: a.c.d: not TOML: given twice; see line 3"),
        (b"[a.b]\n[a]\nb.c = 1\n", "f.toml:3: a.b: not TOML: given twice; see line 1"),
        (b"[[t]]\na = 1\n[[t]]\na = 1\n\na.b = 2\n", "f.toml:6: t[1].a: not TOML: given twice; see line 4"),
        (b"a = [1,\n2", "f.toml:2: not TOML: unclosed array"),
        (b"a = 1\nb = '\xff'\n", "f.toml:2: not UTF-8 text; save the file as UTF-8"),
        (b"a = 1\r\nb = \r\n", "f.toml:2: not TOML: invalid value; text needs quotes"),
        ("\ufeffa = 1".encode(), "f.toml:1: not TOML: invalid statement; the file begins with a byte order mark"),
        (b"a = " + b"9" * 5000, "f.toml: not TOML: "),
        (b"a = " + b"[" * 100_000, "f.toml: arrays or tables are nested too deeply"),
        (b"#" * (FILE_BYTES_MAX + 1), f"f.toml: longer than {FILE_BYTES_MAX} bytes"),
    ],
)
def test_file_that_is_not_toml_is_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    text = str(caught.value)
    assert text.removeprefix(f"{tmp_path}/").startswith(expected)
    assert "\n" not in text and len(text) < 400


def test_file_that_cannot_be_read_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file$"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)


def test_error_never_breaks_its_line_or_steers_the_terminal() -> None:
    error = ConfigError(Path("a\nb.toml"), 3, "k\x1b[31m", "bad\u2028value\x07")
    assert str(error) == "a\\nb.toml:3: k\\x1b[31m: bad\\u2028value\\x07"
