"""Size and power of drift monitoring: how often it cries without reason, and how often it finds a planted change.

Each repetition draws a market of its own: autocorrelated features that share common factors, a model's predictions and
labels that overlap. Its first stretch is the training, from which the bundle's baseline is made; then a month is
monitored as a bot does, first unchanged, then from its start on with each planted change. Detection counts within 300
candles of the change, labels that mature later included.

    python -m benchmarks.drift --repetitions 400
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.verdicts import wilson
from freqtrade_mlpipe.config import LabelConfig, MonitoringConfig
from freqtrade_mlpipe.monitoring.calibration import MONTH_CANDLES
from freqtrade_mlpipe.monitoring.families import Observed
from freqtrade_mlpipe.monitoring.looks import alarms, assess
from freqtrade_mlpipe.monitoring.outcomes import outcomes
from freqtrade_mlpipe.monitoring.reference import (
    Reference,
    monitoring_baseline,
    plan_of,
    read_reference,
)

CANDLE = pd.Timedelta("1h")
WITHIN_CANDLES = 300
_COST = 0.002
_HIT = 0.6
_N_FACTORS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A market: pairs, training candles, features, their autocorrelation from candle to candle, labels' horizon."""

    n_pairs: int = 1
    n_training: int = 17_520
    n_features: int = 40
    phi: float = 0.97
    horizon: int = 1
    shared: float = 0.5


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of shape (pairs, candles, features); predicted probability, label and return, each (pairs, candles)."""

    X: Floats
    proba: Floats
    y: Floats
    gross: Floats


@dataclass(frozen=True)
class Shift:
    """A planted change."""

    name: str
    plant: Callable[[Rows], Rows]


def autocorrelated(shape: tuple[int, ...], phi: float, rng: np.random.Generator) -> Floats:
    """AR(1) of mean 0 and variance 1 along the second axis, stationary from the start."""
    noise = rng.normal(size=shape) * math.sqrt(1 - phi**2)
    noise[:, 0] /= math.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=1))


def draw(setting: Setting, n: int, rng: np.random.Generator) -> Rows:
    """A market without any change: the model is right in 60 of 100 candles, labels overlap over the horizon."""
    p, f = setting.n_pairs, setting.n_features
    loads = rng.normal(size=(_N_FACTORS, f))
    loads /= np.linalg.norm(loads, axis=0)
    common = autocorrelated((p, n, _N_FACTORS), setting.phi, rng) @ loads
    own = autocorrelated((p, n, f), setting.phi, rng)
    X = math.sqrt(setting.shared) * common + math.sqrt(1 - setting.shared) * own
    side = autocorrelated((p, n), setting.phi, rng) > 0
    confidence = np.clip(_HIT + 0.03 * autocorrelated((p, n), setting.phi, rng), 0.51, 0.9)
    proba = np.where(side, confidence, 1 - confidence)
    right = overlapping_uniform((p, n), setting.horizon, rng) < confidence
    y = np.where(right, side, ~side).astype(np.float64)
    gross = np.where(y == 1, 0.01, -0.01) * rng.gamma(2.0, 0.5, (p, n))
    return Rows(X, proba, y, gross)


def overlapping_uniform(shape: tuple[int, int], horizon: int, rng: np.random.Generator) -> Floats:
    """Uniform on [0, 1], dependent as labels of this horizon are: moving averages of what each candle brings."""
    from scipy.stats import norm

    news = rng.normal(size=(shape[0], shape[1] + horizon - 1))
    sums = np.cumsum(np.pad(news, ((0, 0), (1, 0))), axis=1)
    return np.asarray(norm.cdf((sums[:, horizon:] - sums[:, :-horizon]) / math.sqrt(horizon)))


def _features(change: Callable[[Floats], Floats]) -> Callable[[Rows], Rows]:
    return lambda rows: Rows(change(rows.X), rows.proba, rows.y, rows.gross)


def _first_quarter(change: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    def apply(X: Floats) -> Floats:
        n = X.shape[2] // 4
        return np.concatenate([change(X[..., :n]), X[..., n:]], axis=2)

    return apply


def _flip(rows: Rows) -> Rows:
    """Wrong in 60 of 100 candles instead of 40."""
    return Rows(rows.X, rows.proba, 1.0 - rows.y, -rows.gross)


SHIFTS = (
    Shift("mean +1 sd, all features", _features(lambda X: X + 1.0)),
    Shift("mean +1.5 sd, a quarter of the features", _features(_first_quarter(lambda X: X + 1.5))),
    Shift("mean +1 sd, a quarter of the features", _features(_first_quarter(lambda X: X + 1.0))),
    Shift("mean +0.5 sd, all features", _features(lambda X: X + 0.5)),
    Shift("sd x 1.5, all features", _features(lambda X: X * 1.5)),
    Shift("sd x 1.5, a quarter of the features", _features(_first_quarter(lambda X: X * 1.5))),
    Shift("errors 40 -> 60 %", _flip),
)


def repetition(
    setting: Setting, config: MonitoringConfig, seed: int, shifts: Sequence[Shift] = SHIFTS
) -> dict[str, bool]:
    """Whether an alarm was raised: in a month without change, and within 300 candles of each change."""
    rng = np.random.default_rng(seed)
    window, n = config.window_candles, setting.n_training
    whole = draw(setting, n + window + MONTH_CANDLES, rng)
    reference = train(part(whole, 0, n), setting, config, seed)
    start = _aligned(n, config.step_candles)
    quiet = part(whole, start, start + window + MONTH_CANDLES)
    labels = LabelConfig(kind="direction", horizon_candles=setting.horizon)
    raised = {"no change": alarm(reference, quiet, setting, config, labels, start)}
    before = part(quiet, 0, window)
    for shift in shifts:
        after = shift.plant(part(quiet, window, window + WITHIN_CANDLES))
        both = Rows(
            *(
                np.concatenate(two, axis=1)
                for two in zip(astuple(before), astuple(after), strict=True)
            )
        )
        raised[shift.name] = alarm(reference, both, setting, config, labels, start)
    return raised


def train(rows: Rows, setting: Setting, config: MonitoringConfig, seed: int) -> Reference:
    """The bundle's baseline, as JSON would give it back."""
    index = pd.MultiIndex.from_product(
        [[f"P{k}" for k in range(setting.n_pairs)], dates(0, setting.n_training)],
        names=["pair", "date"],
    )
    names = [f"f{k}" for k in range(setting.n_features)]
    X = pd.DataFrame(rows.X.reshape(-1, setting.n_features).astype(np.float32), index, names)
    oos = pd.DataFrame(
        {"y": rows.y.ravel(), "proba": rows.proba.ravel(), "position": (rows.proba > 0.55).ravel(),
         "forward_return": rows.gross.ravel()}, index,
    )  # fmt: skip
    late = index.get_level_values("date") >= dates(setting.n_training // 3, 1)[0]
    baseline = monitoring_baseline(
        X, oos[late], task="binary", candle=CANDLE, round_trip_cost=_COST, plan=plan_of(config), seed=seed
    )  # fmt: skip
    reference = read_reference(json.loads(json.dumps(baseline)))
    assert reference is not None
    return reference


def alarm(
    reference: Reference, rows: Rows, setting: Setting, config: MonitoringConfig,
    labels: LabelConfig, start: int,
) -> bool:  # fmt: skip
    """Whether any look at these candles is in alarm; outcomes count once their labels are known."""
    n = rows.proba.shape[1]
    observed = Observed(
        np.repeat([f"P{k}" for k in range(setting.n_pairs)], n),
        pd.DatetimeIndex(np.tile(dates(start, n), setting.n_pairs), tz="UTC"),
        rows.X.reshape(-1, setting.n_features).astype(np.float32),
        rows.proba.ravel(),
        outcomes(
            "binary", _mature(rows.y, setting.horizon).ravel(), rows.proba.ravel(), (rows.proba > 0.55).ravel(),
            rows.gross.ravel(), round_trip_cost=_COST,
        ),
    )  # fmt: skip
    found = assess(
        reference, observed, config=config, labels=labels, candle=CANDLE,
        latency_ms=np.ones(len(observed)), trained_until=dates(0, 1)[0],
    )  # fmt: skip
    return any(families for families, _ in alarms(found.looks, config))


def _mature(y: Floats, horizon: int) -> Floats:
    known = y.copy()
    known[:, -horizon:] = np.nan
    return known


def part(rows: Rows, start: int, stop: int) -> Rows:
    """Some of the candles."""
    return Rows(
        rows.X[:, start:stop], rows.proba[:, start:stop], rows.y[:, start:stop], rows.gross[:, start:stop]
    )  # fmt: skip


def dates(start: int, n: int) -> pd.DatetimeIndex:
    """Open times of candles, counted from a midnight."""
    return pd.date_range(
        pd.Timestamp("2024-01-01", tz="UTC") + start * CANDLE, periods=n, freq=CANDLE
    )


def _aligned(n: int, step: int) -> int:
    return n - n % step


SETTINGS = {
    "1 pair, two years, AR(0.97)": Setting(),
    "1 pair, two years, AR(0.9)": Setting(phi=0.9),
    "1 pair, two years, AR(0.99)": Setting(phi=0.99),
    "1 pair, half a year, AR(0.97)": Setting(n_training=4_320),
    "1 pair, three months, AR(0.97)": Setting(n_training=2_160),
    "4 pairs, two years, AR(0.97), horizon 24": Setting(n_pairs=4, horizon=24, n_features=20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument(
        "--first-seed", type=int, default=0, help="To try other markets (default: 0)."
    )
    parser.add_argument(
        "--setting", action="append", choices=list(SETTINGS), help="May be repeated."
    )
    arguments = parser.parse_args()
    config = MonitoringConfig()
    for name in arguments.setting or SETTINGS:
        started = time.process_time()
        first = arguments.first_seed
        seeds = range(first, first + arguments.repetitions)
        found = [repetition(SETTINGS[name], config, seed) for seed in seeds]
        n = len(found)
        print(f"\n{name}: {n} repetitions, {(time.process_time() - started) / n:.2f} s of CPU each")
        for what in found[0]:
            count = sum(one[what] for one in found)
            low, high = wilson(count, n)
            print(f"  {what:<42} {count / n:6.1%}  ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
