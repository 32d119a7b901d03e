"""What `make fast` compiles plays the same runs, and is left alone once the sources are others."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from hearthmesh.testnet.simulator import compiled
from hearthmesh.testnet.simulator.compiling import NOTHING_TO_COMPILE_WITH, main, sources

PROGRAM = """
import sys
from hearthmesh.testnet.simulator import compiled
assert compiled.use()
from hearthmesh.testnet.simulator import world
assert not world.__file__.endswith(".py")
from tests.testnet.simulator.digests import main
sys.exit(main([]))
"""


built = pytest.mark.skipif(not compiled.built(), reason="not compiled, or of other sources: make fast")


def play(*command: str) -> str:
    """Where nothing keeps compiled modules from being played."""
    environment = {name: value for name, value in os.environ.items() if name != compiled.PLAIN}
    ran = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@built
def test_compiled_modules_come_to_the_recorded_traces() -> None:
    play("-c", PROGRAM)


@built
def test_what_a_node_costs_is_measured_with_compiled_modules() -> None:
    (cost,) = json.loads(play("-m", "hearthmesh.node", "sim", "scale", "--nodes", "4", "--seconds", "1", "--json"))
    assert cost["compiled"] is True


def test_what_was_compiled_of_other_sources_is_not_taken(tmp_path: Path) -> None:
    manifest = tmp_path / "modules.json"
    (tmp_path / "a.so").touch()
    assert compiled.built(manifest) == {}
    manifest.write_text(json.dumps({"sources": compiled.digest_of_sources(), "modules": {"a": "a.so"}}))
    assert compiled.built(manifest) == {"a": "a.so"}
    manifest.write_text(json.dumps({"sources": "0" * 32, "modules": {"a": "a.so"}}))
    assert compiled.built(manifest) == {}
    manifest.write_text("not whole")
    assert compiled.built(manifest) == {}


def test_what_was_compiled_and_is_gone_is_not_taken(tmp_path: Path) -> None:
    manifest = tmp_path / "modules.json"
    manifest.write_text(json.dumps({"sources": compiled.digest_of_sources(), "modules": {"a": "a.so"}}))
    assert compiled.built(manifest) == {}


def names_of_sources() -> list[str]:
    return [f"hearthmesh.{'.'.join(path.relative_to(compiled.PACKAGE).with_suffix('').parts)}" for path in sources()]


def test_the_digest_is_of_everything_that_compiled_modules_import() -> None:
    program = f"""
import sys
from importlib import import_module
for name in {names_of_sources()}:
    import_module(name)
for name, module in sys.modules.items():
    if name.startswith("hearthmesh.") and not hasattr(module, "__path__"):
        print(module.__file__)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {Path(line).relative_to(compiled.PACKAGE) for line in ran.stdout.splitlines()}
    assert len(imported) > 100
    assert imported <= {path.relative_to(compiled.PACKAGE) for path in compiled.files_of_sources()}


def test_what_is_compiled_defines_no_record() -> None:
    names = names_of_sources()
    assert len(names) > 100 and "hearthmesh.protocol.mesh" in names
    for name in names:
        for each in vars(import_module(name)).values():
            record = isinstance(each, type) and issubclass(each, msgspec.Struct)
            assert not record or each.__module__ != name, (
                f"{name}.{each.__name__}: mypyc does not keep what msgspec reads"
            )


def test_without_headers_there_is_nothing_to_compile_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert main([]) == NOTHING_TO_COMPILE_WITH == 3


def test_without_a_compiler_there_is_nothing_to_compile_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert main([]) == NOTHING_TO_COMPILE_WITH


def test_whatever_else_keeps_from_compiling_is_another_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.setitem(sys.modules, "mypyc.build", None)
    assert main([]) == 1


def test_all_checkers_are_compiled_as_what_they_extend_is() -> None:
    made = {path.name for path in sources() if path.parent.name == "checkers"}
    assert made == {path.name for path in (compiled.PACKAGE / "testnet/simulator/checkers").glob("[a-z]*.py")}


def test_no_record_that_is_compiled_names_a_class_that_is_there_for_types_only() -> None:
    """Its annotations are looked up while modules import each other: a class that is still to come ends the process."""
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ]
        later = {
            alias.asname or alias.name
            for block in guarded
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        records = [node for node in tree.body if isinstance(node, ast.ClassDef) and "dataclass" in ast.dump(node)]
        for record in records:
            fields = [node.annotation for node in record.body if isinstance(node, ast.AnnAssign)]
            named = {node.id for field in fields for node in ast.walk(field) if isinstance(node, ast.Name)}
            assert not named & later, f"{path}: {record.name}"
