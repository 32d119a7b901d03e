"""The page of a run stands alone, and its numbers are in the JSON beside it."""

import json
from html.parser import HTMLParser
from pathlib import Path

from hearthmesh.protocol.upkeep import LEVEL_INTERVALS
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, Plan
from hearthmesh.testnet.simulator.report import report, write_report
from hearthmesh.testnet.simulator.run import play
from hearthmesh.testnet.simulator.scale import Asked, costs_of
from hearthmesh.testnet.simulator.scale_page import CURVES, write_scale

PLAN = Plan(seed=4, nodes=6, faults=(Fault(FaultKind.POWER_CUT, 1_000_000, 6_000_000, (2,)),), active_us=9_000_000)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_dead_node_is_noticed_and_shown() -> None:
    found = report(play(PLAN))
    assert [(row["fault"], row["targets"]) for row in found["timeline"]] == [("power cut", "n2")]
    assert found["detection_s"]["samples"] >= 5
    assert 1.0 < found["detection_s"]["p50"] <= found["detection_s"]["p99"] < 15.0
    assert found["converged_s"] is not None and found["jobs_finished_s"]["job0"] is not None


def hurt(kind: FaultKind) -> Plan:
    """The second of three nodes, all of which keep the job, is away for six seconds."""
    return Plan(seed=4, nodes=3, faults=(Fault(kind, 1_000_000, 6_000_000, (1,)),), active_us=9_000_000)


def test_how_soon_its_tasks_run_elsewhere_is_measured_from_the_fault_on() -> None:
    """Not before somebody noticed that its process had ended, or before its leases ran out."""
    (killed,), (cut,) = play(hurt(FaultKind.KILL)).happened, play(hurt(FaultKind.POWER_CUT)).happened
    lease_us = PLAN.config.lease_us
    assert killed.elsewhere_us and min(killed.elsewhere_us) >= min(killed.seen_us.values())
    assert cut.elsewhere_us and min(cut.elsewhere_us) >= lease_us - lease_us // 3 and not cut.seen_us
    found = report(play(hurt(FaultKind.KILL)))["elsewhere_s"]
    assert found["samples"] == len(killed.elsewhere_us) and found["p99"] == round(max(killed.elsewhere_us) / 1e6, 3)


def test_what_goes_on_after_a_sleep_has_not_moved() -> None:
    (frozen,) = play(hurt(FaultKind.FREEZE)).happened
    assert frozen.elsewhere_us and max(frozen.elsewhere_us) <= 6_000_000 and not frozen.level_us


def test_who_came_back_grants_again_once_it_has_heard_what_went_on() -> None:
    """When it knows what another knows, or after so many rounds, if nobody says so."""
    outcome = play(hurt(FaultKind.POWER_CUT))
    (took_us,) = outcome.happened[0].level_us
    assert 0 < took_us <= (LEVEL_INTERVALS + 1) * PLAN.config.reconcile_interval_us
    assert report(outcome)["level_s"] == {"p50": round(took_us / 1e6, 3), "p99": round(took_us / 1e6, 3), "samples": 1}


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    write_report(play(PLAN), tmp_path / "out.html")
    page = _Page()
    page.feed((tmp_path / "out.html").read_text())
    assert {"svg", "table", "rect"} <= set(page.tags) and page.links == []
    assert json.loads((tmp_path / "out.json").read_text())["violations"] == []


def test_what_a_node_costs_is_drawn_against_the_size_of_the_mesh(tmp_path: Path) -> None:
    log, asked = tmp_path / "scale.log", Asked(seconds=2.0)
    costs = list(costs_of((4, 8), asked, log))
    assert list(costs_of((8, 4), asked, log)) == costs[::-1], "they are not measured again"
    write_scale(costs, tmp_path / "scale.html")
    page = _Page()
    page.feed((tmp_path / "scale.html").read_text())
    drawn = [name for name, _, _ in CURVES if any(getattr(cost, name) for cost in costs)]
    assert len(drawn) > 6 and page.tags.count("polyline") == len(drawn) and page.links == []
    assert [each["nodes"] for each in json.loads((tmp_path / "scale.json").read_text())] == [4, 8]
    write_scale(costs, tmp_path / "scale.svg")
    assert (tmp_path / "scale.svg").read_text().startswith("<svg xmlns=")


def test_a_log_that_was_cut_short_or_is_of_other_sources_is_no_error_and_not_believed(tmp_path: Path) -> None:
    log, asked = tmp_path / "scale.log", Asked(seconds=2.0)
    (cost,) = costs_of((4,), asked, log)
    entry = json.loads(log.read_text())
    # What nobody would measure: whoever tells it has read it.
    entry["cost"]["events"] = 7
    log.write_text(json.dumps(entry) + '\n{"asked": {"seconds": 2.0}, "cost": {"nodes": 4}}\n' + log.read_text()[:40])
    (known,) = costs_of((4,), asked, log)
    assert known.events == 7
    entry["sources"] = "0" * 32
    log.write_text(json.dumps(entry) + "\n" + log.read_text()[:40])
    (again,) = costs_of((4,), asked, log)
    assert again.events == cost.events
