"""Tables as Arrow IPC files: the same bytes for the same content, read with suspicion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from freqtrade_mlpipe.exceptions import BundleError

if TYPE_CHECKING:
    import pyarrow as pa

Column = pd.Series | pd.Index | np.ndarray


def encode_table(frame: pd.DataFrame) -> bytes:
    """The columns of `frame` (not its index) as an uncompressed file.

    Numbers keep their type, times (UTC) become nanoseconds, anything else text.
    """
    return encode_columns({str(name): column for name, column in frame.items()})


def encode_columns(columns: Mapping[str, Column]) -> bytes:
    """As `encode_table`, of columns by name: a hundred of a frame take longer than all the rest of a small table."""
    return arrow_file({name: _arrow(column) for name, column in columns.items()})


def arrow_file(arrays: Mapping[str, pa.Array]) -> bytes:
    """An uncompressed Arrow file of arrays by name."""
    import pyarrow as pa

    table = pa.Table.from_arrays(list(arrays.values()), names=list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=None)
    ) as out:
        out.write_table(table, max_chunksize=100_000)
    return bytes(sink.getvalue().to_pybytes())


def decode_table(name: str, data: bytes, *, max_rows: int) -> pd.DataFrame:
    """What `encode_table` wrote.

    Raises
    ------
    BundleError
        It is damaged, has more rows, or holds types that `encode_table` does not write.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        if table.num_rows > max_rows:
            raise BundleError(f"{name} holds more than the {max_rows} rows allowed.")
        columns = {
            field.name: _column(name, field.type, column)
            for field, column in zip(table.schema, table.columns, strict=True)
        }
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise BundleError(f"{name} cannot be read: {error}. Write the bundle again.") from error
    return pd.DataFrame(columns)


def _arrow(column: Column) -> pa.Array:
    import pyarrow as pa

    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu":
        return pa.array(np.ascontiguousarray(column))
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        nanoseconds = pd.DatetimeIndex(column).as_unit("ns").asi8
        return pa.array(nanoseconds, pa.timestamp("ns", tz="UTC"))
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype != np.bool_:
        return pa.array(np.asarray(column))
    return pa.array([str(value) for value in column], pa.string())


def _column(name: str, kind: object, column: object) -> object:
    import pyarrow as pa

    assert isinstance(column, pa.ChunkedArray)
    if column.null_count:
        raise BundleError(f"{name} holds nulls. Write the bundle again.")
    if kind == pa.timestamp("ns", tz="UTC"):
        nanoseconds = column.cast(pa.int64()).to_numpy()
        return pd.DatetimeIndex(nanoseconds.astype("datetime64[ns]")).tz_localize("UTC")
    if kind == pa.string():
        return column.to_pylist()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return column.to_numpy()
    raise BundleError(f"{name} holds a column of type {kind}. Write the bundle again.")
