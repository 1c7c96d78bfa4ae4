"""Additions that a model can guess, or get right by calling a calculator.

Play one: `python -m examples.calculator`.
"""

import asyncio

from gym_core import Environment, Rollout, ScriptedPolicy, Task, ToolError, assistant, rollout, tool, tool_call, user
from gym_core.verifiers import number_match


class Calculator(Environment):
    """Add two digits from 1 to 9; the last number of the last reply counts, however it was found."""

    tasks = tuple(Task([user(f"{x}+{y}")], answer=x + y) for x in range(1, 10) for y in range(1, 10))
    max_turns = 3

    @tool
    def calculate(self, expression: str) -> str:
        """Calculate a sum.

        Args:
            expression: Whole numbers joined by +, such as 3+4.
        """
        try:
            return str(sum(int(term) for term in expression.split("+")))
        except ValueError as error:
            raise ToolError(f"{expression!r} must be whole numbers joined by +, such as '3+4'") from error

    def verify(self, rollout: Rollout) -> float:
        return number_match(rollout.last_reply, self.task.answer)


async def main() -> None:
    """Play 3+4 with a scripted policy and print the conversation."""
    call = assistant(tool_calls=[tool_call("calculate", '{"expression": "3+4"}')])
    task = Task([user("3+4")], answer=7)
    played = await rollout(Calculator(task), ScriptedPolicy([call, assistant("3+4 is 7.")]))
    print(*played.output, f"reward: {played.reward}", sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
