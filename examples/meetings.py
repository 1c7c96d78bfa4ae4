"""A calendar the policy fills in by tools: state lives in the episode, and the verifier looks at the state.

python -m examples.meetings
gym-core run examples.meetings:Calendar --base-url http://localhost:8000/v1 --model Qwen/Qwen3-0.6B
"""

import asyncio
from pathlib import Path

from gym_core import Environment, Rollout, ScriptedPolicy, ToolError, jsonl, rollout, tool


class Calendar(Environment):
    """Put the requested meetings on one day without overlaps."""

    tasks = jsonl(Path(__file__).with_suffix(".jsonl"))
    max_turns = 8

    def setup(self) -> None:
        self.meetings: dict[str, list[int]] = {}

    @tool
    def add_meeting(self, title: str, start: int, end: int) -> str:
        """Add a meeting to the calendar.

        Args:
            title: Name of the meeting.
            start: Hour at which it starts, 0 to 23.
            end: Hour at which it is over, after its start and at most 24.
        """
        if not 0 <= start < end <= 24:
            raise ToolError(f"a meeting can't last from {start} to {end}; give 0 <= start < end <= 24")
        for other, (begins, ends) in self.meetings.items():
            if begins < end and start < ends:
                raise ToolError(f"{title!r} would overlap {other!r}, which lasts from {begins} to {ends}")
        self.meetings[title] = [start, end]
        return f"Added {title!r}, {start}:00 to {end}:00."

    @tool
    def list_meetings(self) -> dict[str, list[int]]:
        """List the meetings of the day, each with its start and end hour."""
        return self.meetings

    def verify(self, rollout: Rollout) -> float:
        return float(self.meetings == self.task.answer)


if __name__ == "__main__":
    task = next(iter(Calendar.tasks))
    print(asyncio.run(rollout(Calendar(task), ScriptedPolicy(task.info["gold"]))).to_json())
