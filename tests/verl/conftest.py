import asyncio
import itertools
import json
import os
from functools import cache

import pytest

# Both are read while verl is imported.
os.environ.setdefault("VERL_PLATFORM", "cpu")
os.environ.setdefault("VERL_USE_EXTERNAL_MODULES", "gym_adapters.verl.testing.registration")
pytest.importorskip("verl")

import hydra
import torch
from hydra import compose, initialize_config_module
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap, _agent_loop_registry
from verl.workers.rollout.replica import TokenOutput

from gym_adapters.verl.rows import Source, verl_row
from gym_adapters.verl.testing import char_tokenizer, save_model, tiny_model


@pytest.fixture(scope="session")
def tokenizer():
    return char_tokenizer()


@pytest.fixture(scope="session")
def lively_model(tokenizer):
    """Makes models whose random weights are so large that a token depends on all before it, not on the last alone."""

    @torch.no_grad()
    def made(seed):
        model = tiny_model(tokenizer, hidden_size=32, seed=seed).eval()
        for weights in model.model.layers.parameters():
            weights.mul_(10 if weights.dim() > 1 else 1)
        return model

    return made


@pytest.fixture(scope="session")
def model_path(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, tiny_model(tokenizer), tokenizer)
    return folder


@pytest.fixture(scope="session")
def config(model_path):
    """The trainer's own configuration, with overrides."""

    @cache
    def composed(*overrides):
        with initialize_config_module(config_module="verl.trainer.config", version_base=None):
            return compose(
                config_name="ppo_trainer",
                overrides=[
                    f"actor_rollout_ref.model.path={model_path}",
                    "actor_rollout_ref.rollout.name=vllm",
                    "data.max_prompt_length=400",
                    "data.max_response_length=400",
                    "actor_rollout_ref.rollout.agent.default_agent_loop=gym",
                    *overrides,
                ],
            )

    return composed


class Client:
    """Stands where verl has its client of rollout servers: says what a function of the prompt's text says.

    Attributes:
        requests: What it was asked, in order: request id, prompt ids and sampling parameters.
    """

    def __init__(self, tokenizer, reply, *, steps=(3, 3)):
        self.tokenizer, self.reply, self.steps, self.requests = tokenizer, reply, steps, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **_):
        self.requests.append((request_id, list(prompt_ids), dict(sampling_params)))
        limit = sampling_params.pop("max_tokens")  # servers do pop keys
        said = self.reply(self.tokenizer.decode(prompt_ids))
        if isinstance(said, str):
            said = self.tokenizer.encode(said, add_special_tokens=False)[:limit]
        elif isinstance(said, Exception):
            raise said
        await asyncio.sleep(0)
        extra = dict(zip(("min_global_steps", "max_global_steps"), self.steps, strict=True)) if self.steps else {}
        return TokenOutput(
            token_ids=said, log_probs=[-0.5] * len(said), stop_reason="completed", num_preempted=0, extra_fields=extra
        )


@pytest.fixture
def client(tokenizer):
    return lambda reply, **options: Client(tokenizer, reply, **options)


@pytest.fixture
def play(config, tokenizer):
    """Plays the rollouts of one prompt as verl's worker does: one agent loop each, all started at once."""
    uids = itertools.count()

    def played(spec, task, client, *, n=1, overrides=(), **row):
        composed = config(*overrides)
        source = row.pop("source", Source(spec))
        row = {**verl_row(source, task, index=0, split="train"), "global_steps": 4, **row}
        row = {**json.loads(json.dumps(row)), "uid": f"uid{next(uids)}"}

        async def session(number):
            loop = hydra.utils.instantiate(
                config=_agent_loop_registry["gym"],
                trainer_config=DictConfigWrap(composed),
                server_manager=client,
                tokenizer=tokenizer,
                processor=None,
                dataset_cls=None,
                data_config=DictConfigWrap(composed.data),
                tools=ToolListWrap([]),
            )
            params = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}
            return await loop.run(params, session_id=number, **row)

        async def sessions():
            return await asyncio.gather(*[asyncio.create_task(session(number)) for number in range(n)])

        return asyncio.run(sessions())

    return played
