"""Frames: pickled messages on a stream socket, each after its length."""

from __future__ import annotations

import pickle
import struct

_LENGTH = struct.Struct("!Q")

CHUNK_BYTES = 1 << 16

STOP = _LENGTH.pack(0)
"""The empty frame, which asks for the running hook to be stopped."""


def frame(message: object) -> bytes:
    """The frame of a message.

    Raises:
        Exception: It can't be pickled.
    """
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """The bodies of frames, taken out of what was received."""

    def __init__(self) -> None:
        self._received = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take what was received next."""
        self._received += chunk

    def take(self) -> bytes | None:
        """The body of the next frame, or None where it is not complete yet."""
        start = _LENGTH.size
        if len(self._received) < start:
            return None
        end = start + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        body = bytes(self._received[start:end])
        del self._received[:end]
        return body
