"""The bridge that a config asks for, and its keeper."""

from __future__ import annotations

from pathlib import Path

import structlog
import trio

from ...config import HeaterSettings
from ..assembly import setpoint_plan
from ..commands import HeatCommands
from ..drivers.interface import DriverError
from ..heater import Heater
from ..observed import What
from .homeassistant import Topics

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PASSWORD_BYTES_MAX = 1024
RESTART_S = 60.0


async def run_bridge(
    settings: HeaterSettings, heater: Heater, commands: HeatCommands, *, device: str, name: str
) -> None:
    """Until cancelled. device: this node's own, letters and digits.

    Raises DriverError, before anything else, if paho is not installed or the password cannot be read.
    """
    try:
        from .bridge import BrokerAddress, MqttBridge
    except ImportError as error:
        problem = (
            f"heater.mqtt needs a library that is not installed ({error.name}): pip install '.[mqtt]' in the clone"
        )
        raise DriverError(problem) from error
    mqtt = settings.mqtt
    plan = setpoint_plan(settings)
    broker = BrokerAddress(mqtt.host, mqtt.port, mqtt.username, _password(mqtt.password_file), mqtt.tls)
    topics = Topics(mqtt.discovery_prefix, mqtt.topic, device)
    heard = dict.fromkeys(mqtt.presence_topics, What.PRESENCE) | dict.fromkeys(mqtt.window_topics, What.WINDOW)
    while True:
        bridge = MqttBridge(broker, topics, name, heater, commands, low_c=plan.low_c, high_c=plan.high_c, heard=heard)
        try:
            await bridge.run()
        except Exception as error:  # boundary: the client library's; the heating goes on without it
            log.error("mqtt.failed", problem=repr(error))
            commands.bridge_problem = f"mqtt: {mqtt.host}: {error}; it is tried again each minute"
        await trio.sleep(RESTART_S)


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(PASSWORD_BYTES_MAX).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise DriverError(f"{path}: the password cannot be read: {error}") from error
