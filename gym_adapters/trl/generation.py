"""Generation by the means of a TRL trainer, turn by turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from gym_core import GymError, Sampled, TokenPolicy

Generate = Callable[[Sequence[list[int]]], list[Sampled]]


def check_generation(trainer: Any) -> None:
    """Refuse set-ups in which ranks wait for each other at every generation.

    Raises:
        GymError: Ranks whose rollouts have different numbers of turns would hang; the message says what works.
    """
    if trainer.accelerator.num_processes == 1 or _has_server(trainer):
        return
    if trainer.use_vllm:
        if trainer.args.vllm_tensor_parallel_size > 1:
            raise GymError(
                f"vllm_tensor_parallel_size is {trainer.args.vllm_tensor_parallel_size}, expected 1 for gym_rollout: "
                "the ranks of one engine generate together, and rollouts end at different turns; or use a vLLM server"
            )
        return
    sharded = trainer.is_fsdp_enabled or _zero_stage(trainer) == 3
    if sharded:
        raise GymError(
            "gym_rollout can't generate with transformers on sharded weights (ZeRO-3, FSDP): every generation gathers "
            "them on all ranks, and rollouts end at different turns; use vLLM, ZeRO-2 or DDP"
        )


def server_policy(trainer: Any) -> TokenPolicy | None:
    """The policy of this rank on the trainer's vLLM server; None if there is no server.

    Each rank asks the server for its own rollouts. TRL's client gathers the prompts of all ranks instead, and gives
    ranks each other's completions if they have different numbers of prompts (trl#6673).
    """
    if not _has_server(trainer):
        return None
    from gym_core import VLLMPolicy

    args = trainer.args
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    sampling = {name: value for name in names if (value := getattr(args, name)) is not None}
    url = args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"
    return VLLMPolicy(url, sampling={**sampling, **(args.generation_kwargs or {})})


class Lockstep:
    """Collects the requests of concurrent rollouts, and generates once all unfinished rollouts are waiting.

    The rollouts run on the event loop of the episodes; the trainer's thread serves them.

    Args:
        count: Number of rollouts.
    """

    def __init__(self, count: int) -> None:
        self._playing = count
        self._waiting: dict[int, tuple[list[int], Future[Sampled]]] = {}
        self._changed = threading.Condition()

    def policy(self, index: int) -> TokenPolicy:
        """The policy of one rollout; a batch is ordered by these numbers."""

        async def sample(prompt_ids: list[int], /, *, max_tokens: int) -> Sampled:
            sampled: Future[Sampled] = Future()
            with self._changed:
                self._waiting[index] = (prompt_ids, sampled)
                self._changed.notify()
            return await asyncio.wrap_future(sampled)

        return sample

    def leave(self) -> None:
        """Note that a rollout has ended."""
        with self._changed:
            self._playing -= 1
            self._changed.notify()

    def serve(self, generate: Generate) -> None:
        """Generate until all rollouts have ended; a failure of the engine is raised and ends them."""
        while batch := self._next():
            prompts, futures = zip(*batch, strict=True)
            try:
                completions = generate(prompts)
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
            for future, sampled in zip(futures, completions, strict=True):
                future.set_result(sampled)

    def _next(self) -> list[tuple[list[int], Future[Sampled]]]:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) == self._playing)
            batch = [self._waiting[index] for index in sorted(self._waiting)]
            self._waiting.clear()
            return batch


def generate_with(trainer: Any) -> Generate:
    """Generate one turn by the trainer's own means: transformers, continuous batching, or vLLM in its process."""

    def generate(prompts: Sequence[list[int]]) -> list[Sampled]:
        # The only private name of TRL's that the adapter uses; test_rollouts.py fails when it moves.
        ids, logprobs = trainer._generate_single_turn(list(prompts), None, {}, num_generations=1)
        return [
            Sampled(
                list(turn),
                logprobs[index] if logprobs is not None else None,
                "stop" if turn and turn[-1] in trainer.eos_token_ids else "length",
            )
            for index, turn in enumerate(ids)
        ]

    return generate


def _has_server(trainer: Any) -> bool:
    return bool(trainer.use_vllm and trainer.args.vllm_mode == "server")


def _zero_stage(trainer: Any) -> int:
    plugin = trainer.accelerator.state.deepspeed_plugin
    return 0 if plugin is None else int(plugin.zero_stage)
