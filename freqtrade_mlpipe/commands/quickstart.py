"""`quickstart`: the main job end to end, offline, with the same functions the single commands use."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from freqtrade_mlpipe.commands.context import Context, load_context
from freqtrade_mlpipe.commands.display import console, print_gates, print_training, print_version
from freqtrade_mlpipe.commands.experiments import record_report
from freqtrade_mlpipe.commands.lifecycle import train_version, validate_version
from freqtrade_mlpipe.commands.report import write_report
from freqtrade_mlpipe.commands.setup import template_text, write_user_directory
from freqtrade_mlpipe.exceptions import ConfigError, GateRefusedError, SearchInterrupted
from freqtrade_mlpipe.integration.data import check_timeframe
from freqtrade_mlpipe.synthetic import Market, generate_market

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "mlpipe-quickstart"
MARKER = "quickstart.json"
MODEL_NAME = "quickstart"
N_TRIALS = 12
N_STEPS = 5


def start_quickstart(arguments: dict[str, Any]) -> int:
    """Candles, training, gates, promotion, freqtrade's backtest, report. Exit code 3 when the gates refuse."""
    user_data = _folder(arguments.get("user_data_dir"))
    timeframe = arguments.get("timeframe") or "1h"
    check_timeframe(timeframe)
    market = None if arguments.get("datadir") else _market(timeframe, arguments)
    config = _configuration(timeframe, arguments, market)
    _step(1, _describe(market, arguments))
    _mark(user_data, market)
    write_user_directory(user_data)
    (user_data / "config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    context = load_context(
        {"user_data_dir": str(user_data), "config": [str(user_data / "config.json")],
         "datadir": arguments.get("datadir"), "verbosity": arguments.get("verbosity")},
        backtest=True,
    )  # fmt: skip
    if market is not None:
        _write_market(context, market)

    _step(2, "Train: features, labels, tuning under purged walk-forward splits, registration")
    try:
        outcome = train_version(context, data_note=_describe(market, arguments))
    except SearchInterrupted as stop:
        if not arguments.get("user_data_dir"):
            stop.options = (
                "--userdir",
                str(user_data),
            )  # without it, quickstart would make another
        raise
    print_training(outcome)

    _step(3, "Validate: freqtrade's backtest on the untouched final window, then the gates")
    report = validate_version(context, outcome.version)
    print_gates(report, outcome.version)
    version = context.registry().get_version(outcome.version.name, outcome.version.version)
    if report.passed:
        _step(4, "Promote, then freqtrade's own backtest of MLStrategy with what production serves")
        version = context.registry().promote_to_production(
            version.name, version.version, notes="quickstart"
        )
        print_version(version, "is in production")
        _show_backtest(context, outcome.final_window_start)
        if market is not None:
            console.print(
                "These figures come from a synthetic market in which the signal was planted. They show that the "
                "machinery finds what is there; they say nothing about real markets.",
            )
    else:
        _step(4, "Not promoted: the gates refused it, so production stays as it was")
    _step(5, "Report")
    page = write_report(context, version)
    record_report(context, version, page)
    _where_things_are(context, page, outcome.final_window_start, promoted=report.passed)
    return 0 if report.passed else GateRefusedError.exit_code


def _folder(given: str | None) -> Path:
    if given:
        folder = Path(given).absolute()
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists():
            raise ConfigError(
                f"{folder} is not empty and was not made by quickstart: choose another --userdir."
            )
        return folder
    names = [FOLDER, *(f"{FOLDER}-{number}" for number in range(2, 1000))]
    return next(Path(name).absolute() for name in names if not Path(name).exists())


def _market(timeframe: str, arguments: dict[str, Any]) -> Market:
    from freqtrade.exchange import timeframe_to_minutes

    if arguments.get("pairs") or arguments.get("timerange"):
        raise ConfigError(
            "--pairs and --timerange choose among recorded candles: pass --datadir too."
        )
    return Market(
        timeframe=f"{timeframe_to_minutes(timeframe)}min",
        signal=arguments["quick_signal"],
        seed=arguments["quick_seed"],
    )


def _describe(market: Market | None, arguments: dict[str, Any]) -> str:
    if market is None:
        return f"Candles: recorded ones from {arguments['datadir']}"
    return (
        f"Candles: SYNTHETIC ones, {len(market.pairs)} pairs of {market.n_candles:,} candles; planted signal "
        f"{market.signal:g}, seed {market.seed}"
    )


def _configuration(
    timeframe: str, arguments: dict[str, Any], market: Market | None
) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(template_text("config.json"))
    config["timeframe"] = timeframe
    if market is None:
        datadir = Path(arguments["datadir"]).absolute()
        pairs = arguments.get("pairs") or _pairs_in(datadir, timeframe)
        config["timerange"] = arguments.get("timerange")
    else:
        pairs = list(market.pairs)
    config["exchange"] = {"name": "replay", "pair_whitelist": pairs, "pair_blacklist": []}
    config["mlpipe"]["model_name"] = MODEL_NAME
    config["mlpipe"]["model"]["n_trials"] = N_TRIALS
    return {key: value for key, value in config.items() if value is not None}


def _mark(user_data: Path, market: Market | None) -> None:
    """Say whose folder it is before anything else is in it: a later run goes on in it, even after a kill."""
    made = {"signal": market.signal, "seed": market.seed} if market else {}
    user_data.mkdir(parents=True, exist_ok=True)
    (user_data / MARKER).write_text(json.dumps(made) + "\n", encoding="utf-8")


def _pairs_in(datadir: Path, timeframe: str) -> list[str]:
    from freqtrade.data.history import get_datahandler

    if not datadir.is_dir():
        raise ConfigError(f"No data directory {datadir}.")
    found = get_datahandler(datadir, "feather").ohlcv_get_available_data(datadir, "spot")
    pairs = sorted({pair for pair, frame, _ in found if frame == timeframe})
    if not pairs:
        raise ConfigError(
            f"{datadir} has no {timeframe} candles. Pass --timeframe, or another --datadir."
        )
    return pairs


def _write_market(context: Context, market: Market) -> None:
    from freqtrade_mlpipe.integration.data import CandleSource, store_candles

    Path(context.freqtrade["datadir"]).mkdir(parents=True, exist_ok=True)
    store_candles(CandleSource.from_config(context.freqtrade), generate_market(market))


def _show_backtest(context: Context, start: pd.Timestamp) -> None:
    """The backtest a user would run, with nothing pinned: freqtrade asks the strategy, the strategy asks production."""
    from freqtrade.optimize.backtesting import Backtesting

    settings = {
        **deepcopy(context.freqtrade),
        "timerange": f"{int(start.timestamp())}-",
        "export": "none",
    }
    Backtesting(settings).start()
    Backtesting.cleanup()


def _step(number: int, text: str) -> None:
    console.print(Text.assemble("\n", (f"Step {number}/{N_STEPS}", "bold"), f" {text}"))


def _where_things_are(context: Context, page: Path, start: pd.Timestamp, *, promoted: bool) -> None:
    user_data, datadir = context.user_data, context.freqtrade["datadir"]
    window = f"{int(start.timestamp())}-"
    lines = [
        "",
        f"User directory   {user_data}",
        f"Candles          {datadir}",
        f"Report page      {page}",
        f"Registry         {user_data / 'mlpipe' / 'mlflow.db'}",
        "",
        "Next:",
        f"  freqtrade-mlpipe list-models --userdir {user_data}",
        f"  freqtrade-mlpipe show-model --userdir {user_data}",
    ]
    if promoted:
        lines += [
            f"  freqtrade-mlpipe freqtrade backtesting --userdir {user_data} --datadir {datadir} --timerange {window}",
            f"  freqtrade-mlpipe history --userdir {user_data}",
        ]
    else:
        lines += [
            "  freqtrade-mlpipe quickstart --signal 1        (a market in which there is something to learn)"
        ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
