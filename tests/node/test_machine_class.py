"""What a machine says of itself: the same on machines that compute the same, short, and another where code differs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import wasmtime

from hearthmesh.node.execution.native_config import NativeCommand
from hearthmesh.node.machine_class import builds_of, cpu_class, has_own_nans, machine_class

V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"


def intel(flags: str, mhz: int = 2100) -> str:
    return f"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu MHz\t: {mhz}\nflags\t: fpu {flags}\n"


def test_level_and_vendor_count_and_speed_does_not() -> None:
    assert cpu_class(intel(V3), "x86_64") == cpu_class(intel(V3, 3800), "x86_64") == "x86-64-v3 GenuineIntel"
    assert cpu_class(intel(V2), "x86_64") == "x86-64-v2 GenuineIntel"
    assert cpu_class(intel(V3.replace("fma", "")), "x86_64") == "x86-64-v2 GenuineIntel"
    assert cpu_class("", "x86_64") == "x86-64-v1"
    arm = "CPU implementer\t: 0x41\nCPU part\t: 0xd0c\nFeatures\t: fp asimd sve\n"
    assert cpu_class(arm, "aarch64") == "aarch64 0x410xd0c sve"


def test_it_fits_a_member_record_and_stays_the_same() -> None:
    assert 0 < len(machine_class()) <= 64 and machine_class() == machine_class()


def test_a_build_is_the_program_and_what_its_owner_gives_it(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"one")
    made = [builds_of(("t",), {"t": NativeCommand(tool)})]
    made.append(builds_of(("t",), {"t": NativeCommand(tool, arguments=("--fast",))}))
    made.append(builds_of(("t",), {"t": NativeCommand(tool, environment={"A": "1"})}))
    tool.write_bytes(b"two")
    made.append(builds_of(("t",), {"t": NativeCommand(tool)}))
    tool.unlink()
    made.append(builds_of(("t",), {"t": NativeCommand(tool)}))
    assert len(set(made)) == 5 and all(len(build) == 8 for (build,) in made)


@pytest.mark.parametrize("width", ["f32", "f64"])
def test_a_machines_own_nan_is_that_of_the_modules_it_runs(width: str) -> None:
    store = wasmtime.Store()
    whole = width.replace("f", "i")
    text = f"""(module (func (export "nan") (param {width}) (result {whole})
      ({whole}.reinterpret_{width} ({width}.sub (local.get 0) (local.get 0)))))"""
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, text), [])
    bits = instance.exports(store)["nan"](store, math.inf)
    assert (bits != (0x7FC0_0000 if width == "f32" else 0x7FF8 << 48)) is has_own_nans()
