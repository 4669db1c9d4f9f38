"""One row a command. Nothing heavy is imported here: the console's help reads only this table."""

from __future__ import annotations

from dataclasses import dataclass

COMMON = ("verbosity", "logfile", "config", "datadir", "user_data_dir")
STRATEGY = ("strategy", "strategy_path", "recursive_strategy_search")
DATA = ("timeframe", "timerange", "pairs", "dataformat_ohlcv")
MODEL = ("model_name",)
EPOCH_FILTERS = tuple(
    f"hyperopt_list_{name}"
    for name in ("best", "profitable", "min_trades", "max_trades", "min_avg_time", "max_avg_time", "min_avg_profit",
                 "max_avg_profit", "min_total_profit", "max_total_profit", "min_objective", "max_objective")
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command: its name, one line of help, the function that runs it, and the names of its options."""

    name: str
    help: str
    start: str
    options: tuple[str, ...] = ()
    epilog: str = ""
    passthrough: bool = False
    """The function takes the remaining words as they are."""


COMMANDS = (
    Command(
        "quickstart",
        "The main job on candles made on the spot: train, validate, promote, backtest. No network, no account.",
        "freqtrade_mlpipe.commands.quickstart:start_quickstart",
        ("quick_userdir", "quick_signal", "quick_seed", "datadir", "pairs", "timerange", "timeframe", "verbosity"),
        epilog="Exit code 0: promoted; 3: the gates refused the model, which is what a market without signal deserves.",
    ),
    Command(
        "init",
        "Write the strategy and a configuration into a freqtrade user directory.",
        "freqtrade_mlpipe.commands.setup:start_init",
        ("user_data_dir", "verbosity"),
    ),
    Command(
        "train",
        "Train, track and register a new version from downloaded candles.",
        "freqtrade_mlpipe.commands.lifecycle:start_train",
        (*COMMON, *STRATEGY, *DATA, *MODEL, "model_type", "trials", "search_seconds", "random_seed"),
        epilog="Ctrl-C keeps the trials of the search: the same command goes on with those that are left.",
    ),
    Command(
        "retrain",
        "Search like hyperopt: features, labels, model, thresholds. Train the best, gate it against the champion.",
        "freqtrade_mlpipe.commands.retrain:start_retrain",
        (*COMMON, *STRATEGY, *DATA, *MODEL, "epochs", "retrain_spaces", "hyperopt_loss", "hyperopt_path", "metric",
         "hyperopt_min_trades", "hyperopt_jobs", "random_seed", "model_type", "early_stop", "print_all", "retrain_json",
         "promote", "if_older_than", "if_drift", "if_worse", "dask", "storage", "join", "gates"),
        epilog="Exit code 0: passed; 3: refused, and the champion stays. Ctrl-C or a kill keeps the epochs that are "
               "done: the same command goes on with those that are left.",
    ),
    Command(
        "schedule",
        "Print a crontab line and systemd units that retrain by themselves.",
        "freqtrade_mlpipe.commands.schedule:start_schedule",
        passthrough=True,
    ),
    Command(
        "retrain-list",
        "List the epochs of a search, as freqtrade's hyperopt-list does.",
        "freqtrade_mlpipe.commands.epochs:start_retrain_list",
        (*COMMON, *MODEL, "study", *EPOCH_FILTERS, "hyperopt_list_no_details", "retrain_json"),
    ),
    Command(
        "retrain-show",
        "Show an epoch of a search, as freqtrade's hyperopt-show does.",
        "freqtrade_mlpipe.commands.epochs:start_retrain_show",
        (*COMMON, *MODEL, "study", "hyperopt_list_best", "hyperopt_list_profitable", "hyperopt_show_index",
         "hyperopt_show_no_header", "retrain_json"),
    ),
    Command(
        "validate",
        "Run the gates on a version, freqtrade's own backtest on the untouched final window among them.",
        "freqtrade_mlpipe.commands.lifecycle:start_validate",
        (*COMMON, *STRATEGY, *MODEL, "model_version", "gates", "print_json"),
        epilog="Exit code 0: passed; 3: refused.",
    ),
    Command(
        "promote",
        "Put a validated version into production.",
        "freqtrade_mlpipe.commands.lifecycle:start_promote",
        (*COMMON, *MODEL, "model_version", "notes", "force_reason", "from_freqai"),
        epilog="Exit code 3: the gates refused the version; 2: it was not validated, or too long ago. With "
        "--from-freqai the model is registered, to be validated; with --force-reason it also goes into production.",
    ),
    Command(
        "rollback",
        "Put the previous production version, or a named one, back into production.",
        "freqtrade_mlpipe.commands.lifecycle:start_rollback",
        (*COMMON, *MODEL, "rollback_version", "notes"),
    ),
    Command(
        "challenge",
        "Let running bots predict a version beside production, without trading it (shadow mode).",
        "freqtrade_mlpipe.commands.lifecycle:start_challenge",
        (*COMMON, *MODEL, "model_version", "remove_challenger", "notes"),
        epilog="There is one challenger, or none. Being promoted, archived or deleted ends it.",
    ),
    Command(
        "list-features",
        "List the feature catalogue with warm-ups, meanings and sources, and which features the configuration uses.",
        "freqtrade_mlpipe.commands.features:start_list_features",
        (*COMMON, *STRATEGY, "timeframe", "print_json"),
    ),
    Command(
        "list-models",
        "List models and their versions.",
        "freqtrade_mlpipe.commands.listing:start_list_models",
        (*COMMON, "all_models", "print_json"),
    ),
    Command(
        "show-model",
        "Show one version: status, metrics, gates, spans.",
        "freqtrade_mlpipe.commands.listing:start_show_model",
        (*COMMON, *MODEL, "model_version", "print_json"),
    ),
    Command(
        "history",
        "Show every promotion and rollback of a model.",
        "freqtrade_mlpipe.commands.listing:start_history",
        (*COMMON, *MODEL, "print_json"),
    ),
    Command(
        "tag",
        "Change the tags and the note of a version.",
        "freqtrade_mlpipe.commands.upkeep:start_tag",
        (*COMMON, *MODEL, "model_version", "add_tag", "remove_tag", "new_notes"),
        epilog="`prune` never deletes a version that has a tag.",
    ),
    Command(
        "archive",
        "Take a version out of consideration.",
        "freqtrade_mlpipe.commands.upkeep:start_archive",
        (*COMMON, *MODEL, "model_version", "notes"),
    ),
    Command(
        "delete",
        "Delete a version and its files for good; without --yes, show what would go.",
        "freqtrade_mlpipe.commands.upkeep:start_delete",
        (*COMMON, *MODEL, "model_version", "confirmed", "notes"),
        epilog="The production version is never deleted. The history keeps that the version was.",
    ),
    Command(
        "prune",
        "Delete old versions and their files; without --yes, show what would go.",
        "freqtrade_mlpipe.commands.upkeep:start_prune",
        (*COMMON, *MODEL, "keep", "confirmed", "print_json"),
        epilog="Kept are the production version, the one a rollback goes back to, tagged ones and the newest.",
    ),
    Command(
        "doctor",
        "Find what interrupted commands left in the registry; with --yes, mend it.",
        "freqtrade_mlpipe.commands.upkeep:start_doctor",
        (*COMMON, "every_version", "confirmed", "print_json"),
        epilog="The stored files of the production version, the one before it and the challenger are read and "
        "compared with their digests. Exit code 2: something is left that a person has to mend.",
    ),
    Command(
        "keys",
        "Make a signing key, or show its public half.",
        "freqtrade_mlpipe.commands.signing:start_keys",
        ("keys_action", "key_file"),
    ),
    Command(
        "sign",
        "Sign a version with a private key.",
        "freqtrade_mlpipe.commands.signing:start_sign",
        (*COMMON, *MODEL, "model_version", "key_file"),
    ),
    Command(
        "verify",
        "Check every file of a version, and who signed it.",
        "freqtrade_mlpipe.commands.signing:start_verify",
        (*COMMON, *MODEL, "model_version", "bundle", "print_json"),
        epilog="Exit code 2: corrupt, or not signed as registry.require_signature asks.",
    ),
    Command(
        "log-backtest",
        "Attach a result of `freqtrade backtesting` to the version that served it.",
        "freqtrade_mlpipe.commands.tracking:start_log_backtest",
        ("backtest_result", "latest_result", *COMMON, "strategy", *MODEL, "model_version_served", "print_json"),
        epilog='With "tracking": {"log_backtests": true} in the mlpipe block it happens by itself.',
    ),
    Command(
        "sync",
        "Send what the experiment store or the registry did not take when it was down.",
        "freqtrade_mlpipe.commands.tracking:start_sync",
        (*COMMON, "print_json"),
        epilog="May be repeated and interrupted. Exit code 2: something could not be sent and stays.",
    ),
    Command(
        "ui",
        "Show runs and versions in MLflow's pages on this machine (extra `server`).",
        "freqtrade_mlpipe.commands.tracking:start_ui",
        (*COMMON, "port"),
    ),
    Command(
        "report",
        "Write the page of a version: gates, folds, scores, features, backtest, search.",
        "freqtrade_mlpipe.commands.report:start_report",
        ("wanted", "output", *COMMON, *STRATEGY, *MODEL),
        epilog="Prints where the page is. It needs no network and no candles; with candles at hand it shows drift too.",
    ),
    Command(
        "compare",
        "Compare versions or tracked runs: what was set, what was measured, and whether the difference is noise.",
        "freqtrade_mlpipe.commands.compare:start_compare",
        ("contenders", *COMMON, *MODEL, "print_json", "print_csv"),
        epilog="The first is what the others are compared with.",
    ),
    Command(
        "replay",
        "Serve recorded candles as a live exchange on this machine, for dry-run bots without a network.",
        "freqtrade_mlpipe.commands.replay:start_replay",
        ("replay_port", "replay_datadir", "replay_pairs", "replay_timeframe", "speed", "print_config", "user_data_dir",
         "verbosity"),
        epilog="No orders: anything but GET is refused. Ctrl-C ends it with exit code 130.",
    ),
    Command(
        "drift",
        "Look whether what a model sees, says and earns has changed since its training, live or on downloaded candles.",
        "freqtrade_mlpipe.commands.drift:start_drift",
        (*COMMON, *STRATEGY, "timerange", "pairs", "dataformat_ohlcv", *MODEL, "version_that_spoke", "live", "live_db",
         "print_json"),
        epilog="Exit code 0: no drift; 3: drift.",
    ),
    Command(
        "shadow-report",
        "Compare production and challenger on the live candles that both predicted.",
        "freqtrade_mlpipe.commands.shadow:start_shadow_report",
        (*COMMON, "dataformat_ohlcv", *MODEL, "live_db", "print_json"),
    ),
    Command(
        "parity",
        "Predict again what a bot predicted, as a backtest does, and show every candle that differs.",
        "freqtrade_mlpipe.commands.parity:start_parity",
        (*COMMON, *STRATEGY, "timerange", "dataformat_ohlcv", *MODEL, "live_db", "print_json"),
        epilog="Exit code 0: none differs; 3: some do; 2: nothing could be compared, the message says why.",
    ),
    Command(
        "freqtrade",
        "Run any freqtrade command with the offline `replay` exchange known to it.",
        "freqtrade_mlpipe.replay.run:main",
        passthrough=True,
    ),
)  # fmt: skip
