"""Files in memory, which pass data to a process."""

import os
import tempfile


def sealed_file(data: bytes) -> int:
    """A descriptor for reading data, to which nobody can write."""
    if not hasattr(os, "memfd_create"):
        return _unnamed(data)
    import fcntl  # Windows has none, and imports this module

    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def _unnamed(data: bytes) -> int:
    """A descriptor of a file without a name."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return os.dup(file.fileno())
