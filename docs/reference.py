"""Writes docs/reference.md from the docstrings: `make reference`.

The source is parsed, not imported: one environment describes every adapter, whatever libraries it lacks.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = (
    "gym_core",
    "gym_core.verifiers",
    "gym_core.driving",
    "gym_core.processes",
    "gym_core.audit",
    "gym_core.errors",
    "gym_adapters.trl",
    "gym_adapters.trl.testing",
    "gym_adapters.unsloth",
    "gym_adapters.verl",
    "gym_adapters.verl.testing",
    "gym_adapters.reasoning_gym",
)
"""In the order of the page; a name that several modules export is described under the first."""

ROOMS = (
    "environments",
    "messages",
    "episodes",
    "processes",
    "policies",
    "verifiers",
    "collection",
    "export",
    "tokens",
    "errors",
)
"""The order of the names of `gym_core`: those of an author first."""

WIDTH = 100
PARAGRAPH = "\n\n"
HEADER = """\
# Reference

Every public name, by the module it is imported from. The guides explain how the names work together:
[environments and verifiers](environments.md), [TRL](trl.md), [Unsloth](unsloth.md), [veRL](verl.md).

`make reference` writes this page from the docstrings.
"""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    """The whole page."""
    anchors: dict[str, str] = {}  # of names, by GitHub's rule: lower case, and a number from the second on
    headings: Counter[str] = Counter()
    parts = [HEADER, "\n".join(f"- [`{name}`](#{name.replace('.', '')})" for name in MODULES)]
    for module in MODULES:
        public = _public(module)
        new = [name for name in public if name not in anchors]
        for name in new:
            count = headings[name.lower()]
            anchors[name] = f"[`{name}`](#{name.lower()}{f'-{count}' if count else ''})"
            headings[name.lower()] += 1
        parts += [f"## `{module}`", ast.get_docstring(_tree(module)) or "", _list(anchors, new)]
        if old := [name for name in public if name not in new]:
            parts.append(f"It also exports these names, described above: {_list(anchors, old)}")
        parts += [part for name in new for part in _described(name, *_definition(module, name))]
    return PARAGRAPH.join(part.strip() for part in parts if part) + "\n"


def _list(anchors: dict[str, str], names: list[str]) -> str:
    return " · ".join(anchors[name] for name in names)


def _path(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _public(module: str) -> list[str]:
    """The names of `__all__`, room by room; without one, all public classes and functions."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value), key=lambda name: _room(module, name))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in _tree(module).body if isinstance(node, kinds) and not node.name.startswith("_")]


def _room(module: str, name: str) -> int:
    """The position in `ROOMS` of the room that defines a name of `gym_core`; 0 for names of other modules."""
    for node in ast.walk(_tree(module)) if module == "gym_core" else ():
        if isinstance(node, ast.ImportFrom) and node.module and any(name == alias.name for alias in node.names):
            return ROOMS.index(node.module.removeprefix("gym_core."))
    return 0


def _definition(module: str, name: str) -> tuple[ast.stmt, str]:
    """The statement that defines a name, wherever it was imported from, and the docstring beneath an assignment."""
    body = _tree(module).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | _Function) and node.name == name:
            return node, ""
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if [target.id for target in targets if isinstance(target, ast.Name)] == [name]:
            text = following.value if isinstance(following, ast.Expr) else None
            return node, inspect.cleandoc(str(text.value)) if isinstance(text, ast.Constant) else ""
    for part in ast.walk(_tree(module)):  # imports of TYPE_CHECKING and of `try` too
        for alias in part.names if isinstance(part, ast.ImportFrom) else ():
            if name == (alias.asname or alias.name) and isinstance(part, ast.ImportFrom) and part.module:
                return _definition(part.module, alias.name)
    raise LookupError(f"{module} exports {name!r}, which it neither defines nor imports")


def _described(name: str, node: ast.stmt, beneath: str) -> Iterator[str]:
    """A heading, a signature, the first paragraph, what each argument is, and the methods of a class."""
    yield f"### `{name}`"
    if isinstance(node, ast.ClassDef):
        yield _code(_class_signature(node))
        yield from _docstring(ast.get_docstring(node) or "")
        if methods := "\n".join(_methods(node)):
            yield f"**Methods**\n\n{methods}"
    elif isinstance(node, _Function):
        yield _code(_signature(node))
        yield from _docstring(ast.get_docstring(node) or "")
    else:
        yield _code(ast.unparse(node))
        yield beneath


def _code(text: str) -> str:
    quoted = re.sub(r"'([^'\"\n]*)'", r'"\1"', text)  # as the formatter writes them
    return f"```python\n{quoted}\n```"


def _class_signature(node: ast.ClassDef) -> str:
    bases = [ast.unparse(base) for base in node.bases]
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and _is_field(item)]
        return _call(node.name, [_field(item) for item in fields], "")
    made = next((item for item in node.body if isinstance(item, _Function) and item.name == "__init__"), None)
    if made is None:
        return f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"
    return _call(node.name, _arguments(made), "")


def _is_field(item: ast.AnnAssign) -> bool:
    return not ast.unparse(item.target).startswith("_") and "ClassVar" not in ast.unparse(item.annotation)


def _field(item: ast.AnnAssign) -> str:
    default = "" if item.value is None else ast.unparse(item.value)
    if made := re.search(r"default_factory=(dict|list|tuple)\b", default):
        default = {"dict": "{}", "list": "[]", "tuple": "()"}[made[1]]
    elif default.startswith("field("):
        default = "..."
    return f"{ast.unparse(item.target)}: {ast.unparse(item.annotation)}" + (f" = {default}" if default else "")


def _signature(node: _Function) -> str:
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return prefix + _call(node.name, _arguments(node), returned)


def _arguments(node: _Function) -> list[str]:
    """The arguments one by one, without `self` and `cls`, the separators among them."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    shown = [_argument(*pair) for pair in zip(plain, defaults, strict=True) if pair[0].arg not in ("self", "cls")]
    if arguments.vararg:
        shown.append(f"*{_argument(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return shown + ([f"**{_argument(arguments.kwarg, None)}"] if arguments.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    hint = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{hint}" + (f" = {ast.unparse(default)}" if default else "")


def _call(name: str, arguments: list[str], returned: str) -> str:
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returned}"])


def _docstring(text: str) -> Iterator[str]:
    """The first paragraph, then the arguments, results and exceptions as lists."""
    first, *sections = _SECTION.split(text)
    yield first.strip().partition(PARAGRAPH)[0]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        content = textwrap.dedent("\n".join(takewhile(lambda line: not line or line[0] == " ", body.split("\n"))))
        if title in ("Args", "Attributes", "Raises"):
            yield f"**{title}**\n\n" + "\n".join(_items(content))
        elif title in ("Returns", "Yields"):
            yield f"**{title}** {' '.join(content.split())}"


def _items(content: str) -> Iterator[str]:
    for item in re.split(r"\n(?=\S)", content.strip()):
        name, _, meaning = item.partition(":")
        yield f"- `{name}`: {' '.join(meaning.split())}"


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        text = ast.get_docstring(item) if isinstance(item, _Function) else None
        if not isinstance(item, _Function) or not text or (item.name.startswith("_") and item.name != "__call__"):
            continue
        is_property = any("property" in ast.unparse(decorator) for decorator in item.decorator_list)
        shown = item.name if is_property else re.sub(r"\(\n +|\n +|,\n(?=\))", _on_one_line, _signature(item))
        first, *lists = _docstring(text)
        yield f"- `{shown}`: {' '.join(first.split())}"
        yield from (f"  {line}" for part in lists for line in part.splitlines() if line.startswith("- "))


def _on_one_line(found: re.Match[str]) -> str:
    return {"(": "(", ",": ""}.get(found[0][0], " ")


if __name__ == "__main__":
    (ROOT / "docs" / "reference.md").write_text(page(), encoding="utf-8")
