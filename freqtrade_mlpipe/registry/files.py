"""Reading and writing a folder whose every byte is accounted for.

A folder is described by a list of names with SHA-256 and size. It is read once into memory, checked
there, and only the checked bytes are handed to a parser.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from freqtrade_mlpipe.exceptions import BundleError

MAX_FILES = 2_000
MAX_FILE_BYTES = 512 * 1024**2
MAX_TOTAL_BYTES = 2 * 1024**3
MAX_NAME_LENGTH = 200
MAX_SIGNATURE_BYTES = 4_096
SIGNATURE_FILE = "signature"
"""Beside the manifest and not listed in it: it signs the manifest's digest."""

# Neither a link is followed nor a pipe waited for; O_BINARY exists on Windows only.
_OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
    _OPEN_FLAGS |= getattr(os, _flag, 0)

_PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,4}}")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files on their way, removed at the end of the `with` block.

    MLflow copies in threads that go on for a moment after Ctrl-C: what they still write must not hide the interruption.
    """
    return tempfile.TemporaryDirectory(prefix="mlpipe-", ignore_cleanup_errors=True)


class Listed(Protocol):
    """What a manifest says of one file."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


def sha256(data: bytes) -> str:
    """The SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_name(name: str) -> str:
    """`name` if it is a plain relative file name such as `members/0/model.txt`.

    Raises
    ------
    BundleError
        For an absolute name, `..`, a hidden file, a back-slash, anything outside letters, digits,
        `_`, `.`, `-`, more than five levels or more than 200 characters.
    """
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise BundleError(
            f"Refused the file name {name[:80]!r}: a bundle holds plain relative names only. "
            "The bundle was tampered with or not written by this package; get it again."
        )
    return name


def list_files(root: Path) -> dict[str, int]:
    """Name (with `/`) and size in bytes of each file below `root`, in sorted order.

    Raises
    ------
    BundleError
        `root` is not a folder, or holds a symbolic link, a device, an odd name, too many or too
        large files. Links are never followed.
    """
    if not root.is_dir():
        raise BundleError(f"No bundle at {root}: there is no such folder. Check the path.")
    found: dict[str, int] = {}
    _collect(root, "", found)
    total = sum(found.values())
    if total > MAX_TOTAL_BYTES:
        raise BundleError(
            f"The bundle {root} holds {total} bytes, more than the {MAX_TOTAL_BYTES} allowed."
        )
    return dict(sorted(found.items()))


def _collect(folder: Path, prefix: str, found: dict[str, int]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = check_name(prefix + entry.name)
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                _collect(Path(entry.path), f"{name}/", found)
            elif not stat.S_ISREG(status.st_mode):
                raise BundleError(
                    f"Refused {entry.path}: a bundle holds regular files only, this is a "
                    "symbolic link or a device. Get the bundle again."
                )
            else:
                found[name] = status.st_size
            if len(found) > MAX_FILES:
                raise BundleError(f"Refused {folder}: a bundle holds at most {MAX_FILES} files.")


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a regular file of at most `limit` bytes, never through a symbolic link.

    Raises
    ------
    BundleError
        The file is missing, unreadable, a link or larger than `limit`.
    """
    try:
        with os.fdopen(os.open(path, _OPEN_FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"Refused {path}: not a regular file. Get the bundle again.")
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error}. Get the bundle again.") from error
    if len(data) > limit:
        raise BundleError(f"Refused {path}: larger than the {limit} bytes allowed.")
    return data


def read_listed(
    root: Path, listed: Mapping[str, Listed], *, besides: frozenset[str]
) -> dict[str, bytes]:
    """The bytes of every listed file, each checked against its SHA-256 and size.

    Parameters
    ----------
    root
        The folder.
    listed
        What must be there, by name.
    besides
        Names that may be there without being listed (the manifest itself).

    Raises
    ------
    BundleError
        A file is missing, not listed, or differs.
    """
    found = list_files(root)
    expected = {check_name(name) for name in listed}
    missing, unlisted = expected - set(found), set(found) - expected - besides
    if missing or unlisted:
        raise BundleError(
            f"The bundle {root} is not what its manifest says: missing {_some(missing)}, "
            f"not listed {_some(unlisted)}. Get it again from the registry."
        )
    contents = {}
    for name in sorted(expected):
        entry = listed[name]
        if found[name] != entry.size:
            raise _differs(root / name, f"{found[name]} bytes instead of {entry.size}")
        data = read_file(root / name)
        if len(data) != entry.size or sha256(data) != entry.sha256:
            raise _differs(root / name, "its SHA-256 is another one")
        contents[name] = data
    return contents


def _differs(path: Path, how: str) -> BundleError:
    return BundleError(
        f"{path} differs from the manifest: {how}. The bundle is corrupt or was tampered with; "
        "get it again from the registry."
    )


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3]) or "nothing"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def write_folder(directory: Path, contents: Mapping[str, bytes], *, synced: bool = True) -> None:
    """Write `contents` as the new folder `directory`, whole or not at all.

    The files are written beside it, then the folder is renamed into place.

    Parameters
    ----------
    synced
        Wait until each file is on the disk. False, for what can be made again: after a loss of power files may be
        damaged, which their digests show.

    Raises
    ------
    BundleError
        `directory` exists and is not empty, or cannot be written.
    """
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise BundleError(f"{directory} exists already. Name a new folder, or remove it.")
        with whole_directory(directory) as unfinished:
            write_files(unfinished, contents, synced=synced)
    except OSError as error:
        raise BundleError(f"Cannot write the bundle {directory}: {error}.") from error


@contextmanager
def whole_directory(directory: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which is then renamed to `directory`.

    Only an empty folder may be there, with `replace` any: it is put aside first.

    After an error everything is as it was. A killed process leaves the old folder, the new one or, between the two
    renames, none; never a part of one.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory.parent))
    aside = unfinished.with_name(f"{unfinished.name}-old")
    try:
        yield unfinished
        unfinished.chmod(0o755)
        if directory.is_dir() and not replace:
            directory.rmdir()
        elif directory.exists():
            directory.rename(aside)
        unfinished.rename(directory)
    finally:
        if aside.exists() and not directory.exists():
            aside.rename(directory)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`; a reader sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_files(directory: Path, contents: Mapping[str, bytes], *, synced: bool = True) -> None:
    """Write files by name into a folder that is not in its place yet; `synced`: see `write_folder`."""
    for name, data in contents.items():
        write_file(directory / check_name(name), data, synced=synced)


def write_file(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Write the new file `path`; see `write_folder` for `synced`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        if synced:
            file.flush()
            os.fsync(file.fileno())
