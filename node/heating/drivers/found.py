"""What the kernel's files held before this program changed them, kept on disk until they hold it again.

A node that is killed leaves its watchdog's least values behind. The next one must not take these for the machine's own:
they would bound what it may ask for, and be put back when it leaves.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import structlog

from ...clock import BOOT_ID, boot_id
from ...storage.files import replace_file
from .files import READ_BYTES_MAX, read_count, read_text, write_text
from .interface import DriverError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

VERSION = 1
FILE_BYTES_MAX = 1 << 20
_COUNT = re.compile(r"[0-9]{1,20}")


class FoundValues:
    """path: of the file that keeps them; None keeps nothing.  root: whose sys/ they are in.

    What was kept counts in the boot that it was found in: hardware forgets its limits when it starts anew. A file that
    cannot be read, or is damaged, is told of and counts as none.
    """

    def __init__(self, path: Path | None = None, root: Path = Path("/")) -> None:
        self._path = path
        self._root = root
        self._boot = boot_id(root if (root / BOOT_ID).exists() else Path("/"))
        # Of an earlier life, and not put back yet.
        self._left = self._load()
        # Of this one.
        self._found: dict[str, str] = {}

    def count(self, file: Path) -> int:
        """Of a file with a number. Raises DriverError."""
        return int(self._remembered(file, str(read_count(file)), _COUNT))

    def text(self, file: Path, valid: re.Pattern[str]) -> str:
        """Of a file with another text. valid: what was kept is otherwise damaged. Raises DriverError."""
        return self._remembered(file, read_text(file), valid)

    def keep(self) -> list[str]:
        """Before anything is changed. What nobody asked for, since the settings are others now, is put back.

        Returns the files that it was put back into.
        """
        mended = [file for file, text in self._left.items() if self._write(file, text)]
        # What cannot be put back now may be another time; what is no more never will.
        self._left = {file: text for file, text in self._left.items() if file not in mended and Path(file).exists()}
        self._save()
        return mended

    def put_back(self) -> None:
        """Nothing is changed any more, by the watchdog neither. What cannot be put back stays kept."""
        self._left |= {file: text for file, text in self._found.items() if not self._write(file, text)}
        self._found.clear()
        self._save()

    def _remembered(self, file: Path, said: str, valid: re.Pattern[str]) -> str:
        left = self._left.pop(str(file), None)
        if left is not None and not valid.fullmatch(left):
            self._notice(f"{self._path}: {left[:40]!r} was never in {file}")
            left = None
        found = said if left is None else left
        if found != said:
            log.info("heater.found-again", file=str(file), found=found, says=said)
        self._found[str(file)] = found
        return found

    def _write(self, file: str, text: str) -> bool:
        try:
            if read_text(Path(file)) != text:
                write_text(Path(file), text)
        except DriverError as error:
            self._notice(str(error))
            return False
        return True

    # -- the file ------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, str]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                raw = file.read(FILE_BYTES_MAX + 1)
            if len(raw) > FILE_BYTES_MAX:
                raise ValueError(f"longer than {FILE_BYTES_MAX} bytes")
            content = json.loads(raw)
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']!r}, this program reads {VERSION}")
            if not self._boot or content["boot"] != self._boot:
                log.info("heater.found-in-another-boot", file=str(self._path))
                return {}
            return {file: self._checked(file, text) for file, text in content["found"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._notice(f"{self._path}: cannot be used, so what is there now counts as found: {error}")
            return {}

    def _checked(self, file: str, text: object) -> str:
        """Raises ValueError for what no driver has kept."""
        if not Path(file).is_relative_to(self._root / "sys") or ".." in Path(file).parts or "\0" in file:
            raise ValueError(f"{file[:80]!r} is not below {self._root / 'sys'}")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or len(text) > READ_BYTES_MAX:
            raise ValueError(f"no value of {file[:80]!r}")
        return text

    def _save(self) -> None:
        """A value that is not kept is no reason not to heat: it is missed only after a crash."""
        if self._path is None:
            return
        content = {"version": VERSION, "boot": self._boot, "found": self._left | self._found}
        try:
            if not content["found"]:
                self._path.unlink(missing_ok=True)
                return
            replace_file(self._path, json.dumps(content, indent=1).encode())
        except OSError as error:
            self._notice(f"{self._path}: cannot be written: {error.strerror}")

    def _notice(self, problem: str) -> None:
        log.warning("heater.found", problem=problem)
