"""Retraining in a bot: a thread of its own, a gate, a store that survives a kill."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.integration.freqai_gate import Decision, decide
from freqtrade_mlpipe.integration.freqai_kitchen import (
    MLPipeKitchen,
    feature_matrix,
    tell_kitchen,
)
from freqtrade_mlpipe.integration.freqai_rows import WindowRows
from freqtrade_mlpipe.integration.freqai_store import Origin, content_key, save_window
from freqtrade_mlpipe.integration.freqai_window import WindowModel, train_window

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.freqai import MLPipeFreqaiModel

logger = logging.getLogger(__name__)

_PAUSE_SECONDS, _PAUSE_AFTER_TROUBLE_SECONDS = 1.0, 30.0
REPORTED_FAILURES = 3
"""After so many refused or failed trainings in a row a pair is reported to the operator."""


@dataclass
class Tally:
    """How a pair's retrainings went."""

    n_trained: int = 0
    n_failed: int = 0
    n_refused: int = 0
    in_a_row: int = 0
    not_before: float = 0.0
    """Seconds since 1970: the pair waits for the next candle, after a failure for as long as one."""


class Retraining:
    """Trains pair after pair for as long as the bot runs, as FreqAI's own scanning does."""

    def __init__(self, owner: MLPipeFreqaiModel) -> None:
        self.owner = owner
        self.tallies: dict[str, Tally] = {}
        self._fatal = ""

    def start(self, strategy: IStrategy) -> threading.Thread:
        """The running thread."""
        thread = threading.Thread(target=self._scan, args=(strategy,), name="mlpipe-freqai")
        thread.start()
        return thread

    def stop_if_fatal(self) -> None:
        """In the bot's own thread: end it in order, as SIGTERM does, when a training failed and that is to be fatal."""
        if self._fatal:
            logger.error("The bot stops: %s", self._fatal)
            signal.raise_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Say how it went, and close the run's record."""
        for pair, tally in sorted(self.tallies.items()):
            say = logger.warning if tally.n_failed else logger.info
            say(
                "FreqAI, %s: %d trainings, %d failed and %d refused by the gate.",
                pair, tally.n_trained + tally.n_failed, tally.n_failed, tally.n_refused,
            )  # fmt: skip
        self.owner.record.finish(self._summary())

    def _summary(self) -> dict[str, float]:
        return {
            name: float(sum(getattr(tally, name) for tally in self.tallies.values()))
            for name in ("n_trained", "n_failed", "n_refused")
        }

    def _scan(self, strategy: IStrategy) -> None:
        owner = self.owner
        trained = False
        while not owner._stop_event.is_set():
            if not trained:
                time.sleep(_PAUSE_SECONDS)
            trained = False
            if not owner.train_queue:
                continue
            pair = owner.train_queue[0]
            if pair not in strategy.dp.current_whitelist():
                owner.train_queue.popleft()
                logger.warning("%s is not in the whitelist: it is not trained any more.", pair)
                continue
            try:
                trained = self._train_if_due(pair, strategy)
            except Exception:
                # Such as a full disk. A thread that ended here would leave the models to grow old in silence.
                logger.exception("%s: its training could not be looked after.", pair)
                time.sleep(_PAUSE_AFTER_TROUBLE_SECONDS)

    def _train_if_due(self, pair: str, strategy: IStrategy) -> bool:
        """Whether it was its turn."""
        owner = self.owner
        _, trained_at = owner.dd.get_pair_dict_info(pair)
        dk = MLPipeKitchen(owner.config, True, pair)
        due, window, load = dk.check_if_new_training_required(trained_at)
        tally, candle = self.tallies.setdefault(pair, Tally()), owner.plan.candle.total_seconds()
        if not due or time.time() < tally.not_before:
            # A pair that waits must not keep the others from their turn.
            owner.train_queue.rotate(-1)
            return False
        dk.set_paths(pair, window.stopts)
        owner.train_timer("start")
        try:
            decision = self._train(pair, strategy, dk, (window, load))
        except Exception as error:  # noqa: BLE001 - the bot survives a failed training
            self._failed(pair, tally, error)
            tally.not_before = time.time() + candle
        else:
            owner.dd.pair_dict[pair]["trained_timestamp"] = window.stopts
            # The same candles would give the same model.
            tally.not_before = (window.stopts // candle + 1) * candle
            tally.n_trained += 1
            self._count(pair, tally, decision.accepted, decision.check.sentence)
            tally.n_refused += not decision.accepted
        owner.train_timer("stop", pair)
        owner.dd.save_drawer_to_disk()
        owner.train_queue.rotate(-1)
        owner.dd.save_historic_predictions_to_disk()
        if owner.freqai_info.get("write_metrics_to_disk", False):
            owner.dd.save_metric_tracker_to_disk()
        return True

    def _train(
        self, pair: str, strategy: IStrategy, dk: MLPipeKitchen, ranges: tuple[Any, Any]
    ) -> Decision:
        owner, (window, load) = self.owner, ranges
        started = time.perf_counter()
        correlated, own = owner.dd.get_base_and_corr_dataframes(load, pair, dk)
        frame = dk.use_strategy_to_populate_indicators(
            strategy, corr_dataframes=correlated, base_dataframes=own, pair=pair
        )
        labels = owner.labels_of(frame, pair, strategy)
        known = labels.until(len(frame))
        features = feature_matrix(frame)
        trained_at = int(window.stopts)
        cut = dk.buffer_timerange(window.copy())
        inside = (features.index >= cut.startdt) & (features.index < cut.stopdt)
        after = features.index[-1] + owner.plan.candle
        rows = WindowRows(
            features=features[inside],
            labels=known[inside],
            targets=owner.targets_of(known),
            horizon_candles=labels.horizon_candles,
            span=(after, None),
            forward=labels.forward[inside],
        )
        model, judged = train_window(rows, owner.plan)
        seconds = time.perf_counter() - started
        decision = decide(owner.mlpipe.freqai.gate, model, owner.dd.load_data(pair, dk), judged)
        dk.set_new_model_names(pair, trained_at)
        self._keep(pair, model, rows, dk, trained_at)
        version = owner.record.window(
            pair, trained_at, model, decision, {"train_seconds": seconds}, folder=dk.data_path
        )
        if decision.accepted:
            owner.dd.serve(pair, model, dk)
            owner.dd.purge_old_models()
        else:
            remove_model(dk)
        logger.info(
            "%s: trained in %.1f s%s. %s %s", pair, seconds, f", version {version}" if version else "",
            decision.check.sentence,
            "It serves from now on." if decision.accepted else "The model before it goes on.",
        )  # fmt: skip
        return decision

    def _keep(
        self, pair: str, model: WindowModel, rows: WindowRows, dk: MLPipeKitchen, trained_at: int
    ) -> None:
        owner = self.owner
        origin = Origin(
            identifier=str(owner.identifier),
            pair=pair,
            timeframe=str(owner.config["timeframe"]),
            trained_at=trained_at,
            model_config=owner.plan.recipe.model,
            feature_config=owner.plan.recipe.features,
            key=content_key(pair, rows.targets, rows.horizon_candles, rows.features, rows.labels),
            notes={"live": True},
        )
        tell_kitchen(dk, model)
        save_window(dk.data_path, model, rows.features, origin)

    def _failed(self, pair: str, tally: Tally, error: Exception) -> None:
        expected = isinstance(error, TrainingError)
        logger.error(
            "Training %s raised exception %s. Message: %s, skipping.",
            pair, type(error).__name__, error, exc_info=not expected,
        )  # fmt: skip
        tally.n_failed += 1
        self.owner.record.failed(pair, f"{pd.Timestamp.now('UTC'):%Y-%m-%d %H:%M}", error)
        self._count(pair, tally, False, f"{type(error).__name__}: {error}")
        if self.owner.mlpipe.freqai.on_failure == "stop":
            self._fatal = f"the training of {pair} failed, and mlpipe.freqai.on_failure is 'stop'"

    def _count(self, pair: str, tally: Tally, fine: bool, sentence: str) -> None:
        """Tell the operator once when a pair keeps failing, and once when it is well again."""
        before, tally.in_a_row = tally.in_a_row, 0 if fine else tally.in_a_row + 1
        if tally.in_a_row == REPORTED_FAILURES:
            self._tell(
                f"{pair}: the last {REPORTED_FAILURES} trainings failed or were refused; the model before them "
                f"goes on. {sentence}"
            )
        elif fine and before >= REPORTED_FAILURES:
            self._tell(f"{pair}: after {before} failed or refused trainings a fresh model serves.")

    def _tell(self, message: str) -> None:
        logger.warning(message)
        provider = self.owner.data_provider
        if provider is not None:
            provider.send_msg(message, always_send=True)


def remove_model(dk: MLPipeKitchen) -> None:
    """A refused model serves nobody: its folder would crowd out models that do when FreqAI purges."""
    shutil.rmtree(dk.data_path, ignore_errors=True)
