"""Running `hearth` in this process, and looking at what it printed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from hearthmesh.node.cli.app import run


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line of an error; fails if it is not one, or if anything was printed beside it."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        assert self.err.startswith("hearth: ")
        return self.err[len("hearth: ") : -1]


Hearth = Callable[..., Ran]


@pytest.fixture
def hearth(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hearth]:
    """Runs a command line in an empty working folder, with nobody's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HEARTH_CLIENT", "HEARTH_PASSPHRASE", "HEARTH_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    yield call
    structlog.reset_defaults()
