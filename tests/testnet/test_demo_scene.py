"""The scene follows what nodes say of themselves, over their deaths and restarts."""

import io
from typing import Any

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from hearthmesh.crypto.identity import Identity, node_id_from_text
from hearthmesh.testnet.demo_rooms import HOUSE, demo_rooms
from hearthmesh.testnet.demo_scene import AWAY, Condition, Scene
from hearthmesh.testnet.demo_view import (
    LINE_COLUMNS,
    LineView,
    bar_cells,
    flow_lines,
    picture,
    plain_bar,
    progress_text,
)
from hearthmesh.testnet.errors import TestnetError

PEERS = {name: Identity.generate().peer_id for name in HOUSE}


def scene() -> Scene:
    made = Scene(HOUSE, PEERS)
    made.tasks = 100
    return made


def hexed(name: str) -> str:
    return node_id_from_text(PEERS[name]).hex()


def status(**changed: Any) -> dict[str, Any]:
    usual = {
        "pid": 1,
        "temperature_c": 17.0,
        "slots": 1,
        "running": 1,
        "queued_tasks": 3,
        "tasks_done": 0,
        "jobs_kept": 0,
        "stolen_from": {},
        "meter": {"work_j": 0.0, "work_useful_j": 0.0, "idle_j": 0.0},
    }
    return usual | changed


def test_a_restarted_node_counts_on_from_its_former_life() -> None:
    seen = scene()
    seen.take_status("attic", status(tasks_done=30, stolen_from={PEERS["hall"]: 40}), 1.0)
    seen.take_status("attic", status(pid=2, tasks_done=5, stolen_from={PEERS["hall"]: 7}), 2.0)
    assert seen.rooms["attic"].total.tasks == 35
    assert seen.taken_from("attic") == {"hall": 47}
    assert seen.computed() == 35


def test_only_what_was_taken_since_the_last_look_is_a_flow() -> None:
    seen = scene()
    seen.take_status("attic", status(stolen_from={PEERS["hall"]: 4}), 1.0)
    seen.take_status("attic", status(stolen_from={PEERS["hall"]: 4}), 2.0)
    seen.take_status("attic", status(stolen_from={PEERS["hall"]: 9, PEERS["attic"]: 8}), 3.0)
    assert [(flow.thief, flow.victim, flow.tasks) for flow in seen.flows] == [
        ("attic", "hall", 4),
        ("attic", "hall", 5),
    ]
    assert flow_lines(seen, 3.5) == ["attic ← hall 9"]
    assert flow_lines(seen, 60.0) == []


def test_a_loss_that_all_replicas_see_is_told_once_and_not_added_up() -> None:
    seen = scene()
    seen.rooms["hall"].condition = Condition.KILLED
    for replica in ("attic", "bath"):
        seen.take_event(replica, {"name": "lease.freed", "holder": hexed("hall"), "tasks": 12}, 4.0)
    seen.take_event("attic", {"name": "lease.expired", "holder": hexed("hall"), "lo": 3, "hi": 5}, 5.0)
    assert [item.text for item in seen.happenings] == ["hall is missed: the tasks that it held are free for others"]
    assert seen.taken_back() == {"hall": 14}


def test_a_lapse_of_a_living_node_is_counted_apart() -> None:
    seen = scene()
    seen.take_event("attic", {"name": "lease.expired", "holder": hexed("bath"), "lo": 3, "hi": 5}, 5.0)
    assert (seen.happenings, seen.taken_back(), seen.taken_back(hurt=False)) == ([], {}, {"bath": 2})


def test_a_task_that_ends_in_a_room_that_was_warm_and_idle_is_noticed() -> None:
    seen = scene()
    warm = status(temperature_c=22.0, slots=0, running=0)
    seen.take_status("parlour", warm, 1.0)
    seen.take_status("parlour", warm, 2.0)
    assert seen.rooms["parlour"].tasks_while_warm == 0
    seen.take_status("parlour", warm | {"tasks_done": 2}, 3.0)
    assert seen.rooms["parlour"].tasks_while_warm == 2


def test_a_task_that_was_running_when_the_room_got_warm_may_end() -> None:
    seen = scene()
    seen.take_status("parlour", status(temperature_c=22.0, slots=0, running=1), 1.0)
    seen.take_status("parlour", status(temperature_c=22.0, slots=0, running=0, tasks_done=1), 2.0)
    assert seen.rooms["parlour"].tasks_while_warm == 0


def test_progress_never_runs_back_nor_over_the_end() -> None:
    seen = scene()
    seen.client = AWAY
    for at_s, done in enumerate((10, 30, 25, 300)):
        seen.take_progress(done, float(at_s))
    assert seen.done == 100
    assert seen.rate_per_s(3.0) == pytest.approx(30.0)
    assert progress_text(seen, 3.0) == "100 of 100 tasks (100 %); client away, 0 verified"


def test_bars_have_their_mark_at_the_setpoint() -> None:
    seen = scene()
    room = seen.rooms["study"]
    room.temperature_c = room.plan.setpoint_c
    filled, mark = bar_cells(room)
    assert filled == mark
    room.temperature_c = -50.0
    assert bar_cells(room)[0] == 0
    room.temperature_c = 90.0
    assert plain_bar(room).count("#") == len(plain_bar(room)) - 1


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_picture_fits_its_terminal_with_its_names_states_and_numbers_whole(columns: int) -> None:
    seen = scene()
    seen.take_status("attic", status(stolen_from={PEERS[name]: 100 for name in HOUSE}, jobs_kept=1), 1.0)
    seen.take_progress(50, 1.0)
    seen.tell(2.0, "SIGKILL hall: it keeps the job, and nobody else on the whole street has heard of it yet, alas")
    console = Console(width=columns, file=io.StringIO(), force_terminal=True, record=True)
    console.print(picture(seen, 2.0, columns))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= columns
    assert "SIGKILL hall" in " ".join(lines) and lines[-1].endswith("alas")
    assert "50 of 100 tasks (50 %)" in " ".join(lines)
    row = next(line for line in lines if line.startswith("attic *"))
    assert "17.00 °C" in row and "20 °C" in row and "working +3" in row
    assert ("boiler" in row) is (columns >= 80)


def test_the_picture_is_no_higher_than_its_terminal_and_shows_the_latest() -> None:
    seen = scene()
    seen.take_status("attic", status(jobs_kept=1), 1.0)
    for number in range(40):
        seen.tell(float(number), f"event {number}")
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True, record=True)
    console.print(picture(seen, 40.0, *console.size))
    text = console.export_text()
    assert len(text.splitlines()) <= 24
    assert "event 39" in text and "event 3 " not in text


async def test_lines_of_text_tell_everything_once_and_keep_to_their_width(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    seen = scene()
    seen.tell(0.0, "the heaters start")
    for name in HOUSE:
        seen.take_status(name, status(stolen_from={PEERS[other]: 1000 for other in HOUSE}), 0.0)
    seen.take_progress(50, 0.0)
    view = LineView()
    with trio.move_on_after(10):
        await view.run(seen, trio.current_time)
    seen.tell(10.0, "the heaters have left")
    view.finish(seen, 10.0)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= LINE_COLUMNS
    assert [line[9:] for line in lines if "the heaters" in line] == ["the heaters start", "the heaters have left"]
    assert len([line for line in lines if "50 of 100 tasks (50 %)" in line]) == 4


def test_rooms_are_taken_from_the_house_then_guest_rooms_are_added() -> None:
    assert list(demo_rooms(8)) == list(HOUSE)
    assert len(demo_rooms(11)) == 11
    warm = [name for name, plan in HOUSE.items() if plan.start_c > plan.setpoint_c]
    assert warm == ["kitchen", "parlour"]


@pytest.mark.parametrize("nodes", [0, 4, 17])
def test_too_few_or_too_many_heaters_are_refused(nodes: int) -> None:
    with pytest.raises(TestnetError, match="5 to 16"):
        demo_rooms(nodes)


def test_a_room_that_was_replaced_no_longer_keeps_the_job() -> None:
    seen = scene()
    for name in ("attic", "hall"):
        seen.take_status(name, status(jobs_kept=1), 1.0)
    seen.rooms["attic"].condition = Condition.KILLED
    seen.take_event("hall", {"name": "replica.replaced", "dead": hexed("attic"), "successor": hexed("bath")}, 2.0)
    seen.take_status("bath", status(jobs_kept=1), 3.0)
    assert sorted(seen.keepers()) == ["bath", "hall"]
