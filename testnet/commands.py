"""`hearth testnet`: a street of heaters on this machine, as real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..node.cli.errors import UserError
from ..node.cli.options import Json
from ..node.cli.output import print_json, print_table, say
from ..node.cli.running import run_async, until_signalled
from ..node.cli.tables import ID_CHARS, Column, Columns
from .chaos import commands as chaos_commands
from .heat.real_command import heat

if TYPE_CHECKING:
    from .network import Testnet

HELP = """Many nodes on this machine, as real processes in one folder. Each command has --json.

\b
Examples:
  hearth testnet up -n 8 --detach
  hearth testnet ps --json
  hearth testnet freeze h3
  hearth testnet partition "h1,h2|h4,h6"
  hearth testnet down --wipe
"""
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)
Folder = Annotated[Path, typer.Option(help="Where everything of it is.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Nodes, or `all`.")]
DEFAULT_FOLDER = Path(".hearth")
NODE_COLUMNS: Columns = (
    *("name", "state", ">pid", ">°C", Column(">wanted", drop=4), Column(">running", drop=5)),
    *(Column(">waiting", drop=2), Column(">done", drop=6), Column(">links", drop=1)),
    Column("peer id", tail=ID_CHARS, drop=3),
)


@app.command()
def up(
    n: Annotated[int | None, typer.Option("-n", help="Number of nodes. Default: the rooms', otherwise 4.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="rooms.toml: one table [rooms.NAME] a node.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is up, and leave it running.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Log what all do, for `hearth testnet history`.")] = False,
    as_json: Json = False,
) -> None:
    """Start a test network; it ends with Ctrl-C, or detached with `hearth testnet down`.

    A network that was taken down before starts again with what its nodes had.

    \b
    Examples:
      hearth testnet up -n 8
      hearth testnet up --rooms rooms.toml --folder /tmp/street --detach
    """
    from .network import Testnet
    from .registry import Registry

    if Registry(folder).exists():
        net = Testnet(folder)
        _check_resumable(net, n, rooms)
    else:
        net = Testnet.create(folder, n, rooms, history=history)
    code = run_async(lambda: _up(net, detach, as_json))
    if code:
        raise typer.Exit(code)


def _check_resumable(net: Testnet, n: int | None, rooms: Path | None) -> None:
    alive = [name for name, node in net.nodes.items() if node.pid is not None]
    if alive:
        raise UserError(f"{net.folder}: {len(alive)} nodes run there already; hearth testnet ps shows them")
    if rooms is not None or n not in (None, len(net.nodes)):
        raise UserError(
            f"{net.folder}: holds a test network of {len(net.nodes)} nodes; start that one without -n and --rooms, "
            "remove it with hearth testnet down --wipe, or choose another --folder"
        )


async def _up(net: Testnet, detach: bool, as_json: bool) -> int:

    import trio

    from .view import show_progress, watch_rooms

    async with until_signalled() as ended:
        with show_progress() as progress:
            await net.start(with_parent=not detach, progress=progress)
        _print_up(net, detach, as_json)
        if not detach:
            try:
                await watch_rooms(net, quiet=as_json)
            finally:
                with trio.CancelScope(shield=True):
                    await net.down()
    # Ctrl-C is how one ends it once it is up; before that it is an interruption.
    return ended.exit_code


def _print_up(net: Testnet, detach: bool, as_json: bool) -> None:
    client = net.client_config.absolute()
    if as_json:
        nodes = {name: {"peer_id": node.peer_id, "pid": node.pid, "port": node.entry.port} for name, node in _all(net)}
        print_json({"folder": str(net.folder.absolute()), "client": str(client), "nodes": nodes})
        return
    say(f"{len(net.nodes)} nodes are up and linked in {net.folder}")
    say(f'  export HEARTH_CLIENT="{client}"')
    if detach:
        say(f'  hearth testnet ps --folder "{net.folder}"      hearth testnet down --folder "{net.folder}"')
    else:
        say("  Ctrl-C takes it down")


@app.command()
def ps(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """The nodes: process, room, work, links.

    \b
    Examples:
      hearth testnet ps
      hearth testnet ps --folder /tmp/street --json
    """
    from .network import Testnet
    from .view import describe_node

    net = Testnet(folder)
    statuses = run_async(net.statuses)
    rows = [describe_node(node, statuses[name]) for name, node in _all(net)]
    if as_json:
        print_json({"folder": str(folder.absolute()), "client": str(net.client_config.absolute()), "nodes": rows})
        return
    print_table(NODE_COLUMNS, [_row(row) for row in rows], empty="no nodes")


def _row(node: dict[str, Any]) -> tuple[Any, ...]:
    warmth = None if node["temperature_c"] is None else f"{node['temperature_c']:.2f}"
    links = None if node["links"] is None else len(node["links"])
    keys = ("running", "queued_tasks", "tasks_done")
    return (
        node["name"],
        node["state"],
        node["pid"],
        warmth,
        node["setpoint_c"],
        *(node[key] for key in keys),
        links,
        node["peer_id"],
    )


@app.command()
def kill(names: Names, folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Kill nodes at once (SIGKILL), as a power cut would.

    \b
    Examples:
      hearth testnet kill h3
      hearth testnet kill h3 h5
    """
    from .node import TestnetNode

    _each(folder, names, TestnetNode.kill, "killed", as_json)


@app.command()
def freeze(names: Names, folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Freeze nodes (SIGSTOP): they fall silent with every connection open.

    \b
    Examples:
      hearth testnet freeze h4
    """
    from .node import TestnetNode

    _each(folder, names, TestnetNode.freeze, "frozen", as_json)


@app.command()
def thaw(names: Names, folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Let frozen nodes go on (SIGCONT).

    \b
    Examples:
      hearth testnet thaw h4
    """
    from .node import TestnetNode

    _each(folder, names, TestnetNode.thaw, "thawed", as_json)


@app.command()
def restart(names: Names, folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Start nodes again with their state; those that run leave in order first.

    \b
    Examples:
      hearth testnet restart h3
      hearth testnet restart all
    """
    from .network import Testnet
    from .view import show_progress

    net = Testnet(folder)
    chosen = _chosen(net, names)

    async def each() -> None:
        with show_progress() as progress:
            for name in chosen:
                await net.restart(name, progress=progress)

    run_async(each)
    _done("restarted", chosen, as_json)


@app.command()
def partition(
    groups: Annotated[str, typer.Argument(metavar="A,B|C,D", help="Groups of nodes; nodes not named form one more.")],
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Cut the network: groups cannot talk to each other. Clients still reach all. Quote the bar.

    \b
    Examples:
      hearth testnet partition "h1,h2|h3,h4"
      hearth testnet partition h1              h1 against all others
    """
    from .network import Testnet

    net = Testnet(folder)
    parts = [[name.strip() for name in part.split(",") if name.strip()] for part in groups.split("|")]
    split = run_async(lambda: net.partition(*parts))
    if as_json:
        print_json({"groups": split})
    else:
        say(" | ".join(",".join(group) for group in split))


@app.command()
def heal(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """End all partitions.

    \b
    Examples:
      hearth testnet heal
    """
    from .network import Testnet

    net = Testnet(folder)
    run_async(net.heal)
    _done("healed", list(net.nodes), as_json)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A node.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=10_000, help="How many of the last lines.")] = 40,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """A node's log.

    \b
    Examples:
      hearth testnet logs h1
      hearth testnet logs h1 -f
    """
    from .network import Testnet
    from .view import follow_log

    node = Testnet(folder).node(name)
    tail = node.log_tail(lines)
    if as_json:
        print_json({"name": name, "log": str(node.log_path.absolute()), "lines": tail})
        return
    for line in tail:
        say(line)
    if follow:
        run_async(lambda: follow_log(node.log_path))


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its files as well.")] = False,
    as_json: Json = False,
) -> None:
    """Stop all nodes: in order where they can, at once where they do not answer.

    \b
    Examples:
      hearth testnet down
      hearth testnet down --wipe
    """
    from .network import Testnet

    net = Testnet(folder)
    how = run_async(net.down)
    if wipe:
        net.wipe()
    if as_json:
        print_json({"folder": str(folder.absolute()), "nodes": how, "wiped": wipe})
        return
    for ending in dict.fromkeys(how.values()):
        say(f"{ending}: {', '.join(name for name, end in how.items() if end == ending)}")


def _each(folder: Path, names: list[str], act: Any, done: str, as_json: bool) -> None:
    from .network import Testnet

    net = Testnet(folder)
    chosen = _chosen(net, names)
    for name in chosen:
        act(net.nodes[name])
    _done(done, chosen, as_json)


def _chosen(net: Testnet, names: list[str]) -> list[str]:
    """Checked before anything is done to the first of them."""
    if names == ["all"] and "all" not in net.nodes:
        return list(net.nodes)
    return [net.node(name).name for name in dict.fromkeys(names)]


def _done(what: str, names: list[str], as_json: bool) -> None:
    if as_json:
        print_json({what: names})
    else:
        say(f"{what}: {', '.join(names)}")


def _all(net: Testnet) -> list[tuple[str, Any]]:
    return list(net.nodes.items())


app.command()(chaos_commands.chaos)
app.command()(chaos_commands.history)
app.command()(heat)
