"""The preflight: what would go wrong in a TRL run, said before time is lost."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from gym_adapters.trl.environment import ENVIRONMENT_FACTORY, observation
from gym_adapters.trl.messages import to_trl
from gym_adapters.trl.reward import REWARD_FUNCS
from gym_adapters.trl.rollouts import ROLLOUT_FUNC, chat_template
from gym_core import (
    EnvironmentFactory,
    Episode,
    EpisodeError,
    MissingDependencyError,
    ToolSchema,
    assistant,
    tool_call,
)
from gym_core.driving import as_environment, members, opened_episode, playable

try:
    from trl import chat_template_utils as templates
except ImportError as error:
    raise MissingDependencyError("trl") from error

# Templates that ship with TRL and can call tools, by a token that the tokenizer must have.
_READY_TEMPLATES = {"<|im_start|>": "qwen2_5_chat_template", "<|start_header_id|>": "llama3_2_chat_template"}


def preflight(
    env: EnvironmentFactory | Sequence[EnvironmentFactory],
    args: Any,
    processing_class: Any,
    *,
    reward_funcs: Sequence[Any] = (None,),
    environment_factory: Any = None,
    rollout_func: Any = None,
) -> list[str]:
    """Say what would go wrong if a GRPOTrainer got these arguments.

    Args:
        env: Environment class, factory or mix, or a list of them.
        args: GRPOConfig of the trainer.
        processing_class: Tokenizer, or processor of a vision model.
        reward_funcs: Reward functions of the trainer.
        environment_factory: Environment factory of the trainer; None means single turns, except for an environment with
            tools.
        rollout_func: Rollout function of the trainer; None if it plays by `environment_factory` or single turns.

    Returns:
        One sentence per problem; an empty list if there is none. Each environment's first task is opened and closed.

    Raises:
        EnvironmentSpecError: An environment has no tasks.
    """
    problems = list(_weights(args, reward_funcs))
    for member in members(as_environment(env)).values():
        try:
            episode = opened_episode(member)
        except EpisodeError as error:
            problems.append(str(error))
            continue
        if rollout_func is not None:
            problems += _rollout_problems(episode, args, processing_class)
        elif environment_factory is not None or episode.tools:
            problems += _factory_problems(episode, args, processing_class)
        elif problem := playable(episode, by=REWARD_FUNCS):
            problems.append(problem)
    return problems


def add_tool_template(tokenizer: Any) -> Any:
    """Give a tokenizer one of TRL's chat templates that can call tools, and return the tokenizer.

    ChatML tokenizers (SmolLM2, Qwen) get Qwen2.5's template and those of Llama 3 get Llama 3.2's, which use tokens that
    the model knows. A model that never saw a tool call may need some supervised steps before it makes one.

    Raises:
        EpisodeError: TRL ships no template for the tokens of this tokenizer.
    """
    template = _ready_template(tokenizer)
    if template is None:
        tokens = ", ".join(_READY_TEMPLATES)
        raise EpisodeError(f"none of TRL's templates that call tools fits this tokenizer, which has none of {tokens}")
    tokenizer.chat_template = getattr(templates, template)
    return tokenizer


def _ready_template(tokenizer: Any) -> str | None:
    vocabulary = tokenizer.get_vocab()
    return next((template for token, template in _READY_TEMPLATES.items() if token in vocabulary), None)


def _weights(args: Any, reward_funcs: Sequence[Any]) -> Iterator[str]:
    weights = args.reward_weights
    if weights is not None and len(weights) != len(reward_funcs):
        yield f"reward_weights has {len(weights)} numbers for {len(reward_funcs)} reward functions, expected one each"


def _factory_problems(episode: Episode, args: Any, processing_class: Any) -> Iterator[str]:
    if problem := playable(episode, by=ENVIRONMENT_FACTORY):
        yield problem
    name = episode.env.name
    try:
        observation(episode)
    except EpisodeError as error:
        yield f"{name}: {error}"
    if episode.tools:
        yield from (f"{name}: {problem}" for problem in _tool_problems(episode, args))
        found = _template_problems(episode.tools, args, processing_class, episode.env.max_turns)
        yield from (f"{name}: {problem}" for problem in found)


def _rollout_problems(episode: Episode, args: Any, processing_class: Any) -> Iterator[str]:
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    template = chat_template(tokenizer, kwargs=args.chat_template_kwargs)
    if problem := playable(episode, by=ROLLOUT_FUNC, template=template):
        cure = "; call add_tool_template(tokenizer)" if episode.tools and _ready_template(tokenizer) else ""
        yield f"{problem}{cure}"
    elif episode.tools:
        found = _length_problems(episode.tools, args, tokenizer, episode.env.max_turns)
        yield from (f"{episode.env.name}: {problem}" for problem in found)


def _tool_problems(episode: Episode, args: Any) -> Iterator[str]:
    expected = episode.env.max_turns - 1
    if args.max_tool_calling_iterations != expected:
        yield (
            f"max_tool_calling_iterations is {args.max_tool_calling_iterations}, expected {expected}: "
            f"the environment allows {episode.env.max_turns} turns, of which TRL does not count the first"
        )
    if args.use_vllm and args.vllm_mode == "server" and args.world_size > 1:
        yield (
            f"tools with {args.world_size} ranks in vLLM server mode: TRL hands ranks each other's completions "
            "(trl#6673); use vllm_mode='colocate', one rank, or rollout_func=gym_rollout(env)"
        )


def _template_problems(schemas: list[ToolSchema], args: Any, processing_class: Any, max_turns: int) -> Iterator[str]:
    tokenizer = copy.copy(getattr(processing_class, "tokenizer", processing_class))
    if not templates.supports_tool_calling(processing_class):
        cure = "use a model whose template does"
        if _ready_template(tokenizer) is not None:
            cure = f"call add_tool_template(tokenizer), which sets TRL's {_ready_template(tokenizer)}"
        yield f"the chat template does not render tool calls; {cure}"
        return
    if not any(getattr(tokenizer, name, None) for name in ("response_template", "response_schema")):
        try:
            templates.add_response_schema(tokenizer)
        except ValueError:
            yield (
                "the tokenizer has no response_template and TRL knows none for its chat template, so tool calls can't "
                "be parsed; set tokenizer.response_template or call add_tool_template(tokenizer)"
            )
    if not templates.is_chat_template_prefix_preserving(processing_class):
        try:
            templates.get_training_chat_template(processing_class)
        except ValueError:
            yield "the chat template rewrites earlier turns and TRL has no patch for it; use another template"
    yield from _length_problems(schemas, args, tokenizer, max_turns)


def _length_problems(schemas: list[ToolSchema], args: Any, tokenizer: Any, max_turns: int) -> Iterator[str]:
    """Check that the shortest tool call with its answer fits, as often as the environment has turns."""
    asked = [{"role": "user", "content": "x"}]
    called = to_trl([assistant("", tool_calls=[tool_call(schemas[0]["function"]["name"])])])
    answered = [{"role": "tool", "name": schemas[0]["function"]["name"], "content": "x"}]
    lengths = [
        len(tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False))
        for conversation in (asked, asked + called + answered)
    ]
    turn = lengths[1] - lengths[0]
    needed = turn * (max_turns - 1) + 1
    if args.max_completion_length < needed:
        yield (
            f"max_completion_length is {args.max_completion_length}, expected at least {needed}: TRL counts the whole "
            f"conversation, and {max_turns - 1} shortest tool calls with their answers take {turn} tokens each"
        )
