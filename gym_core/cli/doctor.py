"""The doctor: shows what works on this machine, which extras are installed, and what conflicts."""

from __future__ import annotations

from collections.abc import Iterable

from gym_core.cli.extras import Extra, find_conflicts, find_extras
from gym_core.cli.machine import find_facts


def diagnose() -> int:
    """Print the diagnosis; return 1 if something is broken or conflicts, and 0 otherwise."""
    facts, extras, conflicts = find_facts(), find_extras(), find_conflicts()
    print(_table((fact.name, fact.text) for fact in facts))
    if extras:
        print(f"\nExtras\n{_table((extra.name, _versions(extra)) for extra in extras)}")
    else:
        print("\nExtras\n  unknown: gym-adapters runs from a checkout that is not installed")
    unknown = ["unknown: the package packaging, which compares versions, is not installed"]
    shown = unknown if conflicts is None else conflicts or ["none found"]
    print("\nConflicts\n" + "\n".join(f"  {line}" for line in shown))
    return int(bool(conflicts) or any(fact.is_fault for fact in facts))


def _versions(extra: Extra) -> str:
    if not extra.is_installed:
        return f"not installed: run `pip install '.[{extra.name}]'` in a clone"
    return ", ".join(f"{package} {version or 'MISSING'}" for package, version in extra.versions.items())


def _table(rows: Iterable[tuple[str, str]]) -> str:
    listed = list(rows)
    width = max(len(name) for name, _ in listed)
    return "\n".join(f"  {name:{width}}  {text}" for name, text in listed)
