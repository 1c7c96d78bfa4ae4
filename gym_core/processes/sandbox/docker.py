"""Containers that isolate runs, for a machine whose own Python must not be visible."""

import itertools
import json
import logging
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from gym_core.errors import WorkerLostError
from gym_core.processes.kernel import BOX
from gym_core.processes.sandbox.backends import BOX_ENV, ENV
from gym_core.processes.sandbox.programs import KERNEL_SOURCES, Program, boot, interpreter_command
from gym_core.processes.sessions import BOX_SOURCES
from gym_core.processes.zygote import End

_log = logging.getLogger(__name__)

_REMOVE_S = 60.0  # for the container engine to remove a container
_UIDS = itertools.cycle(range(1 << 20, 1 << 21))  # a limit on processes counts those of a user in all containers


class Docker:
    """Runs each program in a new container: `Sandbox(isolation=Docker("python:3.12-slim"))`.

    A container has no network and no capability, and its image is read-only; the modules of the sandbox must be in the
    image. It takes some tenths of a second to start. If this process is killed by SIGKILL, a sleeping container lives
    on; the names of containers start with `gym-`.

    Args:
        image: Image with Python 3.11 or newer.
        python: Interpreter in the image.
        program: `docker`, or a program with the same arguments.
        options: Further arguments of `docker run`, such as `["--runtime=runsc"]`.
        disk_bytes: Size of the only writable directory, which is in memory.
    """

    tells_start = True
    opens_boxes = True

    def __init__(
        self,
        image: str,
        *,
        python: str = "python3",
        program: str = "docker",
        options: Sequence[str] = (),
        disk_bytes: int = 64 << 20,
    ) -> None:
        self._program, self._disk_bytes = program, disk_bytes
        limits = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        env = [f"--env={name}={value}" for name, value in {**ENV, **BOX_ENV}.items() if name != "PATH"]
        self._run = [program, "run", "--interactive", "--rm", "--pull=missing", *limits, *env, *options]
        self._image, self._python = image, python

    def start(self, stdin: int, stdout: int, stderr: int, *, limits: Mapping[str, float]) -> "_Container":
        process, remove = self._launch(["--init"], interpreter_command(self._python), stdin, stdout, stderr)
        return _Container(process, limits, remove)

    def open_box(self, settings: Mapping[str, Any], channel: int) -> "_BoxContainer":
        """Start the server of a session as the first process of a container; the caller keeps the socket."""
        command = boot(self._python, [*KERNEL_SOURCES, *BOX_SOURCES], json.dumps(settings))
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  # the container closes it
        try:
            process, remove = self._launch([], command, channel, channel, stderr.fileno())
        except WorkerLostError:
            stderr.close()
            raise
        return _BoxContainer(process, settings["limits"], remove, stderr)

    def _launch(
        self, options: Sequence[str], arguments: Sequence[str], stdin: int, stdout: int, stderr: int
    ) -> tuple["subprocess.Popen[bytes]", list[str]]:
        """Start a container; return the process that starts it, and the command that removes it."""
        name, uid = f"gym-{uuid.uuid4().hex}", next(_UIDS)
        box = f"--tmpfs={BOX}:exec,size={self._disk_bytes},uid={uid},gid={uid}"
        place = [f"--name={name}", f"--user={uid}:{uid}", box, f"--workdir={BOX}", self._image]
        command = [*self._run, *options, *place, *arguments]
        try:
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        except OSError as error:
            raise WorkerLostError(f"{self._program} can't be started: {error}") from error
        return process, [self._program, "rm", "--force", name]

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: runs belong to their callers."""


class _Container(Program):
    """A container; it must be removed by name, since the program that started it is not its parent."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Mapping[str, float], remove: Sequence[str]) -> None:
        super().__init__(process, limits)
        self.pid = None  # its processes are children of the container engine
        self._remove = remove
        self._started_s = time.monotonic()

    def kill(self) -> None:
        super().kill()  # first, so that it can't start the container any more
        self._remove_container()

    def end(self) -> End:
        """How it ended; wall seconds stand in for CPU seconds, which are not reported."""
        return replace(super().end(), cpu_s=time.monotonic() - self._started_s)

    def _remove_container(self) -> None:
        try:
            subprocess.run(self._remove, stdin=subprocess.DEVNULL, capture_output=True, cwd=os.sep, timeout=_REMOVE_S)
        except subprocess.TimeoutExpired as error:
            _log.warning("a container may be left behind: %s", error)


class _BoxContainer(_Container):
    """The container of a session, which ends by itself when its connection closes."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        limits: Mapping[str, float],
        remove: Sequence[str],
        stderr: BinaryIO,
    ) -> None:
        super().__init__(process, limits, remove)
        self._stderr = stderr

    def kill(self) -> None:
        """End the program that started it, without waiting for the container."""
        Program.kill(self)

    def end(self) -> End:
        """How it ended; the machine is to blame, unless the server says otherwise."""
        exit_status, _ = self._waiter.wait()
        self._remove_container()
        said = os.pread(self._stderr.fileno(), 1000, 0).decode(errors="replace").strip()
        return End(exit_status, problem=said or None)

    def close(self) -> None:
        super().close()
        self._stderr.close()
