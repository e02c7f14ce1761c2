"""Launchers: where workers run."""
