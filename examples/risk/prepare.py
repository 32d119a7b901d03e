"""Turns prices.csv and portfolio.csv into params.bin, the one file that all tasks of the job share.

Positions that only add up are added up here: shares of one equity, cash flows of all bonds on one day.
Everything non-linear is left to the tasks.
"""

import argparse
import hashlib
import math
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from params import CashNode, OptionRow, Parameters
from portfolio import (
    History,
    InputError,
    Option,
    Portfolio,
    cash_flows,
    read_history,
    read_portfolio,
    years_between,
)
from reference import TRADING_DAYS, base_value, daily_moves, profits

HERE = Path(__file__).parent
TASKS = 2400
PATHS_PER_TASK = 512
PILOT_PATHS = 8192
# The last bits differ by the CPU's NumPy kernels and libm; so many digits after the point do not.
DIGITS = 12
CASH_DIGITS = 6


def cholesky(history: History, horizon_days: float, dof: int) -> list[float]:
    """The packed factor of the horizon's covariance (Student-t: its scale matrix). Raises InputError."""
    moves = daily_moves(history)
    still = np.flatnonzero(moves.std(axis=0) == 0.0)
    if len(still):
        raise InputError(f"prices: factor {int(still[0]) + 1} never moves; leave the column out")
    covariance = np.cov(moves, rowvar=False, ddof=1).reshape(moves.shape[1], -1) * horizon_days
    if dof:
        covariance *= (dof - 2) / dof
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise InputError("prices: one column follows from the others; leave it out or add days") from None
    return [round(float(factor[i, j]), DIGITS) for i in range(len(factor)) for j in range(i + 1)]


def cash_nodes(portfolio: Portfolio, history: History, elapsed_years: float) -> dict[date, CashNode]:
    """One node for each day on which a bond pays or an option expires, earliest first."""
    today = history.valuation_date
    cash: defaultdict[date, float] = defaultdict(float)
    for bond in portfolio.bonds:
        for day, amount in cash_flows(bond, today):
            tau = max(0.0, years_between(today, day) - elapsed_years)
            cash[day] += bond.quantity * amount * math.exp(-bond.spread * tau)
    for option in portfolio.options:
        cash[option.expiry] += 0.0
    nodes = {}
    for day in sorted(cash):
        tau = max(0.0, years_between(today, day) - elapsed_years)
        left, weight = interpolate(history.tenors_years, tau)
        nodes[day] = CashNode(tau, round(cash[day], CASH_DIGITS), left, weight)
    return nodes


def interpolate(tenors_years: tuple[float, ...], tau_years: float) -> tuple[int, float]:
    """The key rate to the left and its weight; flat before the first and after the last."""
    if tau_years <= tenors_years[0]:
        return 0, 1.0
    for left, (near, far) in enumerate(zip(tenors_years, tenors_years[1:], strict=False)):
        if tau_years <= far:
            return left, (far - tau_years) / (far - near)
    return len(tenors_years) - 1, 1.0


def option_row(option: Option, history: History, node: int, elapsed_years: float) -> OptionRow:
    equity = history.equities.index(option.underlying)
    tau = max(0.0, years_between(history.valuation_date, option.expiry) - elapsed_years)
    carry = round(math.exp(-option.dividend_yield * tau), DIGITS)
    spot = history.values[-1][equity]
    return OptionRow(
        strike=option.strike,
        quantity=option.quantity,
        vol=option.implied_vol,
        carry=carry,
        log_moneyness=round(math.log(spot * carry / option.strike), DIGITS),
        sqrt_tau=math.sqrt(tau),
        sign=option.sign,
        equity=equity,
        node=node,
    )


def parameters(
    portfolio: Portfolio, history: History, *, horizon_days: float = 10.0, dof: int = 6, seed: int = 1
) -> Parameters:
    """Everything but the tail's threshold, which is 0: all losses. Raises InputError."""
    elapsed_years = horizon_days / TRADING_DAYS
    shares = [0.0] * len(history.equities)
    for equity in portfolio.equities:
        shares[history.equities.index(equity.underlying)] += equity.quantity
    nodes = cash_nodes(portfolio, history, elapsed_years)
    places = {day: place for place, day in enumerate(nodes)}
    count = len(history.equities)
    last = history.values[-1]
    return Parameters(
        spot=last[:count],
        shares=shares,
        yields=last[count : count + len(history.tenors_years)],
        has_vol=history.has_vol,
        dof=dof,
        cholesky=cholesky(history, horizon_days, dof),
        nodes=list(nodes.values()),
        options=[option_row(o, history, places[o.expiry], elapsed_years) for o in portfolio.options],
        seed=seed,
        threshold_cents=0,
        base_value=round(base_value(portfolio, history), 2),
    )


def tail_threshold_cents(portfolio: Portfolio, history: History, horizon_days: float, dof: int, tail: float) -> int:
    """The P&L that a share `tail` of the pilot's paths falls below, rounded to two digits."""
    pilot = profits(portfolio, history, PILOT_PATHS, horizon_days, dof, seed=0)
    cents = float(np.quantile(pilot, tail)) * 100
    unit: int = 10 ** max(0, math.floor(math.log10(max(1.0, abs(cents)))) - 1)
    return round(cents / unit) * unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portfolio", type=Path, default=HERE / "portfolio.csv")
    parser.add_argument("--prices", type=Path, default=HERE / "prices.csv")
    parser.add_argument("--out", type=Path, default=HERE / "params.bin")
    parser.add_argument("--tasks", type=int, default=TASKS, help="must be the same in job.toml")
    parser.add_argument("--paths", type=int, default=PATHS_PER_TASK, help="paths of one task")
    parser.add_argument("--horizon-days", type=float, default=10.0, help="trading days, 252 a year")
    parser.add_argument("--dof", type=int, default=6, help="Student-t degrees of freedom, 3 to 64; 0: normal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tail", type=float, default=0.15, help="share of the paths whose P&L is kept")
    a = parser.parse_args()
    if not (0 < a.horizon_days <= 252 and (a.dof == 0 or 3 <= a.dof <= 64) and 0 <= a.seed < 1 << 64):
        parser.error("--horizon-days is up to 252, --dof is 0 or 3 to 64, --seed is a 64-bit number")
    if not (1 <= a.tasks < 1 << 32 and 1 <= a.paths <= 1 << 20 and 0.05 < a.tail <= 1):
        parser.error("--tasks is 1 or more, --paths is 1 to 1048576, --tail is above 0.05, up to 1")
    try:
        history = read_history(a.prices)
        portfolio = read_portfolio(a.portfolio, history)
        model = parameters(portfolio, history, horizon_days=a.horizon_days, dof=a.dof, seed=a.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    threshold = tail_threshold_cents(portfolio, history, a.horizon_days, a.dof, a.tail)
    blob = replace(model, threshold_cents=threshold).pack(a.tasks, a.paths)
    a.out.write_bytes(blob)
    lines = len(portfolio.equities) + len(portfolio.options) + len(portfolio.bonds)
    print(f"{lines} positions worth {model.base_value:,.2f}; {len(history.values[0])} factors; {len(blob):,} bytes")
    print(f"{a.tasks} tasks of {a.paths} paths; P&L of {threshold / 100:,.0f} and below is kept")
    print(f"{a.out}: sha256 {hashlib.sha256(blob).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
