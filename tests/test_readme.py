"""The README's examples run as they are printed."""

import re
import shlex
from pathlib import Path

import pytest

from gym_core.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_check_command_finds_nothing_wrong(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (command,) = [line for block in blocks("console") for line in block.splitlines() if "gym-core check" in line]
    assert main(shlex.split(command)[2:]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_python_examples_run_in_order(monkeypatch, tmp_path):
    """With a tiny model in place of the named one, and two steps of short completions on the CPU."""
    pytest.importorskip("trl")
    pytest.importorskip("reasoning_gym")
    import torch

    from gym_adapters.trl.testing import char_tokenizer, tiny_model

    torch.set_num_threads(1)  # small matrices are slower on more threads
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    tokenizer = char_tokenizer()
    tiny_model(tokenizer, hidden_size=32).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    settings = 'max_steps=2, max_completion_length=64, use_cpu=True, bf16=False, report_to="none", save_strategy="no"'
    for block in blocks("python"):
        code = block.replace("Qwen/Qwen3-0.6B", str(tmp_path / "model"))
        code = re.sub(r", max_completion_length=\d+", "", code).replace("GRPOConfig(", f"GRPOConfig({settings}, ")
        exec(compile(code, "README.md", "exec"), namespace)
    assert len(namespace["dataset"]) >= 2
    assert (tmp_path / "outputs" / "rollouts" / "rollouts.jsonl").exists()
