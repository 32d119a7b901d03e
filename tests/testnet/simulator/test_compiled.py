"""What `make fast` compiles plays the same runs, and is left alone once the sources are others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hearthmesh.testnet.simulator import compiled
from hearthmesh.testnet.simulator.compiling import sources

PROGRAM = """
import sys
from hearthmesh.testnet.simulator import compiled
assert compiled.use()
from hearthmesh.testnet.simulator import world
assert not world.__file__.endswith(".py")
from tests.testnet.simulator.digests import main
sys.exit(main([]))
"""


@pytest.mark.skipif(not compiled.built(), reason="not compiled, or of other sources: make fast")
def test_compiled_modules_come_to_the_recorded_traces() -> None:
    environment = {name: value for name, value in os.environ.items() if name != compiled.PLAIN}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_was_compiled_of_other_sources_is_not_taken(tmp_path: Path) -> None:
    manifest = tmp_path / "modules.json"
    assert compiled.built(manifest) == {}
    manifest.write_text(json.dumps({"sources": compiled.digest_of_sources(), "modules": {"a": "a.so"}}))
    assert compiled.built(manifest) == {"a": "a.so"}
    manifest.write_text(json.dumps({"sources": "0" * 32, "modules": {"a": "a.so"}}))
    assert compiled.built(manifest) == {}
    manifest.write_text("not whole")
    assert compiled.built(manifest) == {}


def test_what_is_compiled_is_there_and_defines_no_record() -> None:
    for path in sources():
        assert "msgspec import Meta, Struct" not in path.read_text(encoding="utf-8"), path
