import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from unsloth import FastLanguageModel

from gym_adapters.unsloth import lora_defaults, rollout_with_model, save_all, saving, sft_warmup
from gym_core import Environment, GymError, Rollout, Task, assistant, user


class Seven(Environment):
    """Say 7."""

    tasks = [Task([user(str(number))], id=str(number)) for number in range(8)]

    def verify(self, rollout):
        return float(rollout.last_reply == "7")


OPTIONS = {"env": Seven, "n": 8, "max_completion_length": 4}


@pytest.fixture
def taught(lora_model):
    """A model whose LoRA, and nothing else, says 7."""
    model, tokenizer = lora_model
    rollouts = [Rollout(1.0, [*task.prompt, assistant("7")], task=task, turns=1) for task in Seven.tasks]
    settings = {"max_steps": 40, "learning_rate": 1e-2, "disable_tqdm": True, "bf16": False}
    sft_warmup(model, tokenizer, rollouts, gradient_checkpointing=False, **settings)
    played = rollout_with_model(Seven, model, tokenizer, 8, max_completion_length=4, temperature=0.0)
    assert [rollout.reward for rollout in played] == [1.0] * 8
    return model, tokenizer


def test_a_reloaded_model_plays_like_the_trained_one(taught, tmp_path):
    assert save_all(*taught, tmp_path, merged="merged_16bit", **OPTIONS) == {
        "trained": 1.0,
        "lora": 1.0,
        "merged_16bit": 1.0,
    }
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == 8
    assert not (tmp_path / "merged_16bit" / "adapter_config.json").exists()


def test_a_lora_that_is_silently_not_used_is_found(taught, tmp_path, monkeypatch):
    def save_without_effect(model, folder: Path):
        model.save_pretrained(folder)
        path = folder / "adapter_model.safetensors"
        save_file({name: torch.zeros_like(weight) for name, weight in load_file(path).items()}, path)

    monkeypatch.setattr(saving, "_save_weights", save_without_effect)
    with pytest.raises(GymError, match=r"loaded from .*lora earns 0\.000, but the trained one earned 1\.000 on the s"):
        save_all(*taught, tmp_path, **OPTIONS)


def test_a_form_that_the_backend_lacks_is_named(lora_model, tmp_path, monkeypatch):
    model, tokenizer = lora_model
    monkeypatch.setattr(type(model), "__getattr__", no_gguf(type(model).__getattr__))
    monkeypatch.delattr(model, "save_pretrained_gguf", raising=False)
    with pytest.raises(GymError, match="no save_pretrained_gguf on this backend; save the LoRA alone"):
        save_all(model, tokenizer, tmp_path, gguf="q8_0", **OPTIONS)


def no_gguf(found):
    def getattr_without(self, name):
        if name == "save_pretrained_gguf":
            raise AttributeError(name)
        return found(self, name)

    return getattr_without


def test_a_model_in_4_bits_learns_and_is_loaded_again_in_4_bits(tiny_folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    model, tokenizer = FastLanguageModel.from_pretrained(
        tiny_folder, max_seq_length=256, load_in_4bit=True, use_gradient_checkpointing=False
    )
    if not getattr(model, "is_loaded_in_4bit", False):
        pytest.skip("this CPU has no 4-bit kernels")
    model = FastLanguageModel.get_peft_model(model, **lora_defaults(8) | {"use_gradient_checkpointing": False})
    rollouts = [Rollout(1.0, [*task.prompt, assistant("7")], task=task, turns=1) for task in Seven.tasks]
    sft_warmup(model, tokenizer, rollouts, max_steps=2, learning_rate=1e-2, gradient_checkpointing=False)
    assert save_all(model, tokenizer, tmp_path, **OPTIONS).keys() == {"trained", "lora"}
