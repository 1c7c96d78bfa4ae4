"""A rollout server of verl that samples with transformers, on whatever device verl's platform has."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from verl.plugin.platform import get_platform
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import HFModelConfig, RolloutConfig
from verl.workers.rollout.replica import TokenOutput

from gym_adapters.verl.testing.decoding import Request, Sample, decode

GATHER_S = 0.01
"""Seconds that the first request of a batch waits for others."""


class TransformersServer:
    """Serves the requests of `LLMServerClient`; a Ray actor, but it also works without Ray.

    Requests that arrive together are decoded together. Later ones wait for the next batch.

    Args:
        config: Config of the rollout, of which the lengths, `dtype`, `max_num_seqs`, `ignore_eos` and `seed` are used.
        model_config: Config of the model, which is loaded whole.
        replica_rank: Number of the server, which becomes part of its seed.
    """

    def __init__(self, config: RolloutConfig, model_config: Any, *, replica_rank: int = 0) -> None:
        model_config = omega_conf_to_dataclass(model_config, dataclass_type=HFModelConfig)
        self._config = config
        self._device = torch.device(get_platform().device_name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            model_config.local_path, dtype=config.dtype, trust_remote_code=model_config.trust_remote_code
        )
        self.model = model.to(self._device).eval()
        self._generator = torch.Generator(self._device).manual_seed(config.seed + replica_rank)
        self._stop_ids = frozenset() if config.ignore_eos else _stop_ids(self.model.generation_config.eos_token_id)
        self._steps: int | None = None
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Sample]]] = asyncio.Queue()
        self._decoding: asyncio.Task[None] | None = None
        self._model_lock = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._aborted = threading.Event()

    async def ready(self) -> None:
        """Return once the model is loaded."""

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        *,
        image_data: Any = None,
        video_data: Any = None,
        **_: Any,
    ) -> TokenOutput:
        """Continue a prompt.

        Raises:
            ValueError: The prompt has images, is too long, or asks for an unsupported way of sampling.
        """
        if image_data or video_data:
            raise ValueError("the transformers rollout server continues text only, not images or videos")
        request = self._request(prompt_ids, sampling_params)
        await self._open.wait()
        self._decoding = self._decoding or asyncio.create_task(self._decode_batches())
        answer: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, answer))
        sample = await answer
        return TokenOutput(
            token_ids=sample.ids,
            log_probs=sample.logprobs,
            stop_reason=sample.stop_reason,
            num_preempted=0,
            extra_fields={"global_steps": self._steps},
        )

    async def update_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Copy some of the trainer's weights into the model, between two batches.

        Raises:
            ValueError: The model has no weight with one of the names.
        """
        async with self._model_lock:
            unknown = self.model.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"the model has no weights named {unknown}, which the trainer sent")

    async def set_global_steps(self, global_steps: int) -> None:
        """Note which step of the trainer the weights belong to."""
        self._steps = global_steps

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        """End all turns as they are; new requests wait for `resume_generation`."""
        self._open.clear()
        self._aborted.set()
        await self._waiting.join()
        self._aborted.clear()

    async def resume_generation(self) -> None:
        """Take requests again."""
        self._open.set()

    async def _nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing: only engines that share a GPU with the trainer, or cache between requests, need this."""

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = start_profile = stop_profile = _nothing

    def _request(self, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Request:
        if (penalty := sampling_params.get("repetition_penalty", 1.0)) != 1.0:
            raise ValueError(f"the transformers rollout server knows no repetition_penalty but 1, not {penalty}")
        whole = self._config.prompt_length + self._config.response_length
        room = (self._config.max_model_len or whole) - len(prompt_ids)
        if room < 1:
            raise ValueError(f"a prompt of {len(prompt_ids)} tokens leaves no room for one more in {whole}")
        asked = sampling_params.get("max_tokens") or sampling_params.get("max_new_tokens") or min(whole, room)
        return Request(
            prompt_ids,
            max_tokens=min(asked, room),
            temperature=sampling_params.get("temperature", 1.0),
            top_k=sampling_params.get("top_k", -1),
            top_p=sampling_params.get("top_p", 1.0),
            stop_ids=self._stop_ids | frozenset(sampling_params.get("stop_token_ids") or ()),
        )

    async def _decode_batches(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(GATHER_S)
            while not self._waiting.empty() and len(batch) < self._config.max_num_seqs:
                batch.append(self._waiting.get_nowait())
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[Request, asyncio.Future[Sample]]]) -> None:
        requests = [request for request, _ in batch]
        failure: Exception | None = None
        samples: list[Sample] = []
        try:
            async with self._model_lock:
                samples = await asyncio.to_thread(
                    decode, self.model, requests, generator=self._generator, aborted=self._aborted
                )
        except Exception as error:  # of the model, or out of memory: those who asked get it
            failure = error
        for i, (_, answer) in enumerate(batch):
            self._waiting.task_done()
            if answer.cancelled():
                continue
            if failure is None:
                answer.set_result(samples[i])
            else:
                answer.set_exception(failure)


def _stop_ids(eos: int | list[int] | None) -> frozenset[int]:
    return frozenset(eos if isinstance(eos, list) else () if eos is None else (eos,))
