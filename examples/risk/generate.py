"""Writes prices.csv and portfolio.csv: a made-up market and a made-up book, from one seed.

The market is a factor model: one market factor, five sectors and an own noise for each of 40 equities (daily
Student-t shocks, 6 degrees of freedom); level, slope and curvature for five key rates, the level moving a
little with the market; a mean-reverting volatility index that jumps when the market falls.
"""

import argparse
import csv
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SEED = 20_251_231
DAYS = 504
LAST_DAY = date(2025, 12, 31)
SECTORS = ("BANK", "CHEM", "HEAT", "RAIL", "TECH")
PER_SECTOR = 8
TENORS_YEARS = (0.25, 2, 5, 10, 30)
START_CURVE_PERCENT = (3.4, 2.7, 2.6, 2.8, 3.1)


def student(rng: np.random.Generator, shape: tuple[int, ...], dof: int = 6) -> Array:
    """Shocks of unit variance with fat tails."""
    shocks: Array = rng.standard_t(dof, shape) * np.sqrt((dof - 2) / dof)
    return shocks


def market(rng: np.random.Generator) -> tuple[list[str], Array]:
    """The header after 'date', and DAYS rows of prices, rates in percent and the volatility index."""
    count = len(SECTORS) * PER_SECTOR
    common = student(rng, (DAYS - 1, 1))
    sectors = student(rng, (DAYS - 1, len(SECTORS)))
    beta = rng.uniform(0.5, 1.5, count)
    own = rng.uniform(0.12, 0.32, count)
    daily = 1 / np.sqrt(252)
    returns = daily * (
        0.14 * common * beta + 0.10 * np.repeat(sectors, PER_SECTOR, axis=1) + own * student(rng, (DAYS - 1, count))
    )
    returns += 0.05 / 252
    prices = rng.uniform(12, 240, count) * np.exp(np.vstack([np.zeros(count), np.cumsum(returns, axis=0)]))

    tenors = np.array(TENORS_YEARS)
    loadings = np.vstack([np.ones(5), np.exp(-tenors / 2) - 0.4, (tenors / 3) * np.exp(-tenors / 3)])
    moves = student(rng, (DAYS - 1, 3)) * np.array([0.040, 0.030, 0.020])
    moves[:, :1] += 0.012 * common
    moves_percent = moves @ loadings + 0.010 * rng.standard_normal((DAYS - 1, 5))
    curve = np.array(START_CURVE_PERCENT) + np.vstack([np.zeros(5), np.cumsum(moves_percent, axis=0)])

    log_vol = np.full(DAYS, np.log(17.0))
    shocks = -0.055 * common[:, 0] + 0.030 * rng.standard_normal(DAYS - 1)
    for day in range(1, DAYS):
        log_vol[day] = log_vol[day - 1] + 0.04 * (np.log(17.0) - log_vol[day - 1]) + shocks[day - 1]
    names = [f"eq:{sector}{i + 1}" for sector in SECTORS for i in range(PER_SECTOR)]
    header = names + [f"rate:{tenor:g}" for tenor in TENORS_YEARS] + ["vol:MARKET"]
    return header, np.column_stack([prices, curve, np.exp(log_vol)])


def book(rng: np.random.Generator, header: list[str], last: Array) -> list[dict[str, object]]:
    """64 equity lines, 128 options (some covered calls, some sold puts, some bought protection), 68 bonds."""
    names = [name.removeprefix("eq:") for name in header if name.startswith("eq:")]
    rows: list[dict[str, object]] = []
    for i in range(64):
        pick = i % len(names) if i < len(names) else int(rng.integers(len(names)))
        money = rng.uniform(0.4e6, 2.2e6) * (1 if i < 52 else -0.5)
        rows.append(_row(f"E{i + 1:03}", "equity", round(money / last[pick], -1), underlying=names[pick]))
    for i in range(128):
        pick = int(rng.integers(len(names)))
        sign = "put" if i % 2 else "call"
        moneyness = rng.uniform(0.82, 1.02) if sign == "put" else rng.uniform(0.98, 1.20)
        bought = rng.random() < 0.45
        money = rng.uniform(0.8e6, 4.4e6) * (1 if bought else -1)
        smile = 0.24 + 0.35 * abs(moneyness - 1.0) + rng.uniform(-0.03, 0.06)
        rows.append(
            _row(
                f"O{i + 1:03}",
                sign,
                round(money / last[pick], -2),
                underlying=names[pick],
                strike=round(last[pick] * moneyness, 1 if last[pick] > 40 else 2),
                expiry=_third_friday(LAST_DAY.year * 12 + LAST_DAY.month + int(rng.integers(0, 18))),
                implied_vol=round(smile, 3),
                dividend_yield=round(float(rng.choice([0.0, 0.01, 0.02, 0.03])), 3),
            )
        )
    for i in range(68):
        zero = i % 5 == 0
        month = LAST_DAY.year * 12 + LAST_DAY.month + int(rng.integers(2, 240 if not zero else 60))
        rows.append(
            _row(
                f"B{i + 1:03}",
                "bond",
                int(rng.integers(2, 16)) * 100 * (-1 if i % 11 == 10 else 1),
                face=1000,
                coupon="" if zero else round(float(rng.integers(2, 11)) / 200, 4),
                frequency="" if zero else int(rng.choice([1, 2, 4])),
                maturity=date(month // 12, month % 12 + 1, int(rng.choice([1, 15]))),
                spread=round(float(rng.uniform(0, 0.018)), 4),
            )
        )
    return rows


def _row(name: str, kind: str, quantity: float, **rest: object) -> dict[str, object]:
    return {"id": name, "kind": kind, "quantity": int(quantity), **rest}


def _third_friday(month: int) -> date:
    first = date(month // 12, month % 12 + 1, 1)
    return first.replace(day=15 + (4 - first.weekday()) % 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    header, values = market(rng)
    days = np.busday_offset(np.datetime64(LAST_DAY, "D"), np.arange(1 - DAYS, 1), roll="backward")
    with (arguments.folder / "prices.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["date", *header])
        for day, row in zip(days, values, strict=True):
            writer.writerow([str(day), *(f"{value:.4f}" for value in row)])
    rows = book(rng, header, values[-1])
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (arguments.folder / "portfolio.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
