"""`hearth sim siege`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ...node.cli.options import Json
from ...node.cli.output import note, print_json, print_table, say
from ...node.cli.tables import Column, Columns

SEAT_COLUMNS: Columns = (">attackers", Column("they are", folds=True), ">seats", ">two of three", ">all three")
ECLIPSE_COLUMNS: Columns = (">attackers", ">honest contacts", ">honest nodes known", ">wrong results", "job")


def siege(
    nodes: Annotated[int, typer.Option("--nodes", min=8, max=200, help="Machines of each eclipse.")] = 24,
    seed: Annotated[int, typer.Option("--seed", help="What is drawn is drawn from it.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=10, max=100_000, help="Jobs whose seats are drawn.")] = 500,
    as_json: Json = False,
) -> None:
    """What many admitted identities buy an attacker: seats of jobs, and a newcomer's view of the mesh.

    Seats: of three a job, by share of the candidates. Eclipses: a client whose first contacts are attackers, with and
    without honest ones among them, submits a job under quorum(2).

    \b
    Examples:
      hearth sim siege
      hearth sim siege --nodes 40 --seed 2 --json
    """
    from .siege import all_seats, eclipse

    drawn = [each.row() for each in all_seats(jobs=jobs)]
    eclipses: list[dict[str, Any]] = []
    for attackers in (nodes // 8, nodes // 4):
        for honest_contacts in (0, 1, 3):
            eclipses.append(eclipse(attackers, honest_contacts, seed=seed, nodes=nodes).row())
            if not as_json:
                note(f"{attackers} attackers of {nodes}, {honest_contacts} honest contacts")
    if as_json:
        print_json({"seats": drawn, "eclipses": eclipses})
        return
    print_table(
        SEAT_COLUMNS,
        [(f"{row['share']:.0%}", _who(row), *_percent(row, "seats", "majority", "all_three")) for row in drawn],
        empty="",
    )
    say("")
    print_table(
        ECLIPSE_COLUMNS,
        [
            (
                f"{row['attackers']} of {row['nodes']}",
                str(row["honest_contacts"]),
                f"{row['known']:.0%}",
                f"{row['wrong']} of {row['accepted']}",
                "done" if row["complete"] else "not done",
            )
            for row in eclipses
        ],
        empty="",
    )


def _who(row: dict[str, Any]) -> str:
    if row["boasts"]:
        return "new, each with a zone and a sink for all year"
    return "as old as the others" if row["weight"] == 4.0 else "new"


def _percent(row: dict[str, Any], *names: str) -> list[str]:
    return [f"{row[name]:.1%}" for name in names]
