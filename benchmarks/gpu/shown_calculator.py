"""The calculator after four solved additions; without them SmolLM2 makes no call at all."""

import json

from examples.calculator import Calculator
from gym_core import Message, Task, assistant, tool_call, user


def solved(x: int, y: int) -> list[Message]:
    """A conversation in which the calculator solves an addition."""
    call = tool_call("calculate", json.dumps({"expression": f"{x}+{y}"}), id=f"call_{x}_{y}")
    answer: Message = {"role": "tool", "tool_call_id": call["id"], "name": "calculate", "content": str(x + y)}
    return [user(f"{x}+{y}"), assistant("", tool_calls=[call]), answer, assistant(str(x + y))]


SOLVED = solved(2, 5) + solved(8, 6) + solved(9, 9) + solved(5, 1)


class ShownCalculator(Calculator):
    """Add two digits, as shown."""

    name = "Calculator"
    tasks = tuple(Task([*SOLVED, *task.prompt], answer=task.answer) for task in Calculator.tasks)
