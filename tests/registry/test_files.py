"""A folder appears whole or not at all, and replaces another one the same way."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from freqtrade_mlpipe.registry.files import scratch_folder, whole_directory


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    return folder


def test_what_was_filled_replaces_what_was_there(old: Path) -> None:
    with whole_directory(old, replace=True) as unfinished:
        (unfinished / "new").touch()
        assert names(old) == {"old"}
    assert names(old.parent) == {"model", "model/new"}


def test_after_an_error_everything_is_as_it_was(old: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_directory(old, replace=True) as unfinished:
        (unfinished / "missing" / "new").touch()
    assert names(old.parent) == {"model", "model/old"}


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_renamed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fails_once(path: Path, target: Path) -> Path:
        if target == old and not path.name.endswith("-old"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="no"), whole_directory(old, replace=True):
        pass
    assert names(old.parent) == {"model", "model/old"}


def test_without_replace_only_an_empty_folder_may_be_there(old: Path) -> None:
    with pytest.raises(OSError), whole_directory(old):
        pass
    assert names(old.parent) == {"model", "model/old"}
    (old / "old").unlink()
    with whole_directory(old) as unfinished:
        (unfinished / "new").touch()
    assert names(old) == {"new"}


def test_interruption_is_not_hidden_by_a_file_that_still_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow's threads write while the folder is removed."""
    remove = os.rmdir

    def late(path: str, **options: Any) -> None:
        if path == "members":
            (bundle / "members" / "0").touch()
        remove(path, **options)

    def interrupted() -> None:
        nonlocal bundle
        with scratch_folder() as folder:
            bundle = Path(folder) / "bundle"
            (bundle / "members").mkdir(parents=True)
            monkeypatch.setattr(os, "rmdir", late)
            raise KeyboardInterrupt

    bundle = Path()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    monkeypatch.undo()
    shutil.rmtree(bundle.parent)
