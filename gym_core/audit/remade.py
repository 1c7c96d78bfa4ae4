"""Tasks made again: whether another process makes the same ones."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from gym_core.audit.findings import Finding
from gym_core.environments import EnvironmentFactory, Task, load_environment, members
from gym_core.errors import WorkerError
from gym_core.processes import shared_workers

_CPU_S = 600.0


async def find_changed(spec: str, arguments: dict[str, Any], name: str, tasks: Sequence[Task]) -> list[Finding]:
    """Find tasks that differ when another process makes them: an RNG without seed, or the order of a set of strings.

    Args:
        spec: Name of the environment (see `load_environment`).
        arguments: Arguments of the environment.
        name: Name of the member, where the environment is a mix.
        tasks: Tasks as this process made them.
    """
    call = fingerprints, spec, json.dumps(arguments), name, len(tasks)
    try:
        remade = await shared_workers().call(*call, cpu_s=_CPU_S)
    except WorkerError as error:
        return [Finding("tasks", False, f"another process can't make the tasks: {error}")]
    changed = [task.id for task, other in zip(tasks, remade, strict=False) if _fingerprint(task) != other]
    if not changed and len(remade) == len(tasks):
        return []
    sentence = f"{len(changed)} of {len(tasks)} tasks differ when another process makes them, expected the same"
    return [Finding("tasks", True, f"{sentence}: keep the rows", tuple(changed))]


def fingerprints(spec: str, arguments: str, name: str, limit: int) -> list[str]:
    """Hashes of the first tasks as this process makes them; runs in a worker."""
    return list(map(_fingerprint, islice(_made(spec, arguments)[name].tasks, limit)))


@functools.lru_cache(maxsize=1)
def _made(spec: str, arguments: str) -> dict[str, EnvironmentFactory]:
    return members(load_environment(spec, **json.loads(arguments)))


def _fingerprint(task: Task) -> str:
    content = json.dumps([task.prompt, task.answer, task.info], sort_keys=True, default=_type_name)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _type_name(value: object) -> str:
    return type(value).__name__  # its text may hold an address
