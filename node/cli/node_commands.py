"""`hearth node`: run a node, make one, ask one how it is."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...protocol.words import counted
from .errors import INTERRUPTED, UserError
from .options import Json
from .output import duration, energy, print_json, say
from .running import run_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_typing import TaskStatus

    from ..config import NodeConfig

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def node(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", help="The node's settings.")] = Path("node.toml"),
    listen: Annotated[
        list[str] | None, typer.Option(help="Listen here, not where the settings say; may be repeated.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="Dial these peers first, not the settings'; may be repeated.")
    ] = None,
    relay_through: Annotated[list[str] | None, typer.Option("--relay-through", hidden=True)] = None,
    clock_offset: Annotated[float | None, typer.Option("--clock-offset", hidden=True)] = None,
    with_parent: Annotated[int | None, typer.Option("--with-parent", hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log one JSON object a line.")] = False,
) -> None:
    """Run a node until it is told to stop. SIGTERM or Ctrl-C: it leaves in order; a second one: at once.

    \b
    Examples:
      hearth node init kitchen            a folder with a key and a commented node.toml
      hearth node --config kitchen/node.toml
      hearth node --config kitchen/node.toml --listen /ip4/0.0.0.0/tcp/4002
      hearth node status --config kitchen/node.toml
    """
    if context.invoked_subcommand is not None:
        return
    if with_parent is not None:
        die_with(with_parent)
    # Keys of confidential jobs lie in memory: a core would put them on a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from ..config import load_node_config
    from ..logs import configure_logs

    settings = _overridden(load_node_config(config), listen or [], bootstrap or [])
    settings = _of_a_test(settings, relay_through or [], clock_offset)
    configure_logs(settings.node.log_level, json_lines=as_json or settings.node.json_logs)
    raise typer.Exit(run_async(lambda: _serve(settings)))


def _of_a_test(settings: NodeConfig, relay_through: list[str], clock_offset_s: float | None) -> NodeConfig:
    """As a test network wants it: reached through relays alone, or with a clock that is off."""
    from dataclasses import replace

    node = settings.node
    if relay_through:
        node = replace(node, listen=(), relay_through=tuple(relay_through))
    if clock_offset_s is not None:
        node = replace(node, clock_offset_s=clock_offset_s)
    return replace(settings, node=node)


def _overridden(settings: NodeConfig, listen: list[str], bootstrap: list[str]) -> NodeConfig:
    """With the command line's addresses. Raises UserError for a wrong one."""
    from dataclasses import replace

    from ..settings.checks import check_listen_address, check_peer_address

    for option, addresses, check in (
        ("--listen", listen, check_listen_address),
        ("--bootstrap", bootstrap, check_peer_address),
    ):
        for address in addresses:
            _check_address(option, address, check)
    node = settings.node
    return replace(
        settings,
        node=replace(node, listen=tuple(listen) or node.listen, bootstrap=tuple(bootstrap) or node.bootstrap),
    )


async def _serve(settings: NodeConfig) -> int:
    """0 after SIGTERM or a stop by the owner, 130 after Ctrl-C."""
    import trio

    from ..service import run_node

    stop = trio.Event()
    code = 0

    async def obey(*, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        nonlocal code
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                code = INTERRUPTED if number == signal.SIGINT else 0
                if stop.is_set():
                    nursery.cancel_scope.cancel()
                stop.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(obey)
        await run_node(settings, stop=stop)
        nursery.cancel_scope.cancel()
    return code


def die_with(parent: int) -> None:
    """A test network's node must not outlive who runs it, however that one ends."""
    import ctypes
    import os

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise UserError(f"process {parent}, which this node belongs to, is gone")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where it goes; made if it is absent.")] = Path("."),
    name: Annotated[str | None, typer.Option(help="Name for people. Default: the folder's.")] = None,
    mesh: Annotated[Path | None, typer.Option(help="The mesh's mesh.toml; a copy goes into the folder.")] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="Address of a peer to dial first; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a node: its key, and a node.toml with every setting explained.

    \b
    Examples:
      hearth node init kitchen --mesh mesh.toml
      hearth node init --name bath --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…
    """
    from ..meshfile import load_mesh_file
    from ..settings.checks import check_peer_address
    from ..storage.folder import StateFolder
    from .members import make_identity, write_mesh, write_node_settings

    for address in bootstrap or []:
        _check_address("--bootstrap", address, check_peer_address)
    definition = load_mesh_file(mesh) if mesh is not None else None
    chosen = (name or folder.absolute().name)[:64]
    state = StateFolder(folder / "state")
    settings = folder / "node.toml"
    if settings.exists():
        raise UserError(f"{settings}: is there already; it was left as it is")
    identity = make_identity(state)
    if definition is not None and not (folder / "mesh.toml").exists():
        write_mesh(folder, definition)
    settings = write_node_settings(folder, chosen, bootstrap or [])
    if as_json:
        print_json({"name": chosen, "peer_id": identity.peer_id, "settings": str(settings), "state": str(state.root)})
        return
    say(f"{chosen}  {identity.peer_id}")
    say(f"  {settings}  look through it: what is heated, how many cores")
    say(f"  {state.identity_key}  the node's key, secret")
    say(f"next: the mesh's authority runs  hearth mesh invite {identity.peer_id} --name {chosen!r}")
    missing = "" if (folder / "mesh.toml").exists() else f", and the mesh's mesh.toml to {folder / 'mesh.toml'}"
    say(f"      copy the certificate to {state.certificate}{missing}")
    say(f"      hearth node --config {settings}")


def _check_address(option: str, address: str, check: Callable[[str], None]) -> None:
    try:
        check(address)
    except ValueError as error:
        raise UserError(f"{option} {address}: {error}") from error


@app.command()
def status(
    config: Annotated[Path, typer.Option("--config", help="The node's settings.")] = Path("node.toml"),
    state: Annotated[Path | None, typer.Option(help="Its state folder, instead of its settings.")] = None,
    as_json: Json = False,
) -> None:
    """How the node on this machine is: room, work, links, energy.

    \b
    Examples:
      hearth node status --config kitchen/node.toml
      hearth node status --state kitchen/state --json
    """
    from ..config import load_node_config
    from ..control import ask
    from ..storage.folder import StateFolder

    folder = StateFolder(state if state is not None else load_node_config(config).node.state)
    if not folder.root.is_dir():
        raise UserError(f"{folder.root}: no such state folder; has the node been started?")
    answer = run_async(lambda: ask(folder.control_socket, {"do": "status"}))
    if as_json:
        print_json(answer)
    else:
        _print_status(answer)


def _print_status(node: dict[str, Any]) -> None:
    meter, kept = node["meter"], counted(node["jobs_kept"], "job")
    rows = [
        ("node", f"{node['name']}  {node['peer_id']}"),
        ("process", f"{node['pid']}, up {duration(node['uptime_s'])}, {node['rss_bytes'] / 1e6:.0f} MB"),
        ("heats", f"{node['sink']}: {node['temperature_c']:.2f} °C of {node['setpoint_c']:g} °C"),
        ("slots", f"{node['running']} of {node['slots']} at work, {counted(node['queued_tasks'], 'task')} waiting"),
        ("done", f"{counted(node['tasks_done'], 'task')}, {counted(node['steals'], 'steal')}; keeps {kept}"),
        (
            "energy",
            f"paid {energy(meter['paid_j'])}, volunteer {energy(meter['volunteer_j'])}, "
            f"burnt {energy(meter['burn_j'])}, idle {energy(meter['idle_j'])}; "
            f"{energy(meter['useful_j'])} met a demand",
        ),
        ("listens", ", ".join(node["addresses"]) or "nowhere"),
    ]
    for label, text in rows:
        say(f"{label:<8} {text}")
    for link in node["links"]:
        say(f"{'link':<8} {link['peer']}  {link['address']}{'  relayed' if link['relayed'] else ''}")
    if node["draining"]:
        say("it is leaving")
    if node["storage_failed"]:
        say(f"it takes no work: {node['storage_failed']}")
