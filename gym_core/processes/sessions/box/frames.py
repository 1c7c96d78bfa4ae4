"""Frames: a JSON head and bytes, the messages between the two ends of a session."""

import json
import struct
from collections.abc import Iterator
from typing import Any

LENGTHS = struct.Struct("!II")
"""The start of a frame: the lengths of the head and of the bytes."""

CELL_BYTES = 128 << 10
"""Most bytes of a cell; more might not fit between the server and an interpreter that has stopped reading."""

FILE_BYTES = 16 << 20
"""Most bytes of a file that is read or written at once."""


def encode(head: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame."""
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


class Inbox:
    """Reassembles frames, however they were split on their way."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The frames that are complete now."""
        self._kept += chunk
        while len(self._kept) >= LENGTHS.size:
            head, body = LENGTHS.unpack_from(self._kept)
            end = LENGTHS.size + head + body
            if len(self._kept) < end:
                return
            text = bytes(self._kept[LENGTHS.size : LENGTHS.size + head])
            data = bytes(self._kept[LENGTHS.size + head : end])
            del self._kept[:end]
            yield json.loads(text), data
