"""Refuses Arrow files that would unpack to more than they are.

A compressed buffer names its unpacked size by itself, and Arrow allocates what it names. The tables of
a bundle are written uncompressed, so a compressed one is an attack. Arrow's reader has no switch for
that: the footer is read here. Formats: Arrow columnar format, "IPC file format"; flatbuffers' internals.
"""

from __future__ import annotations

import struct

from freqtrade_mlpipe.exceptions import BundleError

_MAGIC = b"ARROW1"
_CONTINUATION = 0xFFFFFFFF
_BLOCK_BYTES = 24
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_KIND, _MESSAGE_HEADER = 1, 2
_RECORD_BATCH, _COMPRESSION = 3, 3


def refuse_compressed(name: str, data: bytes) -> None:
    """Refuse an Arrow file unless all of its batches are plain.

    Raises
    ------
    BundleError
        It is compressed, has dictionaries, or is not an Arrow file at all.
    """
    try:
        if not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
            raise ValueError("it does not begin and end as one")
        (length,) = struct.unpack_from("<i", data, len(data) - len(_MAGIC) - 4)
        start = len(data) - len(_MAGIC) - 4 - length
        if length <= 0 or start < 0:
            raise ValueError("its footer is not in it")
        footer = start + struct.unpack_from("<I", data, start)[0]
        if _blocks(data, footer, _FOOTER_DICTIONARIES):
            raise ValueError("it has dictionaries")
        for offset in _blocks(data, footer, _FOOTER_BATCHES):
            _check_batch(data, offset)
    except (struct.error, ValueError) as error:
        raise BundleError(
            f"{name} is not a plain Arrow table: {error}. Get the bundle again."
        ) from error


def _blocks(data: bytes, footer: int, slot: int) -> list[int]:
    """The places of the messages that a vector of blocks in the footer names."""
    vector = _field(data, footer, slot)
    if vector is None:
        return []
    vector += struct.unpack_from("<I", data, vector)[0]
    (n,) = struct.unpack_from("<I", data, vector)
    if n * _BLOCK_BYTES > len(data):
        raise ValueError("it counts more batches than it can hold")
    places = range(vector + 4, vector + 4 + n * _BLOCK_BYTES, _BLOCK_BYTES)
    return [struct.unpack_from("<q", data, place)[0] for place in places]


def _check_batch(data: bytes, offset: int) -> None:
    if not 0 <= offset < len(data):
        raise ValueError("a batch is not in it")
    if struct.unpack_from("<I", data, offset)[0] != _CONTINUATION:
        raise ValueError("a batch is of an old kind")
    start = offset + 8
    message = start + struct.unpack_from("<I", data, start)[0]
    kind = _field(data, message, _MESSAGE_KIND)
    header = _field(data, message, _MESSAGE_HEADER)
    if kind is None or header is None or data[kind] != _RECORD_BATCH:
        raise ValueError("a message is no batch")
    batch = header + struct.unpack_from("<I", data, header)[0]
    if _field(data, batch, _COMPRESSION) is not None:
        raise ValueError("it is compressed")


def _field(data: bytes, table: int, slot: int) -> int | None:
    """The place of a field of a flatbuffers table, None where it is not given."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    if 4 + 2 * slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)
    if offset and not 0 <= table + offset < len(data):
        raise ValueError("a field is not in it")
    return table + offset if offset else None
