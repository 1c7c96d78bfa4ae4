"""The program of one call: runs a function of the solution, in the sandbox, and hands back its value as data."""

import os
import sys
from pathlib import Path

from .values import from_json, to_json  # relative, as this is handed to the sandbox under another name


def main() -> None:
    """Read the call from standard input, and write the value to standard output; the solution prints elsewhere."""
    request = from_json(sys.stdin.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    solution = {"__name__": "solution"}
    exec(compile(Path("solution.py").read_text(encoding="utf-8"), "solution.py", "exec"), solution)
    value = eval(request["function"], solution)(*request["args"], **request["kwargs"])
    os.write(answer, to_json(value).encode())
