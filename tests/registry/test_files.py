"""A folder appears whole or not at all, and replaces another one the same way."""

from pathlib import Path

import pytest

from freqtrade_mlpipe.registry.files import whole_directory


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
