import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.execution.native_archive import ArchiveFault, read_archive
from hearthmesh.node.execution.outcome import MAX_FILES, is_file_name

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,90}", fullmatch=True)


def archive(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@given(st.dictionaries(names, st.binary(max_size=2000), max_size=5))
def test_what_tar_wrote_is_read_sorted(files: dict[str, bytes]) -> None:
    read = read_archive(archive({f"./{name}": content for name, content in files.items()}), 10_000)
    assert list(read.items()) == sorted(files.items())


@given(st.binary(max_size=4000))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        files = read_archive(content, 3000)
    except ArchiveFault:
        return
    assert all(map(is_file_name, files)) and sum(map(len, files.values())) <= 3000


@given(cut=st.integers(1, 1024 + 511), content=st.binary(min_size=1, max_size=512))
def test_an_archive_that_was_cut_off_is_refused(cut: int, content: bytes) -> None:
    whole = archive({"a": content}).rstrip(b"\0")
    with pytest.raises(ArchiveFault):
        read_archive(whole[: max(0, len(whole) - cut)], 10_000)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_only_regular_files_are_outputs(kind: bytes) -> None:
    assert read_archive(archive({"a": b""}, kind), 100) == {}


def test_files_below_a_folder_are_not_outputs() -> None:
    assert read_archive(archive({"folder/a": b"x", "/etc/passwd": b"x", "../b": b"x"}), 100) == {}


@pytest.mark.parametrize("name", ["..", "a b", "-a", "ü", "a\nb", ".a"])
def test_a_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(ArchiveFault, match="output file name"):
        read_archive(archive({name: b"x"}), 100)


def test_the_bytes_and_the_files_are_counted() -> None:
    two = archive({"a": b"xx", "b": b"xx"})
    assert read_archive(two, 4) == {"a": b"xx", "b": b"xx"}
    with pytest.raises(ArchiveFault, match="output of more than 256 files or 3 bytes"):
        read_archive(two, 3)
    with pytest.raises(ArchiveFault, match="output of more than 256 files"):
        read_archive(archive({f"f{number}": b"" for number in range(MAX_FILES + 1)}), 3)


@pytest.mark.parametrize("size", [b"\x80" + bytes(11), b"99999999999\0", b"-1         \0", b"\0" * 12])
def test_a_size_that_is_no_octal_number_is_refused(size: bytes) -> None:
    header = archive({"a": b""})[:512]
    with pytest.raises(ArchiveFault, match="unreadable size"):
        read_archive(header[:124] + size + header[136:] + bytes(1024), 100)
