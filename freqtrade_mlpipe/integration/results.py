"""freqtrade's own backtest results: what they say, and which model version they say it of."""

from __future__ import annotations

import atexit
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd
from freqtrade.data.btanalysis.bt_fileutils import load_backtest_stats, load_file_from_zip
from freqtrade.exceptions import FreqtradeException

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.mlflow_store import without_password
from freqtrade_mlpipe.registry.files import sha256

logger = logging.getLogger(__name__)

SERVED_KEY = "mlpipe_served"
"""In the configuration that freqtrade stores with a result: name, version and digest of what the strategy served."""

FREQAI_KEY = "mlpipe_freqai"
"""In the same place, of a FreqAI backtest: the tracked run that it belongs to."""

LAST_RESULT = ".last_result.json"

FIGURES = {
    "profit_total": "profit_total",
    "profit_total_abs": "profit_total_abs",
    "profit_factor": "profit_factor",
    "cagr": "cagr",
    "sharpe": "sharpe",
    "sortino": "sortino",
    "calmar": "calmar",
    "max_drawdown": "max_drawdown_account",
    "max_drawdown_abs": "max_drawdown_abs",
    "n_trades": "total_trades",
    "win_rate": "winrate",
    "expectancy": "expectancy",
    "market_change": "market_change",
    "n_days": "backtest_days",
}
"""Our name → freqtrade's, of the figures that become metrics; fractions unless `_abs` (stake currency) or counts."""

_PAIR_COLUMNS = ("key", "trades", "profit_total", "profit_total_abs", "profit_mean", "winrate", "sharpe", "sortino",
                 "calmar", "max_drawdown_account", "profit_factor")  # fmt: skip
_TOO_LONG = ("trades", "results_per_pair", "daily_profit", "periodic_breakdown", "locks")


def hide_passwords(config: dict[str, Any]) -> None:
    """Keep the passwords of our block's addresses out of the configuration that freqtrade stores with a result.

    freqtrade hides its own secrets there, and does not know ours. What the run itself uses is not touched.
    """
    original = config.get("original_config", {})
    if "mlpipe" in original:
        original["mlpipe"] = _without_passwords(original["mlpipe"])


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_passwords(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_passwords(item) for item in value]
    return without_password(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class BacktestResult:
    """One strategy's part of a stored result.

    Attributes
    ----------
    digest : SHA-256 of the file.
    served : name, version, digest of the model the strategy served; None: the file does not say.
    stats : freqtrade's figures of the strategy, as stored.
    freqai : of a FreqAI backtest `run_id`, its tracked run, and `windows`, a CSV file; empty: it is none.
    """

    path: Path
    digest: str
    strategy: str
    served: Mapping[str, str] | None
    stats: Mapping[str, Any]
    freqai: Mapping[str, str] = field(default_factory=dict)

    @property
    def freqai_run(self) -> str | None:
        """Id of the tracked run of a FreqAI backtest; None: it is none."""
        return self.freqai.get("run_id")

    def freqai_windows(self) -> pd.DataFrame:
        """A row for each window that was trained; empty where the file is gone."""
        try:
            return pd.read_csv(self.freqai["windows"])
        except (KeyError, OSError, ValueError):
            return pd.DataFrame()


def figures(stats: Mapping[str, Any]) -> dict[str, float]:
    """The figures of `FIGURES` that freqtrade gives, as floats."""
    return {
        ours: float(stats[theirs])
        for ours, theirs in FIGURES.items()
        if stats.get(theirs) is not None
    }


def per_pair(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """freqtrade's figures of each pair, the total left out."""
    return [
        {("pair" if name == "key" else name): row[name] for name in _PAIR_COLUMNS if name in row}
        for row in stats["results_per_pair"]
        if row["key"] != "TOTAL"
    ]


def summary(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Everything freqtrade says but its long lists (trades, days, pairs)."""
    return {name: value for name, value in stats.items() if name not in _TOO_LONG}


def latest_result(directory: Path) -> Path:
    """The newest result in freqtrade's result folder.

    Raises
    ------
    DataError
        There is none.
    """
    name = _last_name(directory)
    if name is None:
        raise DataError(
            f"No backtest result in {directory}. Run `freqtrade backtesting` first (not with --export none)."
        )
    return directory / name


def read_result(path: Path, strategy: str | None = None) -> BacktestResult:
    """Read a stored result.

    Parameters
    ----------
    strategy : which one, if the result holds several.

    Raises
    ------
    DataError
        No such file, not freqtrade's, or not of this strategy.
    """
    if not path.is_file():
        raise DataError(f"No backtest result {path}.")
    try:
        stats = load_backtest_stats(path)["strategy"]
        config = _stored_config(path)
    except (FreqtradeException, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a backtest result of freqtrade ({type(error).__name__}: {error}). "
            "Give the .zip that `freqtrade backtesting` wrote."
        ) from error
    names = list(stats)
    chosen = names[0] if len(names) == 1 else strategy
    if chosen is None or chosen not in stats:
        raise DataError(f"{path} holds {', '.join(names)}: choose one with --strategy.")
    digest = sha256(path.read_bytes())
    served = config.get(SERVED_KEY)
    return BacktestResult(
        path,
        digest,
        chosen,
        {key: str(served[key]) for key in ("name", "version", "digest")} if served else None,
        stats[chosen],
        config.get(FREQAI_KEY) or {},
    )


def log_at_exit(config: Mapping[str, Any]) -> None:
    """When this process ends, log the result that freqtrade has stored by then, in a process of its own.

    freqtrade has no hook for the end of a backtest.
    https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/optimize/backtesting.py
    """
    if config.get("export", "none") == "none":
        return
    folder = Path(config["exportdirectory"])
    atexit.unregister(
        _log_new_result
    )  # a process may start several strategies, or one several times
    atexit.register(_log_new_result, folder, _last_name(folder), _command(config))


def _log_new_result(folder: Path, before: str | None, command: list[str]) -> None:
    name = _last_name(folder)
    if name is not None and name != before:
        subprocess.run([*command, str(folder / name)], check=False)  # it reports by itself


def _command(config: Mapping[str, Any]) -> list[str]:
    options = [word for file in config.get("config_files") or () for word in ("-c", str(file))]
    return [sys.executable, "-m", "freqtrade_mlpipe.main", "log-backtest", *options,
            "--userdir", str(config["user_data_dir"])]  # fmt: skip


def _last_name(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / LAST_RESULT).read_text())["latest_backtest"])
    except (OSError, ValueError, KeyError):
        return None


def _stored_config(path: Path) -> dict[str, Any]:
    """The configuration stored with a result; empty where there is none."""
    if path.suffix != ".zip":
        return {}
    config: dict[str, Any] = json.loads(load_file_from_zip(path, f"{path.stem}_config.json"))
    return config
