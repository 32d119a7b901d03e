"""`hearth trust`: what a client found out about a node, and what a node convicted it of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...crypto.identity import node_id_from_text, peer_id_text
from ...protocol.verification.judging import TRUST_ROW
from ...protocol.verification.policy import PROVEN_AFTER, Policy, PolicyKind
from ...protocol.verification.trust import HALF_LIFE_S, Standing, TrustBook
from ..client.memory import read_memory
from ..clock import wall_s
from ..config import load_client_config
from ..control import ask
from ..storage.folder import StateFolder
from .errors import SUCCESS, UserError
from .names import Names
from .output import print_json, say
from .session import client_path

# Of a peer id.
PART_CHARS_MIN = 6


def trust(node: str, client: Path | None, as_json: bool) -> int:
    """From the client's own memory; nobody is asked. Raises UserError, ConfigError, StorageError."""
    config = load_client_config(client_path(client))
    book = TrustBook()
    for (kind, _), body in read_memory(StateFolder(config.client.state).memory).items():
        if kind == TRUST_ROW:
            book.restore(body)
    now_s = wall_s()
    wanted = _resolve(node, {row.node for row in book}, Names(config.client.state).known())
    rows = [_explain(row, now_s) for row in book if row.node == wanted]
    if as_json:
        print_json({"node": peer_id_text(wanted), "runtimes": rows})
        return SUCCESS
    say(peer_id_text(wanted))
    if not rows:
        say("  no result of it was ever compared here: its next ten tasks are run by another node, too")
    for row in rows:
        say(f"  {row['runtime']}: {row['why']}")
    return SUCCESS


async def node_trust(node: str, control: Path, as_json: bool) -> int:
    """What a running node holds against another. Raises UserError, ControlError."""
    try:
        wanted = node_id_from_text(node)
    except ValueError as error:
        raise UserError(f'"{node}": {error}; a node is asked by whole peer ids') from error
    answer = await ask(control, {"do": "trust", "node": peer_id_text(wanted)})
    if as_json:
        print_json(answer)
    elif answer["convicted"]:
        proof = answer["proof"]
        say(
            f"{answer['node']}: convicted here. It signed a result of task {proof['index']} of job {proof['job'][:16]} "
            f"that is not what the task gives; accused by {proof['accuser']}. It gets no tasks of this node."
        )
    else:
        say(f"{answer['node']}: nothing is proved against it here")
    return SUCCESS


def _resolve(text: str, known: set[bytes], names: Mapping[str, str]) -> bytes:
    """A name of `names`, by peer id, a whole peer id, or a part of one that was heard of. Raises UserError."""
    named = [peer for peer, name in names.items() if name == text]
    if len(named) == 1:
        text = named[0]
    try:
        return node_id_from_text(text)
    except ValueError:
        matching = sorted(node for node in known if text in peer_id_text(node)) if len(text) >= PART_CHARS_MIN else []
    if len(matching) != 1:
        what = (
            f"{len(matching)} known nodes have it in their id" if matching else "no node that was met or compared here"
        )
        raise UserError(
            f'"{text}": {what}; give a name or peer id as hearth peers shows it, or at least {PART_CHARS_MIN} '
            "characters of the id from anywhere in it"
        )
    return matching[0]


def _explain(row: Standing, now_s: int) -> dict[str, Any]:
    streak = row.streak_at(now_s)
    share = Policy(PolicyKind.ADAPTIVE).share_to_check(streak)
    age_days = max(0, now_s - row.at_s) / 86_400
    why = f"{row.right} right and {row.wrong} wrong in all, {row.streak} right in a row when last seen"
    if streak != row.streak:
        why += f", {age_days:.0f} days ago: {streak} now, as it halves every {HALF_LIFE_S // 86_400} days"
    if streak < PROVEN_AFTER:
        why += f"; until {PROVEN_AFTER} are, all of its results are compared"
    else:
        why += f"; of its results {share:.1%} are compared"
    return {
        "runtime": row.runtime,
        "streak": streak,
        "streak_then": row.streak,
        "right": row.right,
        "wrong": row.wrong,
        "age_days": round(age_days, 3),
        "checked_share": round(share, 6),
        "why": why,
    }
