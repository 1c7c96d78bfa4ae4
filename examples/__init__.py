"""Environments to read and to train on."""
