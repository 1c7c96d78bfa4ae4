"""AsyncGRPOTrainer's own rollout loop, against a server that speaks vLLM's protocol."""

import pickle
import queue
import re
import threading

import pytest

from gym_adapters.trl import gym_dataset, gym_environment, gym_reward

worker = pytest.importorskip("trl.experimental.async_grpo.async_rollout_worker")


@pytest.mark.slow
def test_the_async_loop_scores_tool_episodes_by_replay(vllm_server, use_tool, tokenizer, adder):
    from accelerate import PartialState

    PartialState()
    arrived = queue.Queue()

    class Zero:
        value = 0

    # What is passed goes through pickle, as it does on its way to the spawned worker.
    reward, factory = pickle.loads(pickle.dumps((gym_reward(adder), gym_environment(adder))))
    loop = worker._AsyncRolloutLoop(
        model_name="tiny",
        dataset=gym_dataset(adder, limit=2),
        reward_funcs=[reward],
        processing_class=tokenizer,
        eos_token_ids=[1],
        rollout_buffer=arrived,
        model_version_value=Zero(),
        heartbeat_value=Zero(),
        failed_event=threading.Event(),
        exception_info_queue=queue.Queue(),
        metrics_queue=queue.Queue(),
        environment_factory=factory,
        num_generations=2,
        max_inflight_tasks=4,
        vllm_server_url=vllm_server(use_tool),
        max_tokens=64,
    )
    running = threading.Thread(target=loop.run, daemon=True)
    running.start()
    samples = [arrived.get(timeout=60) for _ in range(4)]
    loop._loop.call_soon_threadsafe(loop._stop_event.set)
    assert [sample.metrics["reward"] for sample in samples] == [1.0] * 4
    assert all(re.search(r'"sum": \d', str(sample.completion)) for sample in samples)
