"""Argument tables: freqtrade's own options by their names, and ours in the same form."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from copy import deepcopy
from typing import Any, get_args

from freqtrade.commands.cli_options import AVAILABLE_CLI_OPTIONS, Arg

from freqtrade_mlpipe.config import GateConfig, ModelConfig, ModelType, OptimizationMetric, Space
from freqtrade_mlpipe.exceptions import ConfigError

SPACES = get_args(Space)


def metric_minimum(text: str) -> tuple[str, float]:
    """Parse ``name=value``.

    Examples
    --------
    >>> metric_minimum("f1=0.6")
    ('f1', 0.6)
    """
    name, _, value = (part.strip() for part in text.partition("="))
    try:
        minimum = float(value)
    except ValueError:
        minimum = math.nan
    if not name or not math.isfinite(minimum):
        raise ArgumentTypeError(f"expected NAME=NUMBER such as f1=0.6, found '{text}'")
    return name, minimum


def _at_least(minimum: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"expected a whole number, found '{text}'") from None
        if value < minimum:
            raise ArgumentTypeError(f"expected at least {minimum}, found {value}")
        return value

    return parse


def _port(lowest: int) -> Any:
    def parse(text: str) -> int:
        value = int(_at_least(lowest)(text))
        if value > 65_535:
            raise ArgumentTypeError(f"expected at most 65535, found {value}")
        return value

    return parse


def _signal(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a number such as 1 or 0, found '{text}'") from None
    if not 0 <= value <= 10:
        raise ArgumentTypeError(f"expected 0 (no signal) to 10, found '{text}'")
    return value


def _threshold(name: str) -> Any:
    """A parser of the gate setting `name`: what the configuration would accept, or `off`."""

    def parse(text: str) -> float | str:
        try:
            value = None if text == OFF else float(text)
            if value is not None and value.is_integer():
                value = int(value)
            GateConfig(**{name: value})
        except ConfigError as error:
            raise ArgumentTypeError(str(error).partition(": ")[2]) from None
        except (ValueError, OverflowError):
            raise ArgumentTypeError(f"expected a number or {OFF!r}, found '{text}'") from None
        return OFF if value is None else value

    return parse


def _gate_options() -> dict[str, Arg]:
    """An option for each threshold of the gate table that has a description."""
    return {
        name: Arg(
            f"--{name.replace('_', '-')}", type=_threshold(name), metavar="X",
            help=f"{field.description} `off` switches the gate off.".replace("%", "%%")
            if type(None) in get_args(field.annotation) else field.description,
        )
        for name, field in GateConfig.model_fields.items()
        if field.description
    }  # fmt: skip


OFF = "off"
GATE_OPTIONS = _gate_options()
GROUPS = {"gates": ("min_metric", *GATE_OPTIONS)}
"""Names in the command table that stand for several options."""

OPTIONS: dict[str, Arg] = GATE_OPTIONS | {
    "model_name": Arg(
        "--model-name", metavar="NAME", help="Model name (default: mlpipe.model_name of the configuration)."
    ),
    "model_version": Arg(
        "--model-version", metavar="N", help="Version number, or `latest` (default: latest)."
    ),
    "from_freqai": Arg(
        "--from-freqai", nargs=2, metavar=("IDENTIFIER", "PAIR"),
        help="Register the model that FreqAI's loop trained last for a pair, frozen, as a version of --model-name.",
    ),
    "rollback_version": Arg(
        "--model-version", dest="model_version", metavar="N",
        help="Version to go back to (default: the one before the current).",
    ),
    "model_type": Arg(
        "--model-type", choices=list(get_args(ModelType)), help="Estimator."
    ),
    "trials": Arg(
        "--trials", type=_at_least(1), metavar="N", help="Optuna trials."
    ),
    "search_seconds": Arg(
        "--timeout", type=_at_least(1), metavar="SECONDS",
        help="End the search after the trial in which this time is over. The same command goes on with the rest.",
    ),
    "random_seed": Arg(
        "--random-state", type=_at_least(0), metavar="N", help="Seed of every random choice."
    ),
    "remove_challenger": Arg(
        "--remove", action="store_true", help="Predict nothing beside production any more."
    ),
    "notes": Arg("--notes", metavar="TEXT", default="", help="Kept in the history."),
    "force_reason": Arg(
        "--force-reason", metavar="TEXT",
        help="Promote without a passed validation; the reason is recorded for good.",
    ),
    "min_metric": Arg(
        "--min-metric", type=metric_minimum, action="append", metavar="NAME=VALUE",
        help="Least value of an out-of-sample metric, such as f1=0.6. May be repeated.",
    ),
    "keep": Arg(
        "--keep", type=_at_least(1), metavar="N",
        help="How many of the newest versions to keep (default: registry.keep_versions).",
    ),
    "confirmed": Arg("--yes", action="store_true", help="Do it; without, only show what would be done."),
    "every_version": Arg(
        "--all", action="store_true", help="Read the stored files of every version (of each, a few MB).",
    ),
    "add_tag": Arg("--add", action="append", metavar="TAG", help="Add a tag. May be repeated."),
    "remove_tag": Arg("--remove", action="append", metavar="TAG", help="Remove a tag. May be repeated."),
    "new_notes": Arg("--notes", metavar="TEXT", help="Replace the note of the version."),
    "keys_action": Arg("keys_action", choices=["generate", "show"], help="Make a key, or show a public one."),
    "key_file": Arg("--key-file", metavar="PATH", help="File of the private key."),
    "bundle": Arg("--bundle", metavar="DIR", help="A bundle's folder instead of a registered version."),
    "backtest_result": Arg(
        "result", nargs="?", metavar="RESULT.zip", help="The file that freqtrade wrote into backtest_results."
    ),
    "latest_result": Arg("--latest", action="store_true", help="The newest result."),
    "model_version_served": Arg(
        "--model-version", dest="model_version", metavar="N",
        help="The version that was served, for a result that does not say so.",
    ),
    "port": Arg("--port", type=_port(1), default=5000, metavar="N", help="Port (default: %(default)s)."),
    "replay_port": Arg(
        "--port", dest="port", type=_port(0), default=8900, metavar="N",
        help="Port on 127.0.0.1; 0: any free one (default: %(default)s).",
    ),
    "replay_datadir": Arg(
        "-d", "--datadir", dest="datadir", metavar="DIR",
        help="Folder of candle files (default: `data/binance` in the user directory).",
    ),
    "replay_pairs": Arg(
        "-p", "--pairs", dest="pairs", nargs="+", metavar="PAIR", help="Serve only these (default: all recorded)."
    ),
    "replay_timeframe": Arg(
        "-i", "--timeframe", dest="timeframe",
        help="Recorded timeframe to play (default: the shortest of each pair).",
    ),
    "speed": Arg(
        "--speed", type=_at_least(1), default=1, metavar="N",
        help="Recorded minutes in a minute: at 60 a one-minute candle is a recorded hour (default: %(default)s).",
    ),
    "print_config": Arg(
        "--print-config", nargs="?", choices=["spot", "futures"], const="spot",
        help="Only print freqtrade's configuration for such a bot (default: spot), and end.",
    ),
    "all_models": Arg("--model-name", metavar="NAME", help="Only this model (default: all)."),
    "print_json": Arg("--json", action="store_true", help="Print JSON instead of a table."),
    "print_csv": Arg("--csv", action="store_true", help="Print CSV instead of tables."),
    "wanted": Arg(
        "wanted", nargs="?", metavar="VERSION|RUN",
        help="Version number, `latest`, `production`, NAME:VERSION, or the id of a tracked run (default: latest).",
    ),
    "contenders": Arg(
        "contenders", nargs="+", metavar="VERSION|RUN",
        help="Two or more of: version number, `latest`, `production`, NAME:VERSION, id of a tracked run.",
    ),
    "output": Arg(
        "-o", "--output", metavar="FILE",
        help="HTML file to write (default: NAME-vVERSION.html in the registry's folder `reports`).",
    ),
    "retrain_spaces": Arg(
        "--spaces", dest="retrain_spaces", nargs="+", choices=[*SPACES, "all"], metavar="SPACE",
        help=f"What may change: {', '.join(SPACES)} (default: all of them).",
    ),
    "metric": Arg(
        "--metric", choices=list(get_args(OptimizationMetric)), default="sharpe", metavar="NAME",
        help="Judge epochs by a metric of the trainer instead of a --hyperopt-loss (default: %(default)s). One of: "
             f"{', '.join(get_args(OptimizationMetric))}.",
    ),
    "retrain_json": Arg(
        "--print-json", dest="print_json", action="store_true", help="Print JSON instead of tables."
    ),
    "promote": Arg(
        "--promote", action="store_true", help="Put the winner into production if it passes the gates."
    ),
    "if_older_than": Arg(
        "--if-older-than", metavar="AGE",
        help="Only if the production version was trained longer ago, such as 7d or 12h; or another trigger says so.",
    ),
    "if_worse": Arg(
        "--if-worse", action="store_true",
        help="Only if the production version would fail the backtest gates on candles since its validation; or "
             "another trigger says so.",
    ),
    "if_drift": Arg(
        "--if-drift", action="store_true",
        help="Only if `drift` raises an alarm about what a bot predicted; or another trigger says so.",
    ),
    "dask": Arg(
        "--dask", metavar="ADDRESS",
        help="Evaluate epochs on a Dask cluster, such as tcp://scheduler:8786 (extra `dask`).",
    ),
    "storage": Arg(
        "--storage", metavar="URL",
        help="Share the epochs over a database, such as postgresql://user:password@host/name, with whoever joins.",
    ),
    "join": Arg(
        "--join", metavar="STUDY",
        help="Only help with the epochs of this search, which another process began with the same options.",
    ),
    "study": Arg(
        "--study", metavar="NAME", help="Which search (default: the one that was worked on last)."
    ),
    "live": Arg(
        "--live", action="store_true", help="Look at what a bot predicted (the default without --timerange)."
    ),
    "live_db": Arg(
        "--db", dest="db", metavar="FILE",
        help="The bot's journal (default: that of the configuration's bot_name, in the registry's folder `live`).",
    ),
    "version_that_spoke": Arg(
        "--model-version", dest="model_version", metavar="N",
        help="Version number (default: the newest that spoke live; with --timerange the one in production).",
    ),
    "quick_userdir": Arg(
        "--userdir", dest="user_data_dir", metavar="DIR",
        help="Folder to work in (default: a new `mlpipe-quickstart` below the current one).",
    ),
    "quick_signal": Arg(
        "--signal", type=_signal, default=1.0, metavar="X",
        help="Strength of the predictability planted in the synthetic market; 0: none (default: 1).",
    ),
    "quick_seed": Arg(
        "--seed", type=_at_least(0), default=ModelConfig().random_state, metavar="N",
        help="Draws another synthetic market (default: %(default)s).",
    ),
}  # fmt: skip


def add_options(parser: ArgumentParser, names: tuple[str, ...]) -> None:
    """Add the named options: ours where we define the name, otherwise freqtrade's."""
    for name in (name for group in names for name in GROUPS.get(group, (group,))):
        option = OPTIONS.get(name) or AVAILABLE_CLI_OPTIONS[name]
        settings = deepcopy(option.kwargs)
        if option.cli[0].startswith("-"):
            settings.setdefault("dest", name)
        parser.add_argument(*option.cli, **settings)
