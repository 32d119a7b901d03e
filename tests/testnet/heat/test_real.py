"""What `hearth testnet heat` makes of what real heaters say; the command itself is run by hand, it takes a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearthmesh.node.cli.app import run
from hearthmesh.node.heating.unheeding import unheeding
from hearthmesh.protocol.events import HeatReading
from hearthmesh.testnet.heat.real import Room, Street, figure
from hearthmesh.testnet.provision import node_config
from hearthmesh.testnet.rooms import RoomPlan


def reading(deficit_w: float, slots: int) -> HeatReading:
    return HeatReading(deficit_w, 500.0, slots, 3.0, 125.0, slots > 0, "room", 19.0)


def test_a_node_that_steals_at_random_tells_only_whether_it_wants_heat() -> None:
    barely, very = unheeding(reading(5.0, 1)), unheeding(reading(480.0, 1))
    assert barely == very and barely.deficit_w == 500.0 and barely.horizon_wh == 125.0
    warm = unheeding(reading(-20.0, 0))
    assert (warm.slots, warm.deficit_w, warm.horizon_wh, warm.useful) == (0, -500.0, 0.0, False)


def test_the_setting_reaches_the_nodes_of_a_test_network() -> None:
    assert node_config(Path("/nowhere"), "h1", RoomPlan(stealing="random")).node.stealing == "random"
    assert node_config(Path("/nowhere"), "h1", RoomPlan()).node.stealing == "heat"


def street(way: str, *temperatures_c: float) -> Street:
    times_s = [10.0 * place for place in range(len(temperatures_c))]
    room = Room(20.0, 0.5, times_s, list(temperatures_c), work_j=2000.0, useful_j=1500.0, tasks=7)
    return Street(way, {"attic": room}, 7, 9, times_s[-1], None, 600.0)


def test_discomfort_is_counted_on_the_rooms_clock() -> None:
    row = street("heat", 19.0, 18.5, 20.2, 21.0).row()
    # 10 s of each of the first three, 600 times as long in the room: 1 K, 1.5 K and none.
    assert row["discomfort_kh_sum"] == pytest.approx((1.0 + 1.5) * 10 * 600 / 3600, abs=1e-3)
    assert row["outside_band_percent"] == pytest.approx(100 * 2 / 3, abs=0.01)
    assert (row["useful_percent"], row["tasks_done"], row["finished_s"]) == (75.0, 7, None)


def test_the_picture_shows_both_streets() -> None:
    drawn = figure([street("heat", 19.0, 20.0), street("random", 17.0, 18.0)]).svg()
    assert drawn.count("attic") == 2 and "by heat" in drawn and "at random" in drawn


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seconds", "1"], "--seconds 1: from 5 to 3600"),
        (["--plot", "x.gif"], "--plot x.gif: a name that ends in"),
        (["--plot", "/nowhere/at/all.svg"], "--plot /nowhere/at/all.svg: no such folder"),
    ],
)
def test_bad_input_is_one_line_and_code_2(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["testnet", "heat", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and told in captured.err and len(captured.err.splitlines()) == 1
