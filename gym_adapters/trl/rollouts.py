"""Environments with user turns, or with tools that run concurrently, as the `rollout_func` of GRPOTrainer."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any

from gym_adapters.trl.dataset import row_of, task_of
from gym_adapters.trl.generation import Generate, Lockstep, check_generation, generate_with, server_policy
from gym_core import (
    ChatTemplate,
    EnvironmentFactory,
    Episode,
    GymError,
    MissingDependencyError,
    Policy,
    Rollout,
    TokenizedPolicy,
    TokenPolicy,
    open_episode,
)
from gym_core.driving import Player, as_environment, playable, run, submit, trained_track

try:
    from trl.chat_template_utils import add_response_schema
except ImportError as error:
    raise MissingDependencyError("trl") from error


ROLLOUT_FUNC = Player("rollout_func")
"""The player behind `gym_rollout`, for everything whose chat template can be continued."""


def gym_rollout(
    env: EnvironmentFactory | Sequence[EnvironmentFactory], *, max_turn_tokens: int | None = None
) -> GymRollout:
    """Whole episodes of an environment, for `GRPOTrainer(rollout_func=gym_rollout(env))`.

    The episodes of a batch are played together: one generation per turn for all of them, while tools and user turns run
    concurrently. The model is trained on exactly the tokens it sampled. Use it together with `gym_dataset(env)`, which
    carries the tasks, and `gym_reward(env)`, which takes the verdicts from here.

    A failed rollout has no reward and no token that counts; the step goes on.

    Args:
        env: Environment class, factory or mix, or a list of them.
        max_turn_tokens: Most tokens per turn; a turn cut off there gets its end token appended. By default the
            trainer's `max_completion_length`, which counts the whole conversation.
    """
    return GymRollout(as_environment(env), max_turn_tokens)


class GymRollout:
    """The result of `gym_rollout`."""

    def __init__(self, env: EnvironmentFactory, max_turn_tokens: int | None) -> None:
        self.env = env
        self.max_turn_tokens = max_turn_tokens
        self._trainer: Any = None
        self._template: ChatTemplate | None = None
        self._server: TokenPolicy | None = None

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Play one episode per prompt.

        Raises:
            GymError: The set-up can't work; the message says why.
        """
        if self._template is None or self._trainer is not trainer:
            check_generation(trainer)
            self._trainer = trainer
            tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
            options = {"stop_ids": trainer.eos_token_ids, "kwargs": trainer.chat_template_kwargs}
            self._template = chat_template(tokenizer, **options)
            self._server = server_policy(trainer)
        episodes = [open_episode(self.env, task_of(row_of(prompt))) for prompt in prompts]
        check_playable(episodes, by=ROLLOUT_FUNC, template=self._template)
        rollouts = self._play(episodes, self._template, trainer)
        tracks = [trained_track(rollout, self._template) for rollout in rollouts]
        return {
            "prompt_ids": [track.prompt_ids for track in tracks],
            "completion_ids": [track.completion_ids for track in tracks],
            "logprobs": [track.logprobs for track in tracks] if trainer.use_vllm else None,
            "env_mask": [track.mask for track in tracks],
            "gym_rollout": rollouts,
        }

    def _play(self, episodes: Sequence[Episode], template: ChatTemplate, trainer: Any) -> list[Rollout]:
        def policy(sample: TokenPolicy) -> Policy:
            tokens = trainer.max_completion_length
            return TokenizedPolicy(sample, template, max_tokens=tokens, max_turn_tokens=self.max_turn_tokens)

        if self._server is not None:
            server = self._server
            return run(_play_all(episodes, [policy(server) for _ in episodes]))
        return play_in_lockstep(episodes, generate_with(trainer), policy)


def play_in_lockstep(
    episodes: Sequence[Episode], generate: Generate, policy: Callable[[TokenPolicy], Policy]
) -> list[Rollout]:
    """Play episodes to their ends, with one generation per turn for all unfinished episodes.

    Args:
        episodes: Episodes that are not open yet.
        generate: Engine; if it fails, the error is raised and ends all episodes.
        policy: Function that makes the policy of an episode from the sampler of its turns.
    """
    lockstep = Lockstep(len(episodes))
    policies = [policy(lockstep.policy(index)) for index, _ in enumerate(episodes)]
    playing = submit(_play_all(episodes, policies, lockstep.leave))
    try:
        lockstep.serve(generate)
    except BaseException:
        playing.cancel()
        raise
    return playing.result()


async def _play_all(
    episodes: Sequence[Episode], policies: Sequence[Policy], ended: Callable[[], None] = lambda: None
) -> list[Rollout]:
    async def play(episode: Episode, policy: Policy) -> Rollout:
        try:
            return await episode.run(policy)
        finally:
            ended()

    return await asyncio.gather(*(play(*pair) for pair in zip(episodes, policies, strict=True)))


def chat_template(
    tokenizer: Any, *, stop_ids: Sequence[int] = (), kwargs: dict[str, Any] | None = None
) -> ChatTemplate:
    """The template of a tokenizer, with TRL's way of parsing responses if the tokenizer has none."""
    tokenizer = copy.copy(tokenizer)
    if not any(getattr(tokenizer, name, None) for name in ("response_template", "response_schema")):
        with contextlib.suppress(ValueError):  # `playable` says so where it matters
            tokenizer = add_response_schema(tokenizer)
    return ChatTemplate(tokenizer, stop_ids=stop_ids, kwargs=kwargs)


def check_playable(episodes: Sequence[Episode], *, by: Player, template: ChatTemplate) -> None:
    """Refuse environments that can't be played at all.

    Raises:
        GymError: The sentence says which and why.
    """
    for episode in {episode.env.name: episode for episode in episodes}.values():
        if problem := playable(episode, by=by, template=template):
            raise GymError(problem)
