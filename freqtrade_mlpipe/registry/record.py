"""What was measured on a version, kept beside its bundle so that it can be read at any later time.

A record is a folder of its own among the artifacts of the version's run: `record.json` (facts, and the
digest of every table) and one compressed Arrow table a file. Nothing in it can be executed, and no bundle
depends on it: a version without records still serves.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from freqtrade_mlpipe.exceptions import BundleError, RegistryError
from freqtrade_mlpipe.registry.files import list_files, read_file, sha256
from freqtrade_mlpipe.registry.tables import decode_table, encode_table

RecordKind = Literal["training", "backtest"]

RECORD_FORMAT = 1
MAX_BYTES = 64 * 1024**2
MAX_UNPACKED_BYTES = 512 * 1024**2
MAX_ROWS = 10_000_000

_JSON_FILE = "record.json"
_SUFFIX = ".arrow.gz"
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, eq=False)
class Record:
    """Facts and tables.

    Attributes
    ----------
    facts
        JSON types; floats that are not finite come back as None.
    tables
        By name (letters and `_`). Columns only: an index is not kept. Numbers, times (UTC), text.
    """

    facts: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def to_files(self) -> dict[str, bytes]:
        """File contents by name; the same content gives the same bytes."""
        files = {
            f"{name}{_SUFFIX}": _packed(encode_table(table)) for name, table in self.tables.items()
        }
        content = {
            "format": RECORD_FORMAT,
            "facts": _finite(self.facts),
            "files": {name: sha256(data) for name, data in sorted(files.items())},
        }
        text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return {_JSON_FILE: text.encode(), **files}


def write_record(record: Record, folder: Path) -> None:
    """Write the files of a record into an existing folder."""
    for name, data in record.to_files().items():
        (folder / name).write_bytes(data)


def read_record(folder: Path) -> Record:
    """Read a record back, every byte of it checked first.

    Raises
    ------
    RegistryError
        It is incomplete, damaged, of another format or too large.
    """
    try:
        names = list_files(folder)
        if _JSON_FILE not in names:
            raise BundleError(f"{_JSON_FILE} is missing.")
        content = json.loads(read_file(folder / _JSON_FILE, MAX_BYTES))
        if not isinstance(content, dict) or content.get("format") != RECORD_FORMAT:
            raise BundleError(f"{_JSON_FILE} is not of format {RECORD_FORMAT}.")
        facts, listed = content.get("facts"), content.get("files")
        if not isinstance(facts, dict) or not isinstance(listed, dict):
            raise BundleError(f"{_JSON_FILE} has no facts.")
        tables = {
            name.removesuffix(_SUFFIX): _table(folder, name, digest, names)
            for name, digest in listed.items()
        }
    except (BundleError, ValueError, RecursionError, OSError) as error:
        raise RegistryError(f"The record cannot be read: {error}") from error
    return Record(facts, tables)


def _table(folder: Path, name: str, digest: object, names: Mapping[str, int]) -> pd.DataFrame:
    if name not in names:
        raise BundleError(f"{name} is missing.")
    data = read_file(folder / name, MAX_BYTES)
    if sha256(data) != digest:
        raise BundleError(f"{name} was changed: its SHA-256 is another one.")
    return decode_table(name, _unpacked(name, data), max_rows=MAX_ROWS)


def _packed(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


def _unpacked(name: str, data: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise BundleError(f"{name} is damaged: {error}.") from error
    if not unpacker.eof:
        raise BundleError(f"{name} is cut off, or too large when unpacked.")
    return unpacked


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
