"""`torch.cpu`, with what verl also calls of `torch.cuda`: a device that has no memory of its own."""

from __future__ import annotations

from torch import get_rng_state as _get_rng_state
from torch import set_rng_state as _set_rng_state
from torch.cpu import *  # noqa: F403  # this module stands for torch.cpu


def get_device_name(device: object = None) -> str:
    """By which verl looks up how many operations a second the device can do."""
    return "CPU"


def empty_cache() -> None:
    """Nothing is cached."""


def memory_allocated(device: object = None) -> int:
    """Bytes, of a memory that is the machine's own."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Bytes that are free, and all."""
    return 0, 0


def get_rng_state(device: object = None) -> object:
    """The state of torch's only generator here."""
    return _get_rng_state()


def set_rng_state(state: object, device: object = None) -> None:
    """Set the state of torch's only generator here."""
    _set_rng_state(state)  # type: ignore[arg-type]  # a tensor, as the function above gives
