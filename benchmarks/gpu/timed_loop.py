"""The agent loop with a stopwatch; a module of its own, since verl's workers find it by name."""

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from gym_adapters.verl import GymAgentLoop


class TimedLoop(GymAgentLoop):
    """Logs how long each rollout waits for the engine, `generation_s`, and for all else, `environment_s`."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        output = await super().run(sampling_params, **row)
        spent = {
            "generation_s": output.metrics.generate_sequences,
            "environment_s": output.metrics.tool_calls,
        }
        output.extra_fields["reward_extra_info"] |= spent
        return output
