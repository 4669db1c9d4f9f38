"""Data directories, configurations and a guard that fails on any use of the network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.replay import markets_on_disk, netguard

REAL = Path(__file__).parents[3] / "shared" / "data" / "binance"
STRATEGIES = Path(__file__).parent / "strategies"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Fail the test if it, or a Python process that it starts, reaches for another machine."""
    netguard.install(monkeypatch.setattr)
    report = tmp_path / "network-report"
    guard = tmp_path / "guard"
    guard.mkdir()
    source = Path(netguard.__file__).read_text(encoding="utf-8")
    (guard / "sitecustomize.py").write_text(source + "\n\ninstall()\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(guard))
    monkeypatch.setenv(netguard.REPORT_VARIABLE, str(report))
    yield
    assert not report.exists(), f"the network was used: {report.read_text()}"


@pytest.fixture
def spot_candles(tmp_path: Path) -> Path:
    return markets_on_disk.write_spot(tmp_path / "spot")


@pytest.fixture
def futures_candles(tmp_path: Path) -> Path:
    return markets_on_disk.write_futures(tmp_path / "perpetuals")


@pytest.fixture
def real_candles(tmp_path: Path) -> Path:
    """Return a copy of real candles: freqtrade may rename and rewrite files in its data directory."""
    if not REAL.is_dir():
        pytest.skip("the real candles of ../shared/data/binance are not here")
    names = {f"{coin}_USDT-1h.feather": f"{coin}_USDT-1h.feather" for coin in ("BTC", "ETH")}
    perpetual = "futures/BTC_USDT_USDT"
    names[f"{perpetual}-1h-futures.feather"] = f"{perpetual}-1h-futures.feather"
    mark, rates = markets_on_disk.MARK_TIMEFRAME, markets_on_disk.FUNDING_TIMEFRAME
    names[f"{perpetual}-1h-mark.feather"] = f"{perpetual}-{mark}-mark.feather"
    names[f"{perpetual}-1h-funding_rate.feather"] = f"{perpetual}-{rates}-funding_rate.feather"
    (tmp_path / "real" / "futures").mkdir(parents=True)
    for source, target in names.items():
        (tmp_path / "real" / target).write_bytes((REAL / source).read_bytes())
    return tmp_path / "real"


@pytest.fixture
def userdir(tmp_path: Path) -> Path:
    path = tmp_path / "user_data"
    path.mkdir()
    return path


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a freqtrade configuration; keywords override top-level keys."""

    def write(pairs: tuple[str, ...], exchange: dict[str, Any] | None = None, **keys: Any) -> Path:
        prices = {"price_side": "same", "use_order_book": True, "order_book_top": 1}
        config = {
            "exchange": {"name": "replay", "pair_whitelist": list(pairs), **(exchange or {})},
            "stake_currency": "USDT",
            "stake_amount": 100,
            "max_open_trades": 2,
            "dry_run": True,
            "dry_run_wallet": 1000,
            "entry_pricing": prices,
            "exit_pricing": prices,
            "pairlists": [{"method": "StaticPairList"}],
            **keys,
        }
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    return write
