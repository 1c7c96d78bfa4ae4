"""Adapters between gym_core and trainers (trl) or environment libraries (reasoning_gym)."""
