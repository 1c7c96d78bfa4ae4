"""The files of a box: read, written and listed without leaving it, whatever links and special files it has."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from gym_core.processes.sessions.box.frames import FILE_BYTES

MOST_NAMES = 4096
_MOST_PATH = 4096  # characters; PATH_MAX of linux/limits.h
_SHOWN = 200


class FileRefused(Exception):
    """A path can't be read, written or listed; the message says why."""


class Box:
    """The directory of a session; relative paths start here.

    A link is followed if it stays inside. No part of a path is looked up twice, so no link can be put there after the
    check.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        with _told("read", path), self._open(path, os.O_RDONLY) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > FILE_BYTES:
                raise FileRefused(f"can't read {path!r}: it has {size} bytes, more than {FILE_BYTES}")
            data = b""
            while len(data) <= size and (chunk := os.read(descriptor, size + 1 - len(data))):
                data += chunk
            return data

    def write(self, path: str, data: bytes) -> None:
        """Create a file or replace its content; missing directories are created."""
        with _told("write", path), self._open(path, os.O_WRONLY | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, 0)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; those of directories end with a slash."""
        names = []
        with (
            _told("list", path),
            self._walk(self._parts(path), make=False) as directory,
            os.scandir(directory) as found,
        ):
            for entry in found:
                slash = "/" if entry.is_dir(follow_symlinks=False) else ""
                names.append(os.fsencode(entry.name).decode(errors="backslashreplace") + slash)
                if len(names) > MOST_NAMES:
                    raise FileRefused(f"can't list {path!r}: it has more than {MOST_NAMES} names")
        return sorted(names)

    def _parts(self, path: str) -> list[str]:
        if len(path) > _MOST_PATH:  # `realpath` would take quadratic time
            raise OSError(errno.ENAMETOOLONG, "")
        real = os.path.realpath(os.path.join(self._root, path))
        if real != self._root and not real.startswith(self._root + "/"):
            raise FileRefused(f"can't use {path!r}: it leads out of {self._root}")
        return real[len(self._root) :].split("/")[1:]

    @contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        *parents, name = self._parts(path) or [""]
        if not name:
            raise FileRefused(f"can't use {path!r} as a file: it is a directory")
        with self._walk(parents, make=bool(flags & os.O_CREAT)) as directory:
            descriptor = _open(name, flags, directory)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "a special file"
                raise FileRefused(f"can't use {path!r} as a file: it is {kind}")
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _walk(self, parts: list[str], *, make: bool) -> Iterator[int]:
        directory = os.dup(self._directory)
        try:
            for part in parts:
                if make:
                    _make(part, directory)
                deeper = _open(part, os.O_RDONLY | os.O_DIRECTORY, directory)
                os.close(directory)
                directory = deeper
            yield directory
        finally:
            os.close(directory)


def _open(name: str, flags: int, directory: int) -> int:
    """Open a name that is no link; a FIFO doesn't keep the server waiting."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # Windows has none of them, and imports this module
    return os.open(name, flags, 0o644, dir_fd=directory)


def _make(name: str, directory: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        return


@contextmanager
def _told(verb: str, path: str) -> Iterator[None]:
    shown = repr(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}...")
    try:
        yield
    except OSError as error:
        raise FileRefused(f"can't {verb} {shown}: {os.strerror(error.errno or 0).lower()}") from None
    except RecursionError:  # `realpath` follows a link to a link to a link by calling itself
        raise FileRefused(f"can't {verb} {shown}: {os.strerror(errno.ELOOP).lower()}") from None
    except ValueError:  # a NUL, or half a surrogate pair
        raise FileRefused(f"can't {verb} {shown}: that is not a path") from None
