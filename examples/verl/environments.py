"""The environment of `single_turn.sh`: made by a function, so it gets a name by which verl's processes find it."""

from gym_adapters.reasoning_gym import reasoning_gym

chain_sum = reasoning_gym("chain_sum", size=1000)
