"""The plain NumPy computation of the same risk, straight from the CSV files.

It shares nothing with risk.c: NumPy's own random numbers, correlation through the eigenvectors of the
covariance, each bond discounted by itself, Black-Scholes with math.erfc. To see that both agree within the
statistical error (results.json is what aggregate.py --json prints):

    python reference.py --paths 100000 --compare results.json
"""

import argparse
import json
import math
import sys
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from portfolio import (
    Bond,
    History,
    InputError,
    Option,
    Portfolio,
    cash_flows,
    read_history,
    read_portfolio,
    years_between,
)

Array = npt.NDArray[np.float64]

HERE = Path(__file__).parent
TRADING_DAYS = 252.0
LEVELS = (0.95, 0.99, 0.999)
CHUNK_PATHS = 4096
MAX_MIX = 8.0
_erfc = np.frompyfunc(math.erfc, 1, 1)


def daily_moves(history: History) -> Array:
    """One row a day: log returns of equities and volatility, differences of key rates."""
    values = np.array(history.values)
    first, last = len(history.equities), len(history.equities) + len(history.tenors_years)
    moves = np.empty((len(values) - 1, values.shape[1]))
    moves[:, :first] = np.diff(np.log(values[:, :first]), axis=0)
    moves[:, first:last] = np.diff(values[:, first:last], axis=0)
    moves[:, last:] = np.diff(np.log(values[:, last:]), axis=0)
    return moves


def normal_cdf(x: Array) -> Array:
    return 0.5 * np.asarray(_erfc(-x / math.sqrt(2.0)), dtype=np.float64)


@dataclass(frozen=True)
class World:
    """The market on many paths: prices[path, equity], rates[path, tenor], vol_move[path]; years gone by."""

    history: History
    prices: Array
    rates: Array
    vol_move: Array
    elapsed_years: float

    @classmethod
    def shocked(cls, history: History, shocks: Array, elapsed_years: float) -> "World":
        """shocks[path, factor], in the order of the history's columns."""
        last = np.array(history.values[-1])
        first, end = len(history.equities), len(history.equities) + len(history.tenors_years)
        vol_move = np.exp(shocks[:, end]) if history.has_vol else np.ones(len(shocks))
        prices = last[:first] * np.exp(shocks[:, :first])
        return cls(history, prices, last[first:end] + shocks[:, first:end], vol_move, elapsed_years)

    def rate(self, tau_years: float) -> Array:
        """The continuous zero rate, linear between the key rates, flat outside."""
        tenors = self.history.tenors_years
        if tau_years <= tenors[0]:
            return self.rates[:, 0]
        if tau_years >= tenors[-1]:
            return self.rates[:, -1]
        right = bisect_left(tenors, tau_years)
        w = (tenors[right] - tau_years) / (tenors[right] - tenors[right - 1])
        mixed: Array = w * self.rates[:, right - 1] + (1 - w) * self.rates[:, right]
        return mixed

    def bond(self, bond: Bond) -> Array:
        """Value of one bond; what was paid on the way counts as cash."""
        today = self.history.valuation_date
        value = np.zeros(len(self.prices))
        for day, amount in cash_flows(bond, today):
            tau = max(0.0, years_between(today, day) - self.elapsed_years)
            value += amount * np.exp(-(self.rate(tau) + bond.spread) * tau)
        return value

    def option(self, option: Option) -> Array:
        """Black-Scholes with a dividend yield, or the payoff once expired."""
        spot = self.prices[:, self.history.equities.index(option.underlying)]
        tau = years_between(self.history.valuation_date, option.expiry) - self.elapsed_years
        if tau <= 0:
            return np.maximum(option.sign * (spot - option.strike), 0.0)
        rate = self.rate(tau)
        vol = option.implied_vol * self.vol_move
        drift = (rate - option.dividend_yield + 0.5 * vol**2) * tau
        d1 = (np.log(spot / option.strike) + drift) / (vol * math.sqrt(tau))
        d2 = d1 - vol * math.sqrt(tau)
        asset = spot * math.exp(-option.dividend_yield * tau) * normal_cdf(option.sign * d1)
        return option.sign * (asset - option.strike * np.exp(-rate * tau) * normal_cdf(option.sign * d2))

    def value(self, portfolio: Portfolio) -> Array:
        total = np.zeros(len(self.prices))
        for equity in portfolio.equities:
            total += equity.quantity * self.prices[:, self.history.equities.index(equity.underlying)]
        for option in portfolio.options:
            total += option.quantity * self.option(option)
        for bond in portfolio.bonds:
            total += bond.quantity * self.bond(bond)
        return total


def base_value(portfolio: Portfolio, history: History) -> float:
    """Today's value, in whole money."""
    still = np.zeros((1, len(history.values[0])))
    return float(World.shocked(history, still, 0.0).value(portfolio)[0])


def profits(portfolio: Portfolio, history: History, paths: int, horizon_days: float, dof: int, seed: int) -> Array:
    """P&L of each path in whole money. dof 0: normal shocks, >= 3: Student-t of the same covariance."""
    rng = np.random.default_rng(seed)
    covariance = np.cov(daily_moves(history), rowvar=False) * horizon_days
    elapsed_years = horizon_days / TRADING_DAYS
    today = base_value(portfolio, history)
    parts = []
    for start in range(0, paths, CHUNK_PATHS):
        count = min(CHUNK_PATHS, paths - start)
        shocks = rng.multivariate_normal(np.zeros(len(covariance)), covariance, count, method="eigh")
        if dof:
            mix = np.minimum(np.sqrt(dof / rng.chisquare(dof, count)), MAX_MIX)
            shocks *= (mix * math.sqrt((dof - 2) / dof))[:, None]
        parts.append(World.shocked(history, shocks, elapsed_years).value(portfolio) - today)
    return np.concatenate(parts)


def measures(profit: Array) -> dict[str, tuple[float, float]]:
    """Each measure with its standard error, in whole money; losses are positive."""
    ordered = np.sort(profit)
    n = len(ordered)
    deviation = float(ordered.std(ddof=1))
    kurtosis = float(np.mean((ordered - ordered.mean()) ** 4)) / deviation**4
    found = {
        "mean": (float(ordered.mean()), deviation / math.sqrt(n)),
        "sd": (deviation, deviation * math.sqrt((kurtosis - 1) / (4 * n))),
    }
    for level in LEVELS:
        rank = max(1, math.ceil(n * (1 - level) - 1e-9))
        tail = ordered[:rank]
        spread = 1.96 * math.sqrt(n * level * (1 - level))
        low, high = max(0, math.floor(rank - spread) - 1), min(n - 1, math.ceil(rank + spread))
        var, shortfall = -float(tail[-1]), -float(tail.mean())
        variance = (float(tail.var()) + level * (shortfall - var) ** 2) / rank
        found[f"var_{level:g}"] = (var, float(ordered[high] - ordered[low]) / (2 * 1.96))
        found[f"es_{level:g}"] = (shortfall, math.sqrt(variance))
    return found


def differences(ours: dict[str, Any], theirs: dict[str, tuple[float, float]]) -> list[tuple[str, float, float, float]]:
    """(measure, ours, theirs, difference in combined standard errors). ours: the object of aggregate.py."""
    flat = {name: (ours[name], ours[f"{name}_se"] or 0.0) for name in ("mean", "sd")}
    for level, row in ours["levels"].items():
        flat[f"var_{level}"] = (row["var"], row["var_se"])
        flat[f"es_{level}"] = (row["es"], row["es_se"])
    return [
        (name, mine, other, (mine - other) / math.hypot(mine_se, other_se))
        for name, (mine, mine_se) in flat.items()
        for other, other_se in [theirs[name]]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portfolio", type=Path, default=HERE / "portfolio.csv")
    parser.add_argument("--prices", type=Path, default=HERE / "prices.csv")
    parser.add_argument("--paths", type=int, default=50_000)
    parser.add_argument("--horizon-days", type=float, default=10.0)
    parser.add_argument("--dof", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", type=Path, help="the JSON that aggregate.py wrote")
    a = parser.parse_args()
    try:
        history = read_history(a.prices)
        portfolio = read_portfolio(a.portfolio, history)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    theirs = measures(profits(portfolio, history, a.paths, a.horizon_days, a.dof, a.seed))
    if a.compare is None:
        for name, (value, deviation) in theirs.items():
            print(f"{name:<10} {value:>16,.2f} ± {deviation:,.2f}")
        return 0
    worst = 0.0
    print(f"{'':<10} {'mesh':>16} {'NumPy':>16} {'difference':>12}")
    for name, mine, other, errors in differences(json.loads(a.compare.read_text()), theirs):
        print(f"{name:<10} {mine:>16,.2f} {other:>16,.2f} {errors:>+9.2f} SE")
        worst = max(worst, abs(errors))
    print("agrees within 4 standard errors" if worst < 4 else f"DISAGREES: {worst:.1f} standard errors")
    return 0 if worst < 4 else 1


if __name__ == "__main__":
    sys.exit(main())
