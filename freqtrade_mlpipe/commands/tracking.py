"""`log-backtest`, `sync`, `ui`: what belongs to experiments rather than to models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context
from freqtrade_mlpipe.commands.display import console, number, progress_console
from freqtrade_mlpipe.exceptions import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.results import BacktestResult
    from freqtrade_mlpipe.registry import ModelVersion

NOT_ALL_SENT = 2


def start_log_backtest(arguments: dict[str, Any]) -> int:
    """Attach a result that freqtrade stored to the version that served it."""
    from freqtrade_mlpipe.commands.experiments import record_result
    from freqtrade_mlpipe.integration.results import figures, latest_result, read_result

    given, latest = arguments.get("result"), arguments.get("latest_result")
    if bool(given) == bool(latest):
        raise ConfigError("Which result? Give the file that freqtrade wrote, or --latest.")
    context = load_context(arguments)
    path = Path(given) if given else latest_result(_results_folder(context))
    result = read_result(path, context.freqtrade.get("strategy"))
    if result.freqai_run is not None:
        return _log_freqai_backtest(context, result, as_json=bool(arguments.get("print_json")))
    version = _version_behind(context, result, arguments.get("model_version"))
    run_id = record_result(context, version, result)
    found = figures(result.stats)
    if arguments.get("print_json"):
        stdout.write_json(
            {"model": version.name, "version": version.version, "run_id": run_id, "result": path.name,
             "digest": result.digest, "strategy": result.strategy, "figures": found}
        )  # fmt: skip
        return 0
    shown = ", ".join(
        f"{name.replace('_', ' ')} {number(found[name])}"
        for name in ("profit_total", "sharpe", "max_drawdown", "n_trades")
        if name in found
    )
    console.print(
        f"{path.name} is with {version.name} version {version.version} (run {run_id}): {shown}.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _log_freqai_backtest(context: Context, result: BacktestResult, *, as_json: bool) -> int:
    from freqtrade_mlpipe.commands.experiments import record_freqai_result

    page = record_freqai_result(context, result)
    if as_json:
        stdout.write_json(
            {"run_id": result.freqai_run, "result": result.path.name, "report": str(page)}
        )
    else:
        console.print(
            f"{result.path.name} is with the FreqAI run {result.freqai_run}. Report page: {page}",
            highlight=False,
            soft_wrap=True,
        )
    return 0


def _results_folder(context: Context) -> Path:
    return Path(context.freqtrade.get("exportdirectory") or context.user_data / "backtest_results")


def _version_behind(context: Context, result: BacktestResult, asked: str | None) -> ModelVersion:
    """The version that the result names, else the one asked for; its bundle must be the one that served."""
    registry = context.registry()
    served = result.served
    if served is None:
        if asked is None:
            raise DataError(
                f"{result.path.name} does not say which version was served: it comes from a strategy without "
                "MLPipeMixin, from --strategy-list, or from before this was recorded. Name it with --model-version."
            )
        return registry.get_version(context.mlpipe.model_name, asked)
    if asked not in (None, served["version"]):
        raise DataError(
            f"{result.path.name} was served by version {served['version']} of {served['name']}, not by {asked}. "
            "Leave --model-version out."
        )
    version = registry.get_version(served["name"], served["version"])
    if version.digest != served["digest"]:
        raise DataError(
            f"{result.path.name} was served by version {version.version} of another registry: its bundle is "
            f"{served['digest'][:12]}, here it is {version.digest[:12]}. Pass the backtest's configuration with -c."
        )
    return version


def start_sync(arguments: dict[str, Any]) -> int:
    """Send what the store did not take; exit code 2 when something stays."""
    from freqtrade_mlpipe.commands.experiments import record_version
    from freqtrade_mlpipe.registry.pending import register_pending
    from freqtrade_mlpipe.tracking.sync import sync

    context = load_context(arguments)
    settings = context.mlpipe.registry
    with progress_console.status("Sending"):
        done = sync(settings.directory, settings.tracking_uri)
    runs = {known: one.run_id for one in done if one.run_id for known in (one.key, one.run_id)}
    registered = register_pending(context.registry(), runs)
    for fresh in registered:
        record_version(context, fresh)
    if arguments.get("print_json"):
        stdout.write_json(
            {
                "runs": [vars(one) for one in done],
                "registered": [{"name": v.name, "version": v.version} for v in registered],
            }
        )
    else:
        _print_synced([vars(one) for one in done])
        for fresh in registered:
            console.print(f"Registered {fresh.name} version {fresh.version}.", highlight=False)
    return NOT_ALL_SENT if any(one.outcome == "kept" for one in done) else 0


def _print_synced(rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("Nothing to send: every run has arrived.")
        return
    table = Table()
    for column in ("run", "what became of it", "id in the store", "why"):
        table.add_column(column)
    words = {"sent": "sent", "kept": "kept, could not be sent", "open": "still being written"}
    for row in rows:
        table.add_row(row["name"], words[row["outcome"]], row["run_id"] or "-", row["reason"])
    console.print(table)


def start_ui(arguments: dict[str, Any]) -> int:
    """Serve MLflow's pages on this machine only, until Ctrl-C."""
    from freqtrade_mlpipe.mlflow_store import artifact_root, store_uri

    context = load_context(arguments)
    settings = context.mlpipe.registry
    if (settings.tracking_uri or "").startswith(("http://", "https://")):
        raise ConfigError(
            "mlpipe.registry.tracking_uri is a server already: open its address in a browser."
        )
    try:
        version("mlflow")  # `mlflow-skinny` has the module, but neither server nor pages
    except PackageNotFoundError:
        raise MissingExtraError("mlflow (the server and its pages)", "server") from None
    context.registry()  # makes the database if it is not there yet
    port = arguments["port"]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--default-artifact-root", artifact_root(settings.directory).as_uri(),
    ]  # fmt: skip
    # In the environment, because everybody on the machine can read command lines.
    uri = store_uri(settings.tracking_uri, settings.directory)
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true",
                   "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # fmt: skip
    console.print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    return _serve(command, environment)


def _serve(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a server in the foreground; it ends with us, however we are ended short of kill -9."""

    def stop(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, stop)
    server = subprocess.Popen(command, env=environment)
    try:
        return _exit_code(server.wait())
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()


def _exit_code(code: int) -> int:
    if code not in (0, -signal.SIGINT, -signal.SIGTERM):
        raise ConfigError(
            "MLflow's server ended with an error, see above. Is the port taken? Try --port with another number."
        )
    return 0
