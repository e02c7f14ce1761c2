"""Runs: what a user asks for."""
