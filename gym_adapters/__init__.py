"""Adapters between gym_core and trainers (trl, verl, unsloth) or environment libraries (reasoning_gym)."""
