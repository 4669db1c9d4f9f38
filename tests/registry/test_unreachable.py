"""A store that is down, silent or wrong is named within seconds, and no password with it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import MissingExtraError, TrackingError
from freqtrade_mlpipe.mlflow_store import open_store
from freqtrade_mlpipe.registry import BundleCache, ModelRegistry, RegistryUnavailableError
from tests.registry.conftest import Written
from tests.servers import missing, running

NAME = "trend_classifier"
AT_MOST_SECONDS = 6.0


@contextmanager
def quickly() -> Iterator[None]:
    begin = time.perf_counter()
    yield
    assert time.perf_counter() - begin < AT_MOST_SECONDS


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def _mlflow_imported(tmp_path: Path) -> None:
    """Its import takes seconds, and is not what is timed."""
    import mlflow  # noqa: F401


@pytest.mark.parametrize("uri", ["http://ada:hunter2@127.0.0.1:{}", "postgresql://ada:hunter2@127.0.0.1:{}/db",
                                 "postgresql://127.0.0.1:{}/db?user=ada&password=hunter2"])  # fmt: skip
def test_server_that_is_down_is_named_without_its_password(
    tmp_path: Path, closed_port: int, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with quickly(), pytest.raises(RegistryUnavailableError) as caught:
        ModelRegistry(uri.format(closed_port), tmp_path).get_model_names()
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value) + caplog.text


def test_server_that_never_answers_is_given_up(tmp_path: Path, silent_port: int) -> None:
    with quickly(), pytest.raises(RegistryUnavailableError, match="does not answer"):
        ModelRegistry(f"http://127.0.0.1:{silent_port}", tmp_path).get_model_names()


def test_silent_database_is_given_up_or_its_driver_asked_for(
    tmp_path: Path, silent_port: int
) -> None:
    with quickly(), pytest.raises((RegistryUnavailableError, MissingExtraError)) as caught:
        ModelRegistry(f"postgresql://ada:hunter2@127.0.0.1:{silent_port}/db", tmp_path)
    assert "hunter2" not in str(caught.value)


def test_host_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"no-such-host\.invalid"):
        open_store("postgresql://no-such-host.invalid:5432/db", tmp_path)


@pytest.mark.server
@pytest.mark.slow
def test_bot_goes_on_while_database_and_server_are_down(
    tmp_path: Path, variants: tuple[Written, ...]
) -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with running() as server:
        registry = ModelRegistry(server.uri, tmp_path)
        registry.register_model(model_name=NAME, model_path=variants[0].path)
        registry.promote_to_production(NAME, 1, force_reason="test")
        cache = BundleCache(tmp_path, server.uri)
        assert cache.resolve(NAME).stale_reason is None
        server.postgres.send_signal(signal.SIGINT)
        server.postgres.wait(30)
        with quickly():
            found = cache.resolve(NAME)
        assert found.stale_reason
        assert cache.load(found).digest == variants[0].digest
        with quickly(), pytest.raises(RegistryUnavailableError):
            registry.promote_to_production(NAME, 1, force_reason="again")
        server.mlflow.terminate()
        server.mlflow.wait(30)
        with quickly():
            assert cache.resolve(NAME).stale_reason
