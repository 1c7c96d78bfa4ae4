"""Frames: pickled messages on a stream socket, each after its length."""

from __future__ import annotations

import pickle
import struct

_LENGTH = struct.Struct("!Q")

CHUNK_BYTES = 1 << 16

STOP = _LENGTH.pack(0)
"""The empty frame, which asks to stop the running hook."""


def frame(message: object) -> bytes:
    """Make the frame of a message.

    Raises:
        Exception: The message can't be pickled.
    """
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Takes the bodies of frames out of received bytes."""

    def __init__(self) -> None:
        self._received = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add received bytes."""
        self._received += chunk

    def take(self) -> bytes | None:
        """The body of the next frame, or None if it is not complete yet."""
        start = _LENGTH.size
        if len(self._received) < start:
            return None
        end = start + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        body = bytes(self._received[start:end])
        del self._received[:end]
        return body
