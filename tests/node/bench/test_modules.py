"""The shipped modules are the ones that the tests build and check."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearthmesh.node.bench import modules
from hearthmesh.node.cli.errors import UserError

BUILT = Path(__file__).parents[2] / "wasm"


@pytest.mark.parametrize("name", [modules.HASH, modules.SPIN])
def test_a_shipped_module_is_the_built_one(name: str) -> None:
    assert modules.module_path(name).read_bytes() == (BUILT / name).read_bytes()
    assert (BUILT / f"{name}.sha256").read_text().split()[0] == modules.module_digest(name).hex()


def test_a_module_that_was_changed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / modules.HASH).write_bytes(b"\0asm")
    monkeypatch.setattr(modules, "_FOLDER", tmp_path)
    with pytest.raises(UserError, match="not the module that was shipped"):
        modules.module_path(modules.HASH)
    with pytest.raises(UserError, match="cannot be read"):
        modules.module_path(modules.SPIN)
