"""node.toml, client.toml and mesh.toml: what is right is read, what is wrong is said in one line, pages are true."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity, peer_id_text
from hearthmesh.crypto.mesh import MeshDefinition
from hearthmesh.node.config import (
    ClientConfig,
    HeaterSettings,
    MeshPaths,
    NativeCommandSettings,
    NativeSettings,
    NodeConfig,
    NodeSettings,
    RoomSettings,
    load_client_config,
    load_node_config,
)
from hearthmesh.node.meshfile import load_mesh_file, save_mesh_file
from hearthmesh.node.settings.describe import replace_block
from hearthmesh.node.settings.pages import PAGES
from hearthmesh.node.settings.read import read_settings
from hearthmesh.node.settings.schema import Conflict, Setting, settings_of
from hearthmesh.node.settings.write import settings_text, write_settings
from hearthmesh.node.toml import ConfigError, read_toml
from hearthmesh.protocol.config import LAN, WAN

DOCS = Path(__file__).parents[2] / "docs"
PEER_ID = peer_id_text(Identity.from_seed(bytes(32)).node_id)
PEER = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER_ID}"
MESH = '[mesh]\ndefinition = "mesh.toml"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("mesh.toml", "kitchen.cert"):
        (tmp_path / name).touch()
    return tmp_path


def complaint(folder: Path, text: str, load: Any = load_node_config, name: str = "node.toml") -> str:
    """The error's line, without the folder."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and caught.value.file == path
    return message.removeprefix(f"{folder}/")


def test_smallest_node_file_gets_defaults_beside_it(folder: Path) -> None:
    path = folder / "node.toml"
    path.write_text(MESH)
    config = load_node_config(path)
    assert config == NodeConfig(
        mesh=MeshPaths(definition=folder / "mesh.toml"), node=NodeSettings(state=folder / "state")
    )
    assert config.protocol() == LAN


def test_whole_node_file_is_read_with_types_and_paths(folder: Path) -> None:
    path = folder / "node.toml"
    path.write_text(f"""
        [mesh]
        definition = "mesh.toml"
        certificate = "{folder}/kitchen.cert"
        [node]
        name = "kitchen"
        state = "~/hearth"
        listen = []
        relay_through = ["{PEER}"]
        preset = "wan"
        roles = ["worker"]
        [heater]
        kind = "simulated"
        cores = 4
        setpoint_c = 21
        room.resistance_k_per_w = 0.05
        [native]
        enabled = true
        commands.sh = {{ path = "/bin/sh", environment = {{ LANG = "C" }}, binds = ["/etc/fonts"], memory_mb = 8 }}
        [limits]
        jobs = 5
    """)
    config = load_node_config(path)
    assert config.mesh.certificate == folder / "kitchen.cert"
    assert config.node.state == Path.home() / "hearth"
    assert (config.node.listen, config.node.relay_through) == ((), (PEER,))
    assert config.heater.setpoint_c == 21.0 and isinstance(config.heater.setpoint_c, float)
    assert config.heater.capacity_w == 80.0 == config.heater.effective_gain_w_per_k
    assert config.heater.room.conductance_w_per_k == 20.0
    assert config.protocol() == replace(WAN, jobs_max=5)
    native = config.native.runtime_config(slots=2, nice=3)
    assert (native.slots, native.nice, native.uid_base) == (2, 3, 64_100)
    assert native.commands["sh"].path == Path("/bin/sh")
    assert native.commands["sh"].environment == {"LANG": "C"}
    assert native.commands["sh"].read_only == (Path("/etc/fonts"),)
    assert native.commands["sh"].memory_bytes == 8 << 20


def test_commands_that_are_not_enabled_are_not_given_to_the_runtime() -> None:
    commands = {"sh": NativeCommandSettings(path=Path("/bin/sh"))}
    assert NativeSettings(commands=commands).runtime_config(slots=1, nice=0).commands == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('[heater]\nsetpoint_c = "warm"', '4: heater.setpoint_c: expected a number from -30 to 120, got "warm"'),
        ("[heater]\nsetpoint_c = true", "4: heater.setpoint_c: expected a number from -30 to 120, got true"),
        ("[heater]\nsetpoint_c = nan", "4: heater.setpoint_c: expected a number from -30 to 120, got nan"),
        ("[heater]\nsetpoint_c = 121", "4: heater.setpoint_c: expected a number from -30 to 120, got 121"),
        ("[heater]\ncores = 2.0", "4: heater.cores: expected an integer from 1 to 4096, got 2.0"),
        ("[heater]\ncores = 0x" + "f" * 9000, "4: heater.cores: expected an integer from 1 to 4096, got an integer"),
        ("[node]\nmdns = 1", "4: node.mdns: expected true or false, got 1"),
        ("[node]\nname = 7", "4: node.name: expected a text of at most 64 characters, got 7"),
        (f'[node]\nname = "{"x" * 65}"', "4: node.name: 65 characters long; at most 64 are allowed"),
        ('[node]\nname = "a\\u001b[0m"', "4: node.name: expected printable characters only, got"),
        ('[node]\nstate = ""', "4: node.state: expected a path, got an empty text"),
        ('[node]\nstate = "a\\u0000b"', "4: node.state: holds a NUL character"),
        ('[node]\nstate = "~nobody-of-that-name/x"', "4: node.state: cannot be used: "),
        ('[node]\npreset = "fast"', '4: node.preset: expected one of "local", "lan", "wan", got "fast"'),
        ('[node]\nlisten = "x"', '4: node.listen: expected an array of texts, got "x"'),
        ('[node]\nlisten = [\n"/ip4/0.0.0.0/tcp/0",\n4]', "6: node.listen[1]: expected a text"),
        ("[node]\nroles = ['worker', 'worker']", "4: node.roles: a role is there twice"),
        ("[node]\nlisten = []", "4: node.listen: empty, and there is no bootstrap"),
        ("[heater.room]\nloss_w_per_k = 1\nresistance_k_per_w = 1", "4: heater.room.loss_w_per_k: given together"),
        ("[heater]\nroom = 3", "4: heater.room: expected a table, got 3"),
        ("[native]\nenabled = true", "4: native.enabled: true without a command"),
        ("[oci]\nenabled = true", "4: oci.enabled: true without an image"),
        ('[oci]\nimages = ["busybox:1.36"]', "4: oci.images[0]: expected an image's digest: sha256: and 64 hex digits"),
        ("[native.commands]\nx = 1", "4: native.commands.x: expected a table, got 1"),
        ("[native.commands.x]\n", "3: native.commands.x.path: is missing; wanted: a path. The program."),
        ('[native.commands."a/b"]\npath="/bin/sh"', '3: native.commands."a/b": not a usable name'),
        ('[native.commands.x]\npath = "sh"', "4: native.commands.x.path: expected an absolute path"),
        ('[native.commands.x]\npath = "/absent"', "4: native.commands.x.path: no such file /absent"),
        (
            '[native.commands.x]\npath = "/bin/sh"\nenvironment = { A = 1 }',
            "5: native.commands.x.environment.A: expected a text, got 1",
        ),
    ],
)
def test_wrong_value_is_said_with_its_line_and_what_is_allowed(folder: Path, line: str, expected: str) -> None:
    assert complaint(folder, MESH + line).startswith(f"node.toml:{expected}")


def test_value_in_place_of_a_table_is_refused(folder: Path) -> None:
    assert complaint(folder, "node = 3\n" + MESH) == "node.toml:1: node: expected a table, got 3"
    assert complaint(folder, "[[node]]\n" + MESH) == "node.toml:1: node: expected a table, got an array"


def test_unknown_key_is_said_with_its_line_and_the_nearest_one(folder: Path) -> None:
    found = complaint(folder, MESH + "[heater]\nkind = 'none'\nsetpiont_c = 3\n")
    assert found.startswith('node.toml:5: [heater] has no key "setpiont_c"; did you mean "setpoint_c"? allowed: kind, ')
    assert complaint(folder, MESH + "[heeter]\n").startswith(
        'node.toml:3: the file has no key "heeter"; did you mean "heater"? allowed: mesh, node, '
    )
    assert complaint(folder, MESH + "zzz = 1\n").startswith('node.toml:3: [mesh] has no key "zzz"; allowed: definition')


def test_missing_key_is_said_with_the_line_of_its_table(folder: Path) -> None:
    expected = "mesh.definition: is missing; wanted: a path. The mesh's `mesh.toml`: its name and authorities."
    assert complaint(folder, "[node]\n[mesh]\n") == f"node.toml:2: {expected}"
    assert complaint(folder, "[node]\n") == f"node.toml: {expected}"


def test_missing_file_is_said_with_what_paths_are_relative_to(folder: Path) -> None:
    assert complaint(folder, '[mesh]\ndefinition = "absent.toml"') == (
        "node.toml:2: mesh.definition: no such file absent.toml; paths are relative to the folder of node.toml"
    )


@pytest.mark.parametrize(
    "address",
    [
        "",
        "192.0.2.7:4001",
        "/ip4/192.0.2.7",
        "/ip4/192.0.2.777/tcp/4001",
        "/ip4/192.0.2.7/tcp/65536",
        "/ip4/192.0.2.7/tcp/-1",
        "/ip4/192.0.2.7/tcp/٣",
        "/ip4/192.0.2.7/udp/4001",
        "/dns4/example.org/tcp/4001",
        "/ip6/::1/tcp/4001/ws",
        PEER,
    ],
)
def test_address_that_cannot_be_listened_on_is_refused(folder: Path, address: str) -> None:
    found = complaint(folder, f'{MESH}[node]\nlisten = ["{address}"]')
    assert found.startswith("node.toml:4: node.listen[0]: ") and f'got "{address}"' in found


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/192.0.2.7/tcp/4001",
        f"/ip4/192.0.2.7/tcp/0/p2p/{PEER_ID}",
        f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER_ID[:-1]}",
        "/ip4/192.0.2.7/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/dns4/-x-/tcp/4001/p2p/{PEER_ID}",
        f"/dns4/a..example/tcp/4001/p2p/{PEER_ID}",
        f"/onion3/x/tcp/4001/p2p/{PEER_ID}",
    ],
)
def test_address_that_is_no_peers_is_refused(folder: Path, address: str) -> None:
    assert complaint(folder, f'{MESH}[node]\nbootstrap = ["{address}"]').startswith("node.toml:4: node.bootstrap[0]: ")


HOST_KEYS = {"heater.mqtt.host": "[heater.mqtt]\n", "heater.machine.modbus.host": "[heater.machine.modbus]\n"}


@pytest.mark.parametrize("key", HOST_KEYS)
@pytest.mark.parametrize(
    "host",
    [
        "192.0.2..30",
        "homeassistant..local",
        "192.0.2.300",
        "192.0.2.30:502",
        "a b",
        "-x",
        "x" * 64 + ".local",
        ".",
        "ü" * 64,
    ],
)
def test_host_that_is_none_is_refused_in_one_line(folder: Path, key: str, host: str) -> None:
    found = complaint(folder, f'{MESH}{HOST_KEYS[key]}host = "{host}"')
    assert found.startswith(f"node.toml:4: {key}: not a") and f'got "{host}"' in found


@pytest.mark.parametrize("key", HOST_KEYS)
@pytest.mark.parametrize(
    "host",
    ["192.0.2.30", "127.1", "::1", "fe80::1%eth0", "homeassistant.local.", "a_b-c.lan", "küche.local", "plc7", ""],
)
def test_hosts_of_every_kind_are_taken(folder: Path, key: str, host: str) -> None:
    (folder / "node.toml").write_text(f'{MESH}{HOST_KEYS[key]}host = "{host}"')
    heater = load_node_config(folder / "node.toml").heater
    assert host in (heater.mqtt.host, heater.machine.modbus.host)


def test_addresses_of_every_kind_are_taken(folder: Path) -> None:
    path = folder / "node.toml"
    hosts = ["ip4/192.0.2.7", "ip6/2001:db8::1", "dns/a.example", "dns4/a-b.example.", "dns6/localhost"]
    peers = tuple(f"/{host}/tcp/4001/p2p/{PEER_ID}" for host in hosts)
    path.write_text(f"{MESH}[node]\nlisten = ['/ip6/::/tcp/0', '/ip4/0.0.0.0/tcp/9']\nbootstrap = {list(peers)}")
    assert load_node_config(path).node.bootstrap == peers


def test_client_file_is_read_and_needs_somebody_to_dial(folder: Path) -> None:
    path = folder / "client.toml"
    path.write_text(f"{MESH}[client]\nbootstrap = ['{PEER}']\npreset = 'wan'\n")
    config = load_client_config(path)
    assert (config.client.state, config.client.bootstrap) == (folder / "state", (PEER,))
    assert config.protocol() == WAN
    found = complaint(folder, MESH + "[client]\n", load_client_config, "client.toml")
    assert found == "client.toml:3: client.bootstrap: empty, and mdns is off: the client has nobody to dial"


def test_mesh_file_returns_the_mesh_that_was_saved(tmp_path: Path) -> None:
    authorities = tuple(Identity.from_seed(bytes([seed]) * 32).node_id for seed in range(3))
    mesh = MeshDefinition('rue "de la paix" é\\', authorities)
    save_mesh_file(tmp_path / "mesh.toml", mesh)
    assert load_mesh_file(tmp_path / "mesh.toml") == mesh
    assert load_mesh_file(tmp_path / "mesh.toml").mesh_id == mesh.mesh_id
    assert "12D3Koo" in (tmp_path / "mesh.toml").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.toml"]


def test_mesh_file_takes_authorities_in_hexadecimal(tmp_path: Path) -> None:
    authority = Identity.from_seed(bytes(32)).node_id
    path = tmp_path / "mesh.toml"
    path.write_text(f'name = "m"\nauthorities = ["{authority.hex()}"]\n')
    assert load_mesh_file(path) == MeshDefinition("m", (authority,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("authorities = []", "mesh.toml: name: is missing; wanted: a text of at most 64 characters"),
        ('name = ""\nauthorities = ["ID"]', "mesh.toml:1: name: empty"),
        ('name = "m"\nauthorities = []', "mesh.toml:2: authorities: empty; a mesh needs one"),
        ('name = "m"\nauthorities = ["xyz"]', "mesh.toml:2: authorities[0]: expected a peer id (12D3Koo…) or 64"),
        ('name = "m"\nauthorities = ["ID", "ID"]', "mesh.toml:2: authorities: one is there twice"),
        ('name = "m"\nversion = 2\nauthorities = ["ID"]', "mesh.toml:2: version: expected an integer from 1 to 1"),
    ],
)
def test_wrong_mesh_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = complaint(tmp_path, text.replace("ID", PEER_ID), load_mesh_file, "mesh.toml")
    assert found.startswith(expected)


def test_settings_that_conflict_are_refused_when_made_in_code_too() -> None:
    with pytest.raises(Conflict, match="loss_w_per_k: given together with resistance_k_per_w"):
        RoomSettings(resistance_k_per_w=1.0, loss_w_per_k=1.0)
    assert HeaterSettings(cores=2, gain_w_per_k=7.0).effective_gain_w_per_k == 7.0


def value_of(setting: Setting) -> st.SearchStrategy[Any]:
    """Values that the setting's annotation allows."""
    key, kind = setting.key, setting.kind
    found: st.SearchStrategy[Any]
    if setting.is_table:
        return objects(kind)
    if kind is bool:
        found = st.booleans()
    elif kind is int:
        found = st.integers(int(key.low or 0), int(key.high or 0))
    elif kind is float:
        found = st.floats(key.low, key.high)
    elif kind is Path:
        found = st.sampled_from([Path("/bin/sh"), Path("/bin/sh") if key.exists else Path("/é x/'\"\\")])
    elif kind is Mapping:
        names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,5}", fullmatch=True)
        entries = objects(setting.value_kind) if setting.is_table_of_tables else texts(setting)
        found = st.dictionaries(names, entries, max_size=3)
    elif kind is tuple:
        found = st.lists(texts(setting), max_size=3, unique=True).map(tuple)
    else:
        found = texts(setting)
    return found if setting.required or setting.default is not None else st.none() | found


def texts(setting: Setting) -> st.SearchStrategy[str]:
    key = setting.key
    if key.choices:
        return st.sampled_from(key.choices)
    if key.check is None or key.check.__name__ == "check_environment_value":
        return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=8)
    samples = [
        "/ip4/0.0.0.0/tcp/0",
        PEER,
        PEER_ID,
        "/bin",
        "mon-fri 06:30 20.5",
        "w1:28-01",
        "file:/x",
        "topic",
        'plain "é\\',
        f"sha256:{'5a' * 32}",
    ]
    return st.sampled_from([sample for sample in samples if len(sample) <= key.length and passes(setting, sample)])


def passes(setting: Setting, sample: str) -> bool:
    assert setting.key.check is not None
    try:
        setting.key.check(sample)
    except ValueError:
        return False
    return True


def objects(cls: type[Any]) -> st.SearchStrategy[Any]:
    def build(values: dict[str, Any]) -> Any:
        try:
            return cls(**values)
        except Conflict:
            return None

    drawn = st.fixed_dictionaries({setting.name: value_of(setting) for setting in settings_of(cls)})
    return drawn.map(build).filter(lambda made: made is not None)


@settings(max_examples=60)
@given(objects(NodeConfig) | objects(ClientConfig))
def test_settings_that_are_written_read_back_equal(config: NodeConfig | ClientConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "written.toml"
        write_settings(path, config)
        assert read_settings(read_toml(path), type(config)) == config
        assert path.read_text(encoding="utf-8") == settings_text(config)


@given(st.sampled_from(["mesh", "node", "heater", "heater.room", "native.commands.x"]), st.data())
def test_no_value_of_a_wrong_type_is_taken_or_ends_in_another_error(table: str, data: st.DataObject) -> None:
    junk = data.draw(st.sampled_from(["1", "-1", "1.5", "inf", "true", '""', '"x"', "[]", "[[1]]", "{}", "1979-05-27"]))
    cls = {"mesh": MeshPaths, "node": NodeSettings, "heater": HeaterSettings, "heater.room": RoomSettings}.get(
        table, NativeCommandSettings
    )
    setting = data.draw(st.sampled_from(settings_of(cls)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.toml"
        path.write_text(f"[{table}]\n{setting.name} = {junk}\n")
        with pytest.raises(ConfigError) as caught:  # of a right value: that mesh.definition is missing
            read_settings(read_toml(path), NodeConfig)
        assert caught.value.line in (0, 1, 2)


@pytest.mark.parametrize("page", PAGES)
def test_reference_page_has_the_tables_that_the_code_makes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, block in PAGES[page].items():
        assert replace_block(text, name, block()) == text, "run: python -m hearthmesh.node.settings docs"


def test_examples_of_the_configuration_page_load(folder: Path) -> None:
    blocks = re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", (DOCS / "config.md").read_text(encoding="utf-8"), re.S)
    for name, text in blocks:
        (folder / name).write_text(text, encoding="utf-8")
    assert [name for name, _ in blocks] == ["node.toml", "client.toml", "mesh.toml"]
    assert load_node_config(folder / "node.toml").native.enabled
    assert load_client_config(folder / "client.toml").client.bootstrap
    assert load_mesh_file(folder / "mesh.toml").name == "rue-de-la-paix"
