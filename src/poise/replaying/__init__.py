"""Replay: a run repeated, bit for bit."""
