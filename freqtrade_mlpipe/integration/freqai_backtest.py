"""FreqAI's sliding window over recorded candles: train, judge, predict, keep."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from freqtrade.strategy import IStrategy

import freqtrade_mlpipe
from freqtrade_mlpipe.exceptions import BundleError, MLPipeError, TrainingError
from freqtrade_mlpipe.features.expansion import CorrelatedTables
from freqtrade_mlpipe.integration.freqai_coverage import Coverage, say_coverage
from freqtrade_mlpipe.integration.freqai_gate import Decision, decide
from freqtrade_mlpipe.integration.freqai_kitchen import MLPipeKitchen, feature_matrix
from freqtrade_mlpipe.integration.freqai_labels import Labels
from freqtrade_mlpipe.integration.freqai_rows import Judged, WindowRows, judged_rows
from freqtrade_mlpipe.integration.freqai_store import (
    Origin,
    content_key,
    prediction_file,
    read_predictions,
    read_window,
    row_digests,
    save_window,
    stored_key,
    window_folder,
    write_predictions,
)
from freqtrade_mlpipe.integration.freqai_window import WindowModel, train_window

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.freqai import MLPipeFreqaiModel

logger = logging.getLogger(__name__)

MODEL_COLUMN = "mlpipe_model"


@dataclass(frozen=True, eq=False)
class Window:
    """One training window of a pair and the candles after it.

    Attributes
    ----------
    key : digest of all that the model depends on.
    shown : digests of the rows that it is to predict.
    """

    pair: str
    trained_at: int
    folder: Path
    rows: WindowRows
    ahead: pd.DataFrame
    key: str
    shown: bytes
    number: int


@dataclass(frozen=True, eq=False)
class Serving:
    """A model that serves, loaded or trained again only when it is asked for."""

    key: str
    trained_at: int
    obtain: Callable[[], WindowModel]


class BacktestRun:
    """One `freqtrade backtesting` or `hyperopt`: all its pairs, one after the other."""

    def __init__(self, owner: MLPipeFreqaiModel) -> None:
        self.owner = owner
        self.total = Coverage()
        self._settings = _settings(owner)
        self._root = Path(owner.full_path)
        self._correlated: CorrelatedTables = {}

    def predict_pair(
        self, dataframe: pd.DataFrame, pair: str, dk: MLPipeKitchen, strategy: IStrategy
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The frame with features, and predictions of all candles in the backtest's range.

        Raises
        ------
        TrainingError
            A window failed and `mlpipe.freqai.on_failure` is "stop".
        """
        started = time.perf_counter()
        self.owner.record.open()
        dk.correlated = self._correlated
        frame = dk.use_strategy_to_populate_indicators(
            strategy, prediction_dataframe=dataframe, pair=pair
        )
        features = feature_matrix(frame)
        digests = row_digests(features)
        labels = self.owner.labels_of(frame, pair, strategy)
        coverage, parts = Coverage(), []
        serving: Serving | None = None
        ranges = list(zip(dk.training_timeranges, dk.backtesting_timeranges, strict=False))
        for number, (train, ahead) in enumerate(ranges, 1):
            logger.info(
                "%s: window %d of %d, %s to %s",
                pair, number, len(ranges), train.start_fmt, train.stop_fmt,
            )  # fmt: skip
            coverage.n_windows += 1
            first, beyond = (
                int(features.index.searchsorted(t)) for t in (ahead.startdt, ahead.stopdt)
            )
            part = features.iloc[first:beyond]
            if part.empty:
                continue
            try:
                place = (dk, train, number)
                window = self._window(pair, (features, digests), labels, part, place)
                found, serving = self._predict(window, serving, coverage, dk)
            except Exception as error:
                coverage.n_failed += 1
                coverage.problems.append(f"{pair} {train.stop_fmt}: {error}")
                logger.warning(
                    "Training %s raised exception %s. Message: %s, skipping.",
                    pair, type(error).__name__, error, exc_info=not isinstance(error, MLPipeError),
                )  # fmt: skip
                if self.owner.mlpipe.freqai.on_failure == "stop":
                    raise TrainingError(
                        f"The training up to {train.stop_fmt} failed, and mlpipe.freqai.on_failure is 'stop': {error}"
                    ) from error
                found = _nothing(part)
                self.owner.record.failed(pair, train.stop_fmt, error)
            parts.append(found)
        if serving is not None and self.owner.save_backtest_models:
            # As with FreqAI, a bot of the same identifier begins with the last model of a backtest.
            dk.set_new_model_names(pair, serving.trained_at)
            self.owner.dd.name(pair, dk, serving.trained_at)
        whole = pd.concat(parts, ignore_index=True)
        whole["do_predict"] = whole["do_predict"].fillna(0).astype(int)
        if coverage.n_failed == coverage.n_windows:
            whole = whole.assign(**dict.fromkeys(labels.columns(), np.nan))
        coverage.n_candles, coverage.n_predicted = len(whole), int((whole["do_predict"] == 1).sum())
        self.total.add(coverage)
        say_coverage(coverage, f"FreqAI, {pair}", time.perf_counter() - started)
        return frame, whole

    def finish(self) -> None:
        """Say how much of all pairs was predicted, and close the run's record."""
        say_coverage(self.total, "FreqAI, all pairs")
        self.owner.record.finish(self.total.figures())
        self.total = Coverage()
        self._correlated.clear()
        self.owner.pair_it = 0

    def _window(
        self, pair: str, table: tuple[pd.DataFrame, list[bytes]], labels: Labels, ahead: pd.DataFrame,
        place: tuple[MLPipeKitchen, Any, int],
    ) -> Window:  # fmt: skip
        (features, digests), (dk, train, number) = table, place
        stop = int(features.index.searchsorted(train.stopdt))
        known = labels.until(stop)
        targets = self.owner.targets_of(known)
        trained_at = int(train.stopts)
        cut = dk.buffer_timerange(train.copy())
        first, last = (int(features.index.searchsorted(t)) for t in (cut.startdt, cut.stopdt))
        candle = self.owner.plan.candle
        rows = WindowRows(
            features=features.iloc[first:last],
            labels=known.iloc[first:last],
            targets=targets,
            horizon_candles=labels.horizon_candles,
            span=(ahead.index[0], ahead.index[-1] + candle),
            forward=labels.forward[first:last],
        )
        learned = b"".join(digests[first:last])
        key = content_key(
            self._settings, pair, list(features.columns), targets, rows.horizon_candles, learned, rows.labels
        )  # fmt: skip
        begin = int(features.index.searchsorted(ahead.index[0]))
        shown = b"".join(digests[begin : begin + len(ahead)])
        folder = window_folder(self._root, pair, trained_at)
        dk.set_new_model_names(pair, trained_at)
        return Window(pair, trained_at, folder, rows, ahead, key, shown, number)

    def _predict(
        self, window: Window, before: Serving | None, coverage: Coverage, dk: MLPipeKitchen
    ) -> tuple[pd.DataFrame, Serving]:
        """Predictions of a window, and which model serves from then on."""
        key = content_key(window.key, window.shown, before.key if before else None)
        path = prediction_file(self._root, window.pair, key)
        cached = read_predictions(path)
        fresh = Serving(window.key, window.trained_at, lambda: self._model(window)[0])
        if cached is not None:
            kept = before is not None and int(cached[MODEL_COLUMN].iloc[0]) == before.trained_at
            coverage.n_refused += kept
            logger.info("%s: predictions found in %s", window.pair, path)
            return cached, before if kept and before else fresh
        model, judged, seconds = self._model(window)
        incumbent = before.obtain() if before else None
        decision = decide(self.owner.mlpipe.freqai.gate, model, incumbent, judged)
        serving = fresh if decision.accepted or before is None else before
        speaker = model if serving is fresh or incumbent is None else incumbent
        coverage.n_refused += not decision.accepted
        if not decision.accepted:
            logger.info("%s: %s The model before it goes on.", window.pair, decision.check.sentence)
        found = prediction_table(window.ahead, speaker, serving.trained_at, dk)
        write_predictions(path, found)
        self._remember(window, model, decision, found, seconds)
        # The object at hand, so that the next window need not load it.
        return found, replace(serving, obtain=lambda: speaker)

    def _model(self, window: Window) -> tuple[WindowModel, Judged, float]:
        """The window's model from its folder, else trained; the rows it is judged on; seconds of training."""
        stored = _stored(window)
        if stored is not None:
            return stored, judged_rows(window.rows, self.owner.plan, stored.guard), 0.0
        started = time.perf_counter()
        model, judged = train_window(window.rows, self.owner.plan)
        seconds = time.perf_counter() - started
        if self.owner.save_backtest_models:
            origin = self._origin(window)
            save_window(window.folder, model, window.rows.features, origin, synced=False)
        return model, judged, seconds

    def _origin(self, window: Window) -> Origin:
        owner = self.owner
        return Origin(
            identifier=str(owner.identifier),
            pair=window.pair,
            timeframe=str(owner.config["timeframe"]),
            trained_at=window.trained_at,
            model_config=owner.plan.recipe.model,
            feature_config=owner.plan.recipe.features,
            key=window.key,
            notes={"window": window.number},
        )

    def _remember(
        self, window: Window, model: WindowModel, decision: Decision, found: pd.DataFrame, seconds: float
    ) -> None:  # fmt: skip
        usable = float((found["do_predict"].to_numpy() == 1).mean())
        self.owner.record.window(
            window.pair, window.trained_at, model, decision,
            {"coverage": usable, "train_seconds": seconds},
        )  # fmt: skip


def _stored(window: Window) -> WindowModel | None:
    """The window's model from its folder; None where there is none, or a damaged one."""
    if stored_key(window.folder) != window.key:
        return None
    try:
        return read_window(window.folder)[0]
    except BundleError as error:
        logger.warning("%s: trained again: %s", window.pair, error)
        return None


def prediction_table(
    ahead: pd.DataFrame, model: WindowModel, trained_at: int, dk: MLPipeKitchen
) -> pd.DataFrame:
    """Predictions of the candles ahead with the columns FreqAI gives a strategy, and `mlpipe_model`."""
    found, usable, index = model.answers(ahead)
    missing = (np.nan, np.nan)
    columns: dict[str, Any] = {"date": ahead.index}
    for name, values in found.items():
        columns[name] = values
        if pd.api.types.is_numeric_dtype(values.dtype):
            for what, value in zip(
                ("mean", "std"), model.statistics.get(name, missing), strict=True
            ):
                columns[f"{name}_{what}"] = np.full(len(ahead), value)
    columns |= dict(dk.data["extra_returns_per_train"])
    columns["do_predict"] = usable
    if dk.freqai_config["feature_parameters"].get("DI_threshold", 0) > 0:
        columns["DI_values"] = index
    columns[MODEL_COLUMN] = np.full(len(ahead), trained_at)
    dk.label_list = [target.name for target in model.targets]
    return pd.DataFrame(columns)


def _nothing(ahead: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"date": ahead.index, "do_predict": 0})


def _settings(owner: MLPipeFreqaiModel) -> str:
    """Everything besides candles that a window's model depends on."""
    plan = owner.plan
    wanted = ("feature_parameters", "data_split_parameters", "extra_returns_per_train")
    return json.dumps(
        {
            "version": freqtrade_mlpipe.__version__,
            "kind": type(owner).__mro__[1].__name__,
            "model": plan.recipe.model.model_dump(mode="json", exclude={"n_jobs"}),
            "features": plan.recipe.features.model_dump(mode="json"),
            "freqai": {name: plan.freqai.get(name) for name in wanted},
            "settings": plan.settings.model_dump(mode="json", exclude={"on_failure"}),
        },
        sort_keys=True,
        default=str,
    )
