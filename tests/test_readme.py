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
    """With two changes: a tiny model stands for the one named, and training is two steps on the CPU."""
    pytest.importorskip("trl")
    pytest.importorskip("reasoning_gym")
    from gym_adapters.trl.testing import char_tokenizer, tiny_model

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    tokenizer = char_tokenizer()
    tiny_model(tokenizer, hidden_size=32).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    two_steps = 'GRPOConfig(max_steps=2, use_cpu=True, bf16=False, report_to="none", save_strategy="no", '
    for block in blocks("python"):
        code = block.replace("Qwen/Qwen3-0.6B", str(tmp_path / "model")).replace(
            "GRPOConfig(output", two_steps + "output"
        )
        exec(compile(code, "README.md", "exec"), namespace)
    assert len(namespace["dataset"]) >= 2
    assert (tmp_path / "outputs" / "rollouts" / "rollouts.jsonl").exists()
