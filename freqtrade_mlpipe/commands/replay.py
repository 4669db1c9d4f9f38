"""`replay`: the offline exchange on a port of this machine, for the unmodified freqtrade executable."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.exceptions import ConfigError


def start_replay(arguments: dict[str, Any]) -> int:
    """Print the configuration that a bot needs, then serve until Ctrl-C (exit code 130)."""
    from freqtrade_mlpipe.replay.server import HOST, Server, client_settings

    logging.basicConfig(level=logging.INFO if arguments.get("verbosity") else logging.WARNING)
    settings = ReplayConfig(
        replay_speed=arguments["speed"], replay_timeframe=arguments.get("timeframe")
    )
    api = _api(_directory(arguments), arguments.get("pairs") or [], settings)
    mode = arguments.get("print_config")
    pairs = {
        name: [
            market.pair for market in api.markets if (market.candle_type == "futures") == perpetual
        ]
        for name, perpetual in (("spot", False), ("futures", True))
    }
    if mode is not None:
        if not pairs[mode]:
            raise ConfigError(f"No {mode} candles are recorded in {api.store.directory}.")
        stdout.write_json(
            client_settings(arguments["port"], pairs[mode], futures=mode == "futures")
        )
        return 0

    def ready(port: int) -> None:
        lines = [
            f"Replaying {', '.join(pairs['spot'] + pairs['futures'])} from {api.store.directory}",
            f"on http://{HOST}:{port} at speed {settings.replay_speed} (Ctrl-C ends it).",
        ]
        for name, served in pairs.items():
            if served:
                snippet = json.dumps(
                    client_settings(port, served, futures=name == "futures"), indent=2
                )
                lines.append(
                    f"\nFor a {name} bot, as a second configuration file after your own "
                    f"(`freqtrade trade -c config.json -c replay-server.json`):\n{snippet}"
                )
        stdout.write("\n".join(lines) + "\n")

    return Server(api, arguments["port"]).run(ready)


def _directory(arguments: dict[str, Any]) -> Path:
    if arguments.get("datadir"):
        return Path(arguments["datadir"])
    return Path(arguments.get("user_data_dir") or "user_data") / "data" / "binance"


def _api(directory: Path, pairs: list[str], settings: ReplayConfig) -> Any:
    """The exchange; what can be wrong with the asked-for pairs is found now and not by a bot."""
    from freqtrade_mlpipe.replay.api import ReplayApi
    from freqtrade_mlpipe.replay.candles import CandleStore

    store = CandleStore(directory)
    store.require_candles()
    recorded = {pair for kind in ("spot", "futures") for pair in store.pairs(kind)}
    if unknown := [pair for pair in pairs if pair not in recorded]:
        raise ConfigError(
            f"Nothing is recorded for {', '.join(unknown)} in {directory}; recorded: {', '.join(sorted(recorded))}."
        )
    api = ReplayApi(store, live=settings, only=pairs or None)
    if not api.markets:
        raise ConfigError(f"{directory} holds no candles of a spot pair or a linear perpetual.")
    api.check(pairs or [api.markets[0].pair])
    return api
