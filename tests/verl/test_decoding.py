"""Sampling against what a forward of the whole sequence says, as a trainer does it."""

import threading
from collections import Counter

import pytest
import torch

from gym_adapters.verl.testing import char_tokenizer
from gym_adapters.verl.testing.decoding import Request, decode

pytestmark = pytest.mark.filterwarnings("ignore")

TOKENIZER = char_tokenizer()
PROMPTS = [TOKENIZER.encode(text) for text in ["3+4", "What is the capital of France?", "x", "<|im_start|>user\nHi"]]


@pytest.fixture(scope="module")
def model(lively_model):
    return lively_model(seed=0)


@torch.inference_mode()
def full_logprobs(model, prompt, ids, temperature=1.0):
    """[ids, vocabulary], from one forward."""
    logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
    return (logits / temperature).log_softmax(-1)


def assert_logprobs(model, prompt, sample, temperature=1.0):
    table = full_logprobs(model, prompt, sample.ids, temperature)
    expected = table.gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-5, rtol=0)


def test_greedy_tokens_are_the_likeliest_of_a_full_forward(model):
    (sample,) = decode(model, [Request(PROMPTS[0], 12, temperature=0)])
    assert len(set(sample.ids)) > 3
    assert sample.ids == full_logprobs(model, PROMPTS[0], sample.ids).argmax(-1).tolist()
    assert_logprobs(model, PROMPTS[0], sample)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_logprobs_of_sampled_tokens_are_those_of_a_full_forward(model, temperature):
    requests = [Request(prompt, 20, temperature=temperature) for prompt in PROMPTS]
    for prompt, sample in zip(PROMPTS, decode(model, requests), strict=True):
        assert len(sample.ids) == 20
        assert_logprobs(model, prompt, sample, temperature)


def test_a_batch_of_unequal_prompts_equals_one_by_one(model):
    requests = [Request(prompt, limit, temperature=0) for prompt, limit in zip(PROMPTS, [3, 12, 1, 7], strict=True)]
    for request, together in zip(requests, decode(model, requests), strict=True):
        (alone,) = decode(model, [request])
        assert together.ids == alone.ids
        assert together.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_a_turn_ends_at_a_stop_token_or_at_its_limit(model):
    (free,) = decode(model, [Request(PROMPTS[0], 12, temperature=0)])
    assert (free.stop_reason, len(free.ids)) == ("length", 12)
    stop = free.ids[4]
    (stopped,) = decode(model, [Request(PROMPTS[0], 12, temperature=0, stop_ids=frozenset([stop]))])
    assert stopped.stop_reason == "completed"
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1]


def test_tokens_are_drawn_as_often_as_the_distribution_says(model):
    prompts, temperature = [PROMPTS[1]] * 4000, 0.1
    drawn = decode(model, [Request(prompt, 1, temperature=temperature) for prompt in prompts])
    frequencies = Counter(sample.ids[0] for sample in drawn)
    expected = full_logprobs(model, PROMPTS[1], [0], temperature)[0].exp()
    for token, count in frequencies.most_common(5):
        assert count / len(prompts) == pytest.approx(float(expected[token]), abs=0.04)


def test_top_k_and_top_p_leave_the_unlikely_out(model):
    table = full_logprobs(model, PROMPTS[0], [0])[0]
    by_k = decode(model, [Request(PROMPTS[0], 1, top_k=3) for _ in range(300)])
    assert {sample.ids[0] for sample in by_k} == set(table.topk(3).indices.tolist())
    ordered = table.sort(descending=True)
    kept = int((ordered.values.exp().cumsum(-1) < 0.2).sum()) + 1
    by_p = decode(model, [Request(PROMPTS[0], 1, top_p=0.2) for _ in range(300)])
    assert {sample.ids[0] for sample in by_p} <= set(ordered.indices[:kept].tolist())
    assert by_k[0].logprobs[0] == pytest.approx(
        float(table[by_k[0].ids[0]] - table.topk(3).values.logsumexp(0)), abs=1e-5
    )


def test_decoding_can_be_stopped_from_outside(model):
    aborted = threading.Event()
    aborted.set()
    (sample,) = decode(model, [Request(PROMPTS[0], 12)], aborted=aborted)
    assert (sample.ids, sample.stop_reason) == ([], "aborted")
