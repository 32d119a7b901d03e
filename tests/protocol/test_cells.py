"""Cells: how deep they get, that they do not swing, and what two of different depths have in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hearthmesh.node.transport.link_api import LinkConfig
from hearthmesh.protocol.cells import DEPTH_MAX, PLACE_BITS, Cell, Depths, place_of, shared_bits
from hearthmesh.protocol.config import LAN, PRESETS, ProtocolConfig

SMALL = replace(LAN, cell_split=24, cell_merge=6)
PATIENCE_US = LAN.cell_patience_us
NODES = st.binary(min_size=32, max_size=32)
DEPTHS = st.integers(0, 6)


def nodes(count: int, seed: int) -> list[bytes]:
    return [sha256(b"%d/%d" % (seed, number)).digest() for number in range(count)]


def cell_of(node: bytes, depth: int, config: ProtocolConfig = LAN) -> Cell:
    cell = Cell(node, config)
    cell.depth = depth
    return cell


@given(NODES, DEPTHS, NODES, DEPTHS)
def test_two_nodes_agree_on_what_their_cells_have_in_common(one: bytes, a: int, other: bytes, b: int) -> None:
    here, there = cell_of(one, a).common(other, b), cell_of(other, b).common(one, a)
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        assert here[0] == there[0] == max(a, b)
        assert shared_bits(here[1], there[1]) >= here[0]


@given(NODES, DEPTHS, NODES, DEPTHS, NODES)
def test_what_is_in_common_lies_in_both_cells(one: bytes, a: int, other: bytes, b: int, third: bytes) -> None:
    scope = cell_of(one, a).common(other, b)
    if scope is not None and shared_bits(place_of(third), scope[1]) >= scope[0]:
        assert cell_of(one, a).holds(third) and cell_of(other, b).holds(third)


@given(NODES)
def test_place_shares_all_bits_with_itself_alone(node: bytes) -> None:
    assert shared_bits(place_of(node), place_of(node)) == PLACE_BITS
    assert shared_bits(place_of(node), place_of(node) ^ 1) == PLACE_BITS - 1


def told(pairs: list[tuple[int, int]]) -> Depths:
    """pairs: (level, depth) of linked peers."""
    depths = Depths()
    for level, depth in pairs:
        depths.add(level, depth)
    return depths


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 24)), max_size=12), st.data())
def test_depths_are_counted_as_if_all_peers_were_gone_through(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    depths = told(pairs)
    gone = data.draw(st.integers(0, len(pairs)))
    for level, depth in pairs[:gone]:
        depths.remove(level, depth)
    left = pairs[gone:]
    assert len(depths) == len(left)
    assert depths.deepest == max((depth for _, depth in left), default=0)
    capped = sorted(min(DEPTH_MAX, depth) for _, depth in left)
    assert depths.middle() == (capped[(len(left) - 1) // 2] if left else None)
    here = [depth for level, depth in left if level > 1]
    assert depths.beyond(1) == (len(here), sum(depth > 1 for depth in here))


def settle(ids: list[bytes], config: ProtocolConfig, rounds: int, cells: list[Cell], from_us: int = 0) -> int:
    """Let all look at their cells, of which they know everything, once a third of the patience; how often one moved."""
    moved = 0
    for cell in cells:
        levels = Counter(cell.level(node) for node in ids)
        for turn in range(rounds):
            inside = sum(count for level, count in levels.items() if level >= cell.depth)
            half = sum(count for level, count in levels.items() if level > cell.depth)
            moved += cell.review(inside, half, told([]), from_us + turn * PATIENCE_US // 3)
    return moved


def splits_evenly(places: list[int], depth: int = 0) -> bool:
    """Whether each half of each cell that has to split is large enough to stay."""
    if len(places) <= SMALL.cell_split:
        return True
    halves = [[place for place in places if (place >> (PLACE_BITS - 1 - depth) & 1) == half] for half in (0, 1)]
    return all(len(half) >= SMALL.cell_merge and splits_evenly(half, depth + 1) for half in halves)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 150), st.integers(0, 1_000))
def test_cells_come_to_rest_within_their_bounds(count: int, seed: int) -> None:
    ids = nodes(count, seed)
    # One in 250 cells of 25 has fewer than 6 in a half; of real ones of 193 five in 10**13 have fewer than 48.
    assume(splits_evenly([place_of(node) for node in ids]))
    cells = [Cell(node, SMALL) for node in ids]
    settle(ids, SMALL, 60, cells)
    assert settle(ids, SMALL, 12, cells, 60 * PATIENCE_US) == 0, "a cell swings"
    for cell in cells:
        inside = sum(cell.holds(node) for node in ids)
        assert inside <= SMALL.cell_split
        assert inside >= SMALL.cell_merge or cell.depth == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 150), st.integers(1, 20), st.integers(0, 1_000))
def test_cells_merge_again_when_most_are_gone(count: int, left: int, seed: int) -> None:
    ids = nodes(count, seed)
    cells = [Cell(node, SMALL) for node in ids]
    settle(ids, SMALL, 60, cells)
    few, their_cells = ids[:left], cells[:left]
    settle(few, SMALL, 60, their_cells, 60 * PATIENCE_US)
    assert all(sum(cell.holds(node) for node in few) >= min(left, SMALL.cell_merge) for cell in their_cells)


def test_newcomer_takes_the_middle_of_the_depths_that_it_is_told() -> None:
    cell = Cell(bytes(32), LAN)
    assert cell.review(1, 1, told([(2, 9), (3, 8), (0, 20)]), 0)
    assert cell.depth == 9
    assert cell.review(1, 1, told([(2, 8), (3, 8), (0, 0)]), 1) and cell.depth == 8


def test_who_knows_a_cell_full_of_nodes_believes_no_depth() -> None:
    cell = Cell(bytes(32), LAN)
    assert not cell.review(LAN.cell_merge, 24, told([(0, 20)] * 50), 0)
    assert cell.depth == 0


def test_node_follows_neighbours_that_have_split() -> None:
    cell = Cell(bytes(32), LAN)
    cell.review(LAN.cell_merge, 1, told([]), 0)
    half = LAN.cell_merge * 3 // 2
    assert not cell.review(150, half - 1, told([(1, 1)] * 5), 1), "too few to stay split"
    assert not cell.review(150, half, told([(1, 1)] * 2), 1), "too few to follow"
    assert not cell.review(150, half, told([(0, 1)] * 9), 1), "those are on the other side"
    assert cell.review(150, half, told([(1, 1)] * 5 + [(4, 0)] * 4), 1) and cell.depth == 1


def test_thin_cell_merges_after_its_patience_one_step_at_a_time() -> None:
    cell = cell_of(bytes(32), 5)
    cell.review(LAN.cell_merge, 1, told([]), 0)
    assert cell.depth == 5
    assert not cell.review(LAN.cell_merge - 1, 1, told([]), 1)
    assert not cell.review(LAN.cell_merge - 1, 1, told([]), PATIENCE_US)
    assert cell.review(LAN.cell_merge - 1, 1, told([]), PATIENCE_US + 1) and cell.depth == 4
    assert not cell.review(LAN.cell_merge - 1, 1, told([]), PATIENCE_US + 2)


def test_who_knows_next_to_nobody_goes_down_to_what_its_links_say_at_once() -> None:
    """As a newcomer whose first links were liars, and that found honest ones later."""
    cell, honest = cell_of(bytes(32), 20), told([(3, 2)] * 3 + [(0, 20)] * 2)
    cell.settled = True
    assert not cell.review(1, 1, honest, 0)
    assert cell.review(1, 1, honest, PATIENCE_US // 4) and cell.depth == 2
    # Never deeper, and with some around it step by step.
    cell = cell_of(bytes(32), 5)
    cell.settled = True
    assert not cell.review(1, 1, told([(0, 9)] * 3), 0)
    assert cell.review(1, 1, told([(0, 9)] * 3), PATIENCE_US // 4) and cell.depth == 4
    some = LAN.cell_merge // 2
    assert not cell.review(some, 1, told([(0, 0)] * 3), PATIENCE_US)
    assert cell.review(some, 1, told([(0, 0)] * 3), 2 * PATIENCE_US) and cell.depth == 3


def test_depth_has_an_end() -> None:
    cell = cell_of(bytes(32), DEPTH_MAX)
    assert not cell.review(1 << 20, 1 << 19, told([]), 0)


@pytest.mark.parametrize("name", PRESETS)
def test_bounds_of_each_preset_follow_from_the_size_of_a_cell(name: str) -> None:
    config = PRESETS[name]
    assert config.cell_split >= 4 * config.cell_merge
    assert config.members_max >= 2 * config.cell_split + config.contacts_a_level * DEPTH_MAX
    assert config.table_entries_max >= 4 * config.members_max
    assert config.links_kept >= 2 * (config.active_view_max + config.contacts_a_level * 10)
    assert config.links_kept < config.links_most < LinkConfig().max_inbound_connections
