"""`torch.cpu`, with the functions of `torch.cuda` that verl calls: a device without memory of its own."""

from __future__ import annotations

from torch import get_rng_state as _get_rng_state
from torch import set_rng_state as _set_rng_state
from torch.cpu import *  # noqa: F403  # this module stands for torch.cpu


def get_device_name(device: object = None) -> str:
    """A name by which verl looks up the operations per second of the device."""
    return "CPU"


def empty_cache() -> None:
    """Do nothing: nothing is cached."""


def memory_allocated(device: object = None) -> int:
    """Number of bytes in use; the memory is the machine's."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Bytes that are free, and bytes in total."""
    return 0, 0


def get_rng_state(device: object = None) -> object:
    """The state of torch's global RNG."""
    return _get_rng_state()


def set_rng_state(state: object, device: object = None) -> None:
    """Set the state of torch's global RNG."""
    _set_rng_state(state)  # type: ignore[arg-type]  # a tensor, as the function above gives
