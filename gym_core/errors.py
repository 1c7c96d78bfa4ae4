"""Every exception this package raises on purpose.

* GymError
  * TaskError               a dataset row is malformed
  * ToolError               a tool refused; the policy reads the message
  * EnvironmentSpecError    a tool, a mix or the name of an environment is invalid
  * EpisodeError            the environment or its verifier broke
  * PolicyError             the policy could not be asked
  * OutOfTokens             the policy has no tokens left for another turn
  * TemplateError           a chat template can't be continued turn by turn
  * WorkerError             a child process did not answer
    * WorkerHungError       it used up its CPU seconds or its memory on this input
    * WorkerLostError       it died, or the machine is too slow
  * MissingDependencyError  an optional library is not installed
"""

__all__ = [
    "EnvironmentSpecError",
    "EpisodeError",
    "GymError",
    "MissingDependencyError",
    "OutOfTokens",
    "PolicyError",
    "TaskError",
    "TemplateError",
    "ToolError",
    "WorkerError",
    "WorkerHungError",
    "WorkerLostError",
]


class GymError(Exception):
    """Base class of all errors raised by gym_core and gym_adapters."""


class TaskError(GymError, ValueError):
    """A dataset row cannot be turned into a task; the message names file and line."""


class ToolError(GymError):
    """A tool refuses a call; the policy reads the message and may correct itself."""


class EnvironmentSpecError(GymError, ValueError):
    """An environment, its tools, its name or its mix is invalid."""


class EpisodeError(GymError, RuntimeError):
    """The environment broke; the rollout has no reward, through no fault of the policy."""


class PolicyError(GymError, RuntimeError):
    """The policy could not be asked; the rollout has no reward."""


class OutOfTokens(GymError):
    """The policy has no tokens left for another turn; the episode ends with the stop reason "length"."""


class TemplateError(GymError, ValueError):
    """A chat template can't be continued turn by turn."""


class WorkerError(GymError, RuntimeError):
    """A child process did not answer."""


class WorkerHungError(WorkerError):
    """A child process used up its CPU seconds or its memory on this input, which is to blame."""


class WorkerLostError(WorkerError):
    """A child process died or ran out of wall time; the machine is to blame, not the input."""


class MissingDependencyError(GymError, ImportError):
    """An optional library is not installed.

    Args:
        extra: Name of the extra of this package that installs the library.
    """

    def __init__(self, extra: str) -> None:
        super().__init__(extra)
        self.extra = extra

    def __str__(self) -> str:
        return f"this needs the extra {self.extra!r}: run `pip install '.[{self.extra}]'` in a clone"
