"""The order of imports that Unsloth needs, and the features of the installed TRL."""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import takewhile

from gym_core import GymError, MissingDependencyError

PATCHED = ("trl", "transformers", "peft")
"""Packages that Unsloth patches when it is imported."""

ROLLOUTS_SINCE = (1, 15)
"""The first TRL with whose `rollout_func` and `environment_factory` this package is tested."""

NONE_SINCE = (1, 9, 2)
"""The first TRL known to leave a reward of None out of its group; earlier ones add it up as 0."""


def check_import_order() -> None:
    """Import Unsloth, and check that it comes before the packages it patches.

    Raises:
        GymError: Unsloth came later, so parts of them are not patched.
        MissingDependencyError: Unsloth is not installed.
    """
    # In the order in which they were loaded: a package comes after its submodules.
    before_unsloth = list(takewhile(lambda name: not name.startswith("unsloth."), sys.modules))
    early = [name for name in PATCHED if name in before_unsloth]
    if early:
        raise GymError(
            f"{', '.join(early)} was imported before unsloth, which patches it: begin with 'import unsloth' and "
            "restart Python or the notebook's kernel"
        )
    try:
        import unsloth  # noqa: F401  # it takes seconds and patches TRL for the whole process, so only when asked for
    except ModuleNotFoundError as error:
        raise MissingDependencyError("unsloth") from error


def check_trl(name: str) -> None:
    """Check that TRL is new enough for a name of this package.

    Raises:
        GymError: TRL is too old.
    """
    if trl_version() < ROLLOUTS_SINCE:
        expected = ".".join(map(str, ROLLOUTS_SINCE))
        raise GymError(
            f"{name} needs trl >= {expected}, found {version('trl')}; for single turns gym_dataset, gym_reward and "
            "grpo_config work with it"
        )


def trl_version() -> tuple[int, ...]:
    """The version of the installed TRL, as numbers."""
    return tuple(int(part) for part in version("trl").split(".")[:3] if part.isdecimal())
