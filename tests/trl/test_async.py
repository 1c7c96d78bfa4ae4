"""AsyncGRPOTrainer's own rollout loop, against a server that speaks vLLM's protocol."""

import json
import pickle
import queue
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gym_adapters.trl import gym_dataset, gym_environment, gym_reward

worker = pytest.importorskip("trl.experimental.async_grpo.async_rollout_worker")


@pytest.fixture
def server(tokenizer, use_tool):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            said = tokenizer(use_tool(tokenizer.decode(ids)))["input_ids"]
            logprobs = {"token_logprobs": [-0.1] * len(said), "tokens": [f"token_id:{i}" for i in said]}
            choice = {"token_ids": said, "prompt_token_ids": ids, "logprobs": logprobs, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()


@pytest.mark.slow
def test_the_async_loop_scores_tool_episodes_by_replay(server, tokenizer, adder):
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
        vllm_server_url=server,
        max_tokens=64,
    )
    running = threading.Thread(target=loop.run, daemon=True)
    running.start()
    samples = [arrived.get(timeout=60) for _ in range(4)]
    loop._loop.call_soon_threadsafe(loop._stop_event.set)
    assert [sample.metrics["reward"] for sample in samples] == [1.0] * 4
    assert all(re.search(r'"sum": \d', str(sample.completion)) for sample in samples)
