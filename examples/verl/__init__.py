"""Training runs with veRL."""
