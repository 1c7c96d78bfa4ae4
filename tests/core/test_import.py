import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import gym_adapters
import gym_core
from gym_core import errors

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
HEAVY = ("torch", "transformers", "datasets", "ray", "openai", "aiohttp", "jsonschema", "numpy")


def test_importing_the_core_loads_no_heavy_library():
    code = f"import sys, gym_core; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_public_names_are_sorted_and_all_there():
    assert gym_core.__all__ == sorted(gym_core.__all__)
    for name in gym_core.__all__:
        assert getattr(gym_core, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gym_core' has no attribute 'Chat'"):
        _ = gym_core.Chat


def test_the_errors_are_sorted_and_all_there():
    defined = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert errors.__all__ == sorted(defined)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_survives_a_pickle(name):
    error = getattr(errors, name)("é 'quoted'")
    assert isinstance(error, errors.GymError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert "é 'quoted'" in str(error)


def test_a_missing_library_says_how_to_install_it():
    assert (
        str(errors.MissingDependencyError("trl")) == "this needs the extra 'trl': run `pip install '.[trl]'` in a clone"
    )


def test_no_module_shares_its_name_with_a_function():
    """A package named after a library, with its one function, is meant."""
    modules, functions = {}, {}
    for package in (gym_core, gym_adapters):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            named = path.parent if path.name == "__init__.py" else path.with_suffix("")
            if named.parent != Path(gym_adapters.__file__).parent:
                modules[named.name] = path
            defined = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, FUNCTIONS)]
            functions |= dict.fromkeys(defined, path)
    assert {name: (modules[name], functions[name]) for name in modules.keys() & functions.keys()} == {}
