"""The watch in a bot: looks at its predictions in a thread of its own, and acts as the policies say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import MonitoringConfig, Policy
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.monitoring.journal import LiveJournal, LivePrediction
from freqtrade_mlpipe.monitoring.looks import Assessment, alarm_after, assess
from freqtrade_mlpipe.monitoring.models import WatchedModel, observed_live
from freqtrade_mlpipe.monitoring.readings import read_looks, write_action, write_look

logger = logging.getLogger(__name__)

_OUTCOME_WINDOWS = 8
"""Windows of predictions whose outcomes are looked at (ADWIN compares later with earlier ones)."""

Item = TypeVar("Item")
Find = Callable[[LivePrediction], WatchedModel]
"""A prediction → the model that made it; may read files, is called in the watch's thread."""
Candles = Callable[[str], pd.DataFrame]
"""Pair → its candles with a column `date` in UTC, without the unfinished one; called in the watch's thread."""
Act = Callable[[WatchedModel, str], str]
"""The model and the reason → what was done, in a sentence."""


class Watch:
    """Judges live predictions every `step_candles` candles; returns at once and never raises.

    Parameters
    ----------
    journal : where the predictions are recorded before `observe` is told of them.
    find, candles : see the types.
    tell : passes a message on to the operator; may be called from any thread.
    actions : what `rollback` and `retrain` do, see `monitoring.actions`. The other policies need none.

    Examples
    --------
    ``watch = Watch(config.monitoring, "1h", journal, find=…, candles=…, tell=notifier.tell, actions=actions)``, then
    ``watch.observe(rows)`` after ``journal.record(rows)``, ``watch.entries_paused(pair)`` before an entry, and
    ``watch.close()``.
    """

    def __init__(
        self,
        config: MonitoringConfig,
        candle: pd.Timedelta,
        journal: LiveJournal,
        *,
        find: Find,
        candles: Candles,
        tell: Callable[[str], None] = logger.warning,
        actions: Mapping[Policy, Act] | None = None,
    ) -> None:
        self._config, self._candle, self._journal = config, candle, journal
        self._find, self._candles, self._tell = find, candles, tell
        self._actions = dict(actions or {})
        self._step = candle.value * config.step_candles
        self._changed = threading.Condition()
        self._due: dict[str, tuple[LivePrediction, int]] = {}
        self._looked_at: dict[str, int] = {}
        self._busy = self._closing = False
        self._thread: threading.Thread | None = None
        self._models: dict[str, WatchedModel] = {}
        self._alarms: dict[str, tuple[frozenset[str], str]] = {}
        self._speaking: dict[str, str] = {}

    def observe(self, rows: Sequence[LivePrediction]) -> None:
        """Take note of new predictions; wakes the thread when a step is complete."""
        try:
            if not self._config.enabled:
                return
            newest: dict[str, LivePrediction] = {}
            for row in rows:
                if row.role == "production":
                    self._speaking[row.pair] = row.digest
                    if row.digest not in newest or row.date > newest[row.digest].date:
                        newest[row.digest] = row
            due = {}
            for digest, row in newest.items():
                step = (row.date.value + self._candle.value) // self._step
                if step > self._looked_at.get(digest, -1):
                    self._looked_at[digest] = step
                    due[digest] = row, step
            if due:
                self._wake(due)
        except Exception:
            logger.exception("The watch did not take note of predictions.")

    def entries_paused(self, pair: str) -> str | None:
        """Why no entries of a pair should be made now; None: they may."""
        if "pause_entries" not in self._config.on_drift:
            return None
        families, sentence = self._alarms.get(self._speaking.get(pair, ""), (frozenset(), ""))
        return sentence if families else None

    def wait(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until all that was due is done; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._due and not self._busy, timeout_seconds)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(2.0)

    def _wake(self, due: Mapping[str, tuple[LivePrediction, int]]) -> None:
        with self._changed:
            self._due |= due
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlpipe-watch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closing)
                if self._closing:
                    return
                digest = next(iter(self._due))
                newest, step = self._due.pop(digest)
                self._busy = True
            try:
                self._look(newest, step)
            except Exception as error:
                logger.warning(
                    "The live predictions could not be looked at: %s", error, exc_info=True
                )
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _look(self, newest: LivePrediction, step: int) -> None:
        self._journal.flush()
        model = self._model(newest)
        at = pd.Timestamp(step * self._step, tz="UTC")
        looks_before = read_looks(self._journal, newest.digest, "bot")
        earlier = [look for look in looks_before if look.at < at]
        found = self._assess(model, at)
        new = [look for look in found.looks[-1:] if not earlier or look.at > earlier[-1].at]
        looks = [*earlier, *new]
        for look in new:
            write_look(self._journal, model, look, "bot")
        alarm, since = alarm_after(looks, self._config)
        self._judge(model, Assessment(tuple(looks), alarm, since), at)

    def _model(self, said: LivePrediction) -> WatchedModel:
        if said.digest not in self._models:
            self._models = self._of_those_who_speak(self._models)
            self._models[said.digest] = self._find(said)
        return self._models[said.digest]

    def _of_those_who_speak(self, by_digest: Mapping[str, Item]) -> dict[str, Item]:
        speaking = {*self._speaking.values()}
        return {digest: item for digest, item in by_digest.items() if digest in speaking}

    def _assess(self, model: WatchedModel, at: pd.Timestamp) -> Assessment:
        config, candle = self._config, self._candle
        window = model.reference.plan.window_candles if model.reference else config.window_candles
        end = at - candle
        seen = self._journal.read(
            start=at - (window + 1) * candle, end=end, role="production", digest=model.digest, features=True
        )  # fmt: skip
        before = self._journal.read(
            start=at - (_OUTCOME_WINDOWS * window + model.labels.horizon_candles) * candle,
            end=at - (window + 2) * candle, role="production", digest=model.digest,
        )  # fmt: skip
        rows = pd.concat([before.assign(features=None), seen]) if len(before) else seen
        observed, rows = observed_live(rows, model, self._candles_of(rows))
        return assess(
            model.reference, observed, config=config, labels=model.labels, candle=candle,
            latency_ms=rows["latency_ms"].to_numpy(np.float64), trained_until=model.trained_until,
        )  # fmt: skip

    def _candles_of(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        found = {}
        for pair in rows["pair"].unique():
            try:
                found[str(pair)] = self._candles(str(pair)).reset_index(drop=True)
            except Exception as error:  # noqa: BLE001 - one pair's outcomes stay unknown
                logger.debug("%s: no candles to look at outcomes: %s", pair, error)
        return found

    def _judge(self, model: WatchedModel, found: Assessment, at: pd.Timestamp) -> None:
        before, _ = self._alarms.get(model.digest, (frozenset(), ""))
        others = self._of_those_who_speak(self._alarms)
        self._alarms = {**others, model.digest: (found.alarm, found.sentence)}
        who = f"{model.name} version {model.version}"
        if found.alarm and found.since is not None:
            if not before and not self._acted(model, found.since):
                write_action(self._journal, model, found.since, "alert", found.sentence)
                self._tell(f"{who}: {found.sentence}")
                self._act(model, found)
        elif before:
            self._tell(f"{who}: no drift any more.")

    def _acted(self, model: WatchedModel, since: pd.Timestamp) -> bool:
        """Whether this alarm was acted on before the bot was started again."""
        try:
            return any(
                look.at == since for look in read_looks(self._journal, model.digest, "action")
            )
        except DataError:
            return False

    def _act(self, model: WatchedModel, found: Assessment) -> None:
        assert found.since is not None
        for policy in self._config.on_drift:
            act = self._actions.get(policy)
            if act is None:
                continue
            try:
                done = act(model, found.sentence)
            except Exception as error:  # noqa: BLE001 - the operator is told
                done = f"{policy} failed, {type(error).__name__}: {error}"
            write_action(self._journal, model, found.since, policy, done)
            self._tell(f"{model.name} version {model.version}: {done}")
