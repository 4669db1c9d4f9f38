"""`init`: the strategy and the configuration, written into a freqtrade user directory."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.commands.display import console
from freqtrade_mlpipe.exceptions import ConfigError

TEMPLATES = {
    "strategies/MLStrategy.py": "MLStrategy.py",
    "strategies/MLFreqaiStrategy.py": "MLFreqaiStrategy.py",
    "freqaimodels/MLPipeClassifier.py": "MLPipeClassifier.py",
    "freqaimodels/MLPipeRegressor.py": "MLPipeRegressor.py",
    "freqai.json": "freqai.json",
    "config.json": "config.json",
    "replay.json": "replay.json",
}
"""Path below the user directory → template."""


def start_init(arguments: dict[str, Any]) -> int:
    """Write what is missing; what exists stays as it is."""
    user_data = Path(arguments.get("user_data_dir") or "user_data")
    for path, written in write_user_directory(user_data).items():
        console.print(f"{'wrote' if written else 'kept '} {path}", highlight=False, soft_wrap=True)
    console.print(
        f"\nNext:\n"
        f"  freqtrade download-data --userdir {user_data} --timeframes 1h --timerange 20230101-\n"
        f"  freqtrade-mlpipe train --userdir {user_data} --timerange 20230101-\n"
        f"If config.json is your own, add an `mlpipe` block; all its keys have defaults.\n"
        f"For FreqAI's sliding window add -c {user_data / 'freqai.json'} --strategy MLFreqaiStrategy --freqaimodel "
        f"MLPipeClassifier to `freqtrade backtesting`.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def write_user_directory(user_data: Path) -> dict[Path, bool]:
    """Make a freqtrade user directory with our strategy; returns each file and whether it was written.

    Raises
    ------
    ConfigError
        When the directory cannot be made or written to.
    """
    try:
        return _write_missing(user_data)
    except OSError as error:
        raise ConfigError(f"Cannot write a user directory at {user_data}: {error}.") from error


def _write_missing(user_data: Path) -> dict[Path, bool]:
    from freqtrade.configuration.directory_operations import create_userdata_dir

    create_userdata_dir(str(user_data), create_dir=True)
    written: dict[Path, bool] = {}
    for relative, template in TEMPLATES.items():
        path = user_data / relative
        written[path] = not path.exists()
        if written[path]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(template_text(template), encoding="utf-8")
    return written


def template_text(name: str) -> str:
    """The text of a packaged template."""
    return files("freqtrade_mlpipe").joinpath("templates", name).read_text(encoding="utf-8")
