"""Replay: repeats a run bit for bit."""
