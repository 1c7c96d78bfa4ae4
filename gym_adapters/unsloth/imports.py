"""What Unsloth needs to come first, and what an installed TRL can do."""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import takewhile

from gym_core import GymError, MissingDependencyError

PATCHED = ("trl", "transformers", "peft")
"""What Unsloth patches when it is imported."""

ROLLOUTS_SINCE = (1, 15)
"""The first TRL whose `rollout_func` and `environment_factory` this package is tested with."""

NONE_SINCE = (1, 9, 2)
"""The first TRL known to leave a reward of None out of its group; earlier ones sum it as 0."""


def check_import_order() -> None:
    """Import Unsloth, and see that it came before what it patches.

    Raises:
        GymError: It came later, so parts of it are not patched.
        MissingDependencyError: It is not installed.
    """
    # In the order in which they were loaded: a package comes after its submodules.
    before_unsloth = list(takewhile(lambda name: not name.startswith("unsloth."), sys.modules))
    early = [name for name in PATCHED if name in before_unsloth]
    if early:
        raise GymError(
            f"{', '.join(early)} was imported before unsloth, which patches it: begin with 'import unsloth' and start "
            "Python, or the notebook's kernel, again"
        )
    try:
        import unsloth  # noqa: F401  # it takes seconds and patches TRL for the whole process, so only when asked for
    except ModuleNotFoundError as error:
        raise MissingDependencyError("unsloth") from error


def check_trl(name: str) -> None:
    """See that TRL is new enough for a name of this package.

    Raises:
        GymError: It is older.
    """
    if trl_version() < ROLLOUTS_SINCE:
        expected = ".".join(map(str, ROLLOUTS_SINCE))
        raise GymError(
            f"{name} needs trl >= {expected}, found {version('trl')}; for single turns gym_dataset, gym_reward and "
            "grpo_config work with it"
        )


def trl_version() -> tuple[int, ...]:
    """The numbers of the installed TRL's version."""
    return tuple(int(part) for part in version("trl").split(".")[:3] if part.isdecimal())
