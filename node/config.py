"""What a node's owner, and a client's user, decide: `node.toml` and `client.toml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from ..protocol.config import PRESETS, ProtocolConfig
from .clock import OFFSET_MAX_S
from .execution.native_config import NativeCommand, NativeRuntimeConfig
from .execution.oci_config import OciRuntimeConfig
from .heating.aims import hottest_c
from .heating.control.schedule import WeekSchedule
from .heating.control_settings import (
    BurnTable,
    LimitTable,
    MachineTable,
    MqttTable,
    SafetyTable,
    ScheduleSettings,
    SensorTable,
    WindowTable,
)
from .heating.sink_settings import ModelTable, WeatherTable
from .settings.checks import (
    check_absolute,
    check_environment_value,
    check_image_digest,
    check_listen_address,
    check_peer_address,
    check_printable,
)
from .settings.read import read_settings
from .settings.schema import Conflict, Key
from .toml import read_toml

MB = 1024 * 1024
GB = 1024 * MB
# Of a heater. No machine has more, or draws more.
CORES_MAX = 4096
WATTS_PER_CORE_MAX = 10_000.0
IDLE_WATTS_MAX = 1e6
_SUPPLY = "a rack's hottest supply"
_PRESETS = ("local", "lan", "wan")

Preset = Annotated[
    str,
    Key("Times of the protocol: `local` for one machine, `lan`, or `wan` for the internet.", choices=_PRESETS),
]
Bootstrap = Annotated[
    tuple[str, ...],
    Key(
        "Peers to dial first, each as an address that ends in `/p2p/` and the peer id.",
        items=64,
        length=256,
        check=check_peer_address,
    ),
]
StateFolderPath = Annotated[Path, Key("Folder of the key, the journal and the blobs; made if it is absent.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPaths:
    """Which mesh, and the proof of belonging to it."""

    definition: Annotated[Path, Key("The mesh's `mesh.toml`: its name and authorities.", exists="file")]
    certificate: Annotated[
        Path | None,
        Key(
            "Membership certificate that an authority issued.",
            exists="file",
            absent="`certificate` in the state folder",
        ),
    ] = None
    revocations: Annotated[
        Path | None, Key("Revocation list to begin with; newer ones come over the mesh.", exists="file")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who the node is and how it is reached."""

    name: Annotated[str, Key("Name for people.", length=64, check=check_printable, absent="the certificate's")] = ""
    state: StateFolderPath = Path("state")
    listen: Annotated[
        tuple[str, ...],
        Key(
            "Addresses to listen on. Empty: accept no connection (then use `relay_through`).",
            items=8,
            length=256,
            check=check_listen_address,
        ),
    ] = ("/ip4/0.0.0.0/tcp/4001",)
    bootstrap: Bootstrap = ()
    mdns: Annotated[bool, Key("Find peers on the local network, and be found.")] = False
    preset: Preset = "lan"
    roles: Annotated[
        tuple[str, ...],
        Key(
            "Roles to play, of those that the certificate grants.",
            items=4,
            choices=("worker", "submitter", "replica", "relay"),
            absent="all that the certificate grants",
        ),
    ] = ()
    zone: Annotated[
        str,
        Key(
            "Heat zone: nodes of one owner and site (as their certificates say) with the same zone heat one sink and "
            "share its demand. None for a heater that is alone in its room. Nodes with the same zone, whoever's they "
            "are, avoid holding the same job's state.",
            length=64,
            check=check_printable,
        ),
    ] = ""
    relay_through: Annotated[
        tuple[str, ...],
        Key(
            "Relays through which a node behind NAT is reached, as peer addresses.",
            items=3,
            length=256,
            check=check_peer_address,
        ),
    ] = ()
    relay_service: Annotated[bool, Key("Carry connections for nodes behind NAT; needs the role `relay`.")] = False
    history: Annotated[
        Path | None,
        Key(
            "File to which the node appends what it granted, ran and stored, for an audit (docs/chaos.md).",
            absent="none is kept",
        ),
    ] = None
    clock_offset_s: Annotated[
        float,
        Key(
            "For tests: the node takes the time to be so much later than the machine says, s.",
            low=-OFFSET_MAX_S,
            high=OFFSET_MAX_S,
        ),
    ] = 0.0
    stealing: Annotated[
        str,
        Key(
            "`random`: for comparisons only. The mesh is not told how much heat is wanted, only whether any is.",
            choices=("heat", "random"),
        ),
    ] = "heat"
    log_level: Annotated[str, Key("Least level that is logged.", choices=("debug", "info", "warning", "error"))] = (
        "info"
    )
    json_logs: Annotated[bool, Key("Log one JSON object a line.")] = False

    def __post_init__(self) -> None:
        if not (self.listen or self.bootstrap or self.relay_through or self.mdns):
            raise Conflict("listen", "empty, and there is no bootstrap, relay_through or mdns: nobody to talk to")
        if len(set(self.roles)) != len(self.roles):
            raise Conflict("roles", "a role is there twice")
        if self.relay_service and self.roles and "relay" not in self.roles:
            raise Conflict("relay_service", "true, but `roles` leaves relay out")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """The simulated room of one resistance and one capacity (28 m², time constant 64 h), and where any sink begins."""

    resistance_k_per_w: Annotated[
        float | None,
        Key("Thermal resistance to the outside, K/W.", low=1e-6, high=1e3, absent="1 / `loss_w_per_k`"),
    ] = None
    loss_w_per_k: Annotated[
        float | None,
        Key("Loss to the outside, W/K; instead of the resistance.", low=1e-3, high=1e6, absent="`20.2`"),
    ] = None
    capacity_j_per_k: Annotated[float, Key("Thermal capacity, J/K.", low=1.0, high=1e13)] = 4.62e6
    start_c: Annotated[float, Key("Temperature at the node's start, °C.", low=-60.0, high=150.0)] = 17.0
    outside_c: Annotated[float, Key("Temperature outside, °C.", low=-60.0, high=80.0)] = 5.0

    def __post_init__(self) -> None:
        if self.resistance_k_per_w is not None and self.loss_w_per_k is not None:
            raise Conflict("loss_w_per_k", "given together with resistance_k_per_w", "keep one of the two")

    @property
    def conductance_w_per_k(self) -> float:
        """Loss to the outside, whichever way it was given."""
        if self.resistance_k_per_w is not None:
            return 1.0 / self.resistance_k_per_w
        return 20.2 if self.loss_w_per_k is None else self.loss_w_per_k


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaterSettings:
    """What the heat goes into, and the control that asks for it."""

    kind: Annotated[
        str,
        Key(
            "`machine`: this machine, by its sensors. `simulated`: a sink computed from the CPU's heat. "
            "`none`: nothing to heat.",
            choices=("machine", "simulated", "none"),
        ),
    ] = "none"
    sink: Annotated[str, Key("What is heated.", choices=("room", "tank", "pool", "loop"))] = "room"
    cores: Annotated[
        int | None, Key("CPU cores for tasks, one task each.", low=1, high=CORES_MAX, absent="all of the machine")
    ] = None
    watts_per_core: Annotated[float, Key("Power of one busy core, W.", low=0.1, high=WATTS_PER_CORE_MAX)] = 20.0
    idle_watts: Annotated[float, Key("Power of the idle machine, W.", low=0.0, high=IDLE_WATTS_MAX)] = 10.0
    setpoint_c: Annotated[float, Key("Temperature wanted, °C.", low=-30.0, high=120.0)] = 20.0
    band_c: Annotated[
        float,
        Key("No work starts above setpoint + band; it resumes below the setpoint, K.", low=0.01, high=50.0),
    ] = 0.5
    gain_w_per_k: Annotated[
        float | None,
        Key(
            "Heat asked for per kelvin below the setpoint, W/K.",
            low=0.01,
            high=1e9,
            absent="full power at 1 K below",
        ),
    ] = None
    integral_s: Annotated[
        float,
        Key(
            "Time in which a constant error doubles the heat asked for, s; 0: never, and the sink settles below its "
            "setpoint.",
            low=0.0,
            high=1e7,
        ),
    ] = 7200.0
    dwell_s: Annotated[
        float,
        Key(
            "The number of tasks stays for so long; safety, limits and a hand on the dial do not wait, s.",
            low=0.0,
            high=3600.0,
        ),
    ] = 30.0
    share_zone: Annotated[
        bool | None,
        Key(
            "Share the demand with the other nodes of `node.zone`, which heat the same sink.",
            absent="true for `machine`, false for `simulated`",
        ),
    ] = None
    year_round: Annotated[bool, Key("The sink wants heat in summer too (hot water, a pool).")] = False
    heatless_price: Annotated[
        float,
        Key(
            "Asked for an hour of CPU whose heat nobody wants, in the mesh's currency: only jobs that pay it, and are "
            "in a hurry, run then. 0: anybody's.",
            low=0.0,
            high=1e6,
        ),
    ] = 0.0
    time_scale: Annotated[
        float,
        Key("The simulated sink's clock runs this many times faster than the wall's.", low=0.01, high=1e6),
    ] = 1.0
    room: Annotated[RoomSettings, Key("The simulated room.")] = RoomSettings()
    model: Annotated[ModelTable, Key("What a simulated sink is made of, and what a machine's sensor is in.")] = (
        ModelTable()
    )
    weather: Annotated[WeatherTable, Key("Weather of a simulated sink.")] = WeatherTable()
    machine: Annotated[MachineTable, Key("The hardware, for the kind `machine`.")] = MachineTable()
    schedule: Annotated[ScheduleSettings, Key("Which temperature is wanted when.")] = ScheduleSettings()
    window: Annotated[WindowTable, Key("Open windows, told from the temperature.")] = WindowTable()
    sensors: Annotated[SensorTable, Key("When a sensor is not believed.")] = SensorTable()
    safety: Annotated[SafetyTable, Key("Overheating and summer.")] = SafetyTable()
    limits: Annotated[LimitTable, Key("Power limits from outside.")] = LimitTable()
    burn: Annotated[BurnTable, Key("Heat without work.")] = BurnTable()
    mqtt: Annotated[MqttTable, Key("A broker, for Home Assistant.")] = MqttTable()

    def __post_init__(self) -> None:
        if self.kind == "machine" and not self.machine.sensor:
            raise Conflict("machine", "has no sensor", 'kind = "machine" needs sensor = "hwmon:NAME/temp1" or another')
        if self.kind != "none":
            self._check_reached()

    def _check_reached(self) -> None:
        """What is wanted at some time has to be below what stops all, and below what no sensor is believed at."""
        wanted = [(self.setpoint_c, "the setpoint")]
        wanted += [(change.setpoint_c, "the schedule") for change in WeekSchedule(self.schedule.week).changes]
        water_c, disinfection = hottest_c(self.model), self.model.disinfection
        if water_c is not None:
            wanted.append((water_c, _SUPPLY if disinfection is None else "the tank's disinfection"))
        full_c = self.model.tank.max_c
        # A real tank's inflow is closed by its own limits.
        if self.kind == "simulated" and disinfection is not None and full_c < disinfection.level_c:
            least = f"the {disinfection.level_c:g} °C of the tank's disinfection"
            raise Conflict("model", f"tank.max_c = {full_c:g} is less than {least}")
        highest_c, whose = max(wanted)
        overheat_c, believed_c = self.safety.overheat_c, self.sensors.highest_c
        if overheat_c is not None and overheat_c <= highest_c:
            hint = "lower its supply_max_c, or raise overheat_c" if whose == _SUPPLY else ""
            raise Conflict("safety", f"overheat_c = {overheat_c:g} is not above the {highest_c:g} °C of {whose}", hint)
        if self.kind == "machine" and believed_c <= highest_c:
            raise Conflict("sensors", f"highest_c = {believed_c:g} is not above the {highest_c:g} °C of {whose}")

    @property
    def shares_zone(self) -> bool:
        """A simulated sink is a node's own unless its owner says otherwise."""
        return self.kind == "machine" if self.share_zone is None else self.share_zone and self.kind != "none"

    @property
    def core_count(self) -> int:
        """Cores for tasks on this machine."""
        return self.cores if self.cores is not None else len(os.sched_getaffinity(0))

    @property
    def capacity_w(self) -> float:
        """Heat of all cores at full load, without the idle power."""
        return self.core_count * self.watts_per_core

    @property
    def price_micro(self) -> int:
        return round(self.heatless_price * 1_000_000)

    @property
    def effective_gain_w_per_k(self) -> float:
        return self.capacity_w if self.gain_w_per_k is None else self.gain_w_per_k


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """How much disk the node may use."""

    blob_quota_gb: Annotated[float, Key("Programs, inputs and outputs kept, GiB.", low=0.01, high=1e6)] = 10.0
    min_free_gb: Annotated[float, Key("Free disk space below which nothing more is kept, GiB.", low=0.0, high=1e6)] = (
        1.0
    )

    @property
    def blob_quota_bytes(self) -> int:
        return int(self.blob_quota_gb * GB)

    @property
    def min_free_bytes(self) -> int:
        return int(self.min_free_gb * GB)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How tasks run."""

    wasm: Annotated[bool, Key("Run WebAssembly tasks.")] = True
    memory_mb: Annotated[int, Key("Most memory that a task may ask for, MiB.", low=1, high=1_048_576)] = 2048
    max_children: Annotated[
        int | None, Key("Worker processes.", low=1, high=4096, absent="one a core of the heater")
    ] = None
    nice: Annotated[int, Key("Niceness of worker processes.", low=0, high=19)] = 10
    idle_s: Annotated[float, Key("An idle worker process ends after this time, s.", low=0.0, high=86_400.0)] = 60.0

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb * MB


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeCommandSettings:
    """One program of the machine that jobs may name; `NAME` is the name they use."""

    path: Annotated[Path, Key("The program.", check=check_absolute, exists="file")]
    arguments: Annotated[tuple[str, ...], Key("Arguments before the job's own.")] = ()
    environment: Annotated[
        Mapping[str, str],
        Key("Environment variables that the program sees.", items=64, check=check_environment_value),
    ] = field(default_factory=dict)
    job_environment: Annotated[
        tuple[str, ...],
        Key("Names of variables that a job may set too. Never one like `LD_PRELOAD`.", items=64, length=128),
    ] = ()
    binds: Annotated[
        tuple[str, ...],
        Key(
            "Files and folders besides `/usr` that it sees, read-only, under the same path.",
            items=64,
            check=check_absolute,
        ),
    ] = ()
    memory_mb: Annotated[int, Key("Most memory that a job may ask for, MiB.", low=1, high=1_048_576)] = 1024
    processes: Annotated[int, Key("Most processes and threads at a time.", low=1, high=4096)] = 64

    def __post_init__(self) -> None:
        for name in (*self.environment, *self.job_environment):
            if not name or "=" in name:
                raise Conflict("environment", f'"{name}" is no name of a variable')


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSettings:
    """Programs outside WebAssembly: off unless the owner lists them."""

    enabled: Annotated[bool, Key("Run the commands listed below for jobs that name them.")] = False
    uid_base: Annotated[
        int,
        Key(
            "First of the unprivileged user ids that tasks run as, if the node is root.",
            low=1000,
            high=2_147_000_000,
        ),
    ] = 64_100
    commands: Annotated[Mapping[str, NativeCommandSettings], Key("The allow-list.", items=64)] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.enabled and not self.commands:
            raise Conflict("enabled", "true without a command", "add [native.commands.NAME] with a path")

    def runtime_config(self, slots: int, nice: int) -> NativeRuntimeConfig:
        """The executor's form of it; without commands if not enabled."""
        commands = {
            name: NativeCommand(
                path=command.path,
                arguments=command.arguments,
                environment=command.environment,
                job_environment=command.job_environment,
                read_only=tuple(Path(bind) for bind in command.binds),
                memory_bytes=command.memory_mb * MB,
                processes=command.processes,
            )
            for name, command in (self.commands if self.enabled else {}).items()
        }
        return NativeRuntimeConfig(commands=commands, slots=slots, uid_base=self.uid_base, nice=nice)


@dataclass(frozen=True, slots=True, kw_only=True)
class OciSettings:
    """Containers: off unless the owner lists images."""

    enabled: Annotated[bool, Key("Run containers of the images listed below for jobs that name them.")] = False
    images: Annotated[
        tuple[str, ...],
        Key(
            "The allow-list: digests of manifests, `sha256:` and 64 hex digits, as an archive's `index.json` has "
            "them. Never tags.",
            items=32,
            check=check_image_digest,
        ),
    ] = ()
    memory_mb: Annotated[int, Key("Most memory that a job may ask for, MiB.", low=1, high=1_048_576)] = 1024
    processes: Annotated[int, Key("Most processes and threads of a container.", low=1, high=4096)] = 64
    quota_gb: Annotated[
        float, Key("Images kept unpacked, GiB; the longest unused goes first.", low=0.01, high=1_000_000.0)
    ] = 10.0
    uid: Annotated[
        int, Key("Unprivileged user id that containers run as, if the node is root.", low=1000, high=2_147_000_000)
    ] = 64_400

    def __post_init__(self) -> None:
        if self.enabled and not self.images:
            raise Conflict("enabled", "true without an image", 'add images = ["sha256:…"]')

    def runtime_config(self, slots: int, nice: int) -> OciRuntimeConfig:
        """The executor's form of it; without images if not enabled."""
        return OciRuntimeConfig(
            images=tuple(dict.fromkeys(self.images)) if self.enabled else (),
            memory_bytes=self.memory_mb * MB,
            processes=self.processes,
            quota_bytes=round(self.quota_gb * GB),
            slots=slots,
            uid=self.uid,
            nice=nice,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Bounds against the outside."""

    inbound_connections: Annotated[int, Key("Most connections that others opened.", low=1, high=65_536)] = 256
    connections_per_address: Annotated[
        int, Key("Of these from one address; a street of nodes may be behind one.", low=1, high=65_536)
    ] = 128
    streams_per_connection: Annotated[int, Key("Most streams that a peer may have open.", low=4, high=4096)] = 64
    jobs: Annotated[int, Key("Most jobs whose state the node holds.", low=1, high=1_000_000)] = 10_000
    tasks_per_job: Annotated[int, Key("Most tasks of a job that it accepts.", low=1, high=10_000_000)] = 10_000_000
    submitter_jobs: Annotated[
        int, Key("Most jobs of one submitter that the node holds, settled ones included.", low=1, high=1_000_000)
    ] = 5_000
    submitter_tasks: Annotated[
        int, Key("Most tasks of one submitter without a result; 0: what its certificate says.", low=0, high=1 << 53)
    ] = 0
    submitter_gb: Annotated[
        float,
        Key(
            "Most GiB of one submitter's unfinished jobs, inputs included; 0: what its certificate says.",
            low=0.0,
            high=1e6,
        ),
    ] = 0.0
    submitter_cpu_h: Annotated[
        float,
        Key("Most CPU hours of one submitter's unfinished tasks; 0: what its certificate says.", low=0.0, high=1e9),
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A whole `node.toml`."""

    mesh: Annotated[MeshPaths, Key("Which mesh, and the proof of belonging to it.")]
    node: Annotated[NodeSettings, Key("Who the node is and how it is reached.")] = NodeSettings()
    heater: Annotated[HeaterSettings, Key("What the heat goes into.")] = HeaterSettings()
    storage: Annotated[StorageSettings, Key("Disk.")] = StorageSettings()
    execution: Annotated[ExecutionSettings, Key("How tasks run.")] = ExecutionSettings()
    native: Annotated[NativeSettings, Key("Programs outside WebAssembly.")] = NativeSettings()
    oci: Annotated[OciSettings, Key("Containers.")] = OciSettings()
    limits: Annotated[LimitSettings, Key("Bounds against the outside.")] = LimitSettings()

    def protocol(self) -> ProtocolConfig:
        """The preset's protocol settings under this node's limits."""
        preset = PRESETS[self.node.preset]
        limits = self.limits
        return replace(
            preset,
            jobs_max=limits.jobs,
            tasks_per_job_max=limits.tasks_per_job,
            submitter_jobs_max=limits.submitter_jobs,
            submitter_tasks_max=limits.submitter_tasks,
            submitter_bytes_max=round(limits.submitter_gb * GB),
            submitter_cpu_s_max=round(limits.submitter_cpu_h * 3600),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How a client reaches the mesh."""

    state: StateFolderPath = Path("state")
    bootstrap: Bootstrap = ()
    mdns: Annotated[bool, Key("Find peers on the local network.")] = False
    preset: Preset = "lan"
    history: Annotated[
        Path | None,
        Key("File to which the client appends what it submitted and accepted, for an audit.", absent="none is kept"),
    ] = None

    def __post_init__(self) -> None:
        if not (self.bootstrap or self.mdns):
            raise Conflict("bootstrap", "empty, and mdns is off: the client has nobody to dial")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A whole `client.toml`."""

    mesh: Annotated[MeshPaths, Key("Which mesh, and the proof of belonging to it.")]
    client: Annotated[ClientSettings, Key("How the client reaches the mesh.")]

    def protocol(self) -> ProtocolConfig:
        return PRESETS[self.client.preset]


def load_node_config(path: Path) -> NodeConfig:
    """Raises ConfigError."""
    return read_settings(read_toml(path), NodeConfig)


def load_client_config(path: Path) -> ClientConfig:
    """Raises ConfigError."""
    return read_settings(read_toml(path), ClientConfig)
