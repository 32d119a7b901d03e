"""What is appended comes back; what a kill left is left alone."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.testnet.line_log import LineLog


def test_what_a_kill_left_is_no_line_and_harms_none_that_follows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw\xc3")
    assert LineLog(path).whole() == [b"one"]
    log = LineLog(path)
    log.append(b"three")
    assert log.whole() == LineLog(path).whole() == [b"one", b"three"]


def test_what_is_there_already_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"no log at all")
    LineLog(path)
    assert path.read_bytes().startswith(b"no log at all")


@given(data=st.data())
def test_wherever_a_log_is_cut_the_lines_before_it_are_there(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.text(alphabet="ab\u00e9 /12", min_size=1), max_size=5))
    whole = "".join(f"{line}\n" for line in lines).encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(cut)
        assert LineLog(path).whole() == [line.encode() for line in lines[: cut.count(b"\n")]]
