"""Between a heater and a broker: paho's client in a thread of its own, the heater in trio. The heater needs neither.

A broker that is away is dialled again for ever, after 1 to 60 s; meanwhile nothing waits for it. What arrives is
bounded in size and number, and obeyed in trio's thread, so that the next control period heeds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import paho.mqtt.client as paho
import structlog
import trio
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ..commands import HeatCommands
from ..heater import Heater
from ..observed import What, parse_observed
from .homeassistant import OFFLINE, ONLINE, PAYLOAD_BYTES_MAX, Topics, discovery_payload, obey, state_payload

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

COMMANDS_WAITING_MAX = 64
KEEPALIVE_S = 30
# Gateways tell all that a sensor knows in one object.
OBSERVED_BYTES_MAX = 4096
RETRY_MAX_S = 60


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """host, port: of the broker.  tls: with the system's authorities."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = ""
    tls: bool = False


class _Client(paho.Client):
    """paho's, but the end of its thread is told: what is raised there would reach nobody."""

    def __init__(self, client_id: str, when_over: Callable[[Exception | None], None]) -> None:
        """when_over: called in the thread."""
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._when_over = when_over

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        problem: Exception | None = None
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # boundary: the client library's thread
            problem = error
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self._when_over(problem)


class MqttBridge:
    """One heater at one broker. low_c, high_c: what may be set."""

    def __init__(
        self,
        broker: BrokerAddress,
        topics: Topics,
        name: str,
        heater: Heater,
        commands: HeatCommands,
        *,
        low_c: float,
        high_c: float,
        heard: Mapping[str, What] | None = None,
        period_s: float = 1.0,
    ) -> None:
        """heard: topics of others, and what they tell of."""
        self._heard = dict(heard or {})
        self._broker = broker
        self._topics = topics
        self._heater = heater
        self._commands = commands
        self._period_s = period_s
        self._discovery = discovery_payload(topics, name, _version(), low_c, high_c)
        self._said = ""
        self._waiting: deque[tuple[str, bytes, bool]] = deque(maxlen=COMMANDS_WAITING_MAX)
        self._wake = trio.Event()
        self._greet = False
        self._failure: Exception | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    async def run(self) -> None:
        """Until cancelled; then it says that it is offline. Raises what its client ended with."""
        self._token = trio.lowlevel.current_trio_token()
        client = self._client()
        client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        client.loop_start()
        try:
            while True:
                self._wake = trio.Event()
                if self._failure is not None:
                    raise self._failure
                self._obey_waiting()
                if client.is_connected():
                    self._tell(client)
                with trio.move_on_after(self._period_s):
                    await self._wake.wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._leave, client)

    def _client(self) -> paho.Client:
        topics, broker = self._topics, self._broker
        client = _Client(f"hearthmesh-{topics.device}", self._on_over)
        client.will_set(topics.availability, OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, RETRY_MAX_S)
        client.max_queued_messages_set(COMMANDS_WAITING_MAX)
        if broker.username:
            client.username_pw_set(broker.username, broker.password or None)
        if broker.tls:
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    # -- in the client's thread ----------------------------------------------------------------------------

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.warning("mqtt.refused", host=self._broker.host, reason=str(reason))
            return
        topics = self._topics
        client.subscribe([(topic, 1) for topic in (*topics.commands, *topics.observations, *self._heard, topics.birth)])
        self._in_trio(self._connected)

    def _on_over(self, problem: Exception | None) -> None:
        self._in_trio(self._end, problem or RuntimeError("the client has ended"))

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        log.info("mqtt.disconnected", host=self._broker.host, reason=str(reason))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        most = OBSERVED_BYTES_MAX if message.topic in self._heard else PAYLOAD_BYTES_MAX
        if len(message.payload) > most:
            log.warning("mqtt.command-refused", problem=f"{len(message.payload)} bytes")
        elif message.topic == self._topics.birth:
            if message.payload == ONLINE.encode():
                self._in_trio(self._greet_anew)
        elif not message.retain or message.topic not in self._topics.commands:
            # A command that was retained is an old one: nobody stands at the dial now.
            self._in_trio(self._take, message.topic, bytes(message.payload), message.retain)

    def _in_trio(self, act: Callable[..., None], *about: object) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(act, *about)
        except trio.RunFinishedError:
            pass  # the node ended before its client's thread did

    # -- in trio's thread ----------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._commands.bridge_problem = ""
        self._greet_anew()

    def _greet_anew(self) -> None:
        self._greet = True
        self._wake.set()

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        self._waiting.append((topic, payload, retained))
        self._wake.set()

    def _end(self, problem: Exception) -> None:
        self._failure = problem
        self._wake.set()

    def _obey_waiting(self) -> None:
        while self._waiting:
            topic, payload, retained = self._waiting.popleft()
            try:
                if topic in self._heard:
                    what = self._heard[topic]
                    found = parse_observed(what, payload)
                    self._commands.observe(what, found, source=topic, words=payload, retained=retained)
                else:
                    obey(self._topics, self._commands, topic, payload, retained=retained)
            except ValueError as error:
                log.warning("mqtt.command-refused", problem=str(error))

    def _tell(self, client: paho.Client) -> None:
        """All of it after a connection or Home Assistant's birth; else the state when it changed."""
        meter, status = self._heater.meter, self._commands.status()
        state = state_payload(status, meter.total_uj, meter.useful_uj)
        if self._greet:
            self._greet, self._said = False, ""
            client.publish(self._topics.discovery, self._discovery, qos=1, retain=True)
            client.publish(self._topics.availability, ONLINE, qos=1, retain=True)
        if state != self._said:
            client.publish(self._topics.state, state, qos=1, retain=True)
            self._said = state

    def _leave(self, client: paho.Client) -> None:
        if client.is_connected():
            told = client.publish(self._topics.availability, OFFLINE, qos=1, retain=True)
            try:
                told.wait_for_publish(timeout=2.0)
            except (RuntimeError, ValueError):
                pass  # the broker went away; it says so itself, by the will
        client.disconnect()
        client.loop_stop()


def _version() -> str:
    try:
        return version("hearthmesh")
    except PackageNotFoundError:
        return "unknown"
