import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from gym_adapters.trl.testing import char_tokenizer
from gym_core import (
    ChatTemplate,
    Environment,
    OutOfTokens,
    PolicyError,
    Sampled,
    Task,
    TokenizedPolicy,
    assistant,
    rollout,
    text,
    tool,
    user,
)

TOKENIZER = char_tokenizer()
TEMPLATE = ChatTemplate(TOKENIZER)
EOS = TOKENIZER.eos_token_id


class Talk(Environment):
    """Answers everything, until it hears 'bye'."""

    tasks = [Task([user("hi")])]

    @tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        return a + b

    def respond(self, message):
        return None if "bye" in text(message) else user("go on")

    def verify(self, rollout):
        return 1.0


class Engine:
    """Says what it is told to, and keeps what it was given.

    Args:
        turns: Texts, or whole samples.
    """

    def __init__(self, *turns, reports=True):
        self.turns = list(turns)
        self.reports = reports
        self.prompts, self.asked = [], []

    async def __call__(self, prompt_ids, /, *, max_tokens):
        self.prompts.append(prompt_ids)
        self.asked.append(max_tokens)
        turn = self.turns[len(self.prompts) - 1]
        if isinstance(turn, Sampled):
            return turn
        ids = encode(turn)
        finish_reason = "stop" if len(ids) <= max_tokens else "length"
        ids = ids[:max_tokens]
        return Sampled(ids, [-1.0] * len(ids), finish_reason, list(prompt_ids) if self.reports else None)


def encode(said):
    return TOKENIZER.encode(said, add_special_tokens=False)


async def play(engine, env=Talk, *, max_tokens=500, **options):
    return await rollout(env(env.tasks[0]), TokenizedPolicy(engine, TEMPLATE, max_tokens=max_tokens, **options))


def shown(track):
    """The completion with what was not sampled in square brackets."""
    told, was = "", 1
    for token, mask in zip(track.completion_ids, track.mask, strict=True):
        told += ("[" if was > mask else "]" if was < mask else "") + TOKENIZER.decode([token])
        was = mask
    return told


async def test_only_sampled_tokens_are_unmasked_over_tools_and_user_turns():
    call = '<call>add {"a": 1, "b": 2}</call>'
    engine = Engine(f"{call}<eos>", "3<eos>", f"{call}{call}<eos>", "bye<eos>")
    played = await play(engine)
    assert shown(played.tokens) == (
        f"{call}<eos>[<tool>3<assistant>]3<eos>[<user>go on<assistant>]{call}{call}<eos>"
        "[<tool>3<tool>3<assistant>]bye<eos>"
    )
    assert TOKENIZER.decode(played.tokens.prompt_ids) == "<user>hi<assistant>"
    assert played.tokens.logprobs == [-1.0 * mask for mask in played.tokens.mask]
    assert (played.reward, played.stop_reason, played.tokens.broken) == (1.0, "done", None)


async def test_every_prompt_of_the_engine_is_the_track_at_that_time_and_extends_the_one_before():
    engine = Engine("a<eos>", '<call>add {"a": 1, "b": 2}</call><eos>', "b<eos>", "bye<eos>")
    played = await play(engine)
    for prompt, turn in zip(engine.prompts, engine.turns, strict=True):
        assert played.tokens.ids[: len(prompt)] == prompt
        assert played.tokens.ids[len(prompt) :][: len(encode(turn))] == encode(turn)
    for before, after in zip(engine.prompts, engine.prompts[1:], strict=False):
        assert after[: len(before)] == before


async def test_a_turn_cut_off_is_ended_for_the_model_with_a_token_that_is_masked():
    played = await play(Engine("a long story", "bye<eos>"), max_turn_tokens=4)
    assert shown(played.tokens) == "a lo[<eos><user>go on<assistant>]bye<eos>"
    assert [text(message) for message in played.output] == ["hi", "a lo", "go on", "bye"]
    assert played.stop_reason == "done"


async def test_a_turn_that_ends_on_its_last_token_gets_no_second_end():
    played = await play(Engine("abc<eos>", "bye<eos>"), max_turn_tokens=4)
    assert shown(played.tokens) == "abc<eos>[<user>go on<assistant>]bye<eos>"


async def test_a_call_cut_off_is_answered():
    played = await play(Engine('<call>add {"a": 1, "b"', "bye<eos>"), max_turn_tokens=20)
    assert played.output[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1, "b"'}
    assert "not valid JSON" in played.output[2]["content"]
    assert (played.tool_errors, played.stop_reason) == (1, "done")


async def test_an_empty_turn_is_a_turn():
    for nothing in (Sampled([], []), Sampled([EOS], [-1.0])):
        played = await play(Engine(nothing, nothing, "bye<eos>"))
        assert [text(message) for message in played.output] == ["hi", "", "go on", "", "go on", "bye"]
        assert TOKENIZER.decode(played.tokens.ids) == (
            "<user>hi<assistant><eos><user>go on<assistant><eos><user>go on<assistant>bye<eos>"
        )
        assert played.tokens.mask.count(1) == 2 * len(nothing.ids) + 4


async def test_a_completion_that_fills_the_budget_is_stopped_for_its_length():
    played = await play(Engine("a story without an end"), max_tokens=8)
    assert shown(played.tokens) == "a story "
    assert (played.stop_reason, played.reward) == ("length", 1.0)


async def test_the_budget_ends_the_rollout_at_a_turn_boundary():
    whole = await play(Engine("a<eos>", "b<eos>", "bye<eos>"))
    for budget in range(1, len(whole.tokens.completion_ids) + 2):
        engine = Engine("a<eos>", "b<eos>", "bye<eos>")
        played = await play(engine, max_tokens=budget)
        track = played.tokens
        assert track.completion_ids == whole.tokens.completion_ids[: len(track.completion_ids)]
        assert len(track.completion_ids) <= budget
        assert track.mask[-1] == 1
        fits = budget >= len(whole.tokens.completion_ids)
        assert played.stop_reason == ("done" if fits else "length")
        assert (played.error, played.reward) == (None, 1.0)


async def test_a_turn_without_room_is_not_asked_for():
    engine = Engine("a<eos>")
    played = await play(engine, max_tokens=len(encode("a<eos><user>go on<assistant>")))
    assert len(engine.prompts) == 1
    assert shown(played.tokens) == "a<eos>"


async def test_the_engine_is_asked_for_the_remaining_tokens():
    engine = Engine("a<eos>", "bye<eos>")
    await play(engine, max_tokens=30, max_turn_tokens=25)
    assert engine.asked == [25, 30 - len(encode("a<eos><user>go on<assistant>"))]


async def test_an_engine_that_gives_more_than_asked_is_cut():
    ids = encode("bye, bye and so on<eos>")
    played = await play(Engine(Sampled(ids, [-1.0] * len(ids))), max_tokens=8)
    assert shown(played.tokens) == "bye, bye"
    assert (played.stop_reason, len(played.tokens.logprobs), played.tokens.broken) == ("length", 8, None)


async def test_an_engine_whose_context_is_full_ends_the_rollout_for_its_length():
    ids = encode("and th")
    played = await play(Engine(Sampled(ids, None, "length")))
    assert (played.stop_reason, shown(played.tokens)) == ("length", "and th")


async def test_an_engine_that_can_go_no_further_ends_the_rollout_and_keeps_its_turns():
    class Full(Engine):
        async def __call__(self, prompt_ids, /, *, max_tokens):
            if self.prompts:
                raise OutOfTokens("full")
            return await super().__call__(prompt_ids, max_tokens=max_tokens)

    played = await play(Full("a<eos>"))
    assert (played.stop_reason, played.reward, shown(played.tokens)) == ("length", 1.0, "a<eos>")


async def test_an_engine_that_fails_breaks_the_rollout_not_the_run():
    class Failing(Engine):
        async def __call__(self, prompt_ids, /, *, max_tokens):
            raise PolicyError("the engine has left")

    played = await play(Failing())
    assert (played.reward, played.error.kind, played.tokens) == (None, "policy", None)


async def test_an_engine_without_log_probabilities_leaves_zeros():
    played = await play(Engine(Sampled(encode("bye<eos>"))))
    assert (played.tokens.logprobs, played.tokens.broken) == ([0.0] * 4, None)


async def test_an_engine_that_was_given_other_tokens_breaks_the_track_and_the_rollout_goes_on():
    class Forgetful(Engine):
        async def __call__(self, prompt_ids, /, *, max_tokens):
            sampled = await super().__call__(prompt_ids, max_tokens=max_tokens)
            return Sampled(sampled.ids, sampled.logprobs, sampled.finish_reason, prompt_ids[1:])

    played = await play(Forgetful("a<eos>", "bye<eos>"))
    assert "that are not the" in played.tokens.broken
    assert (played.stop_reason, shown(played.tokens)) == ("done", "a<eos>[<user>go on<assistant>]bye<eos>")


async def test_an_engine_that_changes_the_tokens_it_was_given_does_not_change_the_track():
    class Rude(Engine):
        async def __call__(self, prompt_ids, /, *, max_tokens):
            sampled = await super().__call__(list(prompt_ids), max_tokens=max_tokens)
            prompt_ids.clear()
            return sampled

    played = await play(Rude("a<eos>", "bye<eos>"))
    assert shown(played.tokens) == "a<eos>[<user>go on<assistant>]bye<eos>"
    assert played.tokens.broken is None


async def test_several_messages_of_an_environment_are_one_continuation():
    class Chatty(Talk):
        tasks = Talk.tasks

        def respond(self, message):
            return None if "bye" in text(message) else [user("go"), assistant("ha"), user("on")]

    played = await play(Engine("a<eos>", "bye<eos>"), Chatty)
    assert shown(played.tokens) == "a<eos>[<user>go<assistant>ha<eos><user>on<assistant>]bye<eos>"


async def test_an_environment_that_adds_nothing_lets_the_policy_go_on_in_a_new_turn():
    class Silent(Talk):
        tasks = Talk.tasks

        def respond(self, message):
            return None if "bye" in text(message) else []

    played = await play(Engine("a<eos>", "bye<eos>"), Silent)
    assert shown(played.tokens) == "a<eos>[<assistant>]bye<eos>"


async def test_a_tool_that_appears_later_can_be_called_though_it_was_never_shown():
    class Growing(Talk):
        tasks = Talk.tasks

        def respond(self, message):
            self.tools["more"] = self.tools["add"]
            return super().respond(message)

    played = await play(Engine("a<eos>", '<call>more {"a": 1, "b": 2}</call><eos>', "bye<eos>"), Growing)
    assert played.tool_errors == 0
    assert shown(played.tokens).endswith("</call><eos>[<tool>3<assistant>]bye<eos>")


async def test_a_prompt_may_be_longer_than_the_budget_which_is_the_completions():
    class Long(Talk):
        tasks = [Task([user("x" * 1000)])]

    played = await play(Engine("bye<eos>"), Long, max_tokens=5)
    assert played.stop_reason == "done"
    assert len(played.tokens.prompt_ids) == 1002


async def test_a_policy_that_has_played_is_not_taken_for_another_episode():
    policy = TokenizedPolicy(Engine("go", "bye", "bye"), TEMPLATE, max_tokens=500)
    assert (await rollout(Talk(Talk.tasks[0]), policy)).reward == 1.0
    again = await rollout(Talk(Talk.tasks[0]), policy)
    assert again.reward is None
    assert again.error.message == "PolicyError: a TokenizedPolicy plays one episode; make a new one for the next"
