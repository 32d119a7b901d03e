"""Each table of the command line, with its longest usual rows, on terminals of 60, 80 and 100 columns."""

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from hearthmesh.node.cli.output import cells_of
from hearthmesh.node.cli.tables import Columns, column_of, lay_out
from hearthmesh.testnet.view import warmth_bar

ROOT = Path(__file__).parents[2]
PEER = "12D3KooWQdErqYDsLkW4G8D5Cs1xCUnp5xZ5LCnFJNJEtYuoS7ff"
JOB, SERIAL = "db29d06a7a42001c", "1f2e3d4c5b6a79881f2e3d4c5b6a7988"
SPREAD = "0.98 (0.95–1.02)"

# By the module's file and the name of the columns there.
TABLES: Mapping[tuple[str, str], Sequence[Any]] = {
    ("node/cli/jobs.py", "JOB_COLUMNS"): (JOB, "risk-overnight", "cancelled", 999_999, 1_000_000, 1234, "confidential"),
    ("node/cli/jobs.py", "PEER_COLUMNS"): (
        *("living-room", "suspect", "district", "-12.25", 1500, 12, 16, "ground floor, north", PEER),
    ),
    ("node/cli/jobs.py", "WORKER_COLUMNS"): ("living-room", 123_456, 1234, "86400.0", "123.45 Wh", "-12.25", "suspect"),
    ("node/cli/verifying.py", "RECEIPT_COLUMNS"): (PEER, 123_456, "123456.789", "123.456 kWh", "123.456 kWh"),
    ("node/cli/mesh_commands.py", "MEMBER_COLUMNS"): (
        *(
            "living-room",
            PEER,
            "worker,submitter,replica,relay",
            "2027-11-30",
            "Anna Wintergarten",
            "Rue de la Paix 12",
        ),
        *("home,vetted", "1 of 2 revoke it", SERIAL),
    ),
    ("node/bench/report.py", "MEASURED_COLUMNS"): (
        *("runs of a task where results are compared, honest nodes", "12,345.6", "MB/s", "11,111.1 … 13,333.3"),
        *("≥ 10,000", "yes"),
    ),
    ("node/bench/report.py", "PROCESS_COLUMNS"): ("worker 2", "123.4", "100%"),
    ("node/bench/report.py", "PART_COLUMNS"): ("execution", "wasm_function_batch_tasks_per_s", "123,456"),
    ("node/bench/report.py", "SYSTEM_COLUMNS"): (
        "hearthmesh",
        "12,345",
        "123,456",
        "1,234",
        "123.4",
        "1234.5",
        "0.939",
    ),
    ("node/bench/report.py", "RATIO_COLUMNS"): ("hearthmesh : dask", SPREAD, SPREAD, SPREAD, SPREAD),
    ("node/bench/report.py", "HOT_COLUMNS"): (
        "12.34",
        "123.45",
        "12.345",
        "hearthmesh/protocol/mesh.py:123 Mesh.handle",
    ),
    ("testnet/commands.py", "NODE_COLUMNS"): (
        *("living-room", "running", 4_194_304, "-12.25", 20.0, 16, 1234, 123_456, 12, PEER),
    ),
    ("testnet/chaos/commands.py", "LIST_COLUMNS"): (
        *("cut-power", "all nodes of a site die at once, and come back one after another", "it needs root, and is not"),
    ),
    ("testnet/simulator/siege_command.py", "SEAT_COLUMNS"): (
        *("33%", "new, each with a zone and a sink for all year", "12.3%", "12.3%", "12.3%"),
    ),
    ("testnet/simulator/siege_command.py", "ECLIPSE_COLUMNS"): ("12 of 24", "3", "100%", "12 of 24", "not done"),
    ("testnet/simulator/commands.py", "COLUMNS of liars_page"): (
        *(
            "adaptive",
            "wrong results",
            "20%",
            "12 of 4000",
            "12.34%",
            "1.234",
            "1.234 ± 0.012",
            "1.234",
            "12 of 12",
            "123.4 s",
        ),
    ),
    ("testnet/simulator/commands.py", "COLUMNS of sink_page"): (
        *("district", "12345.6", "12345.6", "12345.6", "12345.6", "12345.6", "-12.3", "123.4", "123,456"),
    ),
    ("testnet/simulator/commands.py", "MUTANT_COLUMNS"): (
        *("grants the same task to two workers at a time", "one live lease per task and epoch", 12_345),
    ),
    ("testnet/simulator/commands.py", "SCENARIO_COLUMNS"): (
        *("a stale steal reply", "known to fail", 12, "wait for a lost reply for ever: liveness"),
        "dask/distributed 1234: a reply that came late hung the worker",
    ),
    ("testnet/simulator/commands.py", "COST_COLUMNS"): (
        *(100_000, 12.3, 1234.5, 123.4, 123.4, 123.4, 123.4, 123_456, 12.3, 1_234_567),
    ),
    ("testnet/simulator/commands.py", "MEETING_COLUMNS"): (1_000_000, 1000, 12, 1_234_567),
    ("testnet/heat/command.py", "COLUMNS"): (
        *("shoulder", "110", "deadline", "optimum (12 rooms)", "123.45", "123.45", "12.3", "12,345", "12,345", "12.34"),
        *("123.4", "1,234", "1,234", "0.99"),
    ),
    ("testnet/heat/command.py", "TARGET_COLUMNS"): (
        *("shoulder", "110", "deadline", "10000", "discomfort within 1.25 of the optimum's", "1.234", "1.25", "MISSED"),
    ),
    ("testnet/heat/real_command.py", "COLUMNS"): (
        *("random", "12.34", "12.34", "12.34", "12.3", "1234.5", "12.3", "300 of 300", 123.4),
    ),
    ("testnet/view.py", "ROOM_COLUMNS"): (
        *("living-room", "running", "district", "-12.25", warmth_bar(19.0, 20.0), "12/16", 1234, 123_456, 12),
    ),
}
# What is written beside the tables in the same words.
SAME = {("node/cli/progress.py", "WORKER_COLUMNS"): ("node/cli/jobs.py", "WORKER_COLUMNS")}
NEVER_CUT = {"name", "state", "node", "room", "done", "pid", "°C", "tasks", "at work", "serial", "value", "found"}


def columns_of(file: str, name: str) -> Columns:
    name, _, page = name.partition(" of ")
    module = "hearthmesh." + file.removesuffix(".py").replace("/", ".")
    found: Columns = getattr(importlib.import_module(module.rpartition(".")[0] + f".{page}" if page else module), name)
    return found


def _tables_printed(path: Path) -> Iterator[str]:
    """The columns of each table, as they are called where it is made."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print_table", "lay_out")
        ):
            yield ast.unparse(node.args[0])


def test_each_table_of_the_command_line_is_in_this_test() -> None:
    found: dict[tuple[str, str], None] = {}
    for path in sorted([*(ROOT / "node").rglob("*.py"), *(ROOT / "testnet").rglob("*.py")]):
        for name in _tables_printed(path):
            key = (str(path.relative_to(ROOT)), name)
            found[SAME.get(key, key)] = None
    inner = ("node/cli/output.py", "columns")
    known = {(file, name.partition(" of ")[0]) for file, name in TABLES}
    assert set(found) - {inner} == known


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("table", TABLES, ids=" ".join)
def test_a_table_fits_with_its_names_states_and_numbers_whole(table: tuple[str, str], width: int) -> None:
    columns = [column_of(each) for each in columns_of(*table)]
    row = cells_of(TABLES[table])
    layout = lay_out(columns, [row], width)
    assert max(map(cell_len, layout.lines)) <= width
    assert not NEVER_CUT & set(layout.omitted)
    body = layout.lines[layout.heading_lines :]
    words = " ".join(body).split()
    for column, cell in zip(columns, row, strict=True):
        if column.heading in layout.omitted and column.drop:
            continue
        if column.tail or column.head:
            kept = cell[-column.tail :] if column.tail else cell[: column.head]
            assert kept in body[0]
        elif column.folds:
            assert all(word in "".join(words) for word in cell.split() if len(word) <= 24)
        else:
            assert cell in body[0]


def test_all_of_it_is_shown_into_a_pipe() -> None:
    for table, row in TABLES.items():
        layout = lay_out(columns_of(*table), [cells_of(row)], None)
        assert len(layout.lines) == 2 and not layout.omitted
        assert all(cell in layout.lines[1] for cell in cells_of(row))
