"""The server of a box: its first process, which starts all others and outlives them.

Nothing in the box can reach it. The kernel delivers no signal from inside to the first process of a pid namespace;
system calls that debug a process, or change another's limits, are refused; and its children inherit no descriptors.
"""

import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from gym_core.processes.kernel import guard_memory
from gym_core.processes.sessions.box import files, frames
from gym_core.processes.sessions.box.interpreter import ENDED, Interpreter
from gym_core.processes.sessions.box.jobs import CANCELLED, GONE_S, Job, ended_cpu_s
from gym_core.processes.sessions.box.poller import Drains, Poller, read_away
from gym_core.processes.sessions.box.processes import Process, start_command

_TICK_MS = 20
_HEAVY = "sandbox: the processes of the box held too much memory together; all were killed\n"
_FULL = "sandbox: the box held as many processes as it may; all were killed\n"


def serve(settings: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Serve the owner of the session until it hangs up.

    Args:
        settings: Settings with the session's `wall_s`, `output_bytes` and `limits`, of which `cpu_s` is used.
        descriptors: Descriptor for requests, and descriptor for answers.
    """
    try:
        _Server(settings, *descriptors).serve()
    finally:
        os._exit(1)  # which ends the box


class _Server:
    def __init__(self, settings: dict[str, Any], reads: int, writes: int) -> None:
        if os.getpid() != 1:
            raise RuntimeError("the server of a box must be the first process of a pid namespace")
        self._settings = settings
        self._reads, self._writes = reads, writes
        self._inbox, self._outbox = frames.Inbox(), bytearray()
        self._box = files.Box(os.getcwd())
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        self._env = {**os.environ, "PATH": path}
        self._shell = shutil.which("bash", path=path) or "/bin/sh"
        self._sees_processes = os.path.exists("/proc/self/task")
        self._poller = Poller()
        self._interpreter = Interpreter(self._poller, self._take_answer)
        self._jobs: dict[int, Job] = {}
        self._processes: dict[int, Process] = {}  # by process id
        self._drains = Drains(self._poller, settings["output_bytes"])
        self._left = {"wall": settings["wall_s"], "output": settings["output_bytes"]}
        self._used_up: str | None = None
        self._notice = ""  # for the next command or cell

    def serve(self) -> None:
        guard_memory()
        wakes, wake = os.pipe()
        for descriptor in (wakes, wake, self._reads, self._writes):
            os.set_blocking(descriptor, False)
            os.set_inheritable(descriptor, False)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # not delivered here
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._poller.watch(wakes, lambda: read_away(wakes))
        self._poller.watch(self._reads, self._receive)
        while True:
            self._poller.wait(_TICK_MS if self._jobs else None)
            self._reap()
            for job in list(self._jobs.values()):
                if job.is_done():
                    self._finish(job)

    # Requests.

    def _receive(self) -> None:
        try:
            chunk = os.read(self._reads, 1 << 20)
        except BlockingIOError:
            return
        if not chunk:
            os._exit(0)  # the owner has left
        for head, body in self._inbox.feed(chunk):
            try:
                self._answer(head, body)
            except (files.FileRefused, OSError) as error:
                self._say({"id": head["id"], "refused": str(error)})

    def _answer(self, head: dict[str, Any], body: bytes) -> None:
        number, do = head["id"], head["do"]
        if do in ("exec", "python"):
            self._begin(head, body)
        elif do == "kill":
            if job := self._jobs.get(number):
                job.kill(head["reason"])
        elif do == "clear":
            for job in self._jobs.values():
                job.kill("memory")
            self._kill_all()
            self._notice = _HEAVY
        elif do == "which":
            if job := self._jobs.get(number):
                self._say({"id": number, "process": job.process.pid})
        elif do == "read":
            self._say({"id": number}, self._box.read(head["path"]))
        elif do == "list":
            self._say({"id": number, "names": self._box.names(head["path"])})
        elif do == "write":
            self._box.write(head["path"], body)
            self._say({"id": number})

    def _begin(self, head: dict[str, Any], body: bytes) -> None:
        if self._used_up:
            self._say({"id": head["id"], "used_up": self._used_up})
            return
        started_s, used_cpu_s = time.monotonic(), ended_cpu_s()
        try:
            process, notice = self._start(head, body)
        except BlockingIOError:  # there are as many processes as there may be
            self._kill_all()
            process, notice = self._start(head, body)
            notice = _FULL + notice
        notice, self._notice = self._notice + notice, ""
        self._jobs[head["id"]] = Job(
            head["id"],
            process,
            is_cell=head["do"] == "python",
            cpu_s=head["cpu_s"],
            wall_s=min(head["wall_s"], self._left["wall"]),
            output_bytes=int(min(head["output_bytes"], self._left["output"])),
            started_s=started_s,
            used_cpu_s=used_cpu_s,
            sees_processes=self._sees_processes,
            notice=notice,
        )

    def _start(self, head: dict[str, Any], body: bytes) -> tuple[Process, str]:
        notice = ""
        if head["do"] == "python":
            if any(job.killed_for and job.process is self._interpreter.process for job in self._jobs.values()):
                self._interpreter.lose()
            process, notice = self._interpreter.ask(body)
        else:
            process = start_command(self._shell, body, self._env)
        if process.pid not in self._processes:
            self._processes[process.pid] = process
            for descriptor in process.output.kept:
                self._poller.watch(descriptor, partial(self._listen, process, descriptor))
        return process, notice

    # Ends and limits.

    def _listen(self, process: Process, descriptor: int) -> None:
        limits = [job.output_bytes for job in self._jobs.values() if job.process is process]
        most = limits[0] if limits else self._settings["output_bytes"]
        if not process.output.read(descriptor, most) or process.output.is_over(most):
            self._poller.leave(descriptor)

    def _take_answer(self, answer: bytes) -> None:
        for job in self._jobs.values():
            if job.process is self._interpreter.process:
                job.answer = answer

    def _reap(self) -> bool:
        """Reap ended processes, including orphans; return whether any process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if process := self._processes.pop(pid, None):
                process.exit_status = os.waitstatus_to_exitcode(status)
                if process is self._interpreter.process:
                    self._interpreter.lose()
                if all(job.process is not process for job in self._jobs.values()):
                    self._drain(process)  # it was an interpreter, and ended between two cells

    def _kill_all(self) -> None:
        """Kill everything in the box except this process."""
        with suppress(ProcessLookupError):  # there is nothing else
            os.kill(-1, signal.SIGKILL)
        deadline_s = time.monotonic() + GONE_S
        while self._reap() and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def _finish(self, job: Job) -> None:
        del self._jobs[job.number]
        has_ended = job.process.exit_status is not None
        if job.is_cell and has_ended:
            job.notice += ENDED
            if job.process is self._interpreter.process or self._interpreter.process is None:
                self._interpreter.lose(told=True)
        head, body = job.result()
        if has_ended:
            self._drain(job.process)
        self._left["wall"] -= head["wall_s"]
        self._left["output"] -= len(body)
        self._check_session()
        if job.killed_for != CANCELLED:
            self._say(head, body)

    def _drain(self, process: Process) -> None:
        for descriptor in process.output.kept:
            self._drains.add(descriptor)

    def _check_session(self) -> None:
        """If the session has used up a limit, end everything; nothing will run any more."""
        used_up = [name for name, left in self._left.items() if left <= 0]
        if (
            ended_cpu_s() + sum(process.cpu_s() for process in self._processes.values())
            > self._settings["limits"]["cpu_s"]
        ):
            used_up.append("cpu")
        if used_up and self._used_up is None:
            self._used_up = used_up[0]
            self._kill_all()

    # Answers.

    def _say(self, head: dict[str, Any], body: bytes = b"") -> None:
        self._outbox += frames.encode(head, body)
        self._send()

    def _send(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: os.write(self._writes, self._outbox[: 1 << 20])]
            self._poller.leave(self._writes)
        except BlockingIOError:
            self._poller.watch(self._writes, self._send, select.POLLOUT)
        except OSError:
            os._exit(0)  # the owner has left
