"""Rollouts as training data: what enters, and what it becomes. What trainers make of it: tests/trl, tests/unsloth."""

import asyncio
import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core import (
    Environment,
    GymError,
    Rollout,
    RolloutError,
    Rows,
    ScriptedPolicy,
    Task,
    TokenTrack,
    assistant,
    kto_rows,
    preference_pairs,
    read_rollouts,
    rollout,
    sft_rows,
    system,
    tool,
    tool_call,
    user,
    write_jsonl,
    write_rollouts,
)

QUESTION = (user("q"),)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def played(reward, *said, task="t", opening=QUESTION, **options):
    """A rollout; text stands for an assistant message."""
    messages = [assistant(message) if isinstance(message, str) else message for message in said]
    turns = sum(message["role"] == "assistant" for message in messages)
    return Rollout(reward, [*opening, *messages], task=Task([*opening], id=task), **{"turns": turns, **options})


def calls(arguments='{"at": "x"}', name="look", id="c1"):
    return assistant(tool_calls=[tool_call(name, arguments, id=id)])


def answers(content, id="c1"):
    return {"role": "tool", "tool_call_id": id, "name": "look", "content": content}


def replies(rows):
    return [row["messages"][-1]["content"] for row in rows]


# Which rollouts enter

BROKEN = played(None, "broken", error=RolloutError("tool", "KeyError"), stop_reason="error")
CUT = [played(1.0, "cut off", stop_reason="length"), played(1.0, "out of turns", stop_reason="max_turns")]


def test_unscored_and_truncated_rollouts_are_left_out_by_default():
    rollouts = [BROKEN, *CUT, played(math.nan, "nan"), played(1.0, "right"), played(0.0, "wrong")]
    for export in (sft_rows, preference_pairs, kto_rows):
        rows = export(rollouts)
        assert rows.dropped["it has no reward"] == 2
        assert rows.dropped["it was truncated"] == 2
        assert not any(word in json.dumps(rows) for word in ("broken", "nan", "cut off", "out of turns"))


def test_truncated_rollouts_are_used_on_request_and_unscored_ones_never():
    rollouts = [BROKEN, *CUT, played(0.0, "wrong")]
    assert replies(sft_rows(rollouts, keep_truncated=True)) == ["cut off", "out of turns"]
    assert len(kto_rows(rollouts, keep_truncated=True)) == 3
    assert len(preference_pairs(rollouts, keep_truncated=True)) == 1


def test_only_rollouts_with_the_requested_reward_are_used():
    rollouts = [played(reward, f"said {reward}") for reward in (1.0, 0.6, 0.5, -3.0)]
    assert replies(sft_rows(rollouts)) == ["said 1.0"]
    assert replies(sft_rows(rollouts, min_reward=0.5)) == ["said 1.0", "said 0.6", "said 0.5"]
    assert sft_rows(rollouts, min_reward=0.5).dropped == {"its reward is below 0.5": 1}


def test_the_best_rollouts_of_each_task_are_used_in_their_order():
    rollouts = [
        played(reward, f"{task} {i}", task=task) for task in "ab" for i, reward in enumerate([0.5, 1.0, 0.7, 1.0])
    ]
    assert replies(sft_rows(rollouts, min_reward=0.0, best_of=1)) == ["a 1", "b 1"]
    assert replies(sft_rows(rollouts, min_reward=0.0, best_of=3)) == ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"]


def test_tasks_without_names_are_told_apart_by_their_openings():
    """As in files that have nothing but `reward` and `output`."""
    rollouts = [Rollout(1.0, [user(question), assistant("yes")]) for question in ("a?", "b?")]
    assert len(sft_rows(rollouts, best_of=1)) == 2


def test_tasks_with_one_opening_are_told_apart_by_their_names():
    rollouts = [played(1.0, "3", task="secret 3"), played(0.0, "5", task="secret 3"), played(1.0, "5", task="secret 5")]
    assert len(sft_rows(rollouts, best_of=1)) == 2
    (pair,) = preference_pairs(rollouts)
    assert pair["gym_task"] == "secret 3"


def test_duplicates_are_used_once_whatever_the_ids_and_spelling_of_their_calls():
    first = played(1.0, calls(id="a"), answers("x", id="a"), "done")
    again = played(1.0, calls('{"at":"x"}', id="b"), answers("x", id="b"), "done")
    other = played(1.0, calls('{"at": "y"}'), answers("x"), "done")
    rows = sft_rows([first, again, other])
    assert len(rows) == 2
    assert rows.dropped == {"it duplicates another": 1}
    assert len(sft_rows([first, played(1.0, *first.output[1:], tools=TOOLS)])) == 2  # it saw other tools


@pytest.mark.parametrize("arguments", ["{", "[1]", "5", "", '{"at": NaN}', '{"at": -Infinity}', "[" * 5000, '"x"'])
def test_calls_without_json_objects_are_used_only_as_tokens(arguments):
    track = TokenTrack(prompt_ids=[1], completion_ids=[2], mask=[1], logprobs=[0.0])
    malformed = played(1.0, calls(arguments), answers("no"), "sorry", tokens=track)
    assert sft_rows([malformed]).dropped == {"the arguments of a call are not a JSON object": 1}
    assert len(sft_rows([malformed], "tokens")) == 1


def test_a_conversation_without_assistant_text_is_left_out():
    assert sft_rows([played(1.0)]).dropped == {"the assistant wrote nothing": 1}
    assert kto_rows([played(1.0)]).dropped == {"the assistant wrote nothing": 1}
    shots = [user("1+1"), assistant("2"), user("2+2")]
    assert sft_rows([played(1.0, opening=shots)]).dropped == {"the assistant wrote nothing": 1}


NEEDED = "a tokenizer is needed for the form 'text' and for max_tokens of messages, and for nothing else"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"best_of": 0}, "best_of must be at least 1, not 0"),
        ({"form": "sharegpt"}, "form must be one of 'messages', 'text', 'tokens', not 'sharegpt'"),
        ({"form": "text"}, f"{NEEDED}; the form is 'text', max_tokens None"),
        ({"tokenizer": object()}, f"{NEEDED}; the form is 'messages', max_tokens None"),
        ({"max_tokens": 9}, f"{NEEDED}; the form is 'messages', max_tokens 9"),
        ({"form": "tokens", "tokenizer": object()}, f"{NEEDED}; the form is 'tokens', max_tokens None"),
        ({"max_tokens": 0, "tokenizer": object()}, "max_tokens must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused(options, sentence):
    with pytest.raises(GymError) as raised:
        sft_rows([], **options)
    assert str(raised.value) == sentence


# Rows of supervised training


def test_messages_are_the_conversation_with_objects_for_arguments():
    said = [calls('{"at": {"deep": ["x", null]}}'), answers("there"), "It is there."]
    (row,) = sft_rows([played(1.0, *said, opening=[system("s"), user("q")], tools=TOOLS)])
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": {"deep": ["x", None]}}}}
    assert row == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "there"},
            {"role": "assistant", "content": "It is there."},
        ],
        "tools": json.dumps(TOOLS),
        "gym_task": "t",
        "gym_reward": 1.0,
    }


def test_every_row_has_every_column():
    """`Dataset.from_list` takes the columns of the first row."""
    rows = sft_rows([played(1.0, "a"), played(1.0, "b", tools=TOOLS)])
    assert [row["tools"] for row in rows] == [None, json.dumps(TOOLS)]
    assert rows[0].keys() == rows[1].keys()


def test_rows_are_copies():
    said = played(1.0, calls(), answers("x"), "done")
    before = said.to_json()
    (row,) = sft_rows([said])
    row["messages"][1]["tool_calls"][0]["function"]["arguments"]["at"] = "elsewhere"
    row["messages"][0]["content"] = "?"
    assert said.to_json() == before


def test_lone_surrogates_become_the_replacement_character():
    """Neither Arrow nor a tokenizer takes them; as JSON text a call may well contain one."""
    (row,) = sft_rows([played(1.0, calls(r'{"at": "\ud800 \ud83d\ude00"}'), answers("\udc00"), "é😀")])
    function = row["messages"][1]["tool_calls"][0]["function"]
    assert function["arguments"] == {"at": "\ufffd 😀"}
    assert [message["content"] for message in row["messages"][2:]] == ["\ufffd", "é😀"]
    json.dumps(row, ensure_ascii=False).encode()


def test_tokens_are_those_that_were_sampled_and_labels_leave_out_the_rest():
    track = TokenTrack(prompt_ids=[1, 2])
    track.sample([3, 4])
    track.append([5, 6])
    track.sample([7])
    (row,) = sft_rows([played(1.0, "a", user("b"), "c", tokens=track)], "tokens")
    assert row == {
        "input_ids": [1, 2, 3, 4, 5, 6, 7],
        "labels": [-100, -100, 3, 4, -100, -100, 7],
        "gym_task": "t",
        "gym_reward": 1.0,
    }


def test_tokens_that_are_unknown_or_broken_or_not_sampled_are_left_out():
    broken = TokenTrack()
    broken.sample([1], given=[9])
    rollouts = [played(1.0, "a"), played(1.0, "b", tokens=broken), played(1.0, "c", tokens=TokenTrack([1], [2], [0]))]
    assert sft_rows(rollouts, "tokens").dropped == {
        "its tokens are not known": 1,
        "its tokens are not what the engine saw": 1,
        "nothing was sampled": 1,
    }


# Preference pairs and KTO rows


def said_in(messages):
    return [message["content"] for message in messages]


def test_a_pair_is_two_turns_after_the_same_conversation():
    right = played(1.0, calls(id="a"), answers("5", id="a"), "It is 5.", tools=TOOLS)
    wrong = played(0.25, calls(id="b"), answers("5", id="b"), "It is 6.", tools=TOOLS)
    (pair,) = preference_pairs([wrong, right])
    assert said_in(pair["prompt"]) == ["q", "", "5"]
    assert (said_in(pair["chosen"]), said_in(pair["rejected"])) == (["It is 5."], ["It is 6."])
    assert (pair["gym_chosen_reward"], pair["gym_rejected_reward"]) == (1.0, 0.25)
    assert pair["tools"] == json.dumps(TOOLS)


def test_nothing_after_the_point_where_two_rollouts_part_is_in_a_row():
    guess = played(1.0, "4", user("lower"), "2")
    other = played(0.0, "5", user("lower"), "1")
    (pair,) = preference_pairs([guess, other])
    assert [said_in(pair[column]) for column in ("prompt", "chosen", "rejected")] == [["q"], ["4"], ["5"]]


def test_rollouts_that_the_environment_answered_differently_make_no_pair():
    assert preference_pairs([played(1.0, "4", user("lower"), "2"), played(0.0, "4", user("higher"), "5")]) == []


def test_a_turn_is_worth_the_mean_reward_of_the_rollouts_that_took_it():
    """So no turn is both chosen and rejected, as it could be in pairs of rollouts."""
    rollouts = [played(reward, first, user("so?"), f"{i}") for i, (first, reward) in enumerate(GUESSES)]
    pairs = {tuple(said_in(pair["prompt"])): pair for pair in preference_pairs(rollouts)}
    first = pairs["q",]
    assert (said_in(first["chosen"]), said_in(first["rejected"])) == (["a"], ["b"])
    assert (first["gym_chosen_reward"], first["gym_rejected_reward"]) == (0.75, 0.5)
    after_a, after_b = pairs["q", "a", "so?"], pairs["q", "b", "so?"]
    assert (said_in(after_a["chosen"]), said_in(after_a["rejected"])) == (["0"], ["1"])
    assert (said_in(after_b["chosen"]), said_in(after_b["rejected"])) == (["2"], ["3"])
    assert len(preference_pairs(rollouts, margin=0.5)) == 1


GUESSES = [("a", 1.0), ("a", 0.5), ("b", 1.0), ("b", 0.0)]


def test_equal_rewards_make_no_pair_however_many_share_them():
    """The mean of three tenths, added as floats, is not a tenth."""
    assert preference_pairs([played(0.1, "a", user("?"), str(i)) for i in range(3)] + [played(0.1, "b")]) == []


def test_turns_that_differ_in_the_spelling_of_a_call_only_make_no_pair():
    rollouts = [played(1.0, calls('{"at": "x"}'), "a"), played(0.0, calls(' {"at":"x"}'), "a")]
    assert preference_pairs(rollouts) == []


def test_rollouts_of_different_tasks_or_tools_make_no_pair():
    assert preference_pairs([played(1.0, "a", task="1"), played(0.0, "b", task="2")]) == []
    assert preference_pairs([played(1.0, "a", tools=TOOLS), played(0.0, "b")]) == []


def test_turns_of_the_opening_are_not_trained_on():
    shots = [user("1+1"), assistant("2"), user("2+2")]
    rollouts = [played(1.0, "4", opening=shots), played(0.0, "5", opening=shots)]
    by_hand = [replace(one, turns=0, task=Task([])) for one in rollouts]
    for those in (rollouts, [replace(one, turns=0) for one in rollouts], by_hand):
        assert [said_in(row["completion"]) for row in kto_rows(those)] == [["4"], ["5"]]
        assert [said_in(row["chosen"]) for row in preference_pairs(those)] == [["4"]]


def test_a_line_by_hand_trains_all_turns_after_the_last_message_of_the_user():
    by_hand = replace(played(1.0, calls(), answers("4"), "4"), turns=0, task=Task([]))
    assert len(kto_rows([by_hand])) == 2


def test_the_task_of_a_line_without_one_is_its_opening():
    by_hand = [Rollout(1.0, [user(asked), assistant("4")]) for asked in ("2+2", "2+2", "3+1")]
    names = [row["gym_task"] for row in kto_rows(by_hand)]
    assert len(names) == len(set(names)) == 2
    assert [row["gym_task"] for row in sft_rows(by_hand)] == names


def test_a_rollout_takes_part_up_to_a_call_that_no_template_can_write():
    well = played(1.0, "first", user("and?"), "second", task="1")
    ill = played(0.0, "first", user("and?"), calls("{"), answers("no"), "second", task="1")
    rows = kto_rows([well, ill])
    assert [(said_in(row["completion"]), row["gym_reward"]) for row in rows] == [(["first"], 0.5), (["second"], 1.0)]
    assert rows.dropped == {}


def test_kto_rows_are_the_turns_and_whether_they_are_worth_the_threshold():
    rollouts = [played(reward, first, user("so?"), f"{i}") for i, (first, reward) in enumerate(GUESSES)]
    labels = {row["completion"][0]["content"]: row["label"] for row in kto_rows(rollouts)}
    assert labels == {"a": True, "b": True, "0": True, "1": True, "2": True, "3": False}
    strict = {row["completion"][0]["content"]: row["label"] for row in kto_rows(rollouts, threshold=0.75)}
    assert strict == {"a": True, "b": False, "0": True, "1": False, "2": True, "3": False}


TURNS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(TURNS, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from("xy")), max_size=12))
def test_no_pair_contradicts_another_and_each_is_one_turn_of_a_rollout(plan):
    rollouts = [
        played(reward, *[said for turn in turns for said in (turn, user("ok"))], task=task)
        for turns, reward, task in plan
    ]
    conversations = [rollout.output for rollout in rollouts]
    points = set()
    for pair in preference_pairs(rollouts):
        point = (pair["gym_task"], json.dumps(pair["prompt"]))
        assert point not in points
        points.add(point)
        assert pair["chosen"] != pair["rejected"]
        assert pair["gym_chosen_reward"] > pair["gym_rejected_reward"]
        for side in ("chosen", "rejected"):
            through = [*pair["prompt"], *pair[side]]
            assert any(output[: len(through)] == through for output in conversations)
    rows = kto_rows(rollouts)
    assert len(rows) == len({json.dumps([row["gym_task"], row["prompt"], row["completion"]]) for row in rows})


# The card, and files


def test_the_card_counts_used_and_dropped_rollouts_and_says_how_to_train():
    rows = sft_rows(
        [BROKEN, *CUT, played(1.0, "a"), played(0.5, "b"), played(0.5, "c"), played(0.0, "d")], min_reward=0.5
    )
    assert rows.card.startswith("3 rows of `messages`, `tools`, `gym_task`, `gym_reward`, from 3 of 7 rollouts.")
    for line in (
        "| 0.5 | 2 |",
        "| 1 | 1 |",
        "| it has no reward | 1 |",
        "| it was truncated | 2 |",
        "| its reward is below 0.5 | 1 |",
    ):
        assert line in rows.card.splitlines()
    assert "assistant_only_loss=True" in rows.card


def test_many_different_rewards_are_counted_in_ten_ranges():
    rewards = [i / 40 for i in range(41)]
    rows = sft_rows([played(reward, str(reward)) for reward in rewards], min_reward=-1.0)
    lines = [line for line in rows.card.splitlines() if " to " in line and line.startswith("|")]
    assert lines[0] == "| 0 to 0.1 | 4 |"
    assert lines[-1] == "| 0.9 to 1 | 5 |"
    assert sum(int(line.split("|")[2]) for line in lines) == 41


def test_no_rows_have_a_card_that_says_why():
    assert sft_rows([BROKEN]).card.splitlines()[0] == "0 rows, from 0 of 1 rollouts."
    assert "| it has no reward | 1 |" in sft_rows([BROKEN]).card


def test_a_file_is_written_with_its_card_and_replaced(tmp_path):
    path = tmp_path / "sft.jsonl"
    rows = sft_rows([played(1.0, "日本"), played(1.0, "b")])
    write_jsonl(path, rows)
    write_jsonl(str(path), rows)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows
    assert "日本" in path.read_text(encoding="utf-8")
    assert (tmp_path / "sft.md").read_text(encoding="utf-8") == f"# sft.jsonl\n\n{rows.card}\n"


def test_rows_that_were_chosen_by_hand_are_written_without_a_card(tmp_path):
    rows = sft_rows([played(1.0, "a"), played(1.0, "b")])
    chosen = [row for row in rows if row["messages"][-1]["content"] == "b"]
    assert not isinstance(chosen, Rows)
    write_jsonl(tmp_path / "sft.jsonl", iter(chosen))
    assert [path.name for path in tmp_path.iterdir()] == ["sft.jsonl"]


class Coin(Environment):
    """Say heads."""

    tasks = [Task([user("Heads or tails?")])]

    @tool
    def toss(self) -> str:
        """Toss a coin."""
        return "tails"

    def verify(self, rollout):
        return float(rollout.last_reply == "heads")


def test_rollouts_that_were_played_and_written_are_exported(tmp_path):
    toss = assistant(tool_calls=[tool_call("toss")])
    chooser = random.Random(0)
    scripts = [[*chooser.choice([[], [toss]]), reply] for reply in ["heads", "tails"] * 10]
    played = [asyncio.run(rollout(Coin(Coin.tasks[0]), ScriptedPolicy(script))) for script in scripts]
    write_rollouts(tmp_path / "rollouts.jsonl", played)
    read = list(read_rollouts(tmp_path / "rollouts.jsonl"))
    assert {row["messages"][-1]["content"] for row in sft_rows(read)} == {"heads"}
    assert len(sft_rows(read)) == 2
    assert all(row["rejected"][0]["content"] != "heads" for row in preference_pairs(read))
    assert sum(row["label"] for row in kto_rows(read)) >= 2
