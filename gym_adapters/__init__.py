"""Adapters between gym_core and trainers (trl, verl, unsloth) or libraries of environments (reasoning_gym)."""
