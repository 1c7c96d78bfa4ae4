"""Containers as an isolation of runs, for a machine whose own Python must not be seen."""

import itertools
import os
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gym_core.errors import WorkerLostError
from gym_core.processes.kernel import BOX
from gym_core.processes.sandbox.backends import BOX_ENV, ENV
from gym_core.processes.sandbox.programs import Program, interpreter
from gym_core.processes.zygote import End

_UIDS = itertools.cycle(range(1 << 20, 1 << 21))  # a limit on processes counts those of a user, over all containers


class Docker:
    """Runs each program in a new container: `Sandbox(isolation=Docker("python:3.12-slim"))`.

    A container has no network and no capability, and its image is read-only; the modules of the sandbox must be in the
    image. It takes some tenths of a second to start. Where this process is killed by SIGKILL, a container that sleeps
    lives on; their names start with `gym-`.

    Args:
        image: Has Python 3.11 or newer.
        python: The interpreter in the image.
        program: `docker`, or one with the same arguments.
        options: More arguments of `docker run`, such as `["--runtime=runsc"]`.
        disk_bytes: Size of the only directory that can be written, in memory.
    """

    tells_start = True

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
        self._run = [program, "run", "--interactive", "--init", "--rm", "--pull=missing", *limits, *env, *options]
        self._command = [image, *interpreter(python)]

    def start(self, stdin: int, stdout: int, stderr: int, *, limits: Mapping[str, float]) -> "_Container":
        name, uid = f"gym-{uuid.uuid4().hex}", next(_UIDS)
        box = f"--tmpfs={BOX}:exec,size={self._disk_bytes},uid={uid},gid={uid}"
        command = [*self._run, f"--name={name}", f"--user={uid}:{uid}", box, f"--workdir={BOX}", *self._command]
        try:
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        except OSError as error:
            raise WorkerLostError(f"{self._program} can't be started: {error}") from error
        return _Container(process, limits, [self._program, "rm", "--force", name])

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the runs to those who started them."""


class _Container(Program):
    """A container; the program that started it is not its parent, so that it has to be removed by name."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Mapping[str, float], remove: Sequence[str]) -> None:
        super().__init__(process, limits)
        self.pid = None  # its processes are children of the container engine's
        self._remove = remove
        self._started_s = time.monotonic()

    def kill(self) -> None:
        super().kill()  # first, so that it does not start the container after all
        subprocess.run(self._remove, stdin=subprocess.DEVNULL, capture_output=True, cwd=os.sep)

    def end(self) -> End:
        """How it ended; its wall seconds stand for the CPU seconds, which nobody tells."""
        return replace(super().end(), cpu_s=time.monotonic() - self._started_s)
