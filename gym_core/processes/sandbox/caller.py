"""The program of an untrusted call, which calls a function and writes the result to standard output.

It runs from its source, in an interpreter that may lack this package.
"""

import base64
import importlib
import json
import os
import pickle
import sys
from operator import attrgetter


def _answer(name: str, arguments: bytes) -> list[object]:
    """Call a function; return "value" or "error", and the result or the message."""
    module, _, attribute = name.partition(":")
    try:
        function = attrgetter(attribute)(importlib.import_module(module))
        args = pickle.loads(arguments)
    except Exception as error:
        return ["missing", _description(error)]
    try:
        return ["value", function(*args)]
    except MemoryError:
        raise  # reported as a limit
    except BaseException as error:
        return ["error", _description(error)]


def _description(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1000]


def main() -> None:
    """Answer one call."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # for the output of the function
    name, arguments = sys.stdin.read().split()
    answer = _answer(name, base64.b64decode(arguments))
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError, RecursionError) as error:
        text = json.dumps(["error", f"the result of {name} must be JSON: {_description(error)}"])
    with output:  # whose end says that this is all
        output.write(text)


if __name__ == "__main__":
    main()
