"""Tasks: one dataset row each, read from JSONL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gym_core.environments.nemo_rows import NEMO_FIELD, chat_messages
from gym_core.errors import TaskError
from gym_core.messages import Message, conversation_problem, user

_FIELDS = ("prompt", "answer", "info", "id", "environment")


@dataclass(frozen=True)
class Task:
    """A question for the policy, and what the environment needs to judge the outcome.

    Attributes:
        prompt: Opening messages, in order; empty if the environment's `setup` returns them.
        answer: Expected outcome, any JSON value; the policy never sees it.
        info: Anything else that the environment needs, as JSON values. For a NeMo Gym row: the whole row.
        id: Name of the task in rollouts and metrics; by default a hash of the fields above.
        environment: Name of the environment that plays the task, or "" if there is only one.
    """

    prompt: list[Message]
    answer: Any = None
    info: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    environment: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            fields = [self.prompt, self.answer, self.info]
            try:
                content = json.dumps(fields, sort_keys=True, default=repr)
            except TypeError:  # keys of several types, or of types that JSON does not know
                content = repr(fields)
            object.__setattr__(self, "id", hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:12])

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Task:
        """Read the task of one dataset row: ours (the attributes above), or NeMo Gym's (`responses_create_params`).

        In our rows `prompt` may be a string, which is the only user message. A NeMo Gym row is kept whole: `prompt` is
        its input as chat messages, and `info` is the row itself with all its verifier fields.

        Raises:
            TaskError: The row is neither; the message says what was found and what was expected.
        """
        if not isinstance(row, Mapping):
            raise TaskError(f"a row must be a JSON object, not {row!r}")
        if NEMO_FIELD in row:
            return cls(_checked(chat_messages(row[NEMO_FIELD])), info=dict(row))
        if "prompt" not in row:
            raise TaskError(f"a row needs 'prompt' or {NEMO_FIELD!r}, got the fields {', '.join(row) or 'none'}")
        if unknown := [name for name in row if name not in _FIELDS]:
            raise TaskError(
                f"unknown field {unknown[0]!r}; the fields are {', '.join(_FIELDS)}; others belong in 'info'"
            )
        for name, expected in (("info", dict), ("id", str), ("environment", str)):
            if name in row and not isinstance(row[name], expected):
                raise TaskError(f"{name!r} must be a JSON {_JSON_NAMES[expected]}, not {row[name]!r}")
        prompt = row["prompt"]
        return cls(**{**row, "prompt": [user(prompt)] if isinstance(prompt, str) else _checked(prompt)})

    def copy(self) -> Task:
        """An equal task whose lists and dicts are its own, so that an episode may write into them."""
        return Task(_own(self.prompt), _own(self.answer), _own(self.info), self.id, self.environment)

    def to_row(self) -> dict[str, Any]:
        """The row that `from_row` reads back as an equal task."""
        return asdict(self)


def _own(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _own(part) for name, part in value.items()}
    return [_own(part) for part in value] if isinstance(value, list) else value


_JSON_NAMES = {dict: "object", str: "string"}


def _checked(prompt: Any) -> list[Message]:
    if not isinstance(prompt, list):
        raise TaskError(f"'prompt' must be a string or a list of messages, not {prompt!r}")
    if problem := conversation_problem(prompt):
        raise TaskError(f"{problem}, in the prompt")
    return prompt


@dataclass(frozen=True)
class JsonlTasks:
    """The tasks of a JSONL file, which each iteration reads again."""

    path: Path

    def __iter__(self) -> Iterator[Task]:
        """Yield the tasks in file order; empty lines are skipped.

        Raises:
            TaskError: A line is not a task; the message names file and line.
        """
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line := line.removeprefix(b"\xef\xbb\xbf").strip():
                    yield self._task(number, line)

    def _task(self, number: int, line: bytes) -> Task:
        try:
            return Task.from_row(json.loads(line))
        except TaskError as error:
            raise TaskError(f"{self.path}:{number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{self.path}:{number}: not JSON ({error}); expected one JSON object per line") from error


def jsonl(path: str | Path) -> JsonlTasks:
    """Tasks from a JSONL file with one row per line (see `Task.from_row`)."""
    return JsonlTasks(Path(path))
