"""Runs of verl's own trainer, each in a process and a Ray cluster of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from gym_core import GymError

KIT = "hydra.searchpath=[pkg://gym_adapters.verl.testing]"
REGISTRATION = "gym_adapters.verl.testing.registration"
"""The module that `VERL_USE_EXTERNAL_MODULES` must name in every process of a run with the kit."""


class TrainingError(GymError):
    """The trainer ended with an error; the message contains the end of its output."""


def main_ppo(
    overrides: Sequence[str],
    *,
    output_dir: Path,
    kit: Literal["cpu", "transformers"] | None = "cpu",
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> list[dict[str, Any]]:
    """Run `python -m verl.trainer.main_ppo` to its end.

    Args:
        overrides: Arguments of the trainer, in addition to the kit's.
        output_dir: Folder for `metrics.jsonl`, the output `main_ppo.log` and checkpoints.
        kit: "cpu", "transformers" for a GPU with rollouts by transformers, or None for verl as released, with vLLM.
        env: Further environment variables.
        timeout_s: Seconds after which the trainer is killed; None waits.

    Returns:
        One dict of metrics for each time that verl logged, with its `step`.

    Raises:
        TrainingError: The trainer failed or took too long.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    folder = output_dir.absolute()
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *([] if kit is None else [KIT, f"+kit={kit}"])]
    command += [
        "trainer.logger=[console,file]",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
        f"hydra.run.dir={folder / 'hydra'}",
        *overrides,
    ]
    # In /tmp, since the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        variables = {**_variables(kit), **(env or {}), "RAY_TMPDIR": ray_folder}
        variables["VERL_FILE_LOGGER_PATH"] = str(folder / "metrics.jsonl")
        status = _run(command, variables, log=folder / "main_ppo.log", timeout_s=timeout_s)
    if status != 0:
        raise TrainingError(f"main_ppo ended with {status}; {folder / 'main_ppo.log'} ends with:\n{_tail(folder)}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{"step": row["step"], **row["data"]} for row in rows]


def _variables(kit: str | None) -> dict[str, str]:
    """The environment variables, without the address of any Ray cluster, which would be someone else's."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    variables.setdefault("RAY_raylet_start_wait_time_s", "300")  # the default of 60 is too little on a busy machine
    if kit is not None:
        modules = variables.get("VERL_USE_EXTERNAL_MODULES", "").split(",")
        variables["VERL_USE_EXTERNAL_MODULES"] = ",".join(dict.fromkeys([*filter(None, modules), REGISTRATION]))
    if kit == "cpu":
        variables |= {"VERL_PLATFORM": "cpu", "TORCH_COMPILE_DISABLE": "1"}
    return variables


def _run(command: list[str], variables: dict[str, str], *, log: Path, timeout_s: float | None) -> int | str:
    """Run a command in a session of its own, and leave nothing of it running."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"no end after {timeout_s} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _tail(folder: Path, lines: int = 40) -> str:
    output = (folder / "main_ppo.log").read_text(encoding="utf-8", errors="replace")
    return "\n".join(output.splitlines()[-lines:])
