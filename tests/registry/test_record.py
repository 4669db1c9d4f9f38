"""Records: the same bytes for the same content, everything back, nothing trusted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.facts import BacktestFacts, TrainingFacts
from freqtrade_mlpipe.registry.record import Record, read_record, write_record


def record() -> Record:
    table = pd.DataFrame(
        {
            "pair": ["A/B", "C/D"],
            "date": pd.date_range("2024-01-01", periods=2, freq="1h", tz="UTC", unit="ns"),
            "y": np.array([1, np.nan], dtype=np.float32),
            "signal": np.array([1, -1], dtype=np.int8),
            "n": np.array([3, 4], dtype=np.int64),
        }
    )
    return Record({"a": 1, "nested": {"b": [1.5, float("nan")]}}, {"oos": table})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_record(record(), tmp_path)
    return tmp_path


def test_a_record_comes_back_whole(folder: Path) -> None:
    found = read_record(folder)
    assert found.facts == {"a": 1, "nested": {"b": [1.5, None]}}
    pd.testing.assert_frame_equal(found.tables["oos"], record().tables["oos"], check_freq=False)


def test_the_same_content_gives_the_same_bytes() -> None:
    assert record().to_files() == record().to_files()


def test_people_can_read_a_table_without_this_package(folder: Path) -> None:
    with gzip.open(folder / "oos.arrow.gz") as file:
        assert pd.read_feather(file)["pair"].tolist() == ["A/B", "C/D"]


@pytest.mark.parametrize("name", ["record.json", "oos.arrow.gz"])
def test_a_missing_file_is_an_error_not_a_guess(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RegistryError, match="missing"):
        read_record(folder)


@pytest.mark.parametrize("position", [0, 30, -20])
def test_a_changed_byte_of_a_table_is_found(folder: Path, position: int) -> None:
    path = folder / "oos.arrow.gz"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(RegistryError, match="SHA-256"):
        read_record(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2}', '{"format": 1, "facts": [], "files": {}}', '{"format": 1}',
     '{"format": 1, "facts": {}, "files": {"../record.json": ""}}', "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_a_strange_description_is_refused(folder: Path, text: str) -> None:
    (folder / "record.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RegistryError, match="cannot be read"):
        read_record(folder)


def tampered(folder: Path, packed: bytes) -> None:
    """A table that is what the description says, and yet not what we write."""
    from hashlib import sha256

    (folder / "oos.arrow.gz").write_bytes(packed)
    description = json.loads((folder / "record.json").read_text())
    description["files"]["oos.arrow.gz"] = sha256(packed).hexdigest()
    (folder / "record.json").write_text(json.dumps(description))


def test_well_signed_rubbish_is_refused(folder: Path) -> None:
    for data in (b"rubbish", gzip.compress(b"rubbish"), gzip.compress(b"ARROW1\0\0" * 100)):
        tampered(folder, data)
        with pytest.raises(RegistryError, match="cannot be read"):
            read_record(folder)


def test_a_bomb_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freqtrade_mlpipe.registry.record.MAX_UNPACKED_BYTES", 1_000_000)
    tampered(folder, gzip.compress(bytes(50_000_000)))
    with pytest.raises(RegistryError, match="too large when unpacked"):
        read_record(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "table"
    (folder / "oos.arrow.gz").rename(outside)
    (folder / "oos.arrow.gz").symlink_to(outside)
    with pytest.raises(RegistryError, match="symbolic link"):
        read_record(folder)


@pytest.mark.parametrize(
    "facts",
    [{}, {"estimator": "x"}, {"folds": "many"}, {"candle_seconds": "soon"}],
)
def test_facts_of_another_shape_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(RegistryError, match="does not hold what it should"):
        TrainingFacts.of(Record(facts))


def test_facts_of_a_later_release_are_read_without_what_is_unknown() -> None:
    assert BacktestFacts.of(Record({"summary": {"sharpe": 1.0}, "later": 1})).summary == {
        "sharpe": 1.0
    }
