"""Real members, a real bundle of them, and registries on real SQLite stores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.calibration import fit_calibrator
from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features import NO_FRAMES, Frames, Preprocessor
from freqtrade_mlpipe.member import Member, Thresholds
from freqtrade_mlpipe.mlflow_store import DATABASE_NAME, open_store
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.models.spec import FitData
from freqtrade_mlpipe.registry import (
    BundleContent,
    ModelRegistry,
    drift_baseline,
    selftest_from_candles,
    write_bundle,
)
from tests.conftest import ANY_STORE

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)
FEATURES = ("momentum", "range", "volume_ratio", "hour_sine")


def make_candles(n: int = 600, seed: int = 7) -> pd.DataFrame:
    """Hourly candles of a seeded random walk."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    spread = np.abs(rng.normal(0, 0.004, n))
    return pd.DataFrame(
        {
            "date": pd.date_range("2023-01-01", periods=n, freq="h", tz="UTC"),
            "open": close * (1 + rng.normal(0, 0.002, n)),
            "high": close * (1 + spread),
            "low": close * (1 - spread),
            "close": close,
            "volume": rng.uniform(1, 10, n),
        }
    )


def compute(candles: pd.DataFrame, pair: str, frames: Frames = NO_FRAMES) -> pd.DataFrame:
    """A few causal features, NaN in the warm-up."""
    hour = candles["date"].dt.hour
    return pd.DataFrame(
        {
            "momentum": candles["close"].pct_change(5),
            "range": (candles["high"] - candles["low"]) / candles["close"],
            "volume_ratio": candles["volume"] / candles["volume"].rolling(10).mean(),
            "hour_sine": np.sin(2 * np.pi * hour / 24),
        }
    ).astype(np.float32)


def make_member(
    model_type: str,
    rows: slice,
    valid: tuple[str, str | None],
    seed: int,
    params: Mapping[str, float] | None = None,
) -> Member:
    candles = make_candles()
    X = compute(candles, "BTC/USDT").iloc[rows].dropna()
    future = candles["close"].shift(-3).loc[X.index] > candles["close"].loc[X.index]
    y = future.to_numpy(np.float64)
    preprocessor = Preprocessor.fit(X, FeatureConfig())
    matrix = preprocessor.transform(X)
    weight = np.ones(len(y))
    half = len(y) // 2
    model = MODELS[model_type].fit(
        params or {},
        FitData(matrix[:half], y[:half], weight[:half], matrix[half:], y[half:], weight[half:]),
        seed=seed,
        early_stopping_rounds=3,
    )
    dates = candles["date"].loc[X.index]
    begin, end = valid
    return Member(
        model_type=model_type,
        model=model,
        preprocessor=preprocessor,
        calibrator=fit_calibrator("sigmoid", model.predict_proba(matrix), y, weight),
        thresholds=Thresholds(enter=0.55, exit=0.45),
        train_start=dates.iloc[0],
        train_end=dates.iloc[-1],
        valid_from=pd.Timestamp(begin, tz="UTC"),
        valid_to=None if end is None else pd.Timestamp(end, tz="UTC"),
        n_train_rows=len(y),
    )


@pytest.fixture(scope="session")
def members() -> tuple[Member, ...]:
    return (
        make_member("lightgbm", slice(0, 300), ("2023-01-14", "2023-01-20"), seed=1),
        make_member("lightgbm", slice(0, 450), ("2023-01-20", None), seed=2),
    )


def make_content(members: tuple[Member, ...], **changes: object) -> BundleContent:
    candles = {"BTC/USDT": make_candles().tail(120), "ETH/USDT": make_candles(seed=8).tail(100)}
    values: dict[str, object] = {
        "model_name": "trend_classifier",
        "members": members,
        "feature_names": FEATURES,
        "created_at": NOW,
        "pairs": sorted(candles),
        "timeframe": "1h",
        "train_start": members[-1].train_start,
        "train_end": members[-1].train_end,
        "final_window_start": members[-1].valid_from,
        "data_hash": "0" * 64,
        "package_versions": {"lightgbm": "4.7"},
        "drift_baseline": drift_baseline(compute(make_candles(), "BTC/USDT")),
        "self_test": selftest_from_candles(members, candles, compute),
    }
    return BundleContent(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def content(members: tuple[Member, ...]) -> BundleContent:
    return make_content(members)


@dataclass(frozen=True)
class Written:
    """A bundle on disk."""

    path: Path
    digest: str


@pytest.fixture(scope="session")
def pristine(content: BundleContent, tmp_path_factory: pytest.TempPathFactory) -> Written:
    path = tmp_path_factory.mktemp("pristine") / "bundle"
    return Written(path, write_bundle(path, content))


@pytest.fixture
def bundle(pristine: Written, tmp_path: Path) -> Written:
    """A copy that the test may damage."""
    return Written(Path(shutil.copytree(pristine.path, tmp_path / "bundle")), pristine.digest)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database made once; making one takes seconds."""
    directory = tmp_path_factory.mktemp("store")
    open_store(None, directory)
    return directory / DATABASE_NAME


@pytest.fixture
def new_directory(empty_database: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes registry folders that hold an empty database."""

    def make(name: str = "registry") -> Path:
        directory = tmp_path / name
        directory.mkdir()
        shutil.copy(empty_database, directory / DATABASE_NAME)
        return directory

    return make


@pytest.fixture
def registry(new_directory: Callable[[], Path]) -> ModelRegistry:
    return ModelRegistry(directory=new_directory())


@dataclass(frozen=True)
class Store:
    """Where a registry is: what a process needs to open it."""

    tracking_uri: str | None
    directory: Path

    def open(self) -> ModelRegistry:
        return ModelRegistry(self.tracking_uri, self.directory)

    def empty(self) -> None:
        """Remove all models and runs."""
        client = open_store(self.tracking_uri, self.directory)
        for model in client.search_registered_models(max_results=1000):
            client.delete_registered_model(model.name)
        experiments = [found.experiment_id for found in client.search_experiments()]
        for run in client.search_runs(experiments, max_results=1000):
            client.delete_run(run.info.run_id)


@pytest.fixture(params=ANY_STORE)
def store(
    request: pytest.FixtureRequest, new_directory: Callable[[], Path], tmp_path: Path
) -> Store:
    """An empty store: SQLite and a folder, or PostgreSQL behind a server."""
    if request.param == "sqlite":
        return Store(None, new_directory())
    store = Store(request.getfixturevalue("server").uri, tmp_path / "registry")
    store.empty()
    return store


@pytest.fixture(scope="session")
def variants(
    members: tuple[Member, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Written, ...]:
    """Four bundles with different digests."""
    root = tmp_path_factory.mktemp("variants")
    written = []
    for k in range(4):
        content = make_content(members, data_hash=f"{k}" * 64)
        written.append(Written(root / str(k), write_bundle(root / str(k), content)))
    return tuple(written)
