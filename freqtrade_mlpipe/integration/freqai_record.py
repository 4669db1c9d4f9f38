"""What a FreqAI run leaves behind: a tracked run, a run below it for each window, a bot's decisions as versions.

A bot's every retraining is a version in the registry with the gate's report; a backtest has hundreds of windows, whose
decisions are with their runs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.enums import RunMode

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError
from freqtrade_mlpipe.integration.freqai_gate import Decision
from freqtrade_mlpipe.integration.freqai_store import pair_slug
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.integration.results import FREQAI_KEY, log_at_exit
from freqtrade_mlpipe.registry.evidence import Evidence
from freqtrade_mlpipe.registry.files import sha256, write_atomically
from freqtrade_mlpipe.registry.gates import run_gates
from freqtrade_mlpipe.tracking import ExperimentTracker

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry import ModelRegistry

logger = logging.getLogger(__name__)

RECORDED_MODES = (RunMode.BACKTEST, RunMode.DRY_RUN, RunMode.LIVE)
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_NAME = 100


def model_name(identifier: str, pair: str, target: str = "") -> str:
    """The registered model of an identifier and pair; of several targets with the target's name.

    Different ones have different names: what cannot be read back from the name is behind it as a digest. In the name of
    a pair no two dashes follow each other.

    Examples
    --------
    >>> model_name("unique-id100", "BTC/USDT:USDT")
    'freqai.unique-id100.BTC_USDT.USDT'
    >>> model_name("unique-id100", "BTC/USDT", "&-s_close")
    'freqai.unique-id100.BTC_USDT.s_close--3d42a80f175c8e68'
    """
    parts = ["freqai", _ODD.sub("-", identifier), pair_slug(pair)]
    if target:
        parts.append(_ODD.sub("-", target).strip("-"))
    name = ".".join(parts)
    if _PLAIN.fullmatch(identifier) and not target and len(name) <= _LONGEST_NAME:
        return name
    end = "--" + sha256("\0".join((identifier, pair, target)).encode())[:16]
    return name[: _LONGEST_NAME - len(end)] + end


class RunRecord:
    """The record of one process. Nothing here raises: a store that is away never stops a training."""

    def __init__(self, mlpipe: MLPipeConfig, config: dict[str, Any]) -> None:
        self._mlpipe, self._config = mlpipe, config
        self._tracker: ExperimentTracker | None = None
        self._registry: ModelRegistry | None = None
        self._rows: list[dict[str, Any]] = []

    @property
    def live(self) -> bool:
        """Whether a bot is at work."""
        return self._config.get("runmode") in (RunMode.DRY_RUN, RunMode.LIVE)

    def open(self) -> None:
        """Begin the run; in a hyperopt, which reads what a backtest has predicted, there is none."""
        settings = self._mlpipe.tracking
        if (
            self._tracker is not None
            or settings.backend == "none"
            or self._config.get("runmode") not in RECORDED_MODES
        ):
            return
        registry = self._mlpipe.registry
        freqai = self._config["freqai"]
        name = f"FreqAI {freqai.get('identifier')} {datetime.now(UTC):%Y-%m-%d %H:%M}"
        described = {
            "freqai": freqai,
            "mlpipe": self._mlpipe.model_dump(mode="json"),
            "strategy": self._config.get("strategy"),
            "freqaimodel": self._config.get("freqaimodel"),
            "timeframe": self._config.get("timeframe"),
            "timerange": self._config.get("timerange"),
        }
        tags = {"mlpipe.kind": "freqai", "mlpipe.identifier": str(freqai.get("identifier"))}
        try:
            tracker = ExperimentTracker(
                settings.project, settings.backend,
                tracking_uri=registry.tracking_uri, directory=registry.directory,
            )  # fmt: skip
            run_id = str(tracker.start_run(name, _plain_names(described), tags))
        except MLPipeError as error:
            logger.warning("This run is not tracked: %s", error)
            return
        self._tracker = tracker
        if not self.live:
            # freqtrade stores this part of its configuration with the result.
            about = {"run_id": run_id, "windows": str(self._windows_file())}
            self._config.setdefault("original_config", {})[FREQAI_KEY] = about
            log_at_exit(self._config)

    def window(
        self, pair: str, trained_at: int, model: WindowModel, decision: Decision,
        figures: Mapping[str, float], *, folder: Path | None = None,
    ) -> str | None:  # fmt: skip
        """A window that was trained; of a bot the version that it is now, if the registry could be reached."""
        self.open()
        member = model.members[0]
        row = {
            "pair": pair,
            "trained_at": _date(trained_at),
            "train_start": member.train_start.isoformat(),
            "train_end": member.train_end.isoformat(),
            "accepted": decision.accepted,
            "gate": decision.check.sentence,
        }
        self._rows.append({**row, **figures, **model.metrics})
        if self._tracker is not None:
            params = {
                **{k: v for k, v in row.items() if k != "gate"},
                "horizon_candles": model.horizon_candles,
                "n_features": len(model.feature_names),
                "found": {name: dict(found) for name, found in model.parameters.items()},
            }
            params = _plain_names(params)
            tags = {"mlpipe.pair": pair, "mlpipe.gate": decision.check.sentence}
            found = {**model.metrics, **figures, "accepted": float(decision.accepted)}
            metrics = _plain_names(found)
            self._tracker.log_fold_run(f"{pair} {_date(trained_at)}", params, metrics, tags)
        return None if folder is None else self._register(pair, model, decision, folder)

    def failed(self, pair: str, window: str, error: Exception) -> None:
        """A window whose training failed."""
        self.open()
        problem = f"{type(error).__name__}: {error}"
        self._rows.append({"pair": pair, "trained_at": window, "accepted": False, "gate": problem})
        if self._tracker is not None:
            params = {"pair": pair, "trained_at": window}
            self._tracker.log_fold_run(
                f"{pair} {window}", params, {"failed": 1.0}, {"mlpipe.reason": problem}
            )

    def finish(self, figures: Mapping[str, float]) -> None:
        """The end of a backtest or bot; `figures` are those of all pairs."""
        if self._tracker is None:
            return
        windows = pd.DataFrame(self._rows)
        self._tracker.log_metrics(figures)
        self._tracker.log_table("windows.csv", windows)
        if not self.live and len(windows):
            write_atomically(self._windows_file(), windows.to_csv(index=False).encode())
        self._tracker.finish()
        self._tracker = None
        self._rows = []

    def _windows_file(self) -> Path:
        identifier = str(self._config["freqai"].get("identifier"))
        return Path(self._config["user_data_dir"]) / "models" / identifier / "windows.csv"

    def _register(
        self, pair: str, model: WindowModel, decision: Decision, folder: Path
    ) -> str | None:
        """A version for each target, with the gate's report; the number of the first."""
        several = len(model.targets) > 1
        numbers = []
        try:
            for k, target in enumerate(model.targets):
                name = model_name(
                    str(self._config["freqai"]["identifier"]), pair, target.name if several else ""
                )
                version = self._open_registry().register_model(
                    model_name=name,
                    model_path=folder / f"{k}",
                    metrics=_finite(model.metrics),
                    notes=decision.check.sentence,
                    run_id=self._tracker.mlflow_run_id if self._tracker else None,
                )
                report = run_gates(
                    Evidence(task=target.task), self._mlpipe.gates, datetime.now(UTC),
                    digest=version.digest, gates=[lambda *_: [decision.check]],
                )  # fmt: skip
                self._open_registry().keep_report(version, report)
                numbers.append(version.version)
                self._prune(name)
        except Exception as error:  # noqa: BLE001 - a registry that is away must not stop a bot
            logger.warning("%s: this training is not in the registry: %s", pair, error)
        return numbers[0] if numbers else None

    def _prune(self, name: str) -> None:
        """Delete what is older than the last `purge_old_models` accepted and as many refused versions.

        What is in production, its challenger, next to roll back to or has a tag stays.
        """
        keep = self._config["freqai"].get("purge_old_models", 2)
        if not keep:
            return
        keep = 2 if keep is True else int(keep)
        registry = self._open_registry()
        versions = [item.version for item in registry.plan_prune(name, 0)]
        for accepted in (True, False):
            alike = [v for v in versions if (v.report is not None and v.report.passed) is accepted]
            for version in alike[keep:]:
                reason = f"freqai.purge_old_models keeps {keep}"
                registry.delete_model(name, version.version, reason=reason, actor="freqai")

    def _open_registry(self) -> ModelRegistry:
        if self._registry is None:
            from freqtrade_mlpipe.registry import ModelRegistry

            settings = self._mlpipe.registry
            self._registry = ModelRegistry(settings.tracking_uri, settings.directory)
        return self._registry


def _plain_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that a store takes: FreqAI's ``&`` and ``%`` are none."""
    return {
        _ODD.sub("", str(key)).lstrip("-"): _plain_names(value)
        if isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }


def _date(timestamp: int) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M}"


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if abs(value) < float("inf")}
