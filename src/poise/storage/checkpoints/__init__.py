"""Checkpoints: written, found again, checked."""
