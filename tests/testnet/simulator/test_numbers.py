"""What the mesh is held to, on a small scale; `hearth sim numbers` measures it on a larger one."""

from hearthmesh.testnet.simulator.numbers import Detection, detect, detection_numbers, meet


def test_replicas_meet_within_two_rounds_and_say_what_differs_not_what_is_alike() -> None:
    small, large, much = meet(1, tasks=200, share=0.8), meet(1, tasks=1000, share=0.96), meet(1, tasks=200, share=0.1)
    assert all(0 < each.rounds <= 2 for each in (small, large, much))
    assert large.records > 2.5 * small.records and large.missing < 1.5 * small.missing
    assert large.bytes < 2 * small.bytes
    assert much.missing > 2 * small.missing
    assert much.bytes / much.missing < 1.5 * small.bytes / small.missing


def test_starved_nodes_are_not_called_dead_and_dead_ones_are_soon() -> None:
    found = detection_numbers([detect(2, minutes=1.0, starved=True)])
    assert found["false_alarms"] == 0 and found["samples"] >= 19
    assert found["p99_s"] < 15


def test_a_false_alarm_is_reckoned_by_the_month() -> None:
    hours = 3_600_000_000
    quiet, loud = Detection([5], 0, 2190 * hours, 1), Detection([], 4, 0, 1)
    assert detection_numbers([quiet])["alarms_a_node_month_below"] == 1.0
    assert detection_numbers([quiet, loud])["alarms_a_node_month_below"] == 3.33
