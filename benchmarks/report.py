"""What a report page and the record behind it cost: CPU seconds and bytes, 12 pairs x 18 months of 1h candles.

python benchmarks/report.py
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig, ModelConfig
from freqtrade_mlpipe.registry.baseline import drift_baseline
from freqtrade_mlpipe.registry.record import read_record, write_record
from freqtrade_mlpipe.reports import render_report
from freqtrade_mlpipe.reports.records import drift_reference, training_record
from freqtrade_mlpipe.trainer import ModelTrainer, explain
from tests.reports.sample import sample_report

N_PAIRS, N_CANDLES, N_FEATURES = 12, 13_000, 60


def main() -> None:
    page()
    record()


def page() -> None:
    """Rendering: the sample fills every chart, as tall as a page of a real version gets."""
    data = sample_report(N_PAIRS, N_CANDLES, n_trades=3000)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        path = render_report(data, Path(folder) / "page.html")
        seconds = time.process_time() - started
        size = path.stat().st_size
    print(f"page: {seconds:.2f} s CPU (imports included), {size / 1e6:.2f} MB")


def record() -> None:
    """Writing and reading what a training keeps, beside the training itself (no search)."""
    rng = np.random.default_rng(0)
    dates = pd.date_range("2023-01-01", periods=N_CANDLES, freq="1h", tz="UTC", unit="ns")
    pairs = [f"COIN{i}/USDT" for i in range(N_PAIRS)]
    index = pd.MultiIndex.from_product([dates, pairs], names=["date", "pair"]).swaplevel()
    X = pd.DataFrame(
        rng.normal(size=(len(index), N_FEATURES)).astype(np.float32),
        columns=[f"f{i}" for i in range(N_FEATURES)],
        index=index,
    )
    forward = 0.002 * X["f0"].to_numpy() + rng.normal(scale=0.02, size=len(index))
    y = pd.Series((forward > 0.002).astype(float), index=index)
    known = index.get_level_values("date") + pd.Timedelta("24h")
    config = ModelConfig(optimize_hyperparams=False)
    started = time.process_time()
    model, _ = ModelTrainer(config).train(
        X, y, known_at=known, forward_return=forward, round_trip_cost=0.002, horizon_candles=24
    )
    trained = time.process_time()
    moments = pd.DatetimeIndex(index.get_level_values("date"))
    explanation = explain(model.members, X, y, moments)
    explained = time.process_time()
    drift = drift_reference(drift_baseline(X), X)
    found = training_record(
        model,
        explanation,
        drift,
        labels=LabelConfig(),
        settings=config,
        timeframe="1h",
        candle=pd.Timedelta("1h"),
        pairs=pairs,
        data_hash="",
        final_window_start=pd.Timestamp(datetime(2024, 7, 1, tzinfo=UTC)),
        round_trip_cost=0.002,
        recorded={},
    )
    with tempfile.TemporaryDirectory() as folder:
        write_record(found, Path(folder))
        written = time.process_time()
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        read_record(Path(folder))
        read = time.process_time()
    fit = trained - started
    print(
        f"record: {size / 1e6:.2f} MB; training {fit:.1f} s CPU, explaining {explained - trained:.2f} s "
        f"({(explained - trained) / fit:.2f} x), drift and writing {written - explained:.2f} s "
        f"({(written - explained) / fit:.2f} x), reading {read - written:.2f} s"
    )


if __name__ == "__main__":
    main()
