"""The agent loop of environments: tools, user turns and openings made by `setup`, with exact tokens."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

from transformers import GenerationConfig

from gym_adapters.verl.actors import in_actor
from gym_adapters.verl.compat import AgentLoopBase, AgentLoopOutput, ToolParser
from gym_adapters.verl.generation import ServerPolicy, ToolCallPolicy
from gym_adapters.verl.groups import play_in_group
from gym_adapters.verl.metrics import reward_extra_info
from gym_adapters.verl.options import Options, options_of
from gym_adapters.verl.rows import gym_row
from gym_core import (
    ChatTemplate,
    Episode,
    GymError,
    Rollout,
    TokenizedPolicy,
    TokenTrack,
    open_episode,
    write_rollouts,
)
from gym_core.driving import Needs, Player, playable, submit, trained_track, verify_groups

AGENT_LOOP = Player("agent loop 'gym'", parses_calls=True)
"""A player of everything, provided that the chat template can be continued."""

OLD_AGENT_LOOP = Player(
    "the older trainer, which spreads the rollouts of a task over processes",
    gives=Needs(tools=True, user_turns=True, opening=True),
    parses_calls=True,
    instead="set trainer.use_v1=true",
)
"""The same under trainer.use_v1=false."""

_log = logging.getLogger(__name__)


class GymAgentLoop(AgentLoopBase):  # type: ignore[misc]  # types are checked without verl
    """Plays one rollout of a row, for `actor_rollout_ref.rollout.agent.default_agent_loop=gym`.

    verl makes one per rollout. The environment lives on the event loop of the episodes, so one that blocks never keeps
    the worker from its servers. A failed rollout becomes a row in which no token counts.

    The row's `extra_info` carries the task, as `python -m gym_adapters.verl data` and `GymDataset` write it.
    """

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Play and verify a rollout, and give verl its exact tokens.

        Raises:
            GymError: The run can't work with this environment, model or configuration.
        """
        gym = gym_row(row.get("extra_info"))
        options = options_of(self.rollout_config)
        template, parser = self._template()
        episode = open_episode(gym.env, gym.task)
        player = AGENT_LOOP if "session_id" in row else OLD_AGENT_LOOP
        if problem := playable(episode, by=player, template=template):
            raise GymError(problem)
        if options.actors is not None:
            episode = Episode(in_actor(episode.env, gym.source, options.actors))
        stops = [*sampling_params.get("stop_token_ids", ()), *parser.stop_token_ids]
        params = {**sampling_params, **({"stop_token_ids": stops} if stops else {})}
        limit = self.rollout_config.prompt_length
        engine = ServerPolicy(self.server_manager.generate, template, params, max_prompt_tokens=limit)
        limits = {"max_tokens": self.rollout_config.response_length, "max_turn_tokens": options.max_turn_tokens}
        policy = ToolCallPolicy(TokenizedPolicy(engine, template, **limits), template, parser)

        async def play() -> Rollout:
            async with _slots(asyncio.get_running_loop(), options.max_concurrency):
                return await asyncio.wrap_future(submit(episode.run(policy)))

        async def judge(rollouts: list[Rollout]) -> list[Rollout]:
            return await asyncio.wrap_future(submit(verify_groups(gym.env, rollouts)))

        uid, session = row.get("uid", uuid4().hex), row.get("session_id", uuid4().hex)
        rollout, group = await play_in_group(uid, session, play(), judge)
        reward, step = _reward(rollout, group), int(row.get("global_steps", 0))
        _record(rollout, options, step)
        # Weights are numbered by the step that made them; a rollout that sampled nothing counts as the newest.
        first, last = engine.steps or (max(step - 1, 0),) * 2
        extra_fields = {
            "min_global_steps": first,
            "max_global_steps": last,
            "reward_extra_info": reward_extra_info(rollout, gym.source.components, score=reward),
            "turn_scores": [],
            "tool_rewards": [],
        }
        return self._output(rollout, _track(rollout, template), engine, reward, extra_fields)

    def _template(self) -> tuple[ChatTemplate, Any]:
        return _template(
            self.tokenizer,
            json.dumps(dict(self.apply_chat_template_kwargs), sort_keys=True),
            self.config.actor_rollout_ref.model.path,
            self.rollout_config.multi_turn.format,
        )

    def _output(
        self, rollout: Rollout, track: TokenTrack, engine: ServerPolicy, reward: float, extra_fields: dict[str, Any]
    ) -> AgentLoopOutput:
        """The row of a rollout; every field is set, since verl drops fields that are not."""
        return AgentLoopOutput(
            prompt_ids=track.prompt_ids,
            response_ids=track.completion_ids,
            response_mask=track.mask,
            response_logprobs=track.logprobs if self.rollout_config.calculate_log_probs else None,
            routed_experts=engine.routed_experts,
            multi_modal_data=None,
            reward_score=reward,
            num_turns=sum(message["role"] != "system" for message in rollout.output),
            metrics={
                "generate_sequences": engine.seconds,
                "tool_calls": max(rollout.seconds - engine.seconds, 0.0),
                "compute_score": 0.0,
                "num_preempted": engine.preempted,
            },
            extra_fields=extra_fields,
        )


def _track(rollout: Rollout, template: ChatTemplate) -> TokenTrack:
    """The tokens for the loss; a rollout that sampled nothing gets the shortest possible row."""
    if rollout.tokens is None:
        rollout = replace(rollout, tokens=TokenTrack(prompt_ids=[template.eos_id]))
    return trained_track(rollout, template)


def _reward(rollout: Rollout, group: Sequence[Rollout]) -> float:
    """The reward; verl takes no None, so a missing one becomes the mean of its group, which keeps the baseline.

    If the whole group has none, 0.0 stands for it: no token of the group counts, so nothing is learned from it.
    """
    if rollout.reward is not None:
        return rollout.reward
    return fmean([other.reward for other in group if other.reward is not None] or [0.0])


def _record(rollout: Rollout, options: Options, step: int) -> None:
    if rollout.error is not None:
        _log.warning("task %s broke in %s: %s", rollout.task.id, rollout.error.kind, rollout.error.message)
    if options.rollouts_dir is not None:
        directory = Path(options.rollouts_dir)
        directory.mkdir(parents=True, exist_ok=True)
        name = f"rollouts.{platform.node()}.{os.getpid()}.jsonl"  # one per worker
        write_rollouts(directory / name, [replace(rollout, step=step)])


@lru_cache(maxsize=4)
def _template(tokenizer: Any, kwargs: str, model: str, tool_format: str) -> tuple[ChatTemplate, Any]:
    """The chat template of a model and verl's parser of its tool calls; made once per process."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.response_template = None  # `multi_turn.format` decides how calls are parsed, as everywhere in verl
    parser = ToolParser.get_tool_parser(tool_format, copy.deepcopy(tokenizer))
    stop_ids = [*_stop_ids(model), *parser.stop_token_ids]
    return ChatTemplate(tokenizer, stop_ids=stop_ids, kwargs=json.loads(kwargs)), parser


def _stop_ids(model: str) -> list[int]:
    """The tokens at which engines end a turn of this model."""
    with contextlib.suppress(OSError):  # the model has no generation config
        ends = GenerationConfig.from_pretrained(model).eos_token_id
        return ends if isinstance(ends, list) else [ends] if ends is not None else []
    return []


@lru_cache(maxsize=4)
def _slots(loop: asyncio.AbstractEventLoop, limit: int) -> asyncio.Semaphore:
    return asyncio.Semaphore(limit)
