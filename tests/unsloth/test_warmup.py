import pytest

from gym_adapters.trl.testing import script
from gym_adapters.unsloth import rollout_with_model, sft_warmup
from gym_core import GymError, Rollout, assistant, user

SETTINGS = {"max_steps": 1, "disable_tqdm": True, "bf16": False, "gradient_checkpointing": False}


def learned(trainer, tokenizer):
    """What the loss falls on, in the batches the model is given."""
    texts = []
    for batch in trainer.get_train_dataloader():
        texts += [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    return sorted(texts)


def test_rejection_sampled_rollouts_are_learned_token_for_token(lora_model, adder, tmp_path):
    model, tokenizer = lora_model

    def reply(conversation):
        number = int(conversation[6])
        if "<tool>" in conversation:
            return f"{number + 2}<eos>"
        if number > 2:
            return "0<eos>"
        return f'<call>add {{"a": {number}, "b": 2}}</call><eos>'

    sampled, model.generate = model.generate, None
    script(model, tokenizer, reply)
    rollouts = rollout_with_model(adder, model, tokenizer, 8, max_completion_length=128)
    model.generate = sampled
    trainer = sft_warmup(model, tokenizer, rollouts, output_dir=str(tmp_path), **SETTINGS)
    assert learned(trainer, tokenizer) == [
        f'<call>add {{"a": {number}, "b": 2}}</call><eos>{number + 2}<eos>' for number in (0, 1, 2)
    ]


def test_scripted_rollouts_are_learned_by_the_marks_of_the_template(lora_model, tmp_path):
    model, tokenizer = lora_model
    rollouts = [
        Rollout(1.0, [user("1+2"), assistant("3")], turns=1),
        Rollout(0.0, [user("2+2"), assistant("5")], turns=1),
        Rollout(None, [user("3+2"), assistant("5")], turns=1),
    ]
    trainer = sft_warmup(model, tokenizer, rollouts, output_dir=str(tmp_path), **SETTINGS)
    assert learned(trainer, tokenizer) == ["3<eos>"]


def test_nothing_to_learn_and_misspelt_settings_are_errors(lora_model):
    model, tokenizer = lora_model
    bad = [Rollout(0.0, [user("1+2"), assistant("4")], turns=1)]
    with pytest.raises(GymError, match=r"none of 1 rollouts can be learned from: \{'its reward is below 1': 1}"):
        sft_warmup(model, tokenizer, bad)
    with pytest.raises(GymError, match="SFTConfig has no setting 'epochs'"):
        sft_warmup(model, tokenizer, bad, min_reward=0.0, epochs=3)
