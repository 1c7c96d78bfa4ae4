"""Findings: what the trials show about the reward."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log
from statistics import StatisticsError, correlation, mean
from typing import Any

from gym_core.audit.probes import Kind, answer_text
from gym_core.audit.trials import Trial
from gym_core.environments import Rollout, Task

_WORTH_A_NOTE = 0.02  # of reward
_ENOUGH_TASKS = 16  # enough to tell a common answer from chance


@dataclass(frozen=True)
class Thresholds:
    """Limits beyond which a finding is a defect; within them it is a note.

    Attributes:
        max_junk: Highest mean reward of a policy that knows nothing, as a share of the mean gold reward; a list of all
            answers may earn in addition what a guess among them would.
        min_gold: Lowest reward of a gold reply.
        max_missed: Largest share of its reward that the gold answer may lose to white space, JSON spacing, or reasoning
            before it.
        max_respelled: Largest share of its reward that the gold answer may lose to another spelling of a number,
            another case, or a sentence around it.
        max_constant: Largest share of the tasks, of 16 or more, that may have the same answer.
        max_length_correlation: Largest correlation, of either sign, between the rewards of random texts and the
            logarithms of their lengths.
        max_unscored: Largest share of rollouts without a reward.
        max_leaked: Largest share of tasks whose answer the policy is shown, marked as such.
    """

    max_junk: float = 0.05
    min_gold: float = 0.5
    max_missed: float = 0.1
    max_respelled: float = 1.0
    max_constant: float = 0.75
    max_length_correlation: float = 0.5
    max_unscored: float = 0.0
    max_leaked: float = 0.1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        kind: Subject: constant, gold, junk, leak, length, missed, respelled, signal, tasks, tools, unscored or
            unstable.
        is_defect: Whether the finding is beyond its threshold; it is a note otherwise.
        sentence: Finding in a sentence, with the value found and the value expected.
        tasks: Ids of the tasks that show it.
        example: One rollout that shows it: `task`, `reply`, `reward`, and `error` where something broke.
    """

    kind: str
    is_defect: bool
    sentence: str
    tasks: tuple[str, ...] = ()
    example: dict[str, Any] | None = None


def find(trials: Sequence[Trial], tasks: Sequence[Task], thresholds: Thresholds) -> Iterator[Finding]:
    """Everything that the trials of an environment show, defects and notes."""
    scored = [trial for trial in trials if trial.rollout.reward is not None]
    gold = {trial.rollout.task.id: trial for trial in scored if trial.probe.kind == "gold"}
    yield from _unscored(trials, thresholds)
    yield from _unstable(trials)
    yield from _gold(gold, thresholds)
    if all(trial.probe.kind == "junk" for trial in trials):
        yield Finding("gold", False, "no gold reply is known, so only junk was played")
    yield from _signal(scored, gold)
    yield from _junk(scored, gold, thresholds)
    yield from _missed([trial for trial in scored if trial.rollout.task.id in gold], gold, thresholds)
    yield from _constant(tasks, thresholds)
    yield from _length(scored, thresholds)


def reward_of(trial: Trial) -> float:
    """The reward; 0.0 stands for none in rankings only, since means are taken over rollouts that have a reward."""
    return trial.rollout.reward or 0.0


def by_policy(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials that have a reward, by policy."""
    policies: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.rollout.reward is not None:
            policies[trial.probe.policy].append(trial)
    return policies


def finding(
    kind: str,
    sentence: str,
    shown: Sequence[Trial],
    *,
    is_defect: bool = True,
    key: Callable[[Trial], float] = reward_of,
) -> Finding:
    """A finding, with the trial of the greatest key as its example."""
    tasks = dict.fromkeys(trial.rollout.task.id for trial in shown)
    return Finding(kind, is_defect, sentence, tuple(tasks), _example(max(shown, key=key)))


def _example(trial: Trial) -> dict[str, Any]:
    rollout = trial.rollout
    example = {"task": rollout.task.id, "reply": trial.probe.shown, "reward": rollout.reward}
    return example | ({"error": f"{rollout.error.kind}: {rollout.error.message}"} if rollout.error else {})


def _unscored(trials: Sequence[Trial], thresholds: Thresholds) -> Iterator[Finding]:
    broken = [trial for trial in trials if trial.rollout.reward is None]
    if broken:
        is_defect = len(broken) / len(trials) > thresholds.max_unscored
        names = ", ".join(dict.fromkeys(trial.probe.policy for trial in broken))
        expected = f"expected at most {thresholds.max_unscored:.0%}"
        sentence = f"{len(broken)} of {len(trials)} rollouts have no reward, {expected}: {names}"
        yield finding("unscored", sentence, broken, is_defect=is_defect, key=lambda trial: -len(trial.probe.shown))


def _unstable(trials: Sequence[Trial]) -> Iterator[Finding]:
    def score(rollout: Rollout) -> tuple[float | None, dict[str, float]]:
        return rollout.reward, rollout.components

    changed = [trial for trial in trials if trial.again and score(trial.again) != score(trial.rollout)]
    if changed:
        rewards = f"{changed[0].rollout.reward} and then {changed[0].again.reward}" if changed[0].again else ""
        yield finding("unstable", f"the same reply earns {rewards}, expected the same score", changed[:1])


def _gold(gold: dict[str, Trial], thresholds: Thresholds) -> Iterator[Finding]:
    lost = [trial for trial in gold.values() if reward_of(trial) < thresholds.min_gold]
    if lost:
        least = min(map(reward_of, lost))
        sentence = (
            f"the gold reply earns {least:.3g} in {len(lost)} of {len(gold)} tasks, expected {thresholds.min_gold}"
        )
        yield finding("gold", sentence, lost, key=lambda trial: -reward_of(trial))


def _signal(trials: Sequence[Trial], gold: dict[str, Trial]) -> Iterator[Finding]:
    rewards = defaultdict(set)
    for trial in trials:
        rewards[trial.rollout.task.id].add(trial.rollout.reward)
    if gold and all(len(earned) == 1 for earned in rewards.values()):
        yield finding(
            "signal", "every reply to a task earns the same, the gold reply included: there is nothing to learn", trials
        )


def _junk(trials: Sequence[Trial], gold: dict[str, Trial], thresholds: Thresholds) -> Iterator[Finding]:
    earned = mean(map(reward_of, gold.values())) if gold else 0.0
    full = earned if earned >= thresholds.min_gold else 1.0
    played = by_policy([trial for trial in trials if trial.probe.kind == "junk"])
    if not gold:  # a constant may be the right answer
        played = {policy: played[policy] for policy in played if not policy.startswith("always")}
    means = {policy: mean(map(reward_of, played[policy])) for policy in played}
    limits = {policy: full * (thresholds.max_junk + played[policy][0].probe.chance) for policy in played}
    too_much = {policy: earned for policy, earned in means.items() if earned > limits[policy]}
    some = {policy: earned for policy, earned in means.items() if limits[policy] >= earned > _WORTH_A_NOTE * full}
    if too_much:
        yield _paid(too_much, played, f"expected at most {thresholds.max_junk * full:.2g}", is_defect=True)
    if some:
        yield _paid(some, played, "which is within the limits", is_defect=False)
    if not too_much and (as_gold := _as_gold(played, gold, thresholds)):
        sentence = (
            f"a reply without an answer earns as much as the gold reply in {len(as_gold)} rollouts, expected none"
        )
        yield finding("junk", sentence, as_gold)


def _paid(means: dict[str, float], played: dict[str, list[Trial]], rest: str, *, is_defect: bool) -> Finding:
    best_first = sorted(means, key=means.__getitem__, reverse=True)
    names = ", ".join(f"{policy} {means[policy]:.3g}" for policy in best_first)
    shown = [trial for trial in played[best_first[0]] if reward_of(trial) > 0]
    return finding("junk", f"mean rewards of policies that know nothing: {names}; {rest}", shown, is_defect=is_defect)


def _as_gold(played: dict[str, list[Trial]], gold: dict[str, Trial], thresholds: Thresholds) -> list[Trial]:
    silent = [trial for policy in ("empty", "format only") for trial in played.get(policy, ())]
    earned = {task: reward_of(trial) for task, trial in gold.items() if reward_of(trial) >= thresholds.min_gold}
    return [trial for trial in silent if reward_of(trial) >= earned.get(trial.rollout.task.id, inf)]


def _missed(trials: Sequence[Trial], gold: dict[str, Trial], thresholds: Thresholds) -> Iterator[Finding]:
    limits: dict[str, tuple[Kind, float]] = {
        "missed": ("same", thresholds.max_missed),
        "respelled": ("respelled", thresholds.max_respelled),
    }
    for name, (kind, limit) in limits.items():
        played = by_policy([trial for trial in trials if trial.probe.kind == kind])
        losses = {policy: loss for policy in played if (loss := _loss(played[policy], gold)) > _WORTH_A_NOTE}
        for is_defect, expected in ((True, f"expected at most {limit:.0%}"), (False, f"which is within {limit:.0%}")):
            chosen = {policy: loss for policy, loss in losses.items() if (loss > limit) == is_defect}
            if chosen:
                lost = ", ".join(f"{policy} {loss:.0%}" for policy, loss in chosen.items())
                losers = [trial for policy in chosen for trial in played[policy] if _loss([trial], gold) > 0]
                sentence = f"the gold answer loses reward when it is put differently: {lost}; {expected}"
                yield finding(name, sentence, losers, is_defect=is_defect, key=lambda trial: -reward_of(trial))


def _loss(played: Sequence[Trial], gold: dict[str, Trial]) -> float:
    """The share of the gold reward that these trials lack."""
    full = mean(reward_of(gold[trial.rollout.task.id]) for trial in played)
    return 1 - mean(map(reward_of, played)) / full if full > 0 else 0.0


def _constant(tasks: Sequence[Task], thresholds: Thresholds) -> Iterator[Finding]:
    answers = [answer for answer in map(answer_text, tasks) if answer is not None]
    if len(answers) < _ENOUGH_TASKS:
        return
    (common, count), *_ = Counter(answers).most_common(1)
    if count / len(answers) > thresholds.max_constant:
        expected = f"expected at most {thresholds.max_constant:.0%}"
        sentence = f"{common!r} is the answer to {count} of {len(answers)} tasks, {expected}: always saying it pays"
        yield Finding("constant", True, sentence, tuple(t.id for t in tasks if answer_text(t) == common))


def _length(trials: Sequence[Trial], thresholds: Thresholds) -> Iterator[Finding]:
    played = [trial for trial in trials if trial.probe.length]
    rewards = list(map(reward_of, played))
    try:
        r = correlation([log(trial.probe.length or 1) for trial in played], rewards)
    except StatisticsError:  # all rewards are the same
        return
    if abs(r) > thresholds.max_length_correlation and max(rewards) - min(rewards) > thresholds.max_junk:
        sentence = f"the rewards of random texts correlate with their length by {r:.2f}"
        yield finding("length", f"{sentence}, expected at most {thresholds.max_length_correlation}", played)
