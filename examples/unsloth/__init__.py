"""Training runs with Unsloth; each is a notebook of `# %%` cells, and a script."""
