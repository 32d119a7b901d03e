"""Reads the ustar archive in which a sandbox hands out its /out folder. It is the task's word: hostile."""

from __future__ import annotations

from .outcome import MAX_FILES, is_file_name

BLOCK_BYTES = 512
# Per file a header, padding and possibly a folder's or link's header; tar fills its last record.
OVERHEAD_BYTES = 4 * MAX_FILES * BLOCK_BYTES + 2 * 20 * BLOCK_BYTES

_REGULAR = (b"0", b"\0")


class ArchiveFault(Exception):
    """The text is one line that says what is wrong with the output folder."""


def read_archive(archive: bytes, limit_bytes: int) -> dict[str, bytes]:
    """The regular files at the folder's top, by name, sorted.

    Folders, links, pipes and whatever lies deeper are left out: an output is a file in /out itself.
    Raises ArchiveFault: cut off, damaged, more than MAX_FILES files or limit_bytes, an unusable name.
    """
    files: dict[str, bytes] = {}
    total_bytes = position = 0
    while True:
        header = archive[position : position + BLOCK_BYTES]
        if len(header) < BLOCK_BYTES:
            raise ArchiveFault("the output folder could not be read to its end")
        if header == bytes(BLOCK_BYTES):
            return dict(sorted(files.items()))
        size_bytes = member_size(header)
        start = position + BLOCK_BYTES
        position = start + -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        path = member_path(header)
        if header[156:157] not in _REGULAR or "/" in path:
            continue
        if not is_file_name(path):
            raise ArchiveFault(f"output file name {path[:80]!r}: letters, digits, '_', '-', '.' only")
        total_bytes += size_bytes
        if len(files) == MAX_FILES or total_bytes > limit_bytes:
            raise ArchiveFault(f"output of more than {MAX_FILES} files or {limit_bytes} bytes")
        if len(archive) < start + size_bytes:
            raise ArchiveFault("the output folder could not be read to its end")
        files[path] = archive[start : start + size_bytes]


def member_size(header: bytes) -> int:
    """The member's size. Only octal digits: tar's binary form starts at 8 GB, which is above every limit."""
    digits = header[124:136].strip(b" \0")
    if not digits or not all(0x30 <= digit <= 0x37 for digit in digits):
        raise ArchiveFault("an output file of unreadable size")
    return int(digits, 8)


def member_path(header: bytes) -> str:
    """The member's path below the folder, without the leading "./"."""
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    text = (prefix + b"/" + name if prefix else name).decode("utf-8", "backslashreplace")
    return text.removeprefix("./")
