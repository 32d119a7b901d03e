"""Builds the repository's wasm modules from C, reproducibly, and compares them with the committed digests.

pip install ziglang==0.15.1        (in an environment of its own: 400 MB)
python build.py                    build, write the modules and their .sha256
python build.py --check            build elsewhere and compare; exit code 1 if a module differs
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ZIGLANG = "0.15.1"
ROOT = Path(__file__).resolve().parents[2]
# Zig's own default is a stack of 16 MB, which every instance would have as its least memory.
STACK = "-Wl,-z,stack-size=65536"
FLAGS = ("-target", "wasm32-wasi", "-std=c11", "-O2", "-s", "-Wall", "-Wextra", "-Werror", STACK)
REACTOR = ("-mexec-model=reactor",)


@dataclass(frozen=True, slots=True)
class Recipe:
    """source and module are paths under the repository's root, where it is compiled."""

    source: str
    module: str
    flags: tuple[str, ...] = ()

    def compile(self, target: Path) -> None:
        """Raises subprocess.CalledProcessError."""
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *self.flags, self.source, "-o", str(target)]
        subprocess.run(command, cwd=ROOT, check=True)


RECIPES = (
    Recipe("examples/risk/risk.c", "examples/risk/risk.wasm", REACTOR),
    Recipe("examples/hello/hello.c", "examples/hello/hello.wasm"),
    Recipe("tests/wasm/src/hash.c", "tests/wasm/hash.wasm", (*REACTOR, "-Iexamples/risk")),
    Recipe("tests/wasm/src/spin.c", "tests/wasm/spin.wasm", (*REACTOR, "-Iexamples/risk")),
)


def recorded_digest(module: Path) -> str:
    """The digest in module.wasm.sha256, in sha256sum's format."""
    return module.with_name(module.name + ".sha256").read_text(encoding="ascii").split()[0]


def check() -> list[str]:
    """Rebuilds each module in a temporary folder. One line for each that differs from its recorded digest."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for recipe in RECIPES:
            target = Path(folder) / Path(recipe.module).name
            recipe.compile(target)
            built = hashlib.sha256(target.read_bytes()).hexdigest()
            recorded = recorded_digest(ROOT / recipe.module)
            if built != recorded:
                wrong.append(f"{recipe.module}: built {built}, recorded {recorded}")
    return wrong


def build() -> None:
    """Writes each module, without the executable bit, and its digest."""
    with tempfile.TemporaryDirectory() as folder:
        for recipe in RECIPES:
            target = Path(folder) / Path(recipe.module).name
            recipe.compile(target)
            module = ROOT / recipe.module
            module.write_bytes(target.read_bytes())
            digest = hashlib.sha256(module.read_bytes()).hexdigest()
            line = f"{digest}  {module.name}\n"
            module.with_name(module.name + ".sha256").write_text(line, encoding="ascii")
            print(f"{digest}  {recipe.module}  {module.stat().st_size:,} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    a = parser.parse_args()
    try:
        found = metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != ZIGLANG:
        print(f"needs ziglang {ZIGLANG}, found {found}: pip install ziglang=={ZIGLANG}", file=sys.stderr)
        return 2
    if not a.check:
        build()
        return 0
    wrong = check()
    print("\n".join(wrong) if wrong else f"{len(RECIPES)} modules are what their sources build")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
