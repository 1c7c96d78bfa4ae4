"""The doctor: compares what is installed with what Unsloth asks for, without importing Unsloth or TRL itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "vllm")

_PROBE = """
from gym_adapters.unsloth.imports import check_import_order
check_import_order()
import inspect, unsloth, trl
names = {name for kind in trl.GRPOTrainer.__mro__ for name in inspect.signature(kind.__init__).parameters}
print("probe", getattr(unsloth, "DEVICE_TYPE", "unknown"), trl.GRPOTrainer.__name__,
      *(name for name in ("reward_funcs", "tools", "environment_factory", "rollout_func") if name in names))
"""


def main() -> int:
    """Print one line per finding; the exit status is the number of problems."""
    problems = 0
    for problem, line in [*_versions(), *_imported()]:
        problems += problem
        print(f"{'PROBLEM' if problem else 'ok':8}{line}")
    return problems


def _versions() -> Iterator[tuple[bool, str]]:
    pins: dict[str, SpecifierSet] = {}
    for name in ("unsloth", "unsloth_zoo"):
        found = _installed(name)
        yield found is None, f"{name} {found or 'is not installed'}"
        for requirement in map(Requirement, requires(name) or () if found else ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pins.setdefault(requirement.name, requirement.specifier)
    for name in LIBRARIES:
        found, pin = _installed(name), pins.get(name)
        if found is None:
            wanted = f"; Unsloth asks for {pin}" if pin is not None else ""
            yield False, f"{name} is not installed{wanted}"
        elif pin is not None and not pin.contains(found, prereleases=True):
            yield True, f"{name} {found}, but Unsloth asks for {pin}"
        else:
            yield False, f"{name} {found}"


def _imported() -> Iterator[tuple[bool, str]]:
    """Findings of a fresh process: the order of imports, and the features of TRL once Unsloth has patched it."""
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    said = next((line.split()[1:] for line in probe.stdout.splitlines() if line.startswith("probe ")), None)
    if probe.returncode or said is None:
        yield True, f"unsloth and trl can't be imported together: {probe.stderr.strip().rpartition(chr(10))[2]}"
        return
    device, trainer, *features = said
    yield False, "unsloth comes before trl, transformers and peft"
    yield False, f"backend {device}, trainer {trainer}"
    for function, feature in (("gym_environment", "environment_factory"), ("gym_rollout", "rollout_func")):
        can = "can be used" if feature in features else f"can't be used: this TRL's GRPOTrainer has no {feature}"
        yield False, f"{function} {can}"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
