"""How long the registry takes: register, resolve, load, list.

Every figure is processor time in seconds, the best of several runs, beside what cannot be avoided (copying the files,
the library's own load), measured in the same run. SQLite; about a minute::

    python benchmarks/registry.py --versions 5000
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from freqtrade_mlpipe.calibration import fit_calibrator
from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features import NO_FRAMES, FeatureEngineer, Frames, Preprocessor
from freqtrade_mlpipe.member import Member, Thresholds
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.models.spec import FitData
from freqtrade_mlpipe.pipeline import SELF_TEST_CANDLES
from freqtrade_mlpipe.registry import (
    BundleCache,
    BundleContent,
    ModelRegistry,
    load_bundle,
    selftest_from_candles,
    write_bundle,
)
from freqtrade_mlpipe.synthetic import Market, generate_market

NAME = "benchmark"
BUNDLE_BYTES = 5_000_000
N_ROWS, N_TREES = 4_000, 400
PAIR = "BTC/USDT"
ENGINEER = FeatureEngineer()


def best(action: Callable[[], object], times: int = 5) -> float:
    """Least processor time of an action."""
    taken = []
    for _ in range(times):
        begin = time.process_time()
        action()
        taken.append(time.process_time() - begin)
    return min(taken)


def compute(candles: pd.DataFrame, pair: str, frames: Frames) -> pd.DataFrame:
    """The default catalogue, as a training has it."""
    return ENGINEER.transform(candles, pair=pair, frames=frames)


def make_bundle(model_type: str, folder: Path) -> Path:
    """A bundle of at least `BUNDLE_BYTES`: as many members as that takes, and the self-test of a training."""
    n_rows = N_ROWS + ENGINEER.startup_candles
    candles = generate_market(Market(pairs=(PAIR,), n_candles=n_rows))[PAIR]
    X = compute(candles, PAIR, NO_FRAMES).iloc[-N_ROWS:].reset_index(drop=True)
    rng = np.random.default_rng(0)
    y = (rng.normal(size=N_ROWS) > 0).astype(np.float64)
    weight = np.ones(N_ROWS)
    preprocessor = Preprocessor.fit(X, FeatureConfig())
    matrix = preprocessor.transform(X)
    model = MODELS[model_type].fit({"n_estimators": N_TREES}, FitData(matrix, y, weight), seed=0)
    days = pd.date_range("2024-01-01", periods=201, freq="D", tz="UTC")
    n_members = min(200, 1 + BUNDLE_BYTES // len(model.to_bytes()))
    members = [
        Member(
            model_type, model, preprocessor,
            fit_calibrator("sigmoid", model.predict_proba(matrix), y, weight), Thresholds(0.55, 0.45),
            days[0], days[0], days[k], days[k + 1], N_ROWS,
        )
        for k in range(n_members)
    ]  # fmt: skip
    tested = candles.tail(ENGINEER.startup_candles + SELF_TEST_CANDLES)
    content = BundleContent(
        model_name=NAME, members=members, feature_names=ENGINEER.get_feature_names(),
        created_at=datetime.now(UTC),
        self_test=selftest_from_candles(members, {PAIR: tested}, compute),
    )  # fmt: skip
    write_bundle(folder / model_type, content)
    return folder / model_type


def library_load(bundle: Path) -> None:
    """What the library itself needs for the model files of a bundle."""
    for path in bundle.glob("members/*/model.*"):
        if path.suffix != ".zip":
            load_native(path.suffix, path.read_bytes())
            continue
        with zipfile.ZipFile(path) as parts:
            for name in parts.namelist():
                load_native(Path(name).suffix, parts.read(name))


def load_native(suffix: str, data: bytes) -> None:
    """One model file, by the library that wrote it."""
    import lightgbm as lgb
    import skops.io
    import xgboost as xgb

    if suffix == ".txt":
        lgb.Booster(model_str=data.decode())
    elif suffix == ".ubj":
        xgb.Booster(params={"nthread": 1}).load_model(bytearray(data))
    else:
        skops.io.loads(data, trusted=["sklearn.tree._tree.Tree"])


def report(what: str, seconds: float, unavoidable: float = 0.0, **more: object) -> None:
    """One JSON line."""
    row = {"what": what, "seconds": round(seconds, 4), "unavoidable": round(unavoidable, 4)}
    print(json.dumps({**row, "on_top": round(seconds - unavoidable, 4), **more}), flush=True)


def add_versions(registry: ModelRegistry, n: int) -> None:
    """Versions that share the files of the first one: only the database counts here."""
    connection = registry._connection
    first = registry.get_version(NAME, 1)
    tags = connection.get_version(NAME, "1").tags
    for k in range(n):
        connection.create_version(NAME, tags, source=f"mlpipe:/{k}", run_id=first.run_id)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlpipe-") as temporary:
        root = Path(temporary)
        few = generate_market(Market(pairs=(PAIR,), n_candles=ENGINEER.startup_candles + 1))[PAIR]
        compiled = best(lambda: compute(few, PAIR, NO_FRAMES), 1)
        report("compile the features, once a process", compiled)
        bundles = {model_type: make_bundle(model_type, root) for model_type in MODELS}
        for model_type, bundle in bundles.items():
            size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
            seconds = best(lambda bundle=bundle: load_bundle(bundle).self_test(compute))
            native = best(lambda bundle=bundle: library_load(bundle))
            report(f"load, verify, self-test ({model_type})", seconds, native, bytes=size)

        registry = ModelRegistry(directory=root / "registry")
        bundle = bundles["lightgbm"]

        def register() -> None:
            metrics = {f"metric_{k}": 0.5 for k in range(30)}
            registry.register_model(model_name=NAME, model_path=bundle, metrics=metrics)

        def copy() -> None:
            shutil.copytree(bundle, root / "copy")
            shutil.rmtree(root / "copy")

        report("register", best(register), best(copy))
        registry.promote_to_production(NAME, 1, force_reason="benchmark")
        cache = BundleCache(registry.directory)
        cache.resolve(NAME)
        report("resolve production", best(lambda: cache.resolve(NAME), 50))
        add_versions(registry, arguments.versions - 5)
        n = len(registry.get_all_versions(NAME))
        report("list", best(lambda: registry.get_all_versions(NAME)), versions=n)
        report("resolve production among them", best(lambda: cache.resolve(NAME), 50), versions=n)


if __name__ == "__main__":
    main()
