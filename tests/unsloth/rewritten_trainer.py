"""One step of Unsloth's rewritten GRPOTrainer on a CPU; prints its name, and the logged metrics as JSON.

It pretends that there is a GPU, by a switch of Unsloth's own tests and by private names. So it says whether the
rewritten trainer takes our functions; nothing of Triton kernels, Unsloth's attention or vLLM.
"""

# ruff: noqa: E402  # what is patched must be patched before it is imported
import json
import os
import sys
import tempfile

os.environ |= {"UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch


def as_it_is(function=None, **_):
    return function or as_it_is


def on_cpu(function):
    def here(place):
        return "cpu" if isinstance(place, str | torch.device) and "cuda" in str(place) else place

    def call(*args, **kwargs):
        return function(*map(here, args), **{name: here(value) for name, value in kwargs.items()})

    return call


torch.compile = as_it_is
for name in ("arange", "empty", "full", "ones", "tensor", "zeros"):
    setattr(torch, name, on_cpu(getattr(torch, name)))
torch.Tensor.to = on_cpu(torch.Tensor.to)

from unsloth.models import rl

rl._patch_trl_rl_trainers_impl("grpo_trainer")

import inspect

import trl
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback
from trl.trainer import grpo_trainer

from examples.calculator import Calculator
from gym_adapters.trl.testing import char_tokenizer, script, tiny_model
from gym_adapters.unsloth import grpo_config, gym_dataset, gym_environment, gym_reward, gym_rollout
from gym_adapters.unsloth.config import STATED, STATED_FOR_GRPO


def reply(conversation):
    if "<tool>" in conversation:
        return conversation.rpartition("<tool>")[2].partition("<assistant>")[0] + "<eos>"
    question = conversation.partition("<user>")[2].partition("<assistant>")[0]
    return f'<call>calculate {{"expression": "{question}"}}</call><eos>'


FACTORY = inspect.signature(trl.GRPOConfig.__mro__[1]).parameters["lr_scheduler_kwargs"].default


def unstated():
    """Settings to which Unsloth gives other defaults than TRL, and we none."""
    rewritten, stock = (inspect.signature(kind).parameters for kind in trl.GRPOConfig.__mro__[:2])
    changed = {name for name in stock if name in rewritten and stock[name].default != rewritten[name].default}
    changed = {name for name in changed if stock[name].default is not FACTORY}
    return sorted(changed - STATED.keys() - STATED_FOR_GRPO.keys())


def main(hook):
    tokenizer = char_tokenizer()
    model = get_peft_model(tiny_model(tokenizer, hidden_size=32), LoraConfig(r=4, task_type="CAUSAL_LM"))
    model.for_training = model.for_inference = lambda *_, **__: None
    script(model, tokenizer, reply)
    hooks = {"rollout_func": gym_rollout, "environment_factory": gym_environment}
    args = grpo_config(
        max_seq_length=128,
        max_prompt_tokens=32,
        per_device_train_batch_size=4,
        num_generations=4,
        max_steps=1,
        max_tool_calling_iterations=2,
        save_strategy="no",
        use_cpu=True,
        optim="adamw_torch",
        gradient_checkpointing=False,
        output_dir=tempfile.mkdtemp(),
    )
    trainer = grpo_trainer.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=gym_dataset(Calculator, tokenizer=tokenizer, max_prompt_tokens=32, limit=8),
        reward_funcs=gym_reward(Calculator),
        args=args,
        **{hook: hooks[hook](Calculator)},
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    metrics = [log for log in trainer.state.log_history if "reward" in log][-1]
    print(json.dumps({"trainer": type(trainer).__name__, "unstated": unstated(), **metrics}))


if __name__ == "__main__":
    main(sys.argv[1])
