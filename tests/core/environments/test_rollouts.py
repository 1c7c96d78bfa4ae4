import json
from pathlib import Path

import pytest

from gym_core import (
    EpisodeError,
    Rollout,
    RolloutError,
    Task,
    assistant,
    read_rollouts,
    tool_call,
    user,
    write_rollouts,
)

CALLS = assistant(tool_calls=[tool_call("look", '{"at": "\ud800"}', id="c1")])

ROLLOUTS = [
    Rollout(1.0, [user("2+2?"), assistant("4")]),
    Rollout(
        -0.5, [user("日本語 \u2028 \x85 \r\n"), assistant('"\\\n\t\x00')], components={"correct": 1.0, "format": -1.5}
    ),
    Rollout(0.0, [user("lone \ud83d surrogate"), CALLS, {"role": "tool", "tool_call_id": "c1", "content": "\udc00"}]),
    Rollout(
        None,
        [user("?")],
        error=RolloutError("verify", "KeyError: 'é\udfff'"),
        stop_reason="error",
        task=Task([user("?")], answer={"a": [None]}, info={"b": 1}, environment="E"),
        tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        turns=1,
        tool_calls=2,
        tool_errors=1,
        seconds=0.25,
        step=7,
    ),
]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "rollouts.jsonl"


def test_rollouts_are_strict_json_whatever_the_task_holds():
    def refuse(text: str) -> None:
        raise ValueError(text)

    info = {"nan": float("nan"), "inf": [float("-inf")], "set": {1}, 2: (3, Path("a"))}
    played = Rollout(1.0, [user("q")], task=Task([user("q")], answer=float("inf"), info=info))
    row = json.loads(played.to_json(), parse_constant=refuse)
    assert row["task"]["info"] == {"nan": "NaN", "inf": ["-Infinity"], "set": "{1}", "2": [3, "PosixPath('a')"]}
    assert row["task"]["answer"] == "Infinity"


def test_rollouts_are_read_back_equal(path):
    write_rollouts(path, ROLLOUTS)
    assert list(read_rollouts(path)) == ROLLOUTS
    assert len(path.read_text(encoding="utf-8").split("\n")) == len(ROLLOUTS) + 1


def test_writing_appends(path):
    write_rollouts(path, ROLLOUTS[:1])
    write_rollouts(str(path), iter(ROLLOUTS[1:]))
    assert list(read_rollouts(str(path))) == ROLLOUTS


def test_reward_and_output_are_at_the_top_of_a_line():
    row = json.loads(ROLLOUTS[0].to_json())
    assert list(row)[:2] == ["reward", "output"]
    assert row["reward"] == 1.0
    assert row["output"] == [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def test_text_is_written_readably():
    assert "日本語" in ROLLOUTS[1].to_json()


def test_a_line_needs_only_reward_and_output(path):
    path.write_text('{"reward": 1.0, "output": [{"role": "user", "content": "q"}]}\n\n')
    (rollout,) = read_rollouts(path)
    assert (rollout.reward, rollout.output, rollout.error, rollout.task) == (1.0, [user("q")], None, Task([]))


def test_a_rollout_knows_its_last_reply():
    assert ROLLOUTS[0].last_reply == "4"
    assert ROLLOUTS[3].last_reply == ""


def test_a_broken_rollout_raises_on_demand():
    assert ROLLOUTS[0].raise_for_error() is ROLLOUTS[0]
    with pytest.raises(EpisodeError, match="verify: KeyError: 'é\udfff'"):
        ROLLOUTS[3].raise_for_error()
