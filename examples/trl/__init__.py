"""Training runs with TRL."""
