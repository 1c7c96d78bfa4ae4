"""Runs in real containers; the image, with Python 3.11 or newer, is named by GYM_DOCKER_IMAGE."""

import asyncio
import os
import shutil
import subprocess

import pytest

from gym_core.errors import WorkerLostError
from gym_core.processes import Docker, Sandbox
from gym_core.processes.sandbox import docker

IMAGE = os.environ.get("GYM_DOCKER_IMAGE", "")


async def test_the_code_is_not_to_blame_for_a_missing_program():
    sandbox = Sandbox(isolation=Docker("python:3.12-slim", program="no-such-docker"), size=1)
    with pytest.raises(WorkerLostError, match="no-such-docker can't be started"):
        await sandbox.run("print(1)")
    sandbox.close()


async def test_an_engine_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch, caplog):
    engine = tmp_path / "engine"
    engine.write_text("#!/bin/sh\nexec sleep 60\n")
    engine.chmod(0o755)
    monkeypatch.setattr(docker, "_REMOVE_S", 0.2)
    sandbox = Sandbox(isolation=Docker("python:3.12-slim", program=str(engine)), size=1)
    with pytest.raises(WorkerLostError, match="could not run the code"):
        await sandbox.run("print(1)", wall_s=0.2)
    await asyncio.to_thread(sandbox.close)
    assert "a container may be left behind" in caplog.text


@pytest.fixture
def sandbox():
    sandbox = Sandbox(isolation=Docker(IMAGE), size=4)
    yield sandbox
    sandbox.close()
    left = subprocess.run(["docker", "ps", "-aq", "--filter=name=gym-"], capture_output=True, text=True, check=True)
    assert left.stdout == ""


@pytest.mark.slow
@pytest.mark.skipif(not IMAGE or not shutil.which("docker"), reason="needs docker, and GYM_DOCKER_IMAGE")
class TestContainer:
    async def test_code_reads_its_input_and_files_and_prints(self, sandbox):
        code = "import sys; print(sys.stdin.read() + open('a/b.txt').read())"
        ran = await sandbox.run(code, stdin="in ", files={"a/b.txt": "file"})
        assert (ran.ok, ran.stdout, ran.stderr) == (True, "in file\n", "")

    async def test_an_exception_is_the_codes_fault(self, sandbox):
        ran = await sandbox.run("raise ValueError('no')")
        assert ran.exit_status == 1
        assert ran.stderr.endswith("ValueError: no\n")

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        ],
    )
    async def test_endless_code_meets_its_cpu_limit(self, sandbox, code):
        assert (await sandbox.run(code, cpu_s=1.0)).limit == "cpu"

    async def test_memory_and_disk_are_limited(self, sandbox):
        fill = "open('x', 'wb').write(b'0' * (80 << 20))"
        ran = await asyncio.gather(sandbox.run("x = bytearray(2 << 30)"), sandbox.run(fill))
        assert [each.limit for each in ran] == ["memory", "disk"]

    async def test_output_is_cut_off_and_the_container_removed(self, sandbox):
        ran = await sandbox.run("while True: print('x' * 1000)", output_bytes=10_000)
        assert (ran.limit, len(ran.stdout)) == ("output", 10_000)

    async def test_it_has_neither_network_nor_the_hosts_files_or_variables(self, sandbox, monkeypatch):
        monkeypatch.setenv("SECRET", "of the host")
        code = f"""
import os, socket
print("SECRET" in os.environ, os.path.exists({__file__!r}), os.getuid() == 0)
try:
    socket.create_connection(("127.0.0.1", 80), 1)
except OSError:
    print("no network")
try:
    open("/usr/x", "w")
except OSError:
    print("read only")
"""
        assert (await sandbox.run(code)).stdout == "False False False\nno network\nread only\n"

    async def test_a_cancelled_run_is_removed(self, sandbox):
        running = asyncio.ensure_future(sandbox.run("import time; time.sleep(600)"))
        await asyncio.sleep(2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_the_code_is_not_to_blame_for_a_missing_image(self):
        sandbox = Sandbox(isolation=Docker("gym-adapters-no-such-image"), size=1)
        with pytest.raises(WorkerLostError, match=r"could not run the code: .*no-such-image"):
            await sandbox.run("print(1)")
        sandbox.close()
