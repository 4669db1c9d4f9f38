"""A made-up but plausible report: 12 pairs × 18 months of hourly candles."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd

from freqtrade_mlpipe.reports import Drift, ReportData


def sample_report(
    n_pairs: int = 12, n_candles: int = 13_000, seed: int = 0, n_trades: int = 300
) -> ReportData:
    random = np.random.default_rng(seed)
    dates = pd.date_range("2023-01-01", periods=n_candles, freq="h", tz="UTC")
    pairs = [f"COIN{i}/USDT" for i in range(n_pairs)]
    tested = dates[n_candles // 3 :]
    index = pd.MultiIndex.from_product([pairs, tested], names=["pair", "date"])
    signal = random.normal(size=len(index))
    proba = 1 / (1 + np.exp(-0.25 * signal + 0.2))
    forward = 0.0006 * signal + random.normal(scale=0.02, size=len(index))
    y = (forward > 0.002).astype(float)
    y[-24:] = np.nan
    oos = pd.DataFrame(
        {
            "y": y,
            "proba": proba,
            "signal": (proba > 0.55).astype("int8"),
            "forward_return": forward,
        },
        index=index,
    )
    market = pd.Series(10_000 * np.exp(np.cumsum(random.normal(0, 0.006, len(tested)))), tested)
    equity = pd.Series(
        1_000 * np.exp(np.cumsum(random.normal(0.00004, 0.0015, len(tested)))), tested
    )
    cuts = np.linspace(n_candles // 3, n_candles - 1, 6, dtype=int)
    folds = [
        {
            "train_start": dates[0],
            "train_end": dates[a - 24],
            "test_start": dates[a],
            "test_end": dates[b],
            "n_train": int(a) * n_pairs,
            "n_test": int(b - a) * n_pairs,
            "metrics": {
                "roc_auc": 0.5 + random.normal(0.03, 0.02),
                "log_loss": 0.69 + random.normal(0, 0.005),
                "brier": 0.248,
                "f1": 0.51,
                "mcc": 0.05,
                "expected_calibration_error": 0.021,
            },
        }
        for a, b in pairwise(cuts)
    ]
    fold = np.clip(np.searchsorted(dates[cuts], tested, side="right") - 1, 0, 4)
    oos["fold"] = np.tile(fold, n_pairs).astype("int16")
    share = np.nanmean(y)
    oos["loss_class_prior"] = -np.log(np.where(y == 1, share, 1 - share))
    names = [f"{n}_{p}" for n in ("rsi", "atr_ratio", "log_return", "adx") for p in range(5, 15)]
    importance = pd.Series(random.exponential(size=len(names)), index=names)
    shown = list(importance.sort_values(ascending=False).index[:12])
    values = pd.DataFrame(random.normal(size=(400, 12)), columns=shown)
    contributions = values * np.linspace(0.2, 0.02, 12)
    trials = [
        {
            "number": i,
            "value": None if i % 11 == 5 else float(0.5 + 0.04 * random.random() + i / 3000),
            "state": "PRUNED" if i % 11 == 5 else "COMPLETE",
            "params": {"depth": i % 7},
            "scores": {"roc_auc": 0.5 + 0.01 * (i % 9), "log_loss": 0.7 - 0.001 * (i % 8)},
            "seconds": 1.2,
        }
        for i in range(50)
    ]
    trades = pd.DataFrame(
        {
            "pair": random.choice(pairs, n_trades),
            "close_date": np.sort(random.choice(tested[-len(tested) // 4 :], n_trades)),
            "profit_ratio": random.normal(0.002, 0.02, n_trades),
        }
    )
    trades["close_date"] = pd.to_datetime(trades["close_date"], utc=True)
    trades["open_date"] = trades["close_date"] - pd.Timedelta("12h")
    window = tested[-len(tested) // 4 :]
    walk = np.cumsum(random.normal(0, 0.01, (len(window), n_pairs)), axis=0)
    closes = pd.DataFrame(100 * np.exp(walk), index=window, columns=pairs)
    trades["open_rate"] = 100.0
    trades["close_rate"] = 100.0 * (1 + trades["profit_ratio"])
    gates = [
        {
            "name": "beats_class_prior",
            "value": 0.003,
            "threshold": 0.05,
            "passed": True,
            "sentence": "Out-of-sample log-loss is lower than that of always saying the class "
            "frequency (block bootstrap, p = 0.003).",
        },
        {
            "name": "deflated_sharpe_ratio",
            "value": 0.981,
            "threshold": 0.95,
            "passed": True,
            "sentence": "The Sharpe ratio remains after counting all 50 trials.",
        },
        {
            "name": "backtest_sharpe",
            "value": 0.31,
            "threshold": 0.5,
            "passed": False,
            "sentence": "The backtest of the untouched final window has a Sharpe ratio of 0.31, "
            "below 0.5.",
        },
    ]
    return ReportData(
        title="trend_classifier, version 3",
        verdict=[
            "The backtest of the final window has a Sharpe ratio of 0.31, below 0.5. "
            "Everything else passed."
        ],
        badge="Refused",
        tone="bad",
        summary={
            "Model": "lightgbm",
            "Version": "3",
            "Pairs": pairs,
            "Timeframe": "1h",
            "Training span": "2023-01-01 to 2024-06-25",
            "Final window": "2024-06-25 to 2024-08-25",
            "Candles' hash": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f0",
            "Seed": 42,
        },
        data_note="Synthetic candles: a seeded generator made them with a weak planted signal. "
        "Nothing here says anything about a real market.",
        gates=gates,
        folds=folds,
        oos=oos,
        horizon_candles=12,
        round_trip_cost=0.002,
        feature_importance=importance,
        permutation=importance / 1000 - 0.0003,
        shap=importance / 10,
        n_explained_rows=3000,
        contributions=contributions,
        feature_values=values,
        drift=Drift(
            recent=importance / 8,
            usual=pd.Series(0.1, index=names),
            start=dates[-500],
            end=dates[-1],
            n_rows=720 * n_pairs,
            n_windows=12,
        ),
        trials=trials,
        front=(4, 7),
        picked=7,
        rule="of the Pareto front over roc_auc, log_loss: the best log_loss",
        selection=(5 * importance / importance.max()).round() / 5,
        parameter_importance=pd.Series({"num_leaves": 0.6, "learning_rate": 0.4}),
        metric="roc_auc",
        backtest={
            "profit_total": float(equity.iloc[-1] / equity.iloc[0] - 1),
            "market_change": float(market.iloc[-1] / market.iloc[0] - 1),
            "sharpe": 0.31,
            "sortino": 0.5,
            "calmar": 1.2,
            "max_drawdown": 0.12,
            "profit_factor": 1.08,
            "n_trades": n_trades,
            "pairs": [
                {"key": p, "trades": 25, "profit_total": 0.01 * i, "winrate": 0.5}
                for i, p in enumerate(pairs)
            ],
        },
        equity=equity,
        market=market,
        closes=closes,
        trades=trades,
        metrics={"roc_auc": 0.53, "log_loss": 0.689, "baseline_log_loss": 0.692},
        config={
            "model_name": "trend_classifier",
            "model": {"model_type": "lightgbm", "n_trials": 50},
            "registry": {"tracking_uri": "postgresql://me:hunter2@host/db"},
        },
        generated_at=datetime(2024, 9, 1, 12, 0, tzinfo=UTC),
    )
