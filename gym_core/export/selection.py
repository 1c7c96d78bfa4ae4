"""The choice of rollouts for training data, and what all rows have in common."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from math import isfinite
from typing import Any, NamedTuple, cast

from gym_core.environments import Rollout, Task
from gym_core.episodes import group_key
from gym_core.errors import GymError
from gym_core.messages import Message, ToolCall
from gym_core.tokens import Renderer


def scored(rollouts: Iterable[Rollout], dropped: Counter[str], *, keep_truncated: bool) -> list[Rollout]:
    """Rollouts with a reward; those that reached a limit only on request."""
    kept = []
    for rollout in rollouts:
        if rollout.reward is None or not isfinite(rollout.reward):
            dropped["it has no reward"] += 1
        elif rollout.stop_reason in ("max_turns", "length") and not keep_truncated:
            dropped["it was truncated"] += 1
        else:
            kept.append(rollout)
    return kept


def select(
    rollouts: Iterable[Rollout],
    dropped: Counter[str],
    *,
    problem: Callable[[Rollout], str | None],
    min_reward: float,
    best_of: int | None,
    keep_truncated: bool,
) -> list[Rollout]:
    """The rollouts that are worth imitating, in their order.

    Args:
        rollouts: Rollouts of any tasks, in any order.
        dropped: Counter of the other rollouts, by reason.
        problem: Function that says why a rollout can't become a row; it returns None if it can.
        min_reward: Least reward.
        best_of: Most rollouts per task; None takes all.
        keep_truncated: Whether rollouts may have reached a limit.

    Raises:
        GymError: `best_of` is not positive.
    """
    if best_of is not None and best_of < 1:
        raise GymError(f"best_of must be at least 1, not {best_of!r}")
    kept, seen = [], set()
    for rollout in scored(rollouts, dropped, keep_truncated=keep_truncated):
        said = _conversation_key(rollout)
        if reward_of(rollout) < min_reward:
            dropped[f"its reward is below {min_reward:g}"] += 1
        elif reason := problem(rollout):
            dropped[reason] += 1
        elif said in seen:
            dropped["it duplicates another"] += 1
        else:
            seen.add(said)
            kept.append(rollout)
    return kept if best_of is None else _best(kept, best_of, dropped)


def _best(rollouts: Sequence[Rollout], count: int, dropped: Counter[str]) -> list[Rollout]:
    """The rollouts with the highest rewards of each task; of equal ones the first."""
    taken: Counter[tuple[str, ...]] = Counter()
    best = []
    for position in sorted(range(len(rollouts)), key=lambda i: -reward_of(rollouts[i])):
        task = task_key(rollouts[position])
        taken[task] += 1
        if taken[task] <= count:
            best.append(position)
        else:
            dropped[f"it is not among the best {count} of its task"] += 1
    return [rollouts[position] for position in sorted(best)]


def reward_of(rollout: Rollout) -> float:
    """The reward of a rollout that is known to have one."""
    return cast("float", rollout.reward)


def task_key(rollout: Rollout) -> tuple[str, ...]:
    """A key that the rollouts of a task share; tasks without a name are told apart by their opening messages."""
    opening = takewhile(lambda message: message["role"] != "assistant", rollout.output)
    return (*group_key(rollout), json.dumps(rollout.tools), *map(message_key, opening))


def _conversation_key(rollout: Rollout) -> tuple[str, ...]:
    return (json.dumps(rollout.tools), *map(message_key, rollout.output))


def message_key(message: Message) -> str:
    """A key that is equal for messages with the same content, whatever the ids and the spelling of their calls."""
    calls = []
    for call in message.get("tool_calls") or ():
        arguments = _arguments(call)
        calls.append([call["function"]["name"], call["function"]["arguments"] if arguments is None else arguments])
    said = [message["role"], message["content"] or "", message.get("reasoning_content") or "", calls]
    return json.dumps(said, sort_keys=True)


def message_problem(message: Message) -> str | None:
    """Why a chat template can't write a message as it was sampled; None if it can."""
    if all(isinstance(_arguments(call), dict) for call in message.get("tool_calls") or ()):
        return None
    return "the arguments of a call are not a JSON object"


def _arguments(call: ToolCall) -> Any:
    """The arguments as a JSON object; None if they are not strictly one."""
    try:  # `int` refuses NaN and Infinity, which Python would accept
        return json.loads(call["function"]["arguments"], parse_constant=int)
    except (ValueError, RecursionError):
        return None


def policy_turns(rollout: Rollout) -> list[int]:
    """Positions of the policy's turns in the output; assistant turns of the opening are the author's.

    In a line written by hand, without a number of turns and a task, they come after the last message of the user, since
    a turn before it may be an example.
    """
    turns = [position for position, message in enumerate(rollout.output) if message["role"] == "assistant"]
    if rollout.turns:
        return turns[-rollout.turns :]
    opening = rollout.task.prompt
    start = len(opening) if opening and rollout.output[: len(opening)] == opening else _after_the_user(rollout)
    return [position for position in turns if position >= start]


def _after_the_user(rollout: Rollout) -> int:
    said = [position for position, message in enumerate(rollout.output) if message["role"] == "user"]
    return said[-1] + 1 if said else 0


class Lengths:
    """Measures conversations in tokens, as a chat template writes them.

    Args:
        tokenizer: Tokenizer with a chat template; None if nothing is measured.
        max_tokens: Most tokens; None for no limit.

    Raises:
        GymError: There is a limit without a tokenizer, or it is not positive.
    """

    def __init__(self, tokenizer: Any, max_tokens: int | None) -> None:
        if max_tokens is not None and max_tokens < 1:
            raise GymError(f"max_tokens must be at least 1, not {max_tokens!r}")
        if max_tokens is not None and tokenizer is None:
            raise GymError("max_tokens needs a tokenizer, which says how many tokens a conversation has")
        self._max_tokens = max_tokens
        self._renderer = None if max_tokens is None else Renderer(tokenizer, {})

    def problem(self, rollout: Rollout, messages: Sequence[Message]) -> str | None:
        """Say why a conversation is too long; None if it is not."""
        if self._renderer is None:
            return None
        written = rendered(self._renderer, messages, rollout)
        return written.problem or too_long(self._renderer.encode(written.text), self._max_tokens)


def too_long(tokens: Sequence[int], max_tokens: int | None) -> str | None:
    """Say why a row of these tokens is left out; None if it is not."""
    return None if max_tokens is None or len(tokens) <= max_tokens else f"it has more than {max_tokens} tokens"


class Rendered(NamedTuple):
    """A conversation as a chat template writes it, or the reason why it can't."""

    text: str
    problem: str | None = None


def rendered(renderer: Renderer, messages: Sequence[Message], rollout: Rollout) -> Rendered:
    """A conversation as text."""
    try:
        return Rendered(renderer.render(messages, tools=rollout.tools or None))
    except Exception as error:  # a chat template is other people's code, which may raise anything
        return Rendered("", f"the chat template can't write it ({str(error)[:200] or type(error).__name__})")


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Copies for chat templates and Arrow: arguments are objects, no content is None, lone surrogates are U+FFFD."""
    shown = []
    for message in messages:
        copy: dict[str, Any] = {**message, "content": message["content"] or ""}
        if calls := copy.pop("tool_calls", None):
            copy["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": _arguments(call)}} for call in calls
            ]
        shown.append(copy)
    whole = json.dumps(shown, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    copies: list[dict[str, Any]] = json.loads(whole)
    return copies


def tools_column(rollout: Rollout) -> str | None:
    """The tools as JSON text, since Arrow would give every schema the keys of all others; None without tools."""
    return json.dumps(rollout.tools) if rollout.tools else None


def origin(rollout: Rollout) -> dict[str, Any]:
    """The origin of a row, to split a dataset by task or to filter it further."""
    return {"gym_task": task_id(rollout), "gym_reward": reward_of(rollout)}


def task_id(rollout: Rollout) -> str:
    """The name of its task; a hash of the opening if the line has none."""
    if rollout.task != Task([]):
        return rollout.task.id
    turns = policy_turns(rollout)
    return Task(rollout.output[: turns[0]] if turns else rollout.output).id
