"""What is said where no Dask cluster can be had; epochs on a real one: tests/commands/test_retrain.py."""

from __future__ import annotations

import pytest

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining.workers import cluster

distributed = pytest.importorskip(
    "distributed", reason="Dask is not installed: pip install '.[dask]'"
)


@pytest.mark.parametrize(
    "address, said",
    [
        ("tcp://127.0.0.1:9", "No Dask scheduler answers"),
        ("tls://127.0.0.1:9", "wants certificates: let DASK_CONFIG name"),
        ("nonsense://127.0.0.1:9", "No Dask scheduler answers"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(address, said, monkeypatch):
    monkeypatch.setattr("freqtrade_mlpipe.retraining.workers._CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match=said), cluster(address):
        pass
