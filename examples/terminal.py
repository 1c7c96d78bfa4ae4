"""A terminal: the policy repairs code by commands, in a box that lasts for the episode. It is judged by other tests.

python -m examples.terminal
gym-core run examples.terminal:Terminal --base-url http://localhost:8000/v1 --model Qwen/Qwen3-0.6B
"""

import asyncio
from pathlib import Path

from gym_core import Environment, Rollout, Score, ScriptedPolicy, ToolError, jsonl, rollout, tool
from gym_core.processes import shared_sandbox
from gym_core.verifiers import code_match


class Terminal(Environment):
    """Find out by commands why a test fails, and repair the code."""

    tasks = jsonl(Path(__file__).with_suffix(".jsonl"))

    async def setup(self) -> None:
        self.box = shared_sandbox().session(files=self.task.info["files"])
        await self.box.open()

    @tool
    async def run(self, command: str) -> str:
        """Run a command in the project's directory, with bash, and get what it prints. Files last, variables don't.

        Args:
            command: One line or many, such as `cat it.py` or `python3 -m unittest`.
        """
        ran = await self.box.exec(command, wall_s=20)
        ended = f"limit met: {ran.limit}" if ran.limit else f"exit status: {ran.exit_status}"
        return f"{ran.stdout}{ran.stderr}[{ended}]"

    async def verify(self, rollout: Rollout) -> float | Score:
        try:
            code = await self.box.read(self.task.info["repair"])
        except ToolError:  # the policy has removed the file
            return 0.0
        return await code_match(code, self.task.answer)

    async def close(self) -> None:
        await self.box.close()


if __name__ == "__main__":
    task = next(iter(Terminal.tasks))
    print(asyncio.run(rollout(Terminal(task), ScriptedPolicy(task.info["gold"]))).to_json())
