"""`hearth trust`: what a client found out about a node, and what a node convicted it of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
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
from ..naming import find_node
from ..storage.folder import StateFolder
from .errors import SUCCESS, UserError
from .names import Names
from .output import print_json, say
from .session import client_path


def trust(node: str, client: Path | None, as_json: bool) -> int:
    """From the client's own memory; nobody is asked. Raises UserError, ConfigError, StorageError."""
    config = load_client_config(client_path(client))
    book = TrustBook()
    for (kind, _), body in read_memory(StateFolder(config.client.state).memory).items():
        if kind == TRUST_ROW:
            book.restore(body)
    now_s = wall_s()
    wanted = _find(node, Names(config.client.state).known(), {row.node for row in book})
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
    answer = await ask(control, {"do": "trust", "node": node})
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


def _find(text: str, names: Mapping[str, str], known: set[bytes]) -> bytes:
    """names: by peer id. Raises UserError."""
    met = {}
    for peer, name in names.items():
        with suppress(ValueError):
            met[node_id_from_text(peer)] = name
    try:
        return find_node(text, met, known)
    except ValueError as error:
        raise UserError(str(error)) from error


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
