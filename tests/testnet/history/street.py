"""A small history in which everything is right, to be altered line by line."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from hearthmesh.testnet.history.check import Verdict, check
from hearthmesh.testnet.history.lines import History, read_lines

Files = dict[str, list[dict[str, Any]]]

JOB, OTHER_JOB = "a1" * 32, "a2" * 32
CLIENT, REPLICA, SECOND, WORKER, HEIR, ONLOOKER = ("c0" * 32, "b1" * 32, "b2" * 32, "d1" * 32, "d2" * 32, "ee" * 32)
GRANT, PART, LATER, SPARE = "01" * 32, "02" * 32, "03" * 32, "04" * 32
BATCH, HEIRS_BATCH, LAST_BATCH, SPARE_BATCH = "f1" * 32, "f2" * 32, "f3" * 32, "f4" * 32
ACCEPTANCE, SECOND_ACCEPTANCE = "e1" * 32, "e2" * 32
FINGERPRINT = "ab" * 32
TASKS = 8


def begin(node: str, name: str) -> dict[str, Any]:
    return {"event": "begin", "version": 1, "node": node, "name": name}


def tasks(lo: int, hi: int, epoch: int, job: str = JOB) -> dict[str, Any]:
    return {"job": job, "lo": lo, "hi": hi, "epoch": epoch}


def result(execution: int, batch: str, lo: int, hi: int, epoch: int, energy_mj: int = 100) -> dict[str, Any]:
    spent = {"copy": 0, "failed": 0, "cpu_us": 200, "energy_mj": energy_mj, "useful_mj": energy_mj}
    return {"event": "result", "execution": execution, "batch": batch, **tasks(lo, hi, epoch), **spent}


def grant(grant_id: str, lo: int, hi: int, epoch: int, holder: str, parent: str = "") -> dict[str, Any]:
    return {"event": "grant", "grant": grant_id, **tasks(lo, hi, epoch), "holder": holder, "parent": parent}


def lease(grant_id: str, granter: str, lo: int, hi: int, epoch: int) -> dict[str, Any]:
    return {"event": "lease", "grant": grant_id, "granter": granter, **tasks(lo, hi, epoch)}


def start(execution: int, lo: int, hi: int, epoch: int) -> dict[str, Any]:
    return {"event": "start", "execution": execution, **tasks(lo, hi, epoch), "copy": 0}


def keep(batch: str, worker: str) -> dict[str, Any]:
    return {"event": "keep", "batch": batch, "worker": worker, "job": JOB}


def accept(acceptance: str, *parts: tuple[str, int, int]) -> dict[str, Any]:
    return {"event": "accept", "acceptance": acceptance, "job": JOB, "parts": [list(part) for part in parts]}


def books(replica: str) -> dict[str, Any]:
    workers = {WORKER: [5, 400, 200, 200], HEIR: [3, 200, 100, 100]}
    return {"event": "books", "job": JOB, "replica": replica, "fingerprint": FINGERPRINT, "workers": workers}


def good() -> Files:
    """A worker is given tasks 0 to 5, hands half on, is killed and comes back; another replica gives the rest."""
    return copy.deepcopy(
        {
            "client": [
                begin(CLIENT, "client"),
                {"event": "submit", "job": JOB, "tasks": TASKS},
                {"event": "kept", "job": JOB, "replicas": [REPLICA, SECOND], "stored_by": [REPLICA]},
                {"event": "take", "job": JOB, "batch": BATCH},
                accept(ACCEPTANCE, (BATCH, 0, 3)),
                accept(SECOND_ACCEPTANCE, (HEIRS_BATCH, 3, 6), (LAST_BATCH, 6, 8)),
                {"event": "finish", "job": JOB},
            ],
            "first": [
                begin(REPLICA, "first"),
                grant(GRANT, 0, 6, 1, WORKER),
                keep(BATCH, WORKER),
                keep(HEIRS_BATCH, HEIR),
                keep(LAST_BATCH, WORKER),
            ],
            "second": [
                begin(SECOND, "second"),
                {"event": "expire", "job": JOB, "lo": 6, "hi": 8, "holder": WORKER},
                grant(LATER, 6, 8, 1, WORKER),
                keep(LAST_BATCH, WORKER),
                {"event": "peer", "peer": WORKER, "status": "dead"},
                keep(BATCH, WORKER),
                keep(HEIRS_BATCH, HEIR),
            ],
            "worker": [
                begin(WORKER, "worker"),
                lease(GRANT, REPLICA, 0, 6, 1),
                start(1, 0, 3, 1),
                grant(PART, 3, 6, 2, HEIR, parent=GRANT),
                result(1, BATCH, 0, 3, 1),
                {"event": "meter", "work_uj": 100_000, "useful_uj": 100_000},
                begin(WORKER, "worker"),
                lease(LATER, SECOND, 6, 8, 1),
                start(1, 6, 8, 1),
                result(1, LAST_BATCH, 6, 8, 1),
            ],
            "heir": [
                begin(HEIR, "heir"),
                lease(PART, WORKER, 3, 6, 2),
                start(1, 3, 6, 2),
                result(1, HEIRS_BATCH, 3, 6, 2),
            ],
            "onlooker": [
                begin(ONLOOKER, "chaos"),
                {"event": "fault", "kind": "kill", "node": WORKER},
                {"event": "expect", "job": JOB},
                books(REPLICA),
                books(SECOND),
            ],
        }
    )


def written(files: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[bytes]]:
    """As their writers number them: from 1 in each life. Times are all alike, so only the records give an order."""
    texts: dict[str, list[bytes]] = {}
    for name, events in files.items():
        n = 0
        texts[name] = []
        for event in events:
            n = 1 if event.get("event") == "begin" else n + 1
            texts[name].append(json.dumps({"n": n, "at_us": 7, **event}).encode() + b"\n")
    return texts


def judged(texts: Mapping[str, list[bytes]]) -> Verdict:
    history = History()
    for name, lines in sorted(texts.items()):
        read_lines(history, f"{name}.jsonl", iter(lines))
    return check(history)


def violated(files: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Names of the checks that do not hold."""
    return list(dict.fromkeys(violation.check for violation in judged(written(files)).violations))
