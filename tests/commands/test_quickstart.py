"""What `quickstart` refuses before it writes anything; the job itself is in tests/e2e."""

import pytest

from freqtrade_mlpipe.commands.quickstart import FOLDER, MARKER, _folder
from freqtrade_mlpipe.main import main
from tests.conftest import Workspace


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs quickstart in a new folder, where it must write nothing; its message."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(["quickstart", *options]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        err = " ".join(capsys.readouterr().err.split())
        assert err.startswith("Error: ")
        return err

    return run


def test_folder_with_other_things_in_it_is_left_alone(refused, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text("{}")
    assert "choose another --userdir" in refused("--userdir", "own")


def test_missing_data_directory_is_named_and_can_be_mended_in_the_same_folder(refused):
    for _ in range(2):
        assert "nowhere" in refused("--userdir", "new", "--datadir", "nowhere")


def test_data_directory_without_candles_of_the_timeframe_is_named(refused, tmp_path):
    (tmp_path / "data").mkdir()
    assert "no 1h candles" in refused("--userdir", "new", "--datadir", "data")


@pytest.mark.parametrize("timeframe", ["7x", "soon"])
def test_impossible_timeframe_is_named(refused, timeframe):
    assert timeframe in refused("--userdir", "new", "--timeframe", timeframe)


@pytest.mark.parametrize("option", [["--pairs", "BTC/USDT"], ["--timerange", "20230101-"]])
def test_choice_among_recorded_candles_needs_recorded_candles(refused, option):
    assert "--datadir" in refused("--userdir", "new", *option)


def test_folder_by_default_is_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _folder(None) == tmp_path / FOLDER
    (tmp_path / FOLDER).mkdir()
    assert _folder(None) == tmp_path / f"{FOLDER}-2"


def test_folder_of_an_earlier_quickstart_may_be_used_again(tmp_path):
    (tmp_path / MARKER).write_text("{}")
    assert _folder(str(tmp_path)) == tmp_path


@pytest.mark.e2e
def test_recorded_candles_too_short_are_refused_with_the_pairs(
    untrained: Workspace, market, tmp_path, capsys
):
    untrained.store({pair: frame.head(100) for pair, frame in market.items()})
    options = ["--userdir", str(tmp_path / "new"), "--datadir", str(untrained.datadir)]
    assert main(["quickstart", *options]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "SYNA/USDT has 100, SYNB/USDT has 100" in err
