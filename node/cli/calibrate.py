"""`hearth calibrate`: what this machine draws, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UserError
from .options import Json
from .output import print_json, say
from .running import run_async

if TYPE_CHECKING:
    from ..config import HeaterSettings
    from ..heating.calibration import Calibration

# A meter that does not answer within this time is not there.
METER_WAIT_S = 10.0
# Less of their cores than this, and the watts are those of a machine that did something else.
GOT_LEAST = 0.9


def calibrate(
    config: Annotated[Path, typer.Option("--config", help="The node's settings.")] = Path("node.toml"),
    seconds: Annotated[float, typer.Option(help="Time to measure each step, s.", min=0.1, max=3600)] = 20.0,
    settle: Annotated[float, typer.Option(help="Time before that, to settle, s.", min=0, max=3600)] = 10.0,
    as_json: Json = False,
) -> None:
    """Measure the watts of 0, 1, … all cores busy, into the state folder, where the node finds them.

    The node must not run. Without a meter (heater.machine.meter) the watts are estimated, and labelled so.

    \b
    Examples:
      hearth calibrate --config kitchen/node.toml
      hearth calibrate --seconds 60 --json
    """
    from ..config import load_node_config
    from ..heating.calibration import save_calibration
    from ..heating.drivers.found import FoundValues
    from ..heating.drivers.interface import DriverError
    from ..storage.errors import StorageError
    from ..storage.folder import StateFolder

    settings = load_node_config(config)
    folder = StateFolder(settings.node.state)
    try:
        folder.create()
        lock = folder.lock()
    except StorageError as error:
        raise UserError(f"calibrate: the node must not run meanwhile: {error}") from error
    try:
        # A node that was killed left the least power behind.
        for file in FoundValues(folder.found, settings.heater.machine.root).keep():
            if not as_json:
                say(f"{file}: put back what a node had found there")
        found = _measured(settings.heater, settle, seconds, (lambda *_: None) if as_json else _tell_step)
        save_calibration(folder.calibration, found)
    except DriverError as error:
        raise UserError(str(error)) from error
    finally:
        lock.release()
    _show(found, settings.heater.idle_watts, folder.calibration, as_json)


def _measured(
    heater: HeaterSettings, settle_s: float, measure_s: float, tell: Callable[[int, float], None]
) -> Calibration:
    """Raises DriverError."""
    import trio

    from ..heating.burner import Burner
    from ..heating.calibration import calibrate as measure
    from ..heating.choose import meter_of

    meter, background = meter_of(heater, time.monotonic)
    load = Burner(yielding=False)

    async def measured() -> Calibration:
        async with trio.open_nursery() as nursery:
            for sensor in background:
                nursery.start_soon(sensor.run)
            with trio.move_on_after(METER_WAIT_S):
                while any(sensor.latest() is None for sensor in background):
                    await trio.sleep(0.05)
            found = await measure(
                load,
                meter,
                cores=heater.core_count,
                watts_per_core=heater.watts_per_core,
                settle_s=settle_s,
                measure_s=measure_s,
                now_s=time.monotonic,
                wait=trio.sleep,
                tell=tell,
            )
            nursery.cancel_scope.cancel()
        return found

    try:
        return run_async(measured)
    finally:
        load.close()


def _tell_step(cores: int, watts: float) -> None:
    say(f"{cores:>4} cores  {watts:8.1f} W above idle")


def _show(found: Calibration, idle_watts: float, path: Path, as_json: bool) -> None:
    if as_json:
        steps = [{"cores": step.cores, "watts": round(step.watts, 3)} for step in found.table.steps]
        got_percent = round(100 * found.got, 1)
        print_json(
            {"measured": found.table.measured, "idle_w": found.idle_w, "got_percent": got_percent, "steps": steps}
        )
        return
    if found.got < GOT_LEAST:
        say(f"the machine was busy: cores gave {found.got:.0%} of their time; do it again when it is at rest")
    if found.idle_w is not None:
        say(f"idle {found.idle_w:.1f} W; it takes the place of heater.idle_watts, {idle_watts:g} W")
    say(f"{path}: {'measured' if found.table.measured else 'estimated, there is no meter'}")
