import asyncio
import math
import time

import pytest

from gym_adapters.verl.rows import Source
from gym_core import GymError, Task, read_rollouts, user
from tests.verl.environments import Adder, Blocking, Counting, Dialog, Echo, Ranked, Unmade

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 1}}\n</tool_call><|im_end|>'
SCHEMA = {
    *("score", "acc", "turns", "tool_calls", "tool_errors", "errors", "timeouts", "truncations", "broken_tokens"),
    "unscored",
}


def spec(env):
    return f"tests.verl.environments:{env.__name__}"


def decoded(tokenizer, row, value):
    return tokenizer.decode([i for i, m in zip(row.response_ids, row.response_mask, strict=True) if m == value])


def use_tool(text):
    return "2<|im_end|>" if "<tool_call>" in text else CALL


def in_turn(*replies):
    replies = iter(replies)
    return lambda text: next(replies)


def test_tool_turns_are_played_and_only_sampled_tokens_count(play, client, tokenizer):
    engine = client(use_tool)
    (row,) = play(spec(Adder), Adder.tasks[1], engine)

    assert row.reward_score == 1.0
    assert decoded(tokenizer, row, 1) == CALL + "2<|im_end|>"
    assert decoded(tokenizer, row, 0) == "\n<|im_start|>tool\n2<|im_end|>\n<|im_start|>assistant\n"
    first, second = (ids for _, ids, _ in engine.requests)
    assert second == first + row.response_ids[: len(second) - len(first)]  # what the engine saw is what is trained on
    assert row.prompt_ids == first
    assert {(p, m) for p, m in zip(row.response_logprobs, row.response_mask, strict=True)} == {(0.0, 0), (-0.5, 1)}
    assert row.num_turns == 4


def test_user_turns_and_an_opening_made_by_setup_are_played(play, client, tokenizer):
    (row,) = play(spec(Dialog), Dialog.tasks[0], client(in_turn("a<|im_end|>", "b<|im_end|>", "c<|im_end|>")))

    assert row.reward_score == 1.0
    assert "a?" in tokenizer.decode(row.prompt_ids)
    assert decoded(tokenizer, row, 1) == "a<|im_end|>b<|im_end|>c<|im_end|>"


def test_a_rollout_stays_with_one_server(play, client):
    engine = client(use_tool)
    play(spec(Adder), Adder.tasks[1], engine, n=2)

    assert len(engine.requests) == 4
    assert len({request for request, _, _ in engine.requests}) == 2


# What verl's trainer expects of an agent loop and does not say


def test_the_steps_of_the_weights_are_those_of_all_turns(play, client):
    engine = client(use_tool)
    original = engine.generate

    async def generate(*args, **kwargs):
        engine.steps = (3, 3) if len(engine.requests) == 0 else (3, 5)
        return await original(*args, **kwargs)

    engine.generate = generate
    (row,) = play(spec(Adder), Adder.tasks[1], engine)

    assert (row.extra_fields["min_global_steps"], row.extra_fields["max_global_steps"]) == (3, 5)


@pytest.mark.parametrize("reply", ["2<|im_end|>", RuntimeError("no server")])
def test_the_steps_are_numbers_if_no_server_reports_them(play, client, reply):
    (row,) = play(spec(Adder), Adder.tasks[1], client(lambda text: reply, steps=None), global_steps=7)

    assert (row.extra_fields["min_global_steps"], row.extra_fields["max_global_steps"]) == (6, 6)


def test_rows_have_the_same_fields_whatever_happened(play, client):
    rows = play(spec(Echo), Echo.tasks[1], client(in_turn("1<|im_end|>", "break<|im_end|>", RuntimeError())), n=3)

    fields = [row.as_dict() for row in rows]
    assert all(each.keys() == fields[0].keys() for each in fields)
    assert {"num_turns", "rm_scores", "rollout_log_probs", "metrics", "multi_modal_data"} <= fields[0].keys()
    assert all(row.extra_fields.keys() == rows[0].extra_fields.keys() for row in rows)


@pytest.mark.parametrize(
    ("env", "reply"),
    [(Echo, "break<|im_end|>"), (Echo, RuntimeError("no server")), (Unmade, "1<|im_end|>"), (Echo, "")],
)
def test_every_row_has_a_token(play, client, env, reply):
    (row,) = play(spec(env), env.tasks[1], client(lambda text: reply))

    assert len(row.response_ids) == len(row.response_mask) == len(row.response_logprobs) >= 1
    assert row.prompt_ids
    assert row.as_dict()["rm_scores"][-1] == row.reward_score


def test_a_failed_rollout_is_a_row_in_which_no_token_counts(play, client, tokenizer, caplog):
    (row,) = play(spec(Echo), Echo.tasks[1], client(lambda text: "break<|im_end|>"))

    assert decoded(tokenizer, row, 0) == "break<|im_end|>"
    assert set(row.response_mask) == {0}
    assert row.reward_score == 0.0
    assert row.extra_fields["reward_extra_info"]["unscored"] == 1.0
    assert "RuntimeError: the verifier broke" in caplog.text


def test_all_environments_report_the_same_metrics(play, client):
    components = ["calls", "length", "reward"]
    infos = [
        play(None, env.tasks[1], client(lambda text, reply=reply: reply), source=Source(spec(env), {}, components))[
            0
        ].extra_fields["reward_extra_info"]
        for env, reply in ((Adder, "2<|im_end|>"), (Echo, "1<|im_end|>"), (Echo, "break<|im_end|>"))
    ]

    assert all(list(info) == list(infos[0]) for info in infos)
    assert set(infos[0]) == SCHEMA | {"calls", "length", "reward_component"}  # verl counts a `reward` of ours twice
    assert all(type(value) is float for info in infos for value in info.values())
    assert (infos[0]["calls"], infos[1]["length"], infos[1]["reward_component"]) == (0.0, 1.0, 1.0)
    assert math.isnan(infos[0]["length"])
    assert math.isnan(infos[2]["length"])


def test_the_last_turn_gets_the_remaining_tokens(play, client, tokenizer):
    overrides = ["data.max_response_length=120", "actor_rollout_ref.rollout.response_length=120"]
    engine = client(in_turn(CALL, "x" * 300))
    (row,) = play(spec(Adder), Adder.tasks[1], engine, overrides=overrides)

    limits = [params["max_tokens"] for _, _, params in engine.requests]
    assert limits == [120, 120 - (len(engine.requests[1][1]) - len(engine.requests[0][1]))]
    assert len(row.response_ids) == 120
    assert row.extra_fields["reward_extra_info"]["truncations"] == 1.0


def test_a_turn_has_a_limit_of_its_own_where_one_is_set(play, client):
    engine = client(in_turn("x" * 100, "y<|im_end|>", "z<|im_end|>"))
    (row,) = play(
        spec(Dialog), Dialog.tasks[0], engine, overrides=["+actor_rollout_ref.rollout.custom.gym.max_turn_tokens=30"]
    )

    assert [params["max_tokens"] for _, _, params in engine.requests] == [30, 30, 30]
    assert row.extra_fields["reward_extra_info"]["turns"] == 3.0


def test_the_sampling_parameters_are_copied_for_every_turn(play, client):
    engine = client(use_tool)  # pops keys, as verl's vLLM server does
    play(spec(Adder), Adder.tasks[1], engine, n=2)

    assert all({"max_tokens", "temperature", "logprobs"} <= params.keys() for _, _, params in engine.requests)


def test_an_opening_that_is_too_long_fails_instead_of_losing_its_start(play, client, caplog):
    engine = client(lambda text: "1<|im_end|>")
    (row,) = play(spec(Echo), Task([user("x" * 500)], answer="1"), engine)

    assert not engine.requests
    assert set(row.response_mask) == {0}
    assert "expected at most the 400 of data.max_prompt_length" in caplog.text


def test_there_are_no_log_probabilities_where_verl_asks_for_none(play, client):
    (row,) = play(
        spec(Echo),
        Echo.tasks[1],
        client(lambda text: "1<|im_end|>"),
        overrides=["actor_rollout_ref.rollout.calculate_log_probs=false"],
    )

    assert row.response_logprobs is None


# Groups


def test_a_failed_rollout_gets_the_mean_of_its_group(play, client):
    replies = in_turn("1<|im_end|>", "0<|im_end|>", "break<|im_end|>", "1<|im_end|>")
    rows = play(spec(Echo), Echo.tasks[1], client(replies), n=4)

    rewards = [1.0, 0.0, pytest.approx(2 / 3), 1.0]
    assert [row.reward_score for row in rows] == rewards
    for name in ("score", "acc"):  # by which verl may filter groups
        assert [row.extra_fields["reward_extra_info"][name] for row in rows] == rewards


def test_an_environment_judges_the_rollouts_of_a_prompt_together(play, client):
    replies = in_turn("short<|im_end|>", "longest of all<|im_end|>", "longer<|im_end|>")
    rows = play(spec(Ranked), Ranked.tasks[0], client(replies), n=3)

    assert [row.reward_score for row in rows] == [0.0, 1.0, 0.0]


def test_groups_are_refused_where_verl_spreads_them_over_processes(play, client, config, tokenizer):
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap

    from gym_adapters.verl import GymAgentLoop
    from gym_adapters.verl.rows import verl_row

    composed = config()
    options = {"processor": None, "dataset_cls": None, "data_config": DictConfigWrap(composed.data)}

    async def played():
        loop = GymAgentLoop(DictConfigWrap(composed), client(str), tokenizer, **options)
        await loop.run({}, **verl_row(Source(spec(Ranked)), Ranked.tasks[0], index=0, split="train"))

    with pytest.raises(GymError, match=r"set trainer\.use_v1=true"):
        asyncio.run(played())


# Concurrency


def test_a_worker_plays_no_more_rollouts_at_a_time_than_it_may(play, client):
    Counting.most = 0
    overrides = ["+actor_rollout_ref.rollout.custom.gym.max_concurrency=3"]
    rows = play(spec(Counting), Counting.tasks[1], client(lambda text: "1<|im_end|>"), n=12, overrides=overrides)

    assert Counting.most == 3
    assert [row.reward_score for row in rows] == [1.0] * 12


def test_an_environment_that_blocks_does_not_keep_the_worker_waiting(play, client):
    engine, gaps = client(lambda text: "1<|im_end|>"), []

    async def watch():
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - started)

    original = engine.generate

    async def generate(*args, **kwargs):
        engine.watch = engine.watch if hasattr(engine, "watch") else asyncio.create_task(watch())
        return await original(*args, **kwargs)

    engine.generate = generate
    play(spec(Blocking), Blocking.tasks[1], engine, n=3)

    assert sum(gaps) > 0.8  # three verifiers that block for 0.3 s each
    assert sorted(gaps)[-2] < 0.25  # of about 80, none of which waited for one of them


# Tool calls


@pytest.mark.parametrize(
    ("called", "answer"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "b is missing"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1,}</tool_call>', "add"),
        ('<tool_call>{"name": "add", "arguments"', "add"),
        ('<tool_call>{"name": "sub", "arguments": {}}</tool_call>', "unknown tool 'sub'"),
    ],
)
def test_a_call_that_cannot_be_run_is_answered(play, client, tokenizer, called, answer):
    (row,) = play(spec(Adder), Adder.tasks[1], client(in_turn(f"{called}<|im_end|>", "2<|im_end|>")))

    assert answer in decoded(tokenizer, row, 0)
    assert '"error"' in decoded(tokenizer, row, 0)
    assert row.extra_fields["reward_extra_info"]["tool_errors"] == 1.0


def test_other_formats_of_calls_are_read_by_verls_parsers(play, client, tokenizer):
    called = (
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n1\n</parameter>\n</function>\n"
    )
    (row,) = play(
        spec(Adder),
        Adder.tasks[1],
        client(in_turn(f"{called}</tool_call><|im_end|>", "2<|im_end|>")),
        overrides=["actor_rollout_ref.rollout.multi_turn.format=qwen3_coder"],
    )

    assert "<|im_start|>tool\n2<|im_end|>" in decoded(tokenizer, row, 0)
    assert row.extra_fields["reward_extra_info"]["tool_errors"] == 0.0


# What can't work is said


def test_an_unknown_option_is_refused(play, client):
    with pytest.raises(GymError, match="no option 'max_turns'; the options are max_concurrency"):
        play(spec(Echo), Echo.tasks[1], client(str), overrides=["+actor_rollout_ref.rollout.custom.gym.max_turns=3"])


def test_a_row_without_a_task_is_refused(play, client):
    with pytest.raises(GymError, match="make the data with"):
        play(spec(Echo), Echo.tasks[1], client(str), extra_info={"index": 0})


def test_a_chat_template_that_can_not_be_continued_is_refused(play, client, tokenizer, monkeypatch):
    counting = tokenizer.chat_template.replace("{{- '<|im_start|>' ~", "{{- messages | length ~ '<|im_start|>' ~")
    monkeypatch.setattr(tokenizer, "chat_template", counting)
    from gym_adapters.verl import agent_loop

    agent_loop._template.cache_clear()
    with pytest.raises(GymError, match="'Adder' can't be played with this tokenizer"):
        play(spec(Adder), Adder.tasks[1], client(use_tool))
    agent_loop._template.cache_clear()


def test_rollouts_are_written_where_asked(play, client, tmp_path):
    overrides = [f"+actor_rollout_ref.rollout.custom.gym.rollouts_dir={tmp_path}"]
    play(spec(Echo), Echo.tasks[1], client(in_turn("1<|im_end|>", "break<|im_end|>")), n=2, overrides=overrides)

    (file,) = tmp_path.iterdir()
    rollouts = list(read_rollouts(file))
    assert sorted((rollout.reward, rollout.step) for rollout in rollouts if rollout.reward is not None) == [(1.0, 4)]
    assert [rollout.error.kind for rollout in rollouts if rollout.error] == ["verify"]
