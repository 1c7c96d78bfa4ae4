"""The plug-in that `import verl` loads in every process, which registers the names `gym` and `gym_grpo`.

It imports none of our modules that import verl, since one of them may be importing verl for the first time.
"""

from verl.experimental.agent_loop.agent_loop import _agent_loop_registry  # `register` needs the class itself
from verl.trainer.ppo.core_algos import register_adv_est

from gym_adapters.verl.advantages import gym_grpo

AGENT_LOOP = "gym"
ADVANTAGE_ESTIMATOR = "gym_grpo"

_agent_loop_registry[AGENT_LOOP] = {"_target_": "gym_adapters.verl.agent_loop.GymAgentLoop"}
register_adv_est(ADVANTAGE_ESTIMATOR)(gym_grpo)
