"""`hearth calibrate`: what this machine draws, step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .errors import UserError
from .options import Json
from .output import print_json, say
from .running import run_async

# A meter that does not answer within this time is not there.
METER_WAIT_S = 10.0


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
    import trio

    from ..config import load_node_config
    from ..heating import calibration
    from ..heating.choose import meter_of
    from ..heating.drivers.interface import DriverError
    from ..heating.spin import SpinLoad
    from ..storage.errors import StorageError
    from ..storage.folder import StateFolder

    settings = load_node_config(config)
    heater = settings.heater
    folder = StateFolder(settings.node.state)
    try:
        folder.create()
        lock = folder.lock()
    except StorageError as error:
        raise UserError(f"calibrate: the node must not run meanwhile: {error}") from error
    load = SpinLoad()
    try:
        meter, background = meter_of(heater, time.monotonic)

        async def measured() -> calibration.Calibration:
            async with trio.open_nursery() as nursery:
                for sensor in background:
                    nursery.start_soon(sensor.run)
                with trio.move_on_after(METER_WAIT_S):
                    while any(sensor.latest() is None for sensor in background):
                        await trio.sleep(0.05)
                found = await calibration.calibrate(
                    load,
                    meter,
                    cores=heater.core_count,
                    watts_per_core=heater.watts_per_core,
                    settle_s=settle,
                    measure_s=seconds,
                    now_s=time.monotonic,
                    wait=trio.sleep,
                    tell=lambda cores, watts: None if as_json else say(f"{cores:>4} cores  {watts:8.1f} W above idle"),
                )
                nursery.cancel_scope.cancel()
            return found

        found = run_async(measured)
        calibration.save_calibration(folder.calibration, found)
    except DriverError as error:
        raise UserError(str(error)) from error
    finally:
        load.close()
        lock.release()
    if as_json:
        steps = [{"cores": step.cores, "watts": round(step.watts, 3)} for step in found.table.steps]
        print_json({"measured": found.table.measured, "idle_w": found.idle_w, "steps": steps})
        return
    if found.idle_w is not None:
        say(f"idle {found.idle_w:.1f} W: heater.idle_watts is {heater.idle_watts:g}")
    say(f"{folder.calibration}: {'measured' if found.table.measured else 'estimated, there is no meter'}")
