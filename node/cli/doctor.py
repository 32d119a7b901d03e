"""`hearth doctor`: which layers this machine has between a stranger's task and itself, and whether they hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import BAD_INPUT, JOB_FAILED, SUCCESS
from .options import Json
from .output import print_json, say
from .running import run_async

if TYPE_CHECKING:
    from ..isolation.layers import Layer
    from ..isolation.selftest import SelfTest

_WIDTH = 18


def doctor(
    look_only: Annotated[bool, typer.Option("--look-only", help="Look for the layers, and attempt nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Look at what keeps tasks inside on this machine, then attempt what is forbidden, inside the sandboxes.

    Exit code 0: native tasks can run and all attempts were refused. 2: a layer is missing that native tasks need; what
    to do is said. 1: an attempt got through, or could not be made. Without podman, no attempt is made in a container,
    and none is needed.

    \b
    Examples:
      hearth doctor
      hearth doctor --look-only
      hearth doctor --json | jq .missing
    """
    from ..isolation.layers import lacking, layers

    found = layers()
    runs_containers = any(layer.name == "podman" for layer in found) and not lacking(found, "oci")
    tests: tuple[SelfTest, ...] = () if look_only else run_async(partial(_attempt, runs_containers))
    code = _code(found, tests)
    if as_json:
        print_json(_report(found, tests, code))
    else:
        _print(found, tests)
    if code:
        raise typer.Exit(code)


async def _attempt(runs_containers: bool) -> tuple[SelfTest, ...]:
    from ..isolation.layers import detect
    from ..isolation.selftest import try_native, try_oci, try_worker

    tests = await try_worker(detect()), await try_native()
    return (*tests, await try_oci()) if runs_containers else tests


def _code(found: tuple[Layer, ...], tests: tuple[SelfTest, ...]) -> int:
    from ..isolation.layers import lacking

    if lacking(found, "native"):
        return BAD_INPUT
    return SUCCESS if all(test.held for test in tests) else JOB_FAILED


def _report(found: tuple[Layer, ...], tests: tuple[SelfTest, ...], code: int) -> dict[str, Any]:
    from ..isolation.layers import lacking

    return {
        "exit": code,
        "layers": [
            {"name": layer.name, "present": layer.is_there, "detail": layer.detail, "needed_by": list(layer.needed_by)}
            for layer in found
        ],
        "missing": [
            {"name": layer.name, "why": layer.detail, "mend": layer.mend} for layer in found if not layer.is_there
        ],
        "native_refused": [layer.name for layer in lacking(found, "native")],
        "oci_refused": [layer.name for layer in lacking(found, "oci")],
        "self_tests": [
            {
                "sandbox": test.sandbox,
                "held": test.held,
                "skipped": test.skipped,
                "attempts": [
                    {"what": attempt.what, "refused": attempt.was_refused, "how": attempt.how}
                    for attempt in test.attempts
                ],
            }
            for test in tests
        ],
    }


def _print(found: tuple[Layer, ...], tests: tuple[SelfTest, ...]) -> None:
    from ..isolation.layers import lacking

    for layer in found:
        say(f"{layer.name:<{_WIDTH}} {'' if layer.is_there else 'MISSING: '}{layer.detail}")
        if not layer.is_there and layer.mend:
            say(f"{'':<{_WIDTH}} to have it: {layer.mend}")
    for runtime, tasks in (("native", "native tasks"), ("oci", "containers")):
        refused = lacking(found, runtime)
        if refused:
            say(f"{tasks} are refused here, for want of {', '.join(layer.name for layer in refused)}")
    for test in tests:
        if test.skipped:
            say(f"{test.sandbox} sandbox: not tried, {test.skipped}")
            continue
        held = sum(attempt.was_refused for attempt in test.attempts)
        say(f"{test.sandbox} sandbox: {held} of {len(test.attempts)} attempts refused")
        for attempt in test.attempts:
            if not attempt.was_refused:
                say(f"  GOT THROUGH: {attempt.what}: {attempt.how}")
