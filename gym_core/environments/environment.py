"""The environment: one episode of one task."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

from gym_core.environments.tasks import Task
from gym_core.environments.tools import Tool, class_tools
from gym_core.errors import EpisodeError
from gym_core.messages import Message

if TYPE_CHECKING:
    from gym_core.environments.rollouts import Rollout


@dataclass(frozen=True)
class Score:
    """A reward and the named parts it is made of.

    Attributes:
        reward: Any finite number; most verifiers stay in [0, 1].
        components: Finite numbers, raw and unweighted, which the adapters log.
    """

    reward: float
    components: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in [("reward", self.reward), *self.components.items()]:
            if not isinstance(value, Real) or not math.isfinite(value):
                raise EpisodeError(f"{name!r} of a score must be a finite number, not {value!r}")
        object.__setattr__(self, "reward", float(self.reward))
        object.__setattr__(self, "components", {name: float(value) for name, value in self.components.items()})


class Environment:
    """One episode of one task: its state, its tools and its verifier.

    An instance serves one rollout and is then thrown away, so its state is simply its attributes. Only `verify` is
    required. Every hook and tool may be `async`; one that isn't runs on the event loop, so it must not block. `Episode`
    calls them.

    Attributes:
        name: Name in the metrics, `gym/<name>/...`; by default the name of the class.
        tasks: Tasks that can be played; they may be endless.
        max_turns: Number of assistant messages after which the episode is cut off and verified as it stands.
        tool_timeout_s: Seconds after which an async tool is given up; the policy is told.
        timeout_s: Wall seconds for the whole episode, or None for no limit; past it the rollout has no reward, because
            a slow machine is not the policy's fault.
        done: Flag that a tool sets to True to end the episode; later calls of the same turn are refused.
        hooks: Names of the hooks among `setup`, `respond` and `verify_group` that the class implements; a proxy has
            those of the environment behind it.

    Example:
        >>> class Echo(Environment):
        ...     def verify(self, rollout):
        ...         return rollout.last_reply == self.task.answer
    """

    name: ClassVar[str]
    tasks: ClassVar[Iterable[Task]] = ()
    max_turns: int = 16
    tool_timeout_s: float = 60.0
    timeout_s: float | None = None
    hooks: frozenset[str] = frozenset()
    _class_tools: ClassVar[dict[str, Tool]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = vars(cls).get("name", cls.__name__)
        cls.hooks = frozenset(name for name in _OPTIONAL_HOOKS if _implements(cls, name))
        cls._class_tools = class_tools(cls)

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = False
        self.tools: dict[str, Tool] = {name: tool.bind(self) for name, tool in self._class_tools.items()}

    def setup(self) -> list[Message] | Awaitable[list[Message] | None] | None:
        """Prepare the state; called once, first.

        Returns:
            The whole opening conversation, or None for the task's prompt.
        """
        return None

    def respond(self, message: Message) -> Message | list[Message] | Awaitable[Message | list[Message] | None] | None:
        """Answer an assistant message that called no tool, as the user would; None ends the episode."""
        return None

    def verify(self, rollout: Rollout) -> float | Score | Awaitable[float | Score]:
        """Judge the finished episode; called once, unless something broke.

        Args:
            rollout: Everything that happened; its reward is still None.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement verify")

    @classmethod
    def verify_group(cls, rollouts: Sequence[Rollout]) -> Sequence[float | Score] | Awaitable[Sequence[float | Score]]:
        """Judge all rollouts of a task together, after each has its own reward; the default keeps those.

        For verdicts that need a group: a ranking, the best of n, a length penalty relative to the others.

        Args:
            rollouts: Rollouts of one task that have a reward, in no particular order; never empty.

        Returns:
            The reward of each rollout, in the same order.
        """
        return [cast("float", rollout.reward) for rollout in rollouts]

    def close(self) -> Awaitable[None] | None:
        """Release what `setup` acquired; called once, last, whatever happened."""
        return None


_OPTIONAL_HOOKS = ("setup", "respond", "verify_group")


def _implements(kind: type[Environment], hook: str) -> bool:
    return inspect.getattr_static(kind, hook) is not vars(Environment)[hook]


@runtime_checkable
class EnvironmentFactory(Protocol):
    """The `env` of adapters: an Environment class, a mix, or any other object with a name and tasks that makes one."""

    @property
    def name(self) -> str:
        """Name in the metrics."""
        ...

    @property
    def tasks(self) -> Iterable[Task]:
        """Tasks that can be played; they may be endless."""
        ...

    def __call__(self, task: Task, /) -> Environment:
        """Make an environment for one episode of this task; it is cheap, since the work belongs in `setup`."""
        ...
