"""The single commands on recorded candles, through the replay exchange."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.test_quickstart import run

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "binance"
PAIRS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded candles at {RECORDED}"),
]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A user directory from `init` beside a copy of the candles: freqtrade may rename files it finds."""
    shutil.copytree(RECORDED, tmp_path / "candles", copy_function=shutil.copyfile)
    assert run("init", "--userdir", "user_data", cwd=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("timeframe", "timerange"), [("1h", "20240101-20240901"), ("5m", "20240701-20240901")]
)
def test_train_validate_and_backtest(workplace: Path, timeframe: str, timerange: str) -> None:
    common = (
        "-c", "user_data/config.json", "-c", "user_data/replay.json", "--userdir", "user_data",
        "--datadir", "candles", "--strategy", "MLStrategy",
    )  # fmt: skip
    trained = run(
        "train", *common, "--timerange", timerange, "--timeframe", timeframe, "--trials", "2",
        "--pairs", *PAIRS, cwd=workplace,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    config = json.loads((workplace / "user_data" / "config.json").read_text())
    config["timeframe"] = timeframe
    (workplace / "user_data" / "config.json").write_text(json.dumps(config))
    validated = run("validate", *common, "--json", cwd=workplace)
    assert validated.returncode in (0, 3), validated.stderr
    report = json.loads(validated.stdout)
    assert report["passed"] is (validated.returncode == 0)
    checks = {check["name"]: check for check in report["checks"]}
    for honest in ("untouched window", "self-test", "causality"):
        assert checks[honest]["passed"], checks[honest]

    promoted = run("promote", *common[:-2], "--force-reason", "test", cwd=workplace)
    assert promoted.returncode == 0, promoted.stderr
    backtest = run(
        "freqtrade", "backtesting", *common, "--timerange", timerange, "--cache", "none",
        cwd=workplace,
    )  # fmt: skip
    assert backtest.returncode == 0, backtest.stderr[-3000:]
    assert "Serving trend_classifier version 1" in backtest.stderr
