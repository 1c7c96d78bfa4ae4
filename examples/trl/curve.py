"""The reward of a training run as a curve: bars in the terminal, and a picture."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SMOOTH = 5
"""Steps over which each point of the picture's line is averaged."""


class RewardCurve(TrainerCallback):
    """Prints the mean reward of every few steps as a bar, and draws all of them; give it to `callbacks`.

    Attributes:
        every: Steps per bar.
        evaluated: One word for the tasks that an evaluation plays.
        rewards: The mean reward of each step, in order; the trainer must log every one (`logging_steps=1`).
        held_out: The mean reward of each evaluation, by the number of steps before it.
    """

    def __init__(self, *, every: int, evaluated: str = "held-out") -> None:
        self.every = every
        self.evaluated = evaluated
        self.rewards: list[float] = []
        self.held_out: dict[int, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Take the rewards out of the many metrics of a trainer."""
        logs = logs or {}
        if "eval_reward" in logs:
            self.held_out[state.global_step] = logs["eval_reward"]
            _print_bar(f"{self.evaluated:8}", logs["eval_reward"])
        if "reward" in logs:
            self.rewards.append(logs["reward"])
            if state.global_step % self.every == 0:
                _print_bar(f"step {state.global_step:3}", fmean(self.rewards[-self.every :]))

    def save(self, path: Path, *, title: str) -> None:
        """Draw the curve into a PNG file."""
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        steps = range(1, len(self.rewards) + 1)
        smooth = [fmean(self.rewards[max(0, step - SMOOTH) : step]) for step in steps]
        axes.plot(steps, self.rewards, ".", color="tab:blue", alpha=0.35, label="one step")
        axes.plot(steps, smooth, color="tab:blue", linewidth=2, label=f"mean of {SMOOTH} steps")
        if self.held_out:
            axes.plot(
                *zip(*self.held_out.items(), strict=True), "D", color="tab:orange", label=f"{self.evaluated} tasks"
            )
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set(xlabel="step", ylabel="mean reward", ylim=(-0.03, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, dpi=150)


def _print_bar(label: str, reward: float) -> None:
    print(f"{label}  {reward:.2f}  {'█' * round(50 * reward)}", flush=True)
