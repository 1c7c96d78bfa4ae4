"""Records: rollouts as lines of JSONL, written and read."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from gym_core.environments.nemo_rows import chat_messages
from gym_core.environments.rollouts import ErrorKind, Rollout, RolloutError, StopReason
from gym_core.environments.tasks import Task
from gym_core.errors import TaskError
from gym_core.messages import Message, conversation_problem
from gym_core.tokens import TokenTrack

_log = logging.getLogger(__name__)

_ITEMS = ("message", "function_call", "function_call_output", "reasoning")
"""Item types of the Responses API, which NeMo Gym writes as the output of a rollout."""


def write_rollouts(path: str | Path, rollouts: Iterable[Rollout]) -> None:
    """Append rollouts to a JSONL file, one per line.

    If the last line is torn, because a process died while writing it, the first rollout starts a new line.
    """
    # A lone surrogate becomes its own JSON escape, so that any text of a model can be written.
    lines = "".join(rollout.to_json() + "\n" for rollout in rollouts).encode(errors="backslashreplace")
    with open(path, "ab") as file:
        file.write(b"\n" + lines if _is_torn(Path(path)) else lines)


def read_rollouts(path: str | Path) -> Iterator[Rollout]:
    """Yield the rollouts of a JSONL file; `rollout_from_row` says what a line may be.

    Empty lines are skipped. So is a torn line, left by a process that died while writing it; a warning names it.

    Raises:
        TaskError: A line is not a rollout; the message names file and line.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not (line := line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            try:
                row = json.loads(line, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                if not _begins_an_object(line, error):
                    raise TaskError(f"{path}:{number}: not JSON ({error}); expected one rollout per line") from error
                _log.warning("%s:%d: the line is torn (%s), its rollout is lost", path, number, error)
                continue
            try:
                yield rollout_from_row(row)
            except TaskError as error:
                raise TaskError(f"{path}:{number}: {error}") from error


def rollout_from_row(row: Any) -> Rollout:
    """Read a rollout from an object with `reward` and `output`, written by this package, another program or by hand.

    The output is a conversation in the OpenAI chat format, in which content may be missing beside tool calls and
    arguments may be an object, or a list of items of the Responses API. A rollout without a reward must have an error;
    if it has none, the error says so. Unknown fields are kept in `extra`.

    Raises:
        TaskError: The object is not a rollout.
    """
    if not isinstance(row, dict) or not row.keys() >= {"reward", "output"}:
        raise TaskError(f"a rollout must be an object with 'reward' and 'output', not {row!r:.200}")
    known = {name: value for name, value in row.items() if name in _READERS and value is not None}
    read = {name: _READERS[name](name, value) for name, value in known.items()}
    unknown = {name: value for name, value in row.items() if name not in _READERS}
    read["extra"] = {**unknown, **read.get("extra", {})}
    reward = read.pop("reward", None)
    if reward is None and "error" not in read:
        read["error"] = RolloutError("verify", "the line has neither a reward nor an error")
    if "output" not in read:
        raise TaskError("'output' must be a list of messages, not None")
    return Rollout(reward, read.pop("output"), **read)


def _is_torn(path: Path) -> bool:
    """Whether the last line of a file has no line break."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _begins_an_object(line: bytes, error: Exception) -> bool:
    """Whether a line that is not JSON could be the start of an object."""
    is_cut = not line.endswith(b"}")
    if isinstance(error, json.JSONDecodeError):
        is_cut = is_cut or error.pos >= len(error.doc) or error.msg.startswith("Unterminated")
    return line.startswith(b"{") and is_cut


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TaskError(f"{name!r} must be a finite number, not {value!r:.200}")
    return float(value)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TaskError(f"{name!r} must be a whole number of at least 0, not {value!r:.200}")
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TaskError(f"{name!r} must be an object, not {value!r:.200}")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TaskError(f"{name!r} must be a list, not {value!r:.200}")
    return value


def _one_of(name: str, value: Any, expected: tuple[str, ...]) -> Any:
    if value not in expected:
        raise TaskError(f"{name!r} must be one of {', '.join(expected)}, not {value!r:.200}")
    return value


def _components(name: str, value: Any) -> dict[str, float]:
    return {part: _number(f"{name}.{part}", number) for part, number in _object(name, value).items()}


def _error(name: str, value: Any) -> RolloutError:
    if not isinstance(value, dict) or not isinstance(value.get("message"), str):
        raise TaskError(f"{name!r} must be an object with 'kind' and 'message', not {value!r:.200}")
    kind = _one_of(f"{name}.kind", value.get("kind"), get_args(ErrorKind))
    return RolloutError(**{**_known(RolloutError, name, value), "kind": kind})


def _task(name: str, value: Any) -> Task:
    return Task.from_row({"prompt": [], **_object(name, value)})


def _tokens(name: str, value: Any) -> TokenTrack:
    track = TokenTrack(**_known(TokenTrack, name, _object(name, value)))
    lists = (track.prompt_ids, track.completion_ids, track.mask, track.logprobs)
    if not all(isinstance(some, list) and all(isinstance(item, int | float) for item in some) for some in lists):
        raise TaskError(f"{name!r} must hold lists of numbers, not {value!r:.200}")
    if not len(track.completion_ids) == len(track.mask) == len(track.logprobs):
        lengths = f"{len(track.completion_ids)}, {len(track.mask)} and {len(track.logprobs)}"
        raise TaskError(f"{name!r} must have completion_ids, mask and logprobs of equal length, not {lengths}")
    return track


def _known(kind: type, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if unknown := [key for key in value if key not in names]:
        raise TaskError(f"{name!r} has no field {unknown[0]!r}; the fields are {', '.join(names)}")
    return dict(value)


def _output(name: str, value: Any) -> list[Message]:
    items = _list(name, value)
    if any(isinstance(item, dict) and item.get("type") in _ITEMS for item in items):
        items = chat_messages({"input": items})
    messages = [_message(item, position) for position, item in enumerate(items)]
    if problem := conversation_problem(messages):
        raise TaskError(f"{problem}, in {name!r}")
    return messages


def _message(item: Any, position: int) -> Any:
    """A message in the form that this package writes, if the value is a message."""
    if not isinstance(item, dict):
        return item
    message = {"content": None, **{name: value for name, value in item.items() if value is not None}}
    if isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_call(call, f"call_{position}_{number}") for number, call in enumerate(calls)]
    if not message.get("tool_calls", True):
        del message["tool_calls"]
    return message


def _call(call: Any, id: str) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = dict(call["function"])
    arguments = function.get("arguments", {})
    if isinstance(arguments, dict):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return {**call, "id": call.get("id") or id, "type": "function", "function": function}


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "reward": _number,
    "output": _output,
    "components": _components,
    "error": _error,
    "stop_reason": lambda name, value: _one_of(name, value, get_args(StopReason)),
    "task": _task,
    "tools": _list,
    "turns": _count,
    "tool_calls": _count,
    "tool_errors": _count,
    "seconds": _number,
    "step": _count,
    "tokens": _tokens,
    "extra": _object,
}
