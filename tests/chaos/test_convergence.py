"""When replicas count as alike."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hearthmesh.testnet.chaos.convergence import Kept, disagreement

WHOLE = Kept(
    epoch=1,
    replicas=("a", "b", "c"),
    records=9,
    fingerprint="f",
    tasks=4,
    done=4,
    accepted=4,
    workers={"w": (4, 1, 1, 1)},
)


def test_replicas_with_the_same_records_and_all_of_it_agree() -> None:
    assert disagreement(dict.fromkeys(("h1", "h2", "h3"), WHOLE)) == ""


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "g"}, {"done": 3}, {"accepted": 3}, {"epoch": 2}],
    ids=lambda change: next(iter(change)),
)
def test_one_that_has_other_records_or_lacks_some_disagrees(change: dict[str, Any]) -> None:
    found = disagreement({"h1": WHOLE, "h2": WHOLE, "h3": replace(WHOLE, **change)})
    assert found.startswith("of 3 replicas h1 (set 1) has 9 records, 4 results and 4 acceptances, ")


def test_a_replica_that_says_nothing_is_not_taken_for_one_that_agrees() -> None:
    assert disagreement({"h1": WHOLE, "h2": WHOLE}).startswith("of 3 replicas h1")
    assert disagreement({}) == "nobody keeps the job"
